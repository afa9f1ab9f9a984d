"""A service with a pipeline that only adds up, run as a program: what the tests need to see, and no metrics.

    python -m tests.live.serving [NAME=VALUE…]

Once the privileges are gone nothing may be imported any more: a service's own files need not be readable to its user.
"""

import ctypes
import errno
import json
import os
import struct
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from kmwatch.errors import KmwatchError
from kmwatch.serve.start import reader, serve

_BPF_MAP_CREATE, _BPF_MAP_DELETE_ELEM, _BPF_PROG_LOAD, _BPF_RAW_TRACEPOINT_OPEN, _BPF_ENABLE_STATS = 0, 3, 5, 17, 32
_RAW_TRACEPOINT = 17  # BPF_PROG_TYPE_RAW_TRACEPOINT

if TYPE_CHECKING:
    from kmwatch.batch import Batch  # it needs numpy, which starts threads


class Closed:
    """A finder of modules that refuses all."""

    def find_spec(self, name: str, *_: object) -> NoReturn:
        """Refuse."""
        raise ImportError(f"{name} is imported after the privileges were dropped")


class Adding:
    """Events by symbol and kind, as JSON, with what the service knows of itself."""

    def __init__(self, source: Any) -> None:
        self._source, self._counts, self._text = source, Counter[str](), b"{}"
        self._attempts: dict[str, str] = {}

    def add(self, batch: "Batch") -> None:
        """Count a batch."""
        for row in batch.rows:
            name = self._source.meta.sites[row["site"]].symbol.partition(".")[0]
            self._counts[f"{name}:{row['kind']}:{row['bytes_alloc']}"] += int(row["count"])

    def publish(self, at: float, own: Any) -> None:
        """Keep it as text."""
        if not isinstance(sys.meta_path[0], Closed):
            sys.meta_path.insert(0, Closed())
            self._attempts = attempts(self._source)
        shown = {
            "at": at,
            "own": {name: value for name, value in vars(own).items() if name != "scrapes"},
            "counts": self._counts,
            "attempts": self._attempts,
        }
        self._text = json.dumps(shown).encode()

    def render(self, _accept: str) -> tuple[bytes, str]:
        """The text."""
        return self._text, "application/json"

    def observe(self, seconds: float) -> None:
        """Of no interest."""


def attempts(source: Any) -> dict[str, str]:
    """What a service whose privileges are gone tries to do, and the name of the error; "" where it could."""
    programs = source._kernel.programs
    loaded = next(iter(programs._programs[programs.attachments[0]].values()))
    name = ctypes.create_string_buffer(programs.attachments[0].probe.event.encode())
    instructions = ctypes.create_string_buffer(struct.pack("<4Q", 0xB7, 0x95, 0, 0))  # r0 = 0; exit
    no_object = ctypes.create_string_buffer(8)
    licence = ctypes.create_string_buffer(b"GPL")
    load = struct.pack("<IIQQ", _RAW_TRACEPOINT, 2, ctypes.addressof(instructions), ctypes.addressof(licence))
    return {
        "attach": _bpf(_BPF_RAW_TRACEPOINT_OPEN, struct.pack("<QI", ctypes.addressof(name), loaded)),
        "attach to a tracepoint": _called(298, ctypes.create_string_buffer(128), -1, 0, -1, 0),
        "load": _bpf(_BPF_PROG_LOAD, load),
        "make a map": _bpf(_BPF_MAP_CREATE, struct.pack("<5I", 2, 4, 8, 1, 0)),
        "delete what is not there": _bpf(
            _BPF_MAP_DELETE_ELEM,
            struct.pack("<IxxxxQ", programs.descriptor("held"), ctypes.addressof(no_object)),
        ),
        "measure": _bpf(_BPF_ENABLE_STATS, struct.pack("<I", 0)),
        "start a program": _tried(lambda: os.execv("/bin/true", ["true"])),  # noqa: S606  # without a shell, as meant
        "be root": _tried(lambda: os.setuid(0)),
        "read slabinfo": _tried(lambda: Path("/proc/slabinfo").read_bytes()),
        "read symbols": "" if any(source._kernel._symbols._addresses) else "hidden",
        "read symbols again": _tried(source._kernel._read_symbols) or "".join(source._kernel.notes),
    }


def _bpf(command: int, attributes: bytes) -> str:
    room = ctypes.create_string_buffer(attributes.ljust(128, b"\0"), 128)
    return _called(321, command, room, len(room))


def _called(*arguments: Any) -> str:
    result = ctypes.CDLL(None, use_errno=True).syscall(*arguments)
    return errno.errorcode[ctypes.get_errno()] if result < 0 else ""


def _tried(act: Callable[[], object]) -> str:
    try:
        act()
    except OSError as error:
        return errno.errorcode[error.errno or 0]
    return ""


def main() -> int:
    """Run as the command does, with its exit codes."""
    words = dict(word.split("=", 1) for word in sys.argv[1:])
    config = words.pop("config", None)
    options: dict[str, Any] = {name: float(value) if name == "interval" else value for name, value in words.items()}
    try:
        reread = reader(Path(config) if config else None, options)
        serve(reread(), reread, Adding)
    except KmwatchError as error:
        sys.stderr.write(f"kmwatch: {error}\n")
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
