"""Compiled C files: maps to make and programs to load, from BCC or from the cache. The only module that knows BCC."""

import ctypes as ct
import hashlib
import importlib.util
import json
import os
import platform
import re
import struct
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np

from kmwatch.errors import NotPossibleError
from kmwatch.kernel import syscalls
from kmwatch.kernel.syscalls import Map
from kmwatch.schema import BPF_DIR

_INCLUDE = re.compile(r'^#include "([a-z]+\.h)"\n', re.MULTILINE)
_HEADERS = BPF_DIR / "headers"
_SET_HERE = "BCC_KERNEL_SOURCE"
_SETTINGS = ("ARCH", "BCC_")  # beginnings of the names of environment variables that change what BCC makes

NO_RIGHTS = "operation not permitted: run as root, or with CAP_BPF, CAP_PERFMON and CAP_SYS_ADMIN"
INSTRUCTION = np.dtype([("code", "u1"), ("registers", "u1"), ("offset", "<i2"), ("immediate", "<i4")])
"""struct bpf_insn of include/uapi/linux/bpf.h; the source register is the upper half of its byte."""
_LOAD_WORD, _MAP_REGISTER = 0x18, 1 << 4  # BPF_LD | BPF_IMM | BPF_DW; BPF_PSEUDO_MAP_FD


@dataclass(frozen=True)
class Compiled:
    """A C file compiled: maps in order, and instructions by program, which name a map by its place in that order."""

    maps: tuple[Map, ...]
    programs: dict[str, bytes]

    def to_bytes(self) -> bytes:
        """All of it, for from_bytes(): a head of JSON with its length before it, then the instructions."""
        sizes = {name: len(code) for name, code in self.programs.items()}
        head = json.dumps({"maps": [astuple(each) for each in self.maps], "programs": sizes}).encode()
        return struct.pack("<I", len(head)) + head + b"".join(self.programs.values())

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """What to_bytes() gave; ValueError where it is anything else."""
        try:
            at = 4 + struct.unpack_from("<I", data)[0]
            head = json.loads(data[4:at])
            programs = {}
            for name, size in head["programs"].items():
                programs[name] = data[at : at + size]
                at += size
            compiled = cls(tuple(Map(*each) for each in head["maps"]), programs)
        except (struct.error, ValueError, KeyError, TypeError, AttributeError) as error:
            raise ValueError("not a compiled program") from error
        if at != len(data) or compiled.to_bytes() != data:
            raise ValueError("not a compiled program")
        return compiled

    def code(self, name: str, descriptors: dict[str, int]) -> "np.ndarray[Any, np.dtype[Any]]":
        """The instructions of a program, dtype INSTRUCTION, with the descriptors of maps, which are given by name."""
        code = np.frombuffer(self.programs[name], INSTRUCTION).copy()
        loads = _map_loads(code)
        numbers = np.array([descriptors[each.name] for each in self.maps], "<i4")
        code["immediate"][loads] = numbers[code["immediate"][loads]]
        return code


def bcc_version() -> str:
    """The version of BCC; NotPossibleError where it is missing."""
    return str(_bcc().__version__)


def key_of(source: str, flags: list[str], formats: list[str]) -> str:
    """What a compilation depends on, as a digest: another key may mean other instructions.

    Args:
        source: the C file, of BPF_DIR or by its path.
        flags: the compiler's.
        formats: the format files of the tracepoints whose structs BCC makes.
    """
    settings = [pair for pair in os.environ.items() if pair[0].startswith(_SETTINGS) and pair[0] != _SET_HERE]
    headers = [(path.name, path.read_text(encoding="utf-8")) for path in sorted(_HEADERS.rglob("*.h"))]
    kernel = platform.machine(), platform.release(), platform.version()
    depends = [_included(source), flags, formats, sorted(settings), headers, kernel, _bcc_package()]
    return hashlib.sha256(json.dumps(depends).encode()).hexdigest()


def compile_file(source: str, flags: list[str]) -> Compiled:
    """Compile a C file with BCC. NotPossibleError where it or the kernel refuses, with the reason it gave.

    BCC makes the maps as it compiles, and what the kernel tells of them is kept; they are gone when this ends.
    """
    os.environ[_SET_HERE] = str(_HEADERS)
    bcc = _bcc()
    with _captured_stderr() as said:
        try:
            made = bcc.BPF(text=_included(source).encode(), cflags=flags)
        except Exception as error:  # BCC raises bare Exception
            raise NotPossibleError(f"the kernel or BCC refused {source}: {_reason(said(), error)}") from error
    try:
        return _taken(bcc.libbcc.lib, made.module)
    finally:
        made.cleanup()


def _taken(lib: Any, module: int) -> Compiled:
    """The maps and programs of BCC's module."""
    for name, result in (("num_tables", ct.c_size_t), ("table_name", ct.c_char_p), ("table_fd_id", ct.c_int)):
        getattr(lib, f"bpf_{name}").restype = result
    handle = ct.c_void_p(module)
    tables = [ct.c_size_t(at) for at in range(lib.bpf_num_tables(handle))]
    descriptors = [lib.bpf_table_fd_id(handle, table) for table in tables]
    names = [lib.bpf_table_name(handle, table).decode() for table in tables]
    maps = tuple(syscalls.map_of(*each) for each in zip(descriptors, names, strict=True))
    places = np.zeros(max(descriptors, default=0) + 1, "<i4")
    places[descriptors] = np.arange(len(descriptors))
    programs = {}
    for at in range(lib.bpf_num_functions(module)):
        name = lib.bpf_function_name(module, at)
        size = lib.bpf_function_size(module, name)
        code = np.frombuffer(ct.string_at(lib.bpf_function_start(module, name), size), INSTRUCTION).copy()
        loads = _map_loads(code)
        code["immediate"][loads] = places[code["immediate"][loads]]
        programs[name.decode()] = code.tobytes()
    return Compiled(maps, programs)


def _map_loads(code: "np.ndarray[Any, np.dtype[Any]]") -> "np.ndarray[Any, np.dtype[Any]]":
    """Which instructions load the address of a map."""
    return np.asarray((code["code"] == _LOAD_WORD) & (code["registers"] & 0xF0 == _MAP_REGISTER))


def _included(name: str) -> str:
    """A C file with its own headers in place of their #include: BCC understands maps and probes in one file only."""
    text = (BPF_DIR / name).read_text(encoding="utf-8")
    parts = _INCLUDE.split(text)  # text, header, text, header, …, text
    lines = [f'#line 1 "{name}"\n{parts[0]}']
    for at in range(1, len(parts), 2):
        after = sum(part.count("\n") for part in parts[:at:2]) + at // 2 + 2
        lines += [_included(parts[at]), f'#line {after} "{name}"\n', parts[at + 1]]
    return "".join(lines)


def _bcc() -> Any:
    try:
        import bcc
    except ImportError as error:
        raise _missing() from error
    return bcc


def _bcc_package() -> tuple[str, int]:
    """Which BCC there is, without loading it: its version, and when its package was made."""
    found = importlib.util.find_spec("bcc")
    if found is None or not found.origin:
        raise _missing()
    version = Path(found.origin).with_name("version.py")
    return version.read_text(encoding="utf-8"), version.stat().st_mtime_ns


def _missing() -> NotPossibleError:
    return NotPossibleError(
        "BCC's Python module is missing: apt install python3-bpfcc (Fedora: dnf install python3-bcc); `make setup`"
    )


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
        return NO_RIGHTS
    return lines[0] if lines else str(error)
