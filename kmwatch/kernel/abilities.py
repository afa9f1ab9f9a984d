"""What this kernel lets a tracer do: BPF programs at all, kprobes, programs at a function's entry."""

import ctypes as ct
import errno
import os
import struct
from pathlib import Path

from kmwatch.kernel.btf import Btf

_SYS_BPF, _PROG_LOAD = 321, 5  # arch/x86/entry/syscalls/syscall_64.tbl; include/uapi/linux/bpf.h
_PROG_TYPE_RAW_TRACEPOINT, _PROG_TYPE_TRACING, _TRACE_FENTRY = 17, 26, 24
_RETURN_ZERO = struct.pack("<BBhiBBhi", 0xB7, 0, 0, 0, 0x95, 0, 0, 0)  # r0 = 0; exit
_FUNCTION = "vfree"  # exported on every kernel


def kprobes(tracing: Path) -> bool | None:
    """Whether the kernel has kprobes, by the file that makes them; None where this user may not look."""
    try:
        return (tracing / "kprobe_events").exists()
    except PermissionError:
        return None


def programs() -> str:
    """Why the kernel refuses the simplest BPF program at a raw tracepoint; "" where it accepts one."""
    return _refusal(_PROG_TYPE_RAW_TRACEPOINT)


def fentry(btf: Btf) -> str:
    """Why the kernel refuses a BPF program at a function's entry; "" where it accepts one."""
    function = btf.function(_FUNCTION)
    if not function:
        return f"BTF does not know {_FUNCTION}()"
    return _refusal(_PROG_TYPE_TRACING, _TRACE_FENTRY, function)


def _refusal(kind: int, attach_type: int = 0, btf_id: int = 0) -> str:
    code, licence = ct.create_string_buffer(_RETURN_ZERO), ct.create_string_buffer(b"GPL")
    # union bpf_attr of BPF_PROG_LOAD: type, instructions, code, licence; at byte 68 the attach type, at 108 the BTF id.
    attributes = bytearray(128)
    struct.pack_into("<IIQQ", attributes, 0, kind, 2, ct.addressof(code), ct.addressof(licence))
    struct.pack_into("<I", attributes, 68, attach_type)
    struct.pack_into("<I", attributes, 108, btf_id)
    libc = ct.CDLL(None, use_errno=True)
    raw = (ct.c_char * len(attributes)).from_buffer(attributes)
    fd = libc.syscall(_SYS_BPF, _PROG_LOAD, ct.byref(raw), len(attributes))
    if fd < 0:
        return os.strerror(ct.get_errno() or errno.EPERM)
    os.close(fd)
    return ""
