"""Compiling, attaching and reading BPF programs: the only module that knows BCC."""

import ctypes as ct
import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from kmwatch.errors import NotPossibleError
from kmwatch.schema import BPF_DIR, Way
from kmwatch.sources.probes import Function, Probe

Array = np.ndarray[Any, np.dtype[Any]]

_INCLUDE = re.compile(r'^#include "([a-z]+\.h)"\n', re.MULTILINE)
AGAIN, RETURN = "_again", "_return"
"""What the names of a second copy of a program, and of the program at a function's return, end in."""

_ENOENT = 2
_SYS_BPF, _BPF_ENABLE_STATS = 321, 32  # arch/x86/entry/syscalls/syscall_64.tbl; include/uapi/linux/bpf.h
_CALL, _PSEUDO_KFUNC = 0x85, 2 << 4  # include/uapi/linux/bpf.h: BPF_JMP | BPF_CALL; its second byte
_INSTRUCTION = np.dtype([("code", "u1"), ("registers", "u1"), ("offset", "<i2"), ("immediate", "<i4")])
CAST_CALL = 0x6B6D77
"""The helper that bpf/memory.h calls in place of a function of the kernel: there is none of this number."""
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
    """A probe and how it is to be attached; `at` is the kernel's name of the function, where it is at one."""

    probe: Probe | Function
    way: Way
    at: str = ""

    @property
    def again(self) -> bool:
        """Whether it is the second copy of a program, see bpf/again.h."""
        return bool(self.way == Way.AGAIN)

    @property
    def programs(self) -> tuple[str, ...]:
        """The names of its programs in C; the first tells what it cost and missed."""
        name, probe = self.probe.event, self.probe
        if isinstance(probe, Probe):
            return (name + AGAIN if self.again else name,)
        if self.way == Way.FENTRY:  # the prefix tells BCC the kind of the program
            return (f"{'kretfunc' if probe.returns else 'kfunc'}__{self.at}",)
        return (name,) * probe.entry + (name + RETURN,) * probe.returns

    @property
    def name(self) -> str:
        """What it is at, as `category:event`."""
        return f"{self.probe.category}:{self.probe.event}"


