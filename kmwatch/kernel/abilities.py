"""What this kernel lets a tracer do: BPF programs at all, kprobes, programs at a function's entry or exit."""

import os
import struct
from collections.abc import Callable

from kmwatch.kernel import syscalls
from kmwatch.kernel.btf import Btf

_RETURN_ZERO = struct.pack("<BBhiBBhi", 0xB7, 0, 0, 0, 0x95, 0, 0, 0)  # r0 = 0; exit
_FUNCTION = "vfree"  # exported on every kernel


def kprobe(function: str = _FUNCTION) -> str:
    """Why the kernel refuses a kprobe at a function; "" where it makes one."""
    if not syscalls.KPROBE.exists():
        return "not in this kernel (CONFIG_KPROBES)"
    return _refused(lambda: syscalls.make_kprobe(function))


def programs() -> str:
    """Why the kernel refuses the simplest BPF program at a raw tracepoint; "" where it accepts one."""
    return _refused(lambda: syscalls.load_program(syscalls.PROG_RAW_TRACEPOINT, "", _RETURN_ZERO))


def fentry(btf: Btf, function: str = _FUNCTION, *, returns: bool = False) -> str:
    """Why the kernel refuses a BPF program at a function's entry, with `returns` at its exit; "" where it runs one."""
    known = btf.function(function)
    if not known:
        return f"BTF does not know {function}()"
    return _refused(lambda: _at_function(known, returns=returns))


def _at_function(btf_id: int, *, returns: bool) -> int:
    """A program that does nothing, attached."""
    attach_type = syscalls.TRACE_FEXIT if returns else syscalls.TRACE_FENTRY
    program = syscalls.load_program(syscalls.PROG_TRACING, "", _RETURN_ZERO, attach_type, btf_id)
    try:
        return syscalls.open_raw_tracepoint(program)
    finally:
        os.close(program)


def _refused(make: Callable[[], int]) -> str:
    """Why something that opens a descriptor is refused; "" where it is not. It is closed again."""
    try:
        os.close(make())
    except OSError as error:
        return error.strerror or str(error)
    return ""
