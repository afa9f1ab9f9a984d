"""BPF programs in the kernel: loaded from what was compiled, attached, and their maps and costs read."""

import ctypes as ct
import errno
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from kmwatch.errors import NotPossibleError
from kmwatch.kernel import syscalls, tracefs
from kmwatch.kernel.btf import Btf
from kmwatch.schema import Way
from kmwatch.sources import kept_code
from kmwatch.sources.compiled import NO_RIGHTS, Compiled, compile_file, key_of
from kmwatch.sources.probes import Function, Probe

Array = np.ndarray[Any, np.dtype[Any]]

AGAIN, RETURN = "_again", "_return"
"""What the names of a second copy of a program, and of the program at a function's return, end in."""

_CALL, _PSEUDO_KFUNC = 0x85, 2 << 4  # include/uapi/linux/bpf.h: BPF_JMP | BPF_CALL; its second byte
CAST_CALL = 0x6B6D77
"""The helper that bpf/memory.h calls in place of a function of the kernel: there is none of this number."""
_LOADERS = 4  # threads that load programs
_SPARE = 4096  # a batch ends early where the next bucket would not fit; no bucket is that long
# struct bpf_prog_info of include/uapi/linux/bpf.h: what it costs and what it missed, at these bytes.
_PROG_INFO = np.dtype(
    {"names": ["run_time_ns", "runs", "misses"], "formats": ["<u8"] * 3, "offsets": [192, 200, 208], "itemsize": 232}
)
_STATISTICS = ("processed ", "verification time ", "stack depth ")  # what the verifier ends with
_KINDS = {
    Way.RAW: syscalls.PROG_RAW_TRACEPOINT,
    Way.TRACEPOINT: syscalls.PROG_TRACEPOINT,
    Way.KPROBE: syscalls.PROG_KPROBE,
    Way.FENTRY: syscalls.PROG_TRACING,
    Way.AGAIN: syscalls.PROG_RAW_TRACEPOINT,
}


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
    def exits(self) -> bool:
        """Whether the result of a function is wanted."""
        return isinstance(self.probe, Function) and self.probe.returns

    @property
    def programs(self) -> tuple[str, ...]:
        """The names of its programs in C; the first tells what it cost and missed."""
        name, probe = self.probe.event, self.probe
        if isinstance(probe, Probe):
            return (name + AGAIN if self.again else name,)
        if self.way == Way.FENTRY:
            return (name,)
        return (name,) * probe.entry + (name + RETURN,) * probe.returns

    @property
    def name(self) -> str:
        """What it is at, as `category:event`."""
        return f"{self.probe.category}:{self.probe.event}"