class Programs:
    """The programs of one C file, compiled for the attachments wanted.

    Raises NotPossibleError where the compiler or the kernel refuses, with the reason it gave.
    """

    def __init__(self, source: str, attachments: tuple[Attachment, ...], defines: dict[str, int]) -> None:
        self.attachments = attachments
        self._links: dict[Attachment, int] = {}
        self._cast = defines.get("CAST_FUNCTION", 0)
        firsts = (each for each in attachments if not each.again)
        # RAW and TRACEPOINT of bpf/compat.h, KPROBE and FENTRY of bpf/functions.h.
        switches = {each.probe.define: each.way + 1 for each in firsts}
        flags = [f"-D{name}={value:#x}" for name, value in {**defines, **switches}.items()]
        flags += [f"-DFUNCTION_{each.probe.event.upper()}={each.at}" for each in attachments if each.at]
        os.environ["BCC_KERNEL_SOURCE"] = str(BPF_DIR / "headers")
        bcc = _bcc()
        self._lib = bcc.libbcc.lib
        with _captured_stderr() as said:
            try:
                self._bpf = bcc.BPF(text=_included(source).encode(), cflags=flags)
                self._programs = {each: self._load(bcc.BPF, each) for each in attachments}
            except Exception as error:  # BCC raises bare Exception
                raise NotPossibleError(f"the kernel or BCC refused {source}: {_reason(said(), error)}") from error

    def _load(self, bpf_class: Any, each: Attachment) -> dict[str, Any]:
        """Its programs by name."""
        kinds = {
            Way.RAW: bpf_class.RAW_TRACEPOINT,
            Way.TRACEPOINT: bpf_class.TRACEPOINT,
            Way.KPROBE: bpf_class.KPROBE,
            Way.FENTRY: bpf_class.TRACING,
            Way.AGAIN: bpf_class.RAW_TRACEPOINT,
        }
        for name in each.programs:
            self._call_kernel(name.encode())
        return {name: self._bpf.load_func(name.encode(), kinds[each.way]) for name in each.programs}

    def _call_kernel(self, name: bytes) -> None:
        """Make the calls of CAST_CALL calls of the kernel's function: BCC can compile none."""
        module = self._bpf.module
        start, size = self._lib.bpf_function_start(module, name), self._lib.bpf_function_size(module, name)
        if start:
            code = np.frombuffer((ct.c_char * size).from_address(start), _INSTRUCTION)
            calls = (code["code"] == _CALL) & (code["immediate"] == CAST_CALL)
            code["registers"][calls], code["immediate"][calls] = _PSEUDO_KFUNC, self._cast

    def attach(self) -> None:
        """Attach every program; all or none."""
        for each in self.attachments:
            try:
                self._attach(each)
            except Exception as error:
                self.close()
                raise NotPossibleError(f"cannot attach to {each.name}: {error}") from error

    def _attach(self, each: Attachment) -> None:
        first = each.programs[0]
        name = first.encode()
        if each.way == Way.KPROBE:
            for program in reversed(each.programs):  # at the return first: no call is seen that is not seen to end
                returns = program.endswith(RETURN)
                attach = self._bpf.attach_kretprobe if returns else self._bpf.attach_kprobe
                attach(event=each.at.encode(), fn_name=program.encode())
        elif each.way == Way.FENTRY:
            # BCC has attached it when it compiled it; to detach it is ours.
            self._link(each, (self._bpf.kfunc_exit_fds | self._bpf.kfunc_entry_fds)[name])
            self._bpf.kfunc_exit_fds.pop(name, None)
            self._bpf.kfunc_entry_fds.pop(name, None)
        elif each.again:
            # BCC attaches one program to a raw tracepoint; the kernel as many as one likes.
            fd = self._programs[each][first].fd
            self._link(each, self._lib.bpf_attach_raw_tracepoint(fd, each.probe.event.encode()))
        elif each.way == Way.RAW:
            self._bpf.attach_raw_tracepoint(tp=name, fn_name=name)
        else:
            self._bpf.attach_tracepoint(tp=each.name.encode(), fn_name=name)

    def _link(self, each: Attachment, fd: int) -> None:
        if fd < 0:
            raise NotPossibleError(os.strerror(ct.get_errno()))
        self._links[each] = fd

    def detach(self, attachments: tuple[Attachment, ...] | None = None) -> None:
        """Detach some programs, every one by default; the maps stay readable until close()."""
        # A copy goes before its first, else it would take every event for missed.
        for each in reversed(self.attachments if attachments is None else attachments):
            if each in self._links:
                os.close(self._links.pop(each))
            elif not each.again:
                self._detach(each)

    def _detach(self, each: Attachment) -> None:
        raw, ordinary, function = each.probe.event.encode(), each.name.encode(), each.at.encode()
        if each.way == Way.RAW and raw in self._bpf.raw_tracepoint_fds:
            self._bpf.detach_raw_tracepoint(raw)
        elif each.way == Way.TRACEPOINT and ordinary in self._bpf.tracepoint_fds:
            self._bpf.detach_tracepoint(ordinary)
        elif each.way == Way.KPROBE:
            for prefix, detach in ((b"p_", self._bpf.detach_kprobe), (b"r_", self._bpf.detach_kretprobe)):
                if self._bpf.kprobe_fds.get(prefix + function):
                    # Where privileges were given up BCC cannot look for a probe in tracefs: there is none since 4.17,
                    # it went with the descriptor, which is closed by then.
                    with _captured_stderr(), suppress(Exception):
                        detach(function)

    @property
    def attached(self) -> int:
        """How many programs are attached."""
        bpf = self._bpf
        others = (bpf.raw_tracepoint_fds, bpf.tracepoint_fds, bpf.kfunc_entry_fds, bpf.kfunc_exit_fds)
        at_kprobes = sum(len(programs) for programs in bpf.kprobe_fds.values())
        return len(self._links) + sum(map(len, others)) + at_kprobes

    def room(self, name: str) -> int:
        """How many entries a map can have."""
        return int(self._bpf[name.encode()].max_entries)

    def close(self) -> None:
        """Detach and free everything; a second call does no harm."""
        while self._links:
            os.close(self._links.popitem()[1])
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
        keys, values = np.empty(room, key), np.empty((room, copies), value)
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

    def delete(self, name: str, keys: Array) -> None:
        """Delete these keys of a hash map, as far as they are there."""
        fd = self.descriptor(name)
        for at in range(len(keys)):
            self._lib.bpf_delete_elem(fd, keys[at : at + 1].ctypes.data_as(ct.c_void_p))

    def read_arrays(self, name: str, dtype: "np.dtype[Any]", copies: int) -> Array:
        """All of a per-CPU array map, (n, copies): in batches, one by one before Linux 5.13, which brought them."""
        try:
            return self.read_hash(name, np.dtype("<u4"), dtype, copies)[1]
        except NotPossibleError:
            length = int(self._bpf[name.encode()].max_entries)
            return np.stack([self.read_array(name, dtype, index, copies) for index in range(length)])

    def missed(self, each: Attachment) -> int:
        """Events that the kernel skipped a program for, because it was running already."""
        return sum(self._cost(program.fd)[2] for program in self._programs[each].values())

    def costs(self) -> dict[str, tuple[int, int]]:
        """By program: nanoseconds run and runs, while statistics are on."""
        programs = (pair for programs in self._programs.values() for pair in programs.items())
        return {name: self._cost(program.fd)[:2] for name, program in programs}

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
