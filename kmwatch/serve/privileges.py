"""Giving privileges up: once the programs are attached, nothing that is asked for over the network needs them.

Reading a map that is open takes no capability since Linux commit c8644cd0efe7 ("bpf: refine
kernel.unprivileged_bpf_disabled behaviour"; in v5.19), whatever kernel.unprivileged_bpf_disabled says. Before, it takes
CAP_BPF: whether this kernel wants it is tried.
"""

import ctypes
import os
import pwd
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from kmwatch.errors import NotPossibleError, UsageError

CAP_BPF = 39

_LAST_CAPABILITY = Path("/proc/sys/kernel/cap_last_cap")
_TASKS = Path("/proc/self/task")
_CAP_SETPCAP = 8
# include/uapi/linux/prctl.h
_KEEPCAPS, _CAPBSET_DROP, _NO_NEW_PRIVILEGES, _AMBIENT, _AMBIENT_CLEAR_ALL = 8, 24, 38, 47, 4
_CAPABILITY_VERSION = 0x20080522  # include/uapi/linux/capability.h: two words of 32 bits
_SETS = ("CapEff", "CapPrm", "CapInh", "CapAmb", "CapBnd")


@dataclass(frozen=True)
class User:
    """Who the service becomes."""

    name: str
    uid: int
    gid: int


def find_user(name: str) -> User:
    """A user by name or number; UsageError where there is none."""
    try:
        entry = pwd.getpwuid(int(name)) if name.isascii() and name.isdigit() else pwd.getpwnam(name)
    except (KeyError, OverflowError, ValueError) as error:
        raise UsageError(f"there is no user {name!r:.80}: name one that exists, such as nobody") from error
    return User(entry.pw_name, entry.pw_uid, entry.pw_gid)


def renounce_more() -> None:
    """Make sure that no program which this process could ever start gains anything: for all threads that begin later.

    To be called before libraries that start threads are loaded: a thread keeps the bounding set that it began with.
    """
    if _status()["CapEff"] >> _CAP_SETPCAP & 1:
        for capability in range(int(_LAST_CAPABILITY.read_text()) + 1):
            _prctl(_CAPBSET_DROP, capability)
    _prctl(_NO_NEW_PRIVILEGES, 1)


def drop(user: User, works: Callable[[], bool]) -> str:
    """Become the user, without groups and capabilities, and say so in words.

    Args:
        user: who to become, where this is root; who is not root already stays who he is.
        works: whether what the service does all day can be done; where it cannot, CAP_BPF is kept.

    Raises NotPossibleError where a privilege is left that should not be.
    """
    kept = _status()["CapPrm"] & 1 << CAP_BPF
    if os.geteuid() == 0:
        _prctl(_KEEPCAPS, 1)
        os.setgroups([])
        os.setresgid(user.gid, user.gid, user.gid)
        os.setresuid(user.uid, user.uid, user.uid)
        _prctl(_KEEPCAPS, 0)
    _set_capabilities(permitted=kept, effective=0)
    if kept and not works():
        _set_capabilities(permitted=kept, effective=kept)
    else:
        kept = 0
        _set_capabilities(permitted=0, effective=0)
    with suppress(OSError):  # a kernel before 4.3 has none
        _prctl(_AMBIENT, _AMBIENT_CLEAR_ALL)
    if not works():
        raise NotPossibleError("this kernel lets only root read BPF maps: run as root with --user root")
    _verify(kept)
    name = pwd.getpwuid(os.geteuid()).pw_name
    return f"runs as {name} with {'CAP_BPF only, which this kernel wants for reading' if kept else 'no capability'}"


def _verify(kept: int) -> None:
    """Hold every thread to what was to be given up."""
    for task in _TASKS.iterdir():
        found = _status(task / "status")
        left = [name for name in _SETS if found[name] & ~(kept if name in ("CapEff", "CapPrm") else 0)]
        if not found["NoNewPrivs"]:
            left.append("NoNewPrivs")
        # Who began without CAP_SETPCAP could not empty the bounding set, and can start nothing that would use it.
        if left and left != ["CapBnd"]:
            raise NotPossibleError(f"privileges are left after giving them up: {', '.join(left)}; run another --user")


def _status(path: Path = _TASKS.parent / "status") -> dict[str, int]:
    fields = dict(line.split(":\t", 1) for line in path.read_text().splitlines() if ":\t" in line)
    return {name: int(fields.get(name, "0"), 16) for name in (*_SETS, "NoNewPrivs")}


def _prctl(option: int, argument: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(option, ctypes.c_ulong(argument), ctypes.c_ulong(0), ctypes.c_ulong(0), ctypes.c_ulong(0)) < 0:
        error = ctypes.get_errno()
        raise OSError(error, f"prctl({option}, {argument}): {os.strerror(error)}")


def _set_capabilities(*, permitted: int, effective: int) -> None:
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION, 0)
    words = [(effective >> shift & 0xFFFFFFFF, permitted >> shift & 0xFFFFFFFF, 0) for shift in (0, 32)]
    data = (ctypes.c_uint32 * 6)(*words[0], *words[1])
    if ctypes.CDLL(None, use_errno=True).capset(header, data) < 0:
        raise NotPossibleError(
            f"the kernel does not let kmwatch give capabilities up: {os.strerror(ctypes.get_errno())}"
        )