class Programs:
    """The programs of one C file, loaded for the attachments wanted; compiled where that was not done before.

    Raises NotPossibleError where the compiler or the kernel refuses, with the reason it gave.
    """

    def __init__(self, source: str, attachments: tuple[Attachment, ...], defines: dict[str, int]) -> None:
        self.attachments = attachments
        self._links: dict[Attachment, list[int]] = {}
        self._programs: dict[Attachment, dict[str, int]] = {}
        self._maps: dict[str, int] = {}
        flags = flags_for(attachments, defines)
        key, place = key_of(source, flags, _formats(attachments)), kept_code.directory()
        compiled = _kept(key, place)
        made = compiled or compile_file(source, flags)
        self._room = {each.name: each.entries for each in made.maps}
        try:
            self._load(made, defines.get("CAST_FUNCTION", 0))
        except OSError as error:
            self.close()
            raise NotPossibleError(f"the kernel refused {source}: {_reason(error)}") from error
        except BaseException:
            self.close()
            raise
        if not compiled:
            kept_code.keep(key, made.to_bytes(), place)

    def _load(self, compiled: Compiled, cast: int) -> None:
        """Make the maps and load the programs; calls of CAST_CALL become calls of a function of the kernel, `cast`."""
        for each in compiled.maps:
            self._maps[each.name] = syscalls.create_map(each)
        wanted = [(each, name) for each in self.attachments for name in each.programs]
        wanted.sort(key=lambda each: -len(compiled.programs[each[1]]))  # the longest takes as long as all others
        self._programs = {each: dict.fromkeys(each.programs, -1) for each in self.attachments}

        def load(each: Attachment, name: str) -> None:
            code = compiled.code(name, self._maps)
            calls = (code["code"] == _CALL) & (code["immediate"] == CAST_CALL)
            code["registers"][calls], code["immediate"][calls] = _PSEUDO_KFUNC, cast
            at_function = _function_of(each) if each.way == Way.FENTRY else (0, 0)
            self._programs[each][name] = syscalls.load_program(_KINDS[each.way], name, code.tobytes(), *at_function)

        # The kernel verifies programs of who may load them side by side.
        with ThreadPoolExecutor(min(_LOADERS, os.cpu_count() or 1)) as pool:
            for loaded in [pool.submit(load, *one) for one in wanted]:
                loaded.result()

    def attach(self) -> None:
        """Attach every program; all or none."""
        for each in self.attachments:
            try:
                self._attach(each)
            except OSError as error:
                self.close()
                raise NotPossibleError(f"cannot attach to {each.name}: {error.strerror}") from error

    def _attach(self, each: Attachment) -> None:
        links = self._links.setdefault(each, [])
        # At the return first: no call is seen that is not seen to end.
        for name, program in reversed(self._programs[each].items()):
            if each.way == Way.KPROBE:
                link = syscalls.open_kprobe(program, each.at, returns=name.endswith(RETURN))
            elif each.way == Way.TRACEPOINT:
                number = tracefs.find(mount=False).number(each.probe.category, each.probe.event)
                link = syscalls.open_tracepoint(program, number)
            else:
                link = syscalls.open_raw_tracepoint(program, "" if each.way == Way.FENTRY else each.probe.event)
            links.append(link)

    def detach(self, attachments: tuple[Attachment, ...] | None = None) -> None:
        """Detach some programs, every one by default; the maps stay readable until close()."""
        # A copy goes before its first, else it would take every event for missed.
        for each in reversed(self.attachments if attachments is None else attachments):
            for link in reversed(self._links.pop(each, [])):
                os.close(link)

    @property
    def attached(self) -> int:
        """How many programs are attached."""
        return sum(map(len, self._links.values()))

    def room(self, name: str) -> int:
        """How many entries a map can have."""
        return self._room[name]

    def close(self) -> None:
        """Detach and free everything; a second call does no harm."""
        self.detach()
        for descriptors in (*self._programs.values(), self._maps):
            while descriptors:
                if (descriptor := descriptors.popitem()[1]) >= 0:
                    os.close(descriptor)

    def descriptor(self, name: str) -> int:
        """The file descriptor of a map."""
        return self._maps[name]

    def read_array(self, name: str, dtype: "np.dtype[Any]", index: int = 0, copies: int = 1) -> Array:
        """One element of an array map: `copies` values, as many as there are CPUs for a per-CPU map."""
        value, key = np.zeros(copies, dtype), ct.c_uint32(index)
        try:
            syscalls.lookup(self._maps[name], ct.addressof(key), value.ctypes.data)
        except OSError as error:
            raise NotPossibleError(f"the kernel does not let kmwatch read its own map {name}") from error
        return value

    def write_array(self, name: str, value: Array, index: int = 0) -> None:
        """Set one element of an array map."""
        key = ct.c_uint32(index)
        try:
            syscalls.update(self._maps[name], ct.addressof(key), value.ctypes.data)
        except OSError as error:
            raise NotPossibleError(f"the kernel does not let kmwatch write its own map {name}") from error

    def read_hash(
        self, name: str, key: "np.dtype[Any]", value: "np.dtype[Any]", copies: int = 1
    ) -> tuple[Array, Array]:
        """All of a hash map in as few system calls as it takes: keys (n,) and values (n, copies)."""
        room = self._room[name] + _SPARE
        keys, values = np.empty(room, key), np.empty((room, copies), value)
        cursors = [np.zeros(1, key), np.zeros(1, key)]
        read, first, last = 0, True, False
        while not last and read < room:
            addresses = 0 if first else cursors[0].ctypes.data, cursors[1].ctypes.data
            ends = keys[read:].ctypes.data, values[read:].ctypes.data
            try:
                count, last = syscalls.lookup_batch(self._maps[name], addresses, *ends, room - read)
            except OSError as error:
                message = f"cannot read the map {name} in batches: kmwatch needs Linux 5.7 or later"
                raise NotPossibleError(message) from error
            read, first = read + count, False
            cursors.reverse()
        return keys[:read], values[:read]

    def delete(self, name: str, keys: Array) -> None:
        """Delete these keys of a hash map, as far as they are there."""
        first, step = keys.ctypes.data, keys.strides[0] if len(keys) else 0
        for at in range(len(keys)):
            with suppress(OSError):
                syscalls.delete(self._maps[name], first + at * step)

    def read_arrays(self, name: str, dtype: "np.dtype[Any]", copies: int) -> Array:
        """All of a per-CPU array map, (n, copies): in batches, one by one before Linux 5.13, which brought them."""
        try:
            return self.read_hash(name, np.dtype("<u4"), dtype, copies)[1]
        except NotPossibleError:
            return np.stack([self.read_array(name, dtype, index, copies) for index in range(self._room[name])])

    def missed(self, each: Attachment) -> int:
        """Events that the kernel skipped a program for, because it was running already."""
        return sum(_cost(program)[2] for program in self._programs[each].values())

    def costs(self) -> dict[str, tuple[int, int]]:
        """By program: nanoseconds run and runs, while statistics are on."""
        programs = (pair for programs in self._programs.values() for pair in programs.items())
        return {name: _cost(program)[:2] for name, program in programs}


