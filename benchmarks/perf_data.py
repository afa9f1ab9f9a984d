"""How many events a perf.data has and how many it lost, which `perf report` tells by printing everything only."""

import mmap
import struct
from pathlib import Path

# struct perf_file_header and struct perf_event_header, tools/perf/Documentation/perf.data-file-format.txt
_DATA_SECTION = struct.Struct("<40xQQ")
_RECORD = struct.Struct("<IHH")
_LOST, _SAMPLE, _LOST_SAMPLES = 2, 9, 13
_COUNT = struct.Struct("<Q")


def events_and_lost(path: Path) -> tuple[int, int]:
    """Samples in the file, and samples that found no room in the ring buffers; little endian."""
    events = told = counted = 0
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        at, size = _DATA_SECTION.unpack_from(data)
        # Of a perf that was killed the header still says that there is nothing.
        end = min(at + size if size else len(data), len(data))
        while at + _RECORD.size <= end:
            kind, _, length = _RECORD.unpack_from(data, at)
            if kind == _SAMPLE:
                events += 1
            elif kind == _LOST:  # when the next one found room again: id, number
                told += _COUNT.unpack_from(data, at + 16)[0]
            elif kind == _LOST_SAMPLES:  # the kernel's own count, at the end
                counted += _COUNT.unpack_from(data, at + 8)[0]
            at += max(length, _RECORD.size)
    return events, max(told, counted)
