"""The journal of a capture: one line for each file that was completed, with its digest, appended and made durable.

A line is the CRC-32 of what follows it, a space, and a JSON object. The journal tells apart what looks alike: a capture
that ended, one that was cut (no last line says how it ended), and one that is damaged (a file does not have the digest
that its line gives, or a line is not what was written).
"""

import errno
import json
import os
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kmwatch.capture.layout import JOURNAL, is_plain
from kmwatch.errors import BadInputError

_LONGEST_LINE = 1 << 16
_LARGEST = 1 << 30  # of a journal: a month of segments, with all the tables written again and again

Entry = dict[str, Any]


class Journal:
    """A journal being written."""

    def __init__(self, directory: Path) -> None:
        self._path = directory / JOURNAL
        self._descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o644)

    def append(self, entry: Entry) -> None:
        """Add a line; it is on the disk when this returns. A line that could not be written whole is taken away."""
        end = os.fstat(self._descriptor).st_size
        try:
            _write(self._descriptor, _line(entry))
        except OSError:
            os.ftruncate(self._descriptor, end)
            raise

    def replace(self, entries: list[Entry]) -> None:
        """Write the journal anew with these lines only, in one step."""
        temporary = self._path.with_name(f".{JOURNAL}.tmp")
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND, 0o644)
        try:
            _write(descriptor, b"".join(map(_line, entries)))
            temporary.replace(self._path)
        except OSError:
            os.close(descriptor)
            temporary.unlink(missing_ok=True)
            raise
        os.close(self._descriptor)
        self._descriptor = descriptor

    def close(self) -> None:
        """Close the file."""
        os.close(self._descriptor)


@dataclass(frozen=True)
class Read:
    """What is left of a journal: its entries, and the numbers of lines that are not what was written.

    cut: whether the last line is incomplete.
    """

    entries: tuple[Entry, ...]
    bad: tuple[int, ...]
    cut: bool


def read(directory: Path) -> Read:
    """Read a journal; BadInputError where there is none."""
    path = directory / JOURNAL
    if path.exists() and not is_plain(path):
        raise BadInputError(f"{path} is not a file: this is not the journal of a capture")
    try:
        if path.stat().st_size > _LARGEST:
            raise BadInputError(f"{path} is over {_LARGEST >> 20} MiB: this is not the journal of a capture")
        raw = path.read_bytes()
    except OSError as error:
        raise BadInputError(f"{directory} is not a capture: cannot read {JOURNAL} ({error.strerror})") from error
    entries, bad = [], []
    lines = raw.split(b"\n")
    for number, line in enumerate(lines[:-1], 1):
        entry = _entry(line)
        if entry is None:
            bad.append(number)
        else:
            entries.append(entry)
    return Read(tuple(entries), tuple(bad), lines[-1] != b"")


def _write(descriptor: int, data: bytes) -> None:
    """Write all of it, durably; a disk that takes a part only is full."""
    written = os.write(descriptor, data)
    if written != len(data):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    os.fsync(descriptor)


def _line(entry: Entry) -> bytes:
    text = json.dumps(entry, separators=(",", ":")).encode()
    return b"%08x %s\n" % (zlib.crc32(text), text)


def _entry(line: bytes) -> Entry | None:
    if len(line) > _LONGEST_LINE or line[8:9] != b" " or line[:8] != b"%08x" % zlib.crc32(line[9:]):
        return None
    try:
        entry = json.loads(line[9:])
    except (ValueError, RecursionError):
        return None
    return entry if isinstance(entry, dict) else None


def digests(entries: tuple[Entry, ...]) -> Iterator[tuple[str, str]]:
    """The name and digest of every file that the entries tell of, in order."""
    for entry in entries:
        name, digest = entry.get("file"), entry.get("sha256")
        if isinstance(name, str) and isinstance(digest, str):
            yield name, digest