def flags_for(attachments: tuple[Attachment, ...], defines: dict[str, int]) -> list[str]:
    """What the compiler is told: which programs to make, in which way, and constants by name."""
    firsts = (each for each in attachments if not each.again)
    # RAW and TRACEPOINT of bpf/compat.h, KPROBE and FENTRY of bpf/functions.h.
    switches = {each.probe.define: each.way + 1 for each in firsts}
    return [f"-D{name}={value:#x}" for name, value in {**defines, **switches}.items()]


def _cost(program: int) -> tuple[int, int, int]:
    info = np.zeros(1, _PROG_INFO)
    syscalls.read_info(program, info.ctypes.data, info.itemsize)
    return int(info["run_time_ns"][0]), int(info["runs"][0]), int(info["misses"][0])


def _kept(key: str, place: Path) -> Compiled | None:
    """What an earlier start compiled; None where there is nothing of use."""
    data = kept_code.read(key, place)
    try:
        return Compiled.from_bytes(data) if data else None
    except ValueError:
        return None


def _formats(attachments: tuple[Attachment, ...]) -> list[str]:
    """What the compiler reads of the kernel: the format files of ordinary tracepoints."""
    found = tracefs.find(mount=False)
    probes = (each.probe for each in attachments if each.way == Way.TRACEPOINT)
    return [found.format_text(probe.category, probe.event) or "" for probe in probes]


def _function_of(attachment: Attachment) -> tuple[int, int]:
    """How a program at a function's entry or exit is loaded: the kind of attaching, and the function's BTF id."""
    btf = Btf()
    try:
        kind = syscalls.TRACE_FEXIT if attachment.exits else syscalls.TRACE_FENTRY
        return kind, btf.function(attachment.at)
    finally:
        btf.close()


@contextmanager
def run_time_statistics() -> Iterator[bool]:
    """While open, the kernel measures the run time of every BPF program; false where it refuses."""
    try:
        descriptor = syscalls.enable_statistics()
    except OSError:
        yield False
        return
    try:
        yield True
    finally:
        os.close(descriptor)


def _reason(error: OSError) -> str:
    """Why the kernel refused: of what the verifier says the last line that is no statistics."""
    if error.errno == errno.EPERM:
        return NO_RIGHTS
    log = error.log if isinstance(error, syscalls.RefusedError) else ""
    lines = [line for line in log.splitlines() if line.strip() and not line.startswith(_STATISTICS)]
    return f"{error.strerror} ({lines[-1].strip()})" if lines else str(error.strerror)
