"""The running kernel's own type information (BTF): offsets of members and per-CPU variables, tracepoint prototypes.

Read through libbpf, which BCC depends on, so that no second parser of the format is kept here; only offsets leave.
"""

import contextlib
import ctypes as ct
import struct
from collections.abc import Iterator
from pathlib import Path

from kmwatch.errors import NotPossibleError

PATH = Path("/sys/kernel/btf/vmlinux")

# include/uapi/linux/btf.h
_INT, _PTR, _ARRAY, _STRUCT, _UNION, _ENUM, _TYPEDEF, _VOLATILE, _CONST, _RESTRICT, _FUNC, _PROTO, _DATASEC, _TAG = (
    1, 2, 3, 4, 5, 6, 8, 9, 10, 11, 12, 13, 15, 18,
)  # fmt: skip
_QUALIFIERS = (_TYPEDEF, _VOLATILE, _CONST, _RESTRICT, _TAG)


class Btf:
    """One kernel's BTF. Raises NotPossibleError where it cannot be read."""

    def __init__(self, path: Path = PATH) -> None:
        self._lib = _libbpf()
        self._btf = self._lib.btf__parse(str(path).encode(), None) if path.exists() else None
        if not self._btf or self._lib.libbpf_get_error(self._btf):
            msg = f"no BTF at {path}: use a kernel built with CONFIG_DEBUG_INFO_BTF=y, as distributions have since 2020"
            raise NotPossibleError(msg)

    def close(self) -> None:
        """Give the memory back; BTF is megabytes and only offsets are kept."""
        self._lib.btf__free(self._btf)
        self._btf = None

    def member_offset(self, name: str, path: str) -> int | None:
        """Offset in bytes of a member, `a.b` through nested structs; None where this kernel has no such member."""
        found = self._walk(name, path)
        return found[1] if found else None

    def length(self, name: str, path: str) -> int | None:
        """How many elements a member has that is an array; None where it is none."""
        found = self._walk(name, path)
        if not found or self._raw(found[0])[2] != _ARRAY:
            return None
        return int(struct.unpack("<III", ct.string_at(self._raw(found[0])[0] + 12, 12))[2])

    def size(self, name: str) -> int | None:
        """Bytes that a struct takes; None where this kernel has no such struct."""
        number = self._find(name, _STRUCT)
        return self._raw(number)[5] if number else None

    def values(self, name: str) -> dict[str, int]:
        """The values of an enum by name; empty where this kernel has no such enum."""
        number = self._find(name, _ENUM)
        if not number:
            return {}
        address, _, _, count, _, _ = self._raw(number)
        pairs = [struct.unpack("<Ii", ct.string_at(address + 12 + 8 * i, 8)) for i in range(count)]
        return {(self._lib.btf__name_by_offset(self._btf, at) or b"").decode(): value for at, value in pairs}

    def percpu_offset(self, path: str) -> int | None:
        """Offset in bytes of a per-CPU variable, or of `variable.member`, in its section; None where there is none."""
        variable, _, member = path.partition(".")
        section = self._find(".data..percpu", _DATASEC)
        for var, offset, _ in self._triples(section) if section else ():
            if self._header(var)[0] == variable:
                if not member:
                    return offset
                found = self._member(self._bare(self._target(var)), member)
                return None if found is None else offset + found[1]
        return None

    def structure(self, name: str) -> int:
        """The BTF id of a struct; 0 where BTF does not know it."""
        return self._find(name, _STRUCT)

    def function(self, name: str) -> int:
        """The BTF id of a kernel function; 0 where BTF does not know it."""
        return self._find(name, _FUNC)

    def prototype(self, event: str) -> tuple[str, ...] | None:
        """Types of the arguments of a tracepoint, as C writes them; None where BTF does not know the event."""
        typedef = self._find(f"btf_trace_{event}", _TYPEDEF)
        types = self._parameters(self._target(self._target(typedef))) if typedef else None
        return types and types[1:]  # the first is the probe's private data

    def parameters(self, function: str) -> tuple[str, ...] | None:
        """Types of the arguments of a function, as C writes them; None where BTF does not know it."""
        known = self.function(function)
        return self._parameters(self._target(known)) if known else None

    def _parameters(self, proto: int) -> tuple[str, ...] | None:
        address, _, kind, count, _, _ = self._raw(proto)
        if kind != _PROTO:
            return None
        types = [struct.unpack("<II", ct.string_at(address + 12 + 8 * i, 8))[1] for i in range(count)]
        return tuple(self._spell(each) for each in types)

    def _walk(self, name: str, path: str) -> tuple[int, int] | None:
        """Type, without qualifiers, and offset in bytes of a member; None where there is none."""
        kind, total = self._find(name, _STRUCT), 0
        for part in path.split("."):
            found = self._member(kind, part) if kind else None
            if found is None:
                return None
            kind, total = self._bare(found[0]), total + found[1]
        return kind, total

    def _find(self, name: str, kind: int) -> int:
        return max(0, int(self._lib.btf__find_by_name_kind(self._btf, name.encode(), kind)))

    def _raw(self, number: int) -> tuple[int, str, int, int, bool, int]:
        address = self._lib.btf__type_by_id(self._btf, number)
        name, info, size = struct.unpack("<III", ct.string_at(address, 12))
        text = self._lib.btf__name_by_offset(self._btf, name) or b""
        return address, text.decode(), info >> 24 & 31, info & 0xFFFF, bool(info >> 31), size

    def _header(self, number: int) -> tuple[str, int]:
        return self._raw(number)[1:3]

    def _target(self, number: int) -> int:
        return self._raw(number)[5]

    def _triples(self, number: int) -> Iterator[tuple[int, int, bool]]:
        """Variables of a section, members of a struct: (type, offset or name, …) as three words each."""
        address, _, _, count, flagged, _ = self._raw(number)
        for i in range(count):
            first, second, _ = struct.unpack("<III", ct.string_at(address + 12 + 12 * i, 12))
            yield first, second, flagged

    def _member(self, number: int, wanted: str) -> tuple[int, int] | None:
        address, _, kind, count, flagged, _ = self._raw(number)
        if kind not in (_STRUCT, _UNION):
            return None
        for i in range(count):
            name, type_id, bits = struct.unpack("<III", ct.string_at(address + 12 + 12 * i, 12))
            offset = (bits & 0xFFFFFF if flagged else bits) // 8
            text = (self._lib.btf__name_by_offset(self._btf, name) or b"").decode()
            if text == wanted:
                return type_id, offset
            if not text and (found := self._member(self._bare(type_id), wanted)):
                return found[0], found[1] + offset
        return None

    def _bare(self, number: int) -> int:
        while self._raw(number)[2] in _QUALIFIERS:
            number = self._target(number)
        return number

    def _spell(self, number: int) -> str:
        if number == 0:
            return "void"
        name, kind = self._header(number)
        prefix = {_STRUCT: "struct ", _UNION: "union ", _ENUM: "enum "}.get(kind, "")
        if kind == _PTR:
            return f"{self._spell(self._target(number))} *"
        if kind in (_CONST, _VOLATILE):
            return f"{'const' if kind == _CONST else 'volatile'} {self._spell(self._target(number))}"
        return prefix + name


def _libbpf() -> ct.CDLL:
    for name in ("libbpf.so.1", "libbpf.so.0"):
        with contextlib.suppress(OSError):
            lib = ct.CDLL(name)
            break
    else:
        raise NotPossibleError("libbpf is missing: install BCC from the distribution (apt install python3-bpfcc)")
    lib.libbpf_set_print(None)
    for function, result, arguments in (
        ("btf__parse", ct.c_void_p, [ct.c_char_p, ct.c_void_p]),
        ("btf__free", None, [ct.c_void_p]),
        ("libbpf_get_error", ct.c_long, [ct.c_void_p]),
        ("btf__find_by_name_kind", ct.c_int, [ct.c_void_p, ct.c_char_p, ct.c_uint32]),
        ("btf__type_by_id", ct.c_void_p, [ct.c_void_p, ct.c_uint32]),
        ("btf__name_by_offset", ct.c_char_p, [ct.c_void_p, ct.c_uint32]),
    ):
        getattr(lib, function).restype, getattr(lib, function).argtypes = result, arguments
    return lib
