"""The GFP flags of one kernel: numbers to names and back.

Bit values move between versions and configurations (GFP_ATOMIC is 0xa20 before Linux 6.3 and 0x820 since, commit
2973d8229b78; from 0x1000000 up they depend on Kconfig since 6.10, commit 772dd0342727), so the table is read from the
`print fmt` of a trace event, never looked up by version.
"""

import ast
import difflib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from kmwatch.errors import BadInputError, NotPossibleError, UsageError
from kmwatch.kernel import tracefs

BUILT_IN = "built-in (Linux 6.3 and later)"

_WORD = (1 << 64) - 1
_GFP_BITS = 32  # gfp_t is an unsigned int
_LARGEST_TEXT = 1 << 20
_LONGEST_EXPRESSION = 4096  # the longest of Linux 6.18, GFP_TRANSHUGE, has 531 characters
_MOST_ENTRIES = 256
_NAME = re.compile(r"(?:__)?GFP_[A-Z0-9_]{1,60}")
_ENTRY = re.compile(r'\{([^{}",]*),\s*"([^"{}]*)"\s*\}')
_CAST = re.compile(r"\(\s*(?:(?:__force|unsigned|long|int|gfp_t)\b\s*)+\)")
_SUFFIX = re.compile(r"\b(0[xX][0-9a-fA-F]+|[0-9]+)[uUlL]{1,3}\b")
_ENUMERATOR = re.compile(r"\b___(GFP_[A-Z0-9_]+)_BIT\b")
# All that is left of an expression without casts and suffixes: no names but hexadecimal digits, no quotes, no calls.
_PLAIN = re.compile(r"[0-9a-fA-FxX<&|~() \t]*")
_NUMBER = re.compile(r"0[xX][0-9a-fA-F]{1,16}|[0-9]{1,10}")
# A mask as the kernel logs it: `mode:0xcc0(GFP_KERNEL)`, `gfp_mask=0xcc0(GFP_KERNEL), order=0`.
_LOGGED = re.compile(r"(?:(?:mode:|gfp_mask=)\s*)?(0[xX][0-9a-fA-F]{1,16})\s*\(([A-Za-z0-9_|]*)\)")

# The enum of Linux 6.10 to 6.12, whose tables show the enumerators' names in place of their numbers (repaired in 6.13,
# commit 60295b944ff6). The first 24 are always there, the rest take the next free bits as far as configured.
_ENUM = (
    *("DMA", "HIGHMEM", "DMA32", "MOVABLE", "RECLAIMABLE", "HIGH", "IO", "FS", "ZERO", "UNUSED"),
    *("DIRECT_RECLAIM", "KSWAPD_RECLAIM", "WRITE", "NOWARN", "RETRY_MAYFAIL", "NOFAIL", "NORETRY", "MEMALLOC"),
    *("COMP", "NOMEMALLOC", "HARDWALL", "THISNODE", "ACCOUNT", "ZEROTAGS"),
)
_ENUM_CONFIGURED = ("SKIP_ZERO", "SKIP_KASAN", "NOLOCKDEP", "NO_OBJ_EXT")

# Well-known combinations, for tables that lack some of them. A table's own entry always wins.
_DERIVED = {
    "GFP_KERNEL": ("__GFP_DIRECT_RECLAIM", "__GFP_KSWAPD_RECLAIM", "__GFP_IO", "__GFP_FS"),
    "GFP_KERNEL_ACCOUNT": ("GFP_KERNEL", "__GFP_ACCOUNT"),
    "GFP_NOFS": ("__GFP_DIRECT_RECLAIM", "__GFP_KSWAPD_RECLAIM", "__GFP_IO"),
    "GFP_NOIO": ("__GFP_DIRECT_RECLAIM", "__GFP_KSWAPD_RECLAIM"),
    "__GFP_RECLAIM": ("__GFP_DIRECT_RECLAIM", "__GFP_KSWAPD_RECLAIM"),
    "GFP_USER": ("GFP_KERNEL", "__GFP_HARDWALL"),
    "GFP_HIGHUSER": ("GFP_USER", "__GFP_HIGHMEM"),
    "GFP_HIGHUSER_MOVABLE": ("GFP_HIGHUSER", "__GFP_MOVABLE"),
    "GFP_DMA": ("__GFP_DMA",),
    "GFP_DMA32": ("__GFP_DMA32",),
    "__GFP_DMA": ("GFP_DMA",),  # tables before Linux 6.12 have the composites only
    "__GFP_DMA32": ("GFP_DMA32",),
}


