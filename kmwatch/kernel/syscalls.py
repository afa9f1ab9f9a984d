"""The system calls bpf(2) and perf_event_open(2) as the kernel's own headers describe them; no library is between.

What fails raises OSError with the kernel's error number. Numbers are those of x86-64.
"""

import contextlib
import ctypes as ct
import errno
import os
import resource
import struct
from collections.abc import Callable
from dataclasses import dataclass
from fcntl import ioctl
from pathlib import Path

_SYS_PERF_EVENT_OPEN, _SYS_BPF = 298, 321  # arch/x86/entry/syscalls/syscall_64.tbl
_LIBC = ct.CDLL(None, use_errno=True)

# include/uapi/linux/bpf.h: enum bpf_cmd, bpf_prog_type, bpf_attach_type.
_MAP_CREATE, _MAP_LOOKUP, _MAP_UPDATE, _MAP_DELETE, _PROG_LOAD, _INFO, _RAW_TRACEPOINT_OPEN, _LOOKUP_BATCH, _STATS = (
    0, 1, 2, 3, 5, 15, 17, 24, 32,
)  # fmt: skip
PROG_KPROBE, PROG_TRACEPOINT, PROG_RAW_TRACEPOINT, PROG_TRACING = 2, 5, 17, 26
TRACE_FENTRY, TRACE_FEXIT = 24, 25
_ATTRIBUTES = 128  # bytes of union bpf_attr that are filled in here; the kernel takes what it does not know if it is 0
_NAME = 16  # BPF_OBJ_NAME_LEN: with its end
_LICENCE = ct.create_string_buffer(b"GPL")
_LOG = 16 << 20  # bytes for what the verifier says

# include/uapi/linux/perf_event.h
_TYPE_TRACEPOINT, _CLOSE_ON_EXEC = 2, 8
_SET_BPF, _ENABLE = 0x40042408, 0x2400
_EVENT = 72  # PERF_ATTR_SIZE_VER1, with the two words that tell what a kprobe is at
KPROBE = Path("/sys/bus/event_source/devices/kprobe")
"""Where the kernel describes the perf events that are kprobes; absent where it has none."""


@dataclass(frozen=True)
class Map:
    """What a map is made from: its name, enum bpf_map_type, bytes of a key and a value, most entries, and flags."""

    name: str
    kind: int
    key: int
    value: int
    entries: int
    flags: int


class RefusedError(OSError):
    """The verifier does not let a program run; `log` is what it said."""

    def __init__(self, number: int, log: str) -> None:
        super().__init__(number, os.strerror(number))
        self.log = log


def create_map(wanted: Map) -> int:
    """Make a map; its descriptor."""
    sizes = wanted.kind, wanted.key, wanted.value, wanted.entries, wanted.flags
    attributes = struct.pack("<5I8x16s", *sizes, wanted.name.encode()[: _NAME - 1])
    return _unlocked(lambda: _bpf(_MAP_CREATE, attributes))


def map_of(descriptor: int, name: str) -> Map:
    """What the map of a descriptor was made from."""
    room = bytearray(_ATTRIBUTES)
    read_info(descriptor, ct.addressof(ct.c_char.from_buffer(room)), len(room))
    kind, _, key, value, entries, flags = struct.unpack_from("<6I", room)
    return Map(name, kind, key, value, entries, flags)


