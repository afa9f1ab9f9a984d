"""Compiling, attaching and reading BPF programs: the only module that knows BCC."""

import ctypes as ct
import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from kmwatch.errors import NotPossibleError
from kmwatch.schema import BPF_DIR, Way
from kmwatch.sources.probes import Probe

Array = np.ndarray[Any, np.dtype[Any]]

_INCLUDE = re.compile(r'^#include "([a-z]+\.h)"\n', re.MULTILINE)
AGAIN = "_again"
"""What the name of a second copy of a program ends in."""

_ENOENT = 2
_SYS_BPF, _BPF_ENABLE_STATS = 321, 32  # arch/x86/entry/syscalls/syscall_64.tbl; include/uapi/linux/bpf.h
_SPARE = 4096  # a batch ends early where the next bucket would not fit; no bucket is that long
# struct bpf_prog_info of include/uapi/linux/bpf.h: what it costs and what it missed, at these bytes.
_PROG_INFO = np.dtype(
    {"names": ["run_time_ns", "runs", "misses"], "formats": ["<u8"] * 3, "offsets": [192, 200, 208], "itemsize": 232}
)


def _bcc() -> Any:
    try:
        import bcc
    except ImportError as error:
        msg = (
            "BCC's Python module is missing: apt install python3-bpfcc (Fedora: dnf install python3-bcc); `make setup`"
        )
        raise NotPossibleError(msg) from error
    return bcc


def bcc_version() -> str:
    """The version of BCC; NotPossibleError where it is missing."""
    return str(_bcc().__version__)


def possible_cpus() -> int:
    """How many CPUs per-CPU maps have values for: those that may ever come online, not those that are."""
    last = Path("/sys/devices/system/cpu/possible").read_text().strip().replace(",", "-").rpartition("-")[2]
    return int(last) + 1


@dataclass(frozen=True)
class Attachment:
    """A probe and how it is to be attached; `again` is the second copy of a raw program, see bpf/again.h."""

    probe: Probe
    way: Way
    again: bool = False

    @property
    def function(self) -> str:
        """The name of its program in C."""
        return self.probe.event + AGAIN if self.again else self.probe.event