@dataclass(frozen=True)
class GfpTable:
    """Names and values of the GFP flags of one kernel, in that kernel's own order, and where they come from."""

    flags: tuple[tuple[str, int], ...]
    source: str

    @classmethod
    def from_format(cls, text: str, source: str = "this kernel's event format") -> "GfpTable":
        """The table in the `print fmt` of kmem:kmalloc (or any event that prints GFP flags).

        Raises BadInputError on text that has no such table or an expression that is not plain C bit arithmetic.
        """
        if len(text) > _LARGEST_TEXT:
            raise BadInputError("the event's format is over 1 MiB; check what is mounted at /sys/kernel/tracing")
        entries = [(name, expression) for expression, name in _ENTRY.findall(text) if _NAME.fullmatch(name)]
        if not entries or len(entries) > _MOST_ENTRIES:
            raise BadInputError(f"the event's format has {len(entries)} GFP flags, not 1 to {_MOST_ENTRIES}; {_REPORT}")
        bits = _enumerators(text)
        flags = {name: evaluate(expression, bits) for name, expression in reversed(entries)}
        return cls(_completed({name: flags[name] for name, _ in entries if flags[name]}), source)

    @classmethod
    def from_json(cls, data: object) -> "GfpTable":
        """The table that `to_json` wrote; raises BadInputError on anything else."""
        if not isinstance(data, dict) or not isinstance(source := data.get("source"), str) or len(source) > 200:
            raise BadInputError(f"a GFP table needs `source` and `flags`; {_AGAIN}")
        rows = data.get("flags")
        if not isinstance(rows, list) or not 0 < len(rows) <= _MOST_ENTRIES:
            raise BadInputError(f"the GFP table's `flags` must be a list of 1 to {_MOST_ENTRIES}; {_AGAIN}")
        return cls(tuple(_row(row) for row in rows), source)

    def to_json(self) -> dict[str, Any]:
        """The table as plain data, for a capture."""
        return {"source": self.source, "flags": [[name, value] for name, value in self.flags]}

    def bit(self, name: str) -> int:
        """The value of a flag or composite; 0 when this kernel has no such flag."""
        return self._values.get(name, 0)

    def decode(self, mask: int) -> str:
        """A mask in words: `GFP_KERNEL|__GFP_ZERO`, bits without a name as a trailing number, `none` for 0."""
        names = [name for name, _ in self.parts(mask)]
        if rest := self.unknown(mask):
            names.append(f"{rest:#x}")
        return "|".join(names) or "none"

    def parts(self, mask: int) -> list[tuple[str, int]]:
        """The names that `decode` uses, each with its value: composites first, then single flags."""
        sleeps = self.may_sleep(mask)
        found, left = [], mask
        for name, value in self._order:
            # The kernel would call GFP_NOIO|__GFP_HIGH "GFP_ATOMIC|__GFP_DIRECT_RECLAIM": what may sleep is not atomic.
            if left & value == value and not (sleeps and self._atomic(value)):
                found.append((name, value))
                left &= ~value
        return found

    def singles(self, mask: int) -> list[tuple[str, int]]:
        """The single flags of a mask that have a name, by ascending bit."""
        return [(name, value) for value, name in sorted(self._single_names.items()) if mask & value]

    def unknown(self, mask: int) -> int:
        """The bits of a mask for which this kernel has no name."""
        for _, value in self.flags:
            mask &= ~value
        return mask

    def encode(self, text: str) -> int:
        """The mask for names and numbers joined by `|`, `+`, comma or blanks; a logged `0xcc0(GFP_KERNEL)` too.

        Raises UsageError on a name that this kernel does not have, with the nearest that it has.
        """
        if len(text) > _LONGEST_EXPRESSION:
            raise UsageError("the mask is too long; give names like GFP_KERNEL or one number like 0xcc0")
        numbers = [number for number, _ in logged(text)]
        words = numbers or [word for word in re.split(r"[|+,\s]+", text) if word]
        if not words:
            raise UsageError("no flag given; try `kmwatch gfp GFP_KERNEL` or `kmwatch gfp 0xcc0`")
        mask = 0
        for word in words:
            mask |= self._encode_word(word)
        return mask

    def may_sleep(self, mask: int) -> bool:
        """Whether an allocation with this mask may sleep: exactly when it has __GFP_DIRECT_RECLAIM (Linux 4.4 on)."""
        return bool(mask & self.bit("__GFP_DIRECT_RECLAIM"))

    def opportunistic(self, mask: int) -> bool:
        """Whether the caller expects failure and has a fallback, so that a failure is no problem by itself.

        Silent and without retries (SLUB's first high-order try, transparent huge pages); silent, without waiting and
        without the reserves (GFP_NOWAIT since Linux 6.7; kvmalloc's first try, which since 6.15 drops direct reclaim);
        or without any reclaim at all.
        """
        reclaim = self.bit("__GFP_DIRECT_RECLAIM") | self.bit("__GFP_KSWAPD_RECLAIM")
        silent, once = self.bit("__GFP_NOWARN"), self.bit("__GFP_NORETRY")
        waits, reserves = self.bit("__GFP_DIRECT_RECLAIM"), self.bit("__GFP_HIGH")
        tries = bool(mask & once) or not mask & (waits | reserves)
        return bool(mask & silent and tries) or not mask & reclaim

    def zone_asked(self, mask: int, *, highmem: bool = False) -> str:
        """The highest zone that the mask allows: DMA, DMA32, Normal, HighMem or Movable.

        `highmem` says whether the kernel has a HighMem zone (x86-64 has none: __GFP_HIGHMEM alone means Normal).
        Contradicting zone flags give DMA, as the kernel's GFP_ZONE_TABLE does (include/linux/gfp.h).
        """
        asked = {name for name in ("DMA", "HIGHMEM", "DMA32", "MOVABLE") if mask & self.bit(f"__GFP_{name}")}
        limits = asked - {"MOVABLE"}
        if len(limits) > 1:
            return "DMA"
        if limits == {"HIGHMEM"}:
            return "Movable" if "MOVABLE" in asked else "HighMem" if highmem else "Normal"
        return limits.pop() if limits else "Normal"

    @cached_property
    def _values(self) -> dict[str, int]:
        return dict(self.flags)

    @cached_property
    def _single_names(self) -> dict[int, str]:
        """The `__GFP_` name of each single bit (another name where there is none)."""
        by_bit: dict[int, str] = {}
        for name, value in self.flags:
            if value.bit_count() == 1 and (value not in by_bit or name.startswith("__")):
                by_bit[value] = name
        return by_bit

    @cached_property
    def _order(self) -> list[tuple[str, int]]:
        """Largest first, then the table's own order: what the kernel means its table to be."""
        return sorted(self.flags, key=lambda flag: -flag[1].bit_count())

    def _atomic(self, value: int) -> bool:
        """Whether a composite is one for contexts that cannot sleep: wakes kswapd, does not reclaim itself."""
        return (
            value.bit_count() > 1
            and bool(value & self.bit("__GFP_KSWAPD_RECLAIM"))
            and not value & self.bit("__GFP_DIRECT_RECLAIM")
        )

    def _encode_word(self, word: str) -> int:
        if _NUMBER.fullmatch(word):
            value = int(word, 0) if word[:2].lower() == "0x" else int(word)
            if value >> _GFP_BITS:
                raise UsageError(f"{word} does not fit a GFP mask of {_GFP_BITS} bits; check the number")
            return value
        if word.lower() == "none":
            return 0
        if value := self.bit(word) or self.bit(word.upper()):
            return value
        raise UsageError(f"this kernel has no GFP flag {word!r:.80}{nearest(word, self._values)}")


