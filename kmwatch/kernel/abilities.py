"""What this kernel lets a tracer do: BPF programs, with what instructions, kprobes, a function's entry and exit."""

import os
import struct
from collections.abc import Callable

from kmwatch.kernel import syscalls
from kmwatch.kernel.btf import Btf

_RETURN_ZERO = (0xB7, 0, 0, 0), (0x95, 0, 0, 0)  # r0 = 0; exit
_COMPARE_AND_SWAP = (
    (0x7A, 0x0A, -8, 0),  # a word on the stack is 0
    (0xB7, 0, 0, 0),  # r0, which it is compared with
    (0xB7, 1, 0, 1),  # r1, which it becomes
    (0xDB, 0x1A, -8, 0xF1),  # lock cmpxchg
    *_RETURN_ZERO,
)
_FUNCTION = "vfree"  # exported on every kernel


def kprobe(function: str = _FUNCTION) -> str:
    """Why the kernel refuses a kprobe at a function; "" where it makes one."""
    if not syscalls.KPROBE.exists():
        return "not in this kernel (CONFIG_KPROBES)"
    return _refused(lambda: syscalls.make_kprobe(function))


def programs() -> str:
    """Why the kernel refuses the simplest BPF program at a raw tracepoint; "" where it accepts one."""
    return _refused(lambda: syscalls.load_program(syscalls.PROG_RAW_TRACEPOINT, "", _code(*_RETURN_ZERO)))


def compare_and_swap() -> str:
    """Why the kernel refuses a BPF program that compares and swaps, as before Linux 5.12; "" where it accepts one."""
    return _refused(lambda: syscalls.load_program(syscalls.PROG_RAW_TRACEPOINT, "", _code(*_COMPARE_AND_SWAP)))


def fentry(btf: Btf, function: str = _FUNCTION, *, returns: bool = False) -> str:
    """Why the kernel refuses a BPF program at a function's entry, with `returns` at its exit; "" where it runs one."""
    known = btf.function(function)
    if not known:
        return f"BTF does not know {function}()"
    return _refused(lambda: _at_function(known, returns=returns))


def _at_function(btf_id: int, *, returns: bool) -> int:
    """A program that does nothing, attached."""
    attach_type = syscalls.TRACE_FEXIT if returns else syscalls.TRACE_FENTRY
    program = syscalls.load_program(syscalls.PROG_TRACING, "", _code(*_RETURN_ZERO), attach_type, btf_id)
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


def _code(*instructions: tuple[int, int, int, int]) -> bytes:
    """Instructions of BPF: operation, registers (the upper half is the source), offset, number."""
    return b"".join(struct.pack("<BBhi", *each) for each in instructions)