class Programs:
    """The programs of one C file, compiled for the attachments wanted.

    Raises NotPossibleError where the compiler or the kernel refuses, with the reason it gave.
    """

    def __init__(self, source: str, attachments: tuple[Attachment, ...], defines: dict[str, int]) -> None:
        self.attachments = attachments
        self._copies: dict[Attachment, int] = {}
        firsts = (each for each in attachments if not each.again)
        switches = {each.probe.define: each.way + 1 for each in firsts}  # RAW and TRACEPOINT of bpf/compat.h
        flags = [f"-D{name}={value:#x}" for name, value in {**defines, **switches}.items()]
        os.environ["BCC_KERNEL_SOURCE"] = str(BPF_DIR / "headers")
        bcc = _bcc()
        self._lib = bcc.libbcc.lib
        with _captured_stderr() as said:
            try:
                self._bpf = bcc.BPF(text=_included(source).encode(), cflags=flags)
                self._programs = {each: self._load(bcc.BPF, each) for each in attachments}
            except Exception as error:  # BCC raises bare Exception
                raise NotPossibleError(f"the kernel or BCC refused {source}: {_reason(said(), error)}") from error

    def _load(self, bpf_class: Any, each: Attachment) -> Any:
        kind = bpf_class.RAW_TRACEPOINT if each.way == Way.RAW else bpf_class.TRACEPOINT
        return self._bpf.load_func(each.function.encode(), kind)

    def attach(self) -> None:
        """Attach every program; all or none."""
        for each in self.attachments:
            name = each.probe.event.encode()
            try:
                if each.again:
                    self._attach_again(each)
                elif each.way == Way.RAW:
                    self._bpf.attach_raw_tracepoint(tp=name, fn_name=name)
                else:
                    self._bpf.attach_tracepoint(tp=f"{each.probe.category}:{each.probe.event}".encode(), fn_name=name)
            except Exception as error:
                self.close()
                raise NotPossibleError(f"cannot attach to {each.probe.category}:{each.probe.event}: {error}") from error

    def _attach_again(self, each: Attachment) -> None:
        """BCC attaches one program to a raw tracepoint; the kernel as many as one likes."""
        fd = self._lib.bpf_attach_raw_tracepoint(self._programs[each].fd, each.probe.event.encode())
        if fd < 0:
            raise NotPossibleError(os.strerror(ct.get_errno()))
        self._copies[each] = fd

    def detach(self, attachments: tuple[Attachment, ...] | None = None) -> None:
        """Detach some programs, every one by default; the maps stay readable until close()."""
        # A copy goes before its first, else it would take every event for missed.
        for each in reversed(self.attachments if attachments is None else attachments):
            if each.again:
                if each in self._copies:
                    os.close(self._copies.pop(each))
                continue
            raw, ordinary = each.probe.event.encode(), f"{each.probe.category}:{each.probe.event}".encode()
            if raw in self._bpf.raw_tracepoint_fds:
                self._bpf.detach_raw_tracepoint(raw)
            if ordinary in self._bpf.tracepoint_fds:
                self._bpf.detach_tracepoint(ordinary)

    def close(self) -> None:
        """Detach and free everything; a second call does no harm."""
        while self._copies:
            os.close(self._copies.popitem()[1])
        self._bpf.cleanup()

    def descriptor(self, name: str) -> int:
        """The file descriptor of a map."""
        return int(self._bpf[name.encode()].map_fd)

    def read_array(self, name: str, dtype: "np.dtype[Any]", index: int = 0, copies: int = 1) -> Array:
        """One element of an array map: `copies` values, as many as there are CPUs for a per-CPU map."""
        value = np.zeros(copies, dtype)
        key = ct.c_uint32(index)
        fd = self.descriptor(name)
        if self._lib.bpf_lookup_elem(fd, ct.byref(key), value.ctypes.data_as(ct.c_void_p)) < 0:
            raise NotPossibleError(f"the kernel does not let kmwatch read its own map {name}")
        return value

    def write_array(self, name: str, value: Array, index: int = 0) -> None:
        """Set one element of an array map."""
        key = ct.c_uint32(index)
        fd = self.descriptor(name)
        if self._lib.bpf_update_elem(fd, ct.byref(key), value.ctypes.data_as(ct.c_void_p), 0) < 0:
            raise NotPossibleError(f"the kernel does not let kmwatch write its own map {name}")

    def read_hash(
        self, name: str, key: "np.dtype[Any]", value: "np.dtype[Any]", copies: int = 1
    ) -> tuple[Array, Array]:
        """All of a hash map in as few system calls as it takes: keys (n,) and values (n, copies)."""
        table = self._bpf[name.encode()]
        room = int(table.max_entries) + _SPARE
        keys, values = np.zeros(room, key), np.zeros((room, copies), value)
        cursors = [np.zeros(1, key), np.zeros(1, key)]
        read, first, result = 0, True, 0
        while result == 0 and read < room:
            count = ct.c_uint32(room - read)
            result = self._lib.bpf_lookup_batch(
                table.map_fd,
                None if first else _words(cursors[0]),
                _words(cursors[1]),
                ct.c_void_p(keys[read:].ctypes.data),
                ct.c_void_p(values[read:].ctypes.data),
                ct.byref(count),
            )
            if result < 0 and ct.get_errno() != _ENOENT:  # ENOENT: this was the last batch
                raise NotPossibleError(f"cannot read the map {name} in batches: kmwatch needs Linux 5.7 or later")
            read, first = read + count.value, False
            cursors.reverse()
        return keys[:read], values[:read]

    def read_arrays(self, name: str, dtype: "np.dtype[Any]", copies: int) -> Array:
        """All of a per-CPU array map, (n, copies): in batches, one by one before Linux 5.13, which brought them."""
        try:
            return self.read_hash(name, np.dtype("<u4"), dtype, copies)[1]
        except NotPossibleError:
            length = int(self._bpf[name.encode()].max_entries)
            return np.stack([self.read_array(name, dtype, index, copies) for index in range(length)])

    def missed(self, each: Attachment) -> int:
        """Events that the kernel skipped a program for, because it was running already."""
        return self._cost(self._programs[each].fd)[2]

    def costs(self) -> dict[str, tuple[int, int]]:
        """By program: nanoseconds run and runs, while statistics are on."""
        return {each.function: self._cost(program.fd)[:2] for each, program in self._programs.items()}

    def _cost(self, fd: int) -> tuple[int, int, int]:
        info = np.zeros(1, _PROG_INFO)
        size = ct.c_uint32(info.itemsize)
        self._lib.bpf_obj_get_info(fd, info.ctypes.data_as(ct.c_void_p), ct.byref(size))
        return int(info["run_time_ns"][0]), int(info["runs"][0]), int(info["misses"][0])


def _included(name: str) -> str:
    """A C file with its own headers in place of their #include: BCC understands maps and probes in one file only."""
    text = (BPF_DIR / name).read_text(encoding="utf-8")
    parts = _INCLUDE.split(text)  # text, header, text, header, …, text
    lines = [f'#line 1 "{name}"\n{parts[0]}']
    for at in range(1, len(parts), 2):
        after = sum(part.count("\n") for part in parts[:at:2]) + at // 2 + 2
        lines += [_included(parts[at]), f'#line {after} "{name}"\n', parts[at + 1]]
    return "".join(lines)


@contextmanager
def run_time_statistics() -> Iterator[bool]:
    """While open, the kernel measures the run time of every BPF program; false where it refuses."""
    kind = ct.c_uint32(0)
    fd = ct.CDLL(None, use_errno=True).syscall(_SYS_BPF, _BPF_ENABLE_STATS, ct.byref(kind), 4)
    try:
        yield fd >= 0
    finally:
        if fd >= 0:
            os.close(fd)


def _words(cursor: Array) -> Any:
    return ct.cast(cursor.ctypes.data_as(ct.c_void_p), ct.POINTER(ct.c_uint32))


@contextmanager
def _captured_stderr() -> Iterator[Any]:
    """Keep what clang and libbpf print on descriptor 2, as a function that gives it back."""
    with tempfile.TemporaryFile() as file:
        kept = os.dup(2)
        os.dup2(file.fileno(), 2)

        def said() -> str:
            file.seek(0)
            return file.read().decode(errors="replace")

        try:
            yield said
        finally:
            os.dup2(kept, 2)
            os.close(kept)


def _reason(said: str, error: Exception) -> str:
    lines = [line.strip() for line in said.splitlines() if "error" in line.lower() or "invalid" in line.lower()]
    if "Operation not permitted" in said or "Operation not permitted" in str(error):
        return "operation not permitted: run as root, or with CAP_BPF, CAP_PERFMON and CAP_SYS_ADMIN"
    return lines[0] if lines else str(error)
