"""A seccomp filter for what no capability guards: who holds a loaded raw tracepoint program may attach it once more.

The service holds its programs to ask what they cost and missed. After confine() its threads read and write the maps
that are open, ask about the programs, and do nothing else with BPF; they open no perf event, and start no program.
"""

import ctypes
import struct

from kmwatch.errors import NotPossibleError

# arch/x86/entry/syscalls/syscall_64.tbl
_BPF, _SECCOMP = 321, 317
_REFUSED = {"execve": 59, "ptrace": 101, "perf_event_open": 298, "execveat": 322}
# enum bpf_cmd of include/uapi/linux/bpf.h
_BPF_ALLOWED = {
    "MAP_LOOKUP_ELEM": 1,
    "MAP_UPDATE_ELEM": 2,
    "MAP_DELETE_ELEM": 3,
    "OBJ_GET_INFO_BY_FD": 15,
    "MAP_LOOKUP_BATCH": 24,
}

_X86_64, _X32 = 0xC000003E, 0x40000000  # AUDIT_ARCH_X86_64; the bit in a number of the x32 table
_LOAD, _EQUAL, _AT_LEAST, _RETURN = 0x20, 0x15, 0x35, 0x06  # classic BPF, include/uapi/linux/bpf_common.h
_NUMBER, _ARCHITECTURE, _FIRST_ARGUMENT = 0, 4, 16  # offsets in struct seccomp_data; of an argument the low word
_ALLOW, _REFUSE = 0x7FFF0000, 0x00050001  # SECCOMP_RET_ALLOW; SECCOMP_RET_ERRNO with EPERM
_SET_MODE_FILTER, _ALL_THREADS = 1, 1  # SECCOMP_FILTER_FLAG_TSYNC


def program() -> bytes:
    """The filter: struct sock_filter after struct sock_filter."""
    tests = [
        (_LOAD, _ARCHITECTURE, "", ""),
        (_EQUAL, _X86_64, "", "refuse"),
        (_LOAD, _NUMBER, "", ""),
        (_AT_LEAST, _X32, "refuse", ""),
        *((_EQUAL, number, "refuse", "") for number in _REFUSED.values()),
        (_EQUAL, _BPF, "", "allow"),
        (_LOAD, _FIRST_ARGUMENT, "", ""),
        *((_EQUAL, command, "allow", "") for command in _BPF_ALLOWED.values()),
    ]
    ends = {"refuse": len(tests), "allow": len(tests) + 1}
    code = b""
    for at, (operation, value, if_so, if_not) in enumerate(tests):
        # A jump is counted from the next instruction; "" is that one.
        jumps = [ends[target] - at - 1 if target else 0 for target in (if_so, if_not)]
        code += struct.pack("<HBBI", operation, *jumps, value)
    return code + b"".join(struct.pack("<HBBI", _RETURN, 0, 0, value) for value in (_REFUSE, _ALLOW))


def confine() -> None:
    """Hold all threads of this process to the filter; NotPossibleError where the kernel has no filters.

    It needs no_new_privs to be set already.
    """
    code = program()
    room = ctypes.create_string_buffer(code, len(code))
    head = ctypes.create_string_buffer(struct.pack("<HxxxxxxQ", len(code) // 8, ctypes.addressof(room)), 16)
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.syscall(_SECCOMP, _SET_MODE_FILTER, _ALL_THREADS, head) != 0:
        raise NotPossibleError("this kernel does not confine system calls (CONFIG_SECCOMP_FILTER)")