_REPORT = "`kmwatch doctor` shows what this kernel offers"
_AGAIN = "the capture is damaged or not one of kmwatch's: record it again"


def running_table() -> GfpTable:
    """The running kernel's table; the built-in one, so labelled in `source`, where tracefs cannot be read.

    Never mounts anything. Raises BadInputError when the kernel's text is not understood.
    """
    try:
        text = tracefs.find(mount=False).format_text("kmem", "kmalloc")
    except NotPossibleError:
        return built_in()
    return GfpTable.from_format(text) if text else built_in()


def built_in() -> GfpTable:
    """The table of Linux 6.3 and later as far as it is the same everywhere (bits 0 to 23)."""
    flags = {f"__GFP_{name}": 1 << bit for bit, name in enumerate(_ENUM) if name != "UNUSED"}
    flags["GFP_ATOMIC"] = flags["__GFP_HIGH"] | flags["__GFP_KSWAPD_RECLAIM"]
    # With __GFP_NOWARN since Linux 6.7, commit 16f5dfbc851b.
    flags["GFP_NOWAIT"] = flags["__GFP_KSWAPD_RECLAIM"] | flags["__GFP_NOWARN"]
    whole = dict(_completed(flags))
    light = ("GFP_HIGHUSER_MOVABLE", "__GFP_COMP", "__GFP_NOMEMALLOC", "__GFP_NOWARN")
    whole["GFP_TRANSHUGE_LIGHT"] = sum(whole[name] for name in light) & ~whole["__GFP_RECLAIM"]
    whole["GFP_TRANSHUGE"] = whole["GFP_TRANSHUGE_LIGHT"] | whole["__GFP_DIRECT_RECLAIM"]
    return GfpTable(tuple(whole.items()), BUILT_IN)