def load_program(kind: int, name: str, code: bytes, attach_type: int = 0, btf_id: int = 0) -> int:
    """Load a program; its descriptor. Raises RefusedError where the verifier does not like it.

    Args:
        kind: PROG_….
        name: what the kernel shall call it.
        code: its instructions.
        attach_type: TRACE_… of a PROG_TRACING, 0 for others.
        btf_id: of the function that a PROG_TRACING is at.
    """
    room = ct.create_string_buffer(code, len(code))

    def load(log: "ct.Array[ct.c_char] | None" = None) -> int:
        attributes = bytearray(_ATTRIBUTES)
        pointers = ct.addressof(room), ct.addressof(_LICENCE)
        struct.pack_into("<IIQQ", attributes, 0, kind, len(code) // 8, *pointers)
        if log:
            struct.pack_into("<IIQ", attributes, 24, 1, len(log), ct.addressof(log))
        struct.pack_into("<16s", attributes, 48, name.encode()[: _NAME - 1])
        struct.pack_into("<I", attributes, 68, attach_type)
        struct.pack_into("<I", attributes, 108, btf_id)
        return _bpf(_PROG_LOAD, bytes(attributes))

    try:
        return _unlocked(load)
    except OSError as error:
        if error.errno == errno.EPERM:
            raise
        log = ct.create_string_buffer(_LOG)
        try:  # once more, with its reasons
            return load(log)
        except OSError:
            raise RefusedError(error.errno or errno.EINVAL, log.value.decode(errors="replace")) from error


def open_raw_tracepoint(program: int, name: str = "") -> int:
    """Attach a program to a raw tracepoint, or a PROG_TRACING to its function: what holds it there."""
    room = ct.create_string_buffer(name.encode())
    return _bpf(_RAW_TRACEPOINT_OPEN, struct.pack("<QI", ct.addressof(room) if name else 0, program))


def open_tracepoint(program: int, number: int) -> int:
    """Attach a program to the tracepoint of this id: what holds it there."""
    return _with_program(_perf_event(_TYPE_TRACEPOINT, number), program)


def open_kprobe(program: int, function: str, *, returns: bool = False) -> int:
    """Attach a program to a function's entry, or to its return: what holds it there."""
    return _with_program(make_kprobe(function, returns=returns), program)


def make_kprobe(function: str, *, returns: bool = False) -> int:
    """A kprobe or kretprobe, as a perf event that runs nothing yet."""
    name = ct.create_string_buffer(function.encode())
    at_return = 1 << int((KPROBE / "format" / "retprobe").read_text().strip().removeprefix("config:"))
    kind = int((KPROBE / "type").read_text())
    return _perf_event(kind, at_return if returns else 0, ct.addressof(name))


def lookup(descriptor: int, key: int, value: int) -> None:
    """Read an element of a map; key and value are addresses."""
    _bpf(_MAP_LOOKUP, struct.pack("<IxxxxQQ", descriptor, key, value))


def update(descriptor: int, key: int, value: int) -> None:
    """Write an element of a map; key and value are addresses."""
    _bpf(_MAP_UPDATE, struct.pack("<IxxxxQQ", descriptor, key, value))


def delete(descriptor: int, key: int) -> None:
    """Delete an element of a map; the key is an address."""
    _bpf(_MAP_DELETE, struct.pack("<IxxxxQ", descriptor, key))


def lookup_batch(descriptor: int, cursors: tuple[int, int], keys: int, values: int, room: int) -> tuple[int, bool]:
    """Read elements of a map from a cursor on, 0 for the first: how many, and whether they are the last.

    All but the descriptor and the room, a number of elements, are addresses; the second cursor is written.
    """
    attributes = bytearray(struct.pack("<4QIIQQ", *cursors, keys, values, room, descriptor, 0, 0))
    failed = _called(_SYS_BPF, _LOOKUP_BATCH, _pointer(attributes), len(attributes)) < 0
    if failed and ct.get_errno() != errno.ENOENT:
        raise _error()
    return int(struct.unpack_from("<I", attributes, 32)[0]), failed


def read_info(descriptor: int, address: int, size: int) -> None:
    """Read struct bpf_map_info or bpf_prog_info."""
    _bpf(_INFO, struct.pack("<IIQ", descriptor, size, address))


def enable_statistics() -> int:
    """Have the kernel measure the run time of every BPF program, as long as the descriptor is open."""
    return _bpf(_STATS, struct.pack("<I", 0))


def _unlocked(make: Callable[[], int]) -> int:
    """Make something that takes memory; before Linux 5.11 that counts as locked, and is refused with EPERM."""
    try:
        return make()
    except PermissionError:
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_MEMLOCK, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        return make()


def _with_program(event: int, program: int) -> int:
    try:
        ioctl(event, _SET_BPF, program)
        ioctl(event, _ENABLE, 0)
    except OSError:
        os.close(event)
        raise
    return event


def _perf_event(kind: int, config: int, function: int = 0) -> int:
    """A perf event of every process; the program runs on every CPU, though the event is of the first."""
    # type, size, config; at byte 56 the address of the function's name.
    attributes = bytearray(_EVENT)
    struct.pack_into("<IIQ", attributes, 0, kind, len(attributes), config)
    struct.pack_into("<Q", attributes, 56, function)
    return _opened(_SYS_PERF_EVENT_OPEN, _pointer(attributes), -1, 0, -1, _CLOSE_ON_EXEC)


def _bpf(command: int, attributes: bytes) -> int:
    room = bytearray(attributes.ljust(_ATTRIBUTES, b"\0"))
    return _opened(_SYS_BPF, command, _pointer(room), len(room))


def _opened(*arguments: object) -> int:
    result = _called(*arguments)
    if result < 0:
        raise _error()
    return result


def _called(*arguments: object) -> int:
    return int(_LIBC.syscall(*arguments))


def _error() -> OSError:
    number = ct.get_errno() or errno.EPERM
    return OSError(number, os.strerror(number))


def _pointer(data: bytearray) -> object:
    return ct.byref((ct.c_char * len(data)).from_buffer(data))
