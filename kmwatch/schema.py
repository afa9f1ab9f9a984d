"""The structs and numbers that cross from the BPF programs to Python, read from bpf/*.h: they stand there only."""

import enum
import functools
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

_HERE = Path(__file__).resolve().parent
BPF_DIR = next(path for path in (_HERE / "bpf", _HERE.parent / "bpf") if path.is_dir() or path.parent == _HERE.parent)
"""The directory of the C sources: inside an installed package, beside it in a checkout."""

_TYPES = {"__u8": "u1", "__u16": "<u2", "__u32": "<u4", "__u64": "<u8", "char": "S"}
_STRUCT = re.compile(r"^struct (\w+) \{\n(.*?)^\};", re.MULTILINE | re.DOTALL)
_MEMBER = re.compile(r"^\t(\w+) (\w+)(?:\[(\d+)\])?;\s*/\* (.*); (.*) \*/$", re.MULTILINE)
_NESTED = re.compile(r"^\tstruct (\w+) (\w+)(?:\[(\d+)\])?;", re.MULTILINE)
_NAME = re.compile(r"^\t(?:struct )?\w+ (\w+)(?:\[\d+\])?;", re.MULTILINE)
_ENUM = re.compile(r"^enum (\w+) \{\n(.*?)^\};", re.MULTILINE | re.DOTALL)
_VALUE = re.compile(r"^\t([A-Z_]+) = (\d+),\s*(?:/\* (.*) \*/)?$", re.MULTILINE)
_NUMBER = re.compile(r"^#define (\w+) (\d+)\b", re.MULTILINE)


@dataclass(frozen=True)
class Member:
    """One member of a struct: numpy type, what it is, and its unit."""

    name: str
    type: str
    shape: tuple[int, ...]
    doc: str
    unit: str


@functools.cache
def source() -> str:
    """The text of the headers in bpf/ that Python reads."""
    return "".join((BPF_DIR / name).read_text(encoding="utf-8") for name in ("events.h", "records.h"))


def _body(struct: str) -> str:
    return str(dict(_STRUCT.findall(source()))[struct])


@functools.cache
def members(struct: str) -> tuple[Member, ...]:
    """The members of a struct in order; KeyError where the headers have no such struct."""
    found = []
    for c_type, name, length, doc, unit in _MEMBER.findall(_body(struct)):
        text = c_type == "char"
        kind = f"S{length}" if text else _TYPES[c_type]
        found.append(Member(name, kind, (int(length),) if length and not text else (), doc, unit))
    return tuple(found)


@functools.cache
def dtype(struct: str) -> "np.dtype[np.void]":
    """The numpy type of a struct, byte for byte; a struct there has no padding."""
    nested: dict[str, Any] = {
        name: (name, dtype(inner), (int(length),) if length else ())
        for inner, name, length in _NESTED.findall(_body(struct))
    }
    flat: dict[str, Any] = {each.name: (each.name, each.type, each.shape) for each in members(struct)}
    return np.dtype([{**flat, **nested}[name] for name in _NAME.findall(_body(struct))])


@functools.cache
def values(name: str) -> dict[str, tuple[int, str]]:
    """The values of an enum by their lower-case names without the enum's prefix: number and what it means."""
    body = dict(_ENUM.findall(source()))[name]
    return {
        word.removeprefix(f"{name.upper()}_").lower(): (int(number), doc) for word, number, doc in _VALUE.findall(body)
    }


def _numbers(name: str) -> dict[str, int]:
    return {word.upper(): number for word, (number, _) in values(name).items()}


_DEFINES = {name: int(number) for name, number in _NUMBER.findall(source())}
SEEN_AGAIN = _DEFINES["SEEN_AGAIN"]
NO_ZONE = _DEFINES["NO_ZONE"]
KINDS = _DEFINES["KINDS"]
LARGE = _DEFINES["LARGE"]
TABLE_SIZE = _DEFINES["TABLE_SIZE"]
FILL_BUCKETS = _DEFINES["FILL_BUCKETS"]
NESTING = _DEFINES["NESTING"]
LIFTED = _DEFINES["LIFTED"]

if TYPE_CHECKING:

    class _Header(enum.EnumMeta):
        """Members come from a header, which a type checker cannot read."""

        def __getattr__(cls, name: str) -> Any: ...

    class Kind(enum.IntEnum, metaclass=_Header):
        """What was observed."""

    class Context(enum.IntFlag, metaclass=_Header):
        """Where the CPU was; no bit is a process that may sleep."""

    class Via(enum.IntFlag, metaclass=_Header):
        """Allocators between the function that asked and the event."""

    class Way(enum.IntEnum, metaclass=_Header):
        """How a program is attached."""

    class Phase(enum.IntEnum, metaclass=_Header):
        """What the programs do with an event."""

    class Pair(enum.IntEnum, metaclass=_Header):
        """How an event belongs to another of the same allocation."""

    class Stacks(enum.IntEnum, metaclass=_Header):
        """Which events take their stack along."""

    class Counter(enum.IntEnum, metaclass=_Header):
        """Losses that the programs count."""

else:
    Kind = enum.IntEnum("Kind", _numbers("kind"))
    Context = enum.IntFlag("Context", _numbers("context"))
    Via = enum.IntFlag("Via", _numbers("via"))
    Way = enum.IntEnum("Way", _numbers("way"))
    Phase = enum.IntEnum("Phase", _numbers("phase"))
    Pair = enum.IntEnum("Pair", _numbers("pair"))
    Stacks = enum.IntEnum("Stacks", _numbers("stacks"))
    Counter = enum.IntEnum("Counter", _numbers("counter"))