def logged(text: str) -> list[tuple[str, str]]:
    """The masks in a kernel message (`mode:0xcc0(GFP_KERNEL)`), each as its number and the names that message gives."""
    return _LOGGED.findall(text[:_LONGEST_EXPRESSION])


def nearest(word: str, known: Iterable[str]) -> str:
    """The end of an error message: `; did you mean X?` when a known name is near, and the command with the list."""
    upper = {name.upper(): name for name in known}
    close = difflib.get_close_matches(word[:80].upper(), upper, n=2, cutoff=0.7)
    meant = f"; did you mean {' or '.join(upper[name] for name in close)}?" if close else ";"
    return f"{meant} `kmwatch explain` lists all names"


def evaluate(expression: str, bits: dict[str, int] | None = None) -> int:
    """The 32-bit value of a C constant expression of numbers, casts to integers, ~ << & | and parentheses.

    `bits` gives the values of enumerators. Raises BadInputError on anything else; nothing is ever executed.
    """
    plain = _SUFFIX.sub(r"\1", _CAST.sub("", expression)).strip()
    plain = _ENUMERATOR.sub(lambda match: str((bits or {}).get(match[1], match[0])), plain)
    try:
        # Many ~ could nest too deep for the parser; it bounds parentheses itself.
        if len(plain) > _LONGEST_EXPRESSION or plain.count("~") > 64 or not _PLAIN.fullmatch(plain):
            raise ValueError("not allowed")  # noqa: TRY301 - one message for all that is refused
        return _value(ast.parse(plain, mode="eval").body) & ((1 << _GFP_BITS) - 1)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise BadInputError(f"a GFP flag's expression is not bit arithmetic: {expression!r:.60}; {_REPORT}") from error


def _value(node: ast.expr) -> int:
    match node:
        case ast.Constant(value=int(value)) if not isinstance(value, bool) and 0 <= value <= _WORD:
            return value
        case ast.UnaryOp(op=ast.Invert(), operand=operand):
            return ~_value(operand) & _WORD
        case ast.BinOp(left=left, op=ast.BitOr(), right=right):
            return _value(left) | _value(right)
        case ast.BinOp(left=left, op=ast.BitAnd(), right=right):
            return _value(left) & _value(right)
        case ast.BinOp(left=left, op=ast.LShift(), right=right) if (shift := _value(right)) < 64:
            return _value(left) << shift & _WORD
    raise ValueError("not allowed")


def _enumerators(text: str) -> dict[str, int]:
    """Bit numbers for the enumerators that a text still names; empty for every kernel but the few with that defect."""
    named = {match.removeprefix("GFP_") for match in _ENUMERATOR.findall(text)}
    if not named:
        return {}
    order = [*_ENUM, *(name for name in _ENUM_CONFIGURED if name in named)]
    return {f"GFP_{name}": bit for bit, name in enumerate(order)}


def _completed(flags: dict[str, int]) -> tuple[tuple[str, int], ...]:
    """The flags, and after them the well-known combinations that the table lacks and all of whose parts it has."""
    whole = dict(flags)
    for name, parts in _DERIVED.items():
        if name not in whole and all(part in whole for part in parts):
            value = 0
            for part in parts:
                value |= whole[part]
            whole[name] = value
    return tuple(whole.items())


def _row(row: object) -> tuple[str, int]:
    match row:
        case [str(name), int(value)] if _NAME.fullmatch(name) and not isinstance(value, bool):
            if 0 < value < 1 << _GFP_BITS:
                return name, value
    raise BadInputError(f"{row!r:.60} is not a GFP flag; {_AGAIN}")
