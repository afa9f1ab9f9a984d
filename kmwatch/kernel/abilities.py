"""What this kernel lets a tracer do: BPF programs at all, kprobes, programs at a function's entry or exit."""

import ctypes as ct
import errno
import os
import struct
from pathlib import Path

from kmwatch.kernel.btf import Btf

_SYS_PERF_EVENT_OPEN, _SYS_BPF = 298, 321  # arch/x86/entry/syscalls/syscall_64.tbl
# include/uapi/linux/bpf.h: enum bpf_cmd, bpf_prog_type, bpf_attach_type.
_PROG_LOAD, _RAW_TRACEPOINT_OPEN = 5, 17
_PROG_TYPE_RAW_TRACEPOINT, _PROG_TYPE_TRACING = 17, 26
_TRACE_FENTRY, _TRACE_FEXIT = 24, 25
_RETURN_ZERO = struct.pack("<BBhiBBhi", 0xB7, 0, 0, 0, 0x95, 0, 0, 0)  # r0 = 0; exit
_FUNCTION = "vfree"  # exported on every kernel
_KPROBE_TYPE = Path("/sys/bus/event_source/devices/kprobe/type")


def kprobe(function: str = _FUNCTION) -> str:
    """Why the kernel refuses a kprobe at a function; "" where it makes one."""
    if not _KPROBE_TYPE.exists():
        return "not in this kernel (CONFIG_KPROBES)"
    name = ct.create_string_buffer(function.encode())
    # struct perf_event_attr: type, size, and at byte 56 the function (include/uapi/linux/perf_event.h).
    attributes = bytearray(72)
    struct.pack_into("<II", attributes, 0, int(_KPROBE_TYPE.read_text()), len(attributes))
    struct.pack_into("<Q", attributes, 56, ct.addressof(name))
    fd, refused = _call(_SYS_PERF_EVENT_OPEN, _pointer(attributes), -1, 0, -1, 0)
    _close(fd)
    return refused


def programs() -> str:
    """Why the kernel refuses the simplest BPF program at a raw tracepoint; "" where it accepts one."""
    fd, refused = _load(_PROG_TYPE_RAW_TRACEPOINT)
    _close(fd)
    return refused


def fentry(btf: Btf, function: str = _FUNCTION, *, returns: bool = False) -> str:
    """Why the kernel refuses a BPF program at a function's entry, with `returns` at its exit; "" where it runs one."""
    known = btf.function(function)
    if not known:
        return f"BTF does not know {function}()"
    program, refused = _load(_PROG_TYPE_TRACING, _TRACE_FEXIT if returns else _TRACE_FENTRY, known)
    if not refused:
        opened = bytearray(struct.pack("<QQ", 0, program))  # the name of a raw tracepoint: none; the program
        fd, refused = _call(_SYS_BPF, _RAW_TRACEPOINT_OPEN, _pointer(opened), len(opened))
        _close(fd)
    _close(program)
    return refused


def _load(kind: int, attach_type: int = 0, btf_id: int = 0) -> tuple[int, str]:
    """Load a program that does nothing: its descriptor, or why it is refused."""
    code, licence = ct.create_string_buffer(_RETURN_ZERO), ct.create_string_buffer(b"GPL")
    # union bpf_attr of BPF_PROG_LOAD: type, instructions, code, licence; at byte 68 the attach type, at 108 the BTF id.
    attributes = bytearray(128)
    struct.pack_into("<IIQQ", attributes, 0, kind, 2, ct.addressof(code), ct.addressof(licence))
    struct.pack_into("<I", attributes, 68, attach_type)
    struct.pack_into("<I", attributes, 108, btf_id)
    return _call(_SYS_BPF, _PROG_LOAD, _pointer(attributes), len(attributes))


def _call(*arguments: object) -> tuple[int, str]:
    """A system call that opens a descriptor: the descriptor, or -1 and why not."""
    fd = int(ct.CDLL(None, use_errno=True).syscall(*arguments))
    return fd, "" if fd >= 0 else os.strerror(ct.get_errno() or errno.EPERM)


def _pointer(data: bytearray) -> object:
    return ct.byref((ct.c_char * len(data)).from_buffer(data))


def _close(fd: int) -> None:
    if fd >= 0:
        os.close(fd)
