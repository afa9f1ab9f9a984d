"""GFP flags by the names that a text gives them, also names that only older kernels had."""

import re

from kmwatch.kernel.gfp import GfpTable, built_in

_NAME = re.compile(r"(?:__)?GFP_[A-Z0-9_]{1,60}")
_NUMBER = re.compile(r"0[xX][0-9a-fA-F]{1,16}|[0-9]{1,20}")
_BITS, _FIXED = 32, 24  # gfp_t is an unsigned int; bits 0 to 23 are the same on all kernels since 6.3
_MOST_TEXTS = 1 << 14

# Flags that were renamed: the new name keeps its bit, the text's own name is shown.
# v4.13, Linux commit dcda9b04713c ("mm, tree wide: replace __GFP_REPEAT by __GFP_RETRY_MAYFAIL").
_RENAMED = {"__GFP_REPEAT": "__GFP_RETRY_MAYFAIL"}
# Names that stood for several of today's flags.
_SUMS = {
    # Until v4.4, Linux commit d0164adc89f6: it meant "may sleep", and whoever might also woke kswapd.
    "__GFP_WAIT": ("__GFP_DIRECT_RECLAIM", "__GFP_KSWAPD_RECLAIM"),
    "GFP_IOFS": ("__GFP_IO", "__GFP_FS"),
    "GFP_TEMPORARY": ("GFP_KERNEL", "__GFP_RECLAIMABLE"),  # until v4.14, Linux commit 0ee931c4e31a
    # Until v6.7, Linux commit 16f5dfbc851b; later ones are silent, and the table has them.
    "GFP_NOWAIT": ("__GFP_KSWAPD_RECLAIM",),
}
# Bits that a flag had when it existed, and that are free now.
_OLD_BITS = {"__GFP_ATOMIC": 9}  # v4.4 to v6.2, Linux commit 2973d8229b78


class Masks:
    """Masks for the texts of one trace, and the table by which they read as the text had them.

    The table of Linux 6.3 is the base: nearly all names mean the same on all kernels. A name that it lacks gets a bit
    that is free.

    Args:
        silent_nowait: GFP_NOWAIT has __GFP_NOWARN, as since Linux 6.7.
    """

    def __init__(self, *, silent_nowait: bool = True) -> None:
        base = built_in()
        self._flags, self._source = dict(base.flags), base.source
        if not silent_nowait:
            del self._flags["GFP_NOWAIT"]
        self._front: dict[str, int] = {}
        self._memo: dict[str, int] = {}
        self._unnamed = 0
        self.notes: set[str] = set()
        self.table = base

    def __call__(self, text: str) -> int:
        """The mask for names and numbers joined by `|`; what cannot be a flag is left out, with a note."""
        text = text.strip()
        if text not in self._memo:
            if len(self._memo) >= _MOST_TEXTS:
                self._memo.clear()
            self._memo[text] = self._mask(text[:4096])
        return self._memo[text]

    def _mask(self, text: str) -> int:
        words = [word.strip() for word in text.split("|")]
        mask = 0
        for word in words:
            if word in ("", "none"):
                continue
            if _NUMBER.fullmatch(word):
                number = int(word, 16) if word[:2].lower() == "0x" else int(word)
                mask |= self._number(number, alone=len(words) == 1)
            elif _NAME.fullmatch(word):
                mask |= self._named(word)
            else:
                self.notes.add("some GFP flags of the text are no names that a kernel prints: they are left out")
        return mask

    def _number(self, number: int, *, alone: bool) -> int:
        """Bits without a name: a whole mask as a number, or what was left where names stood before it."""
        mask = 0
        if number >> _BITS:
            self.notes.add(f"some GFP masks of the text have bits above {_BITS - 1}: those are left out")
        if alone and number:
            self.notes.add("GFP masks given as numbers are read by the table of Linux 6.3 and later")
        for bit in range(_BITS):
            if not number >> bit & 1:
                continue
            value = 1 << bit
            if alone and bit < _FIXED and value != 1 << 9:
                mask |= value
            elif bit >= _FIXED and not self._taken() & value:
                self._unnamed |= value
                mask |= value
            elif self._unnamed & value:
                mask |= value
            else:
                mask |= self._named(f"__GFP_BIT{bit}")
        return mask

    def _named(self, name: str) -> int:
        name = self._canonical(name)
        known = self._front.get(name) or self._flags.get(name)
        if known:
            return known
        if name in _RENAMED:
            value = self._flags[_RENAMED[name]]
        elif name in _SUMS:
            value = 0
            for part in _SUMS[name]:
                value |= self._flags[part]
        else:
            value = self._free(name)
        if value:
            # In front: of two names for the same bits, the one that the text has is shown.
            self._front[name] = value
            flags = tuple((self._front | {k: v for k, v in self._flags.items() if k not in self._front}).items())
            self.table = GfpTable(flags, f"{self._source}, and names of the text")
        return value

    def _canonical(self, name: str) -> str:
        """Until v4.5 the kernel's trace events printed `GFP_ZERO` for __GFP_ZERO."""
        if name in self._flags or name.startswith("__"):
            return name
        long = f"__{name}"
        known = (self._flags, _RENAMED, _SUMS, _OLD_BITS)
        return long if any(long in names for names in known) and name not in _SUMS else name

    def _taken(self) -> int:
        taken = 0
        for value in (*self._flags.values(), *self._front.values()):
            taken |= value
        return taken

    def _free(self, name: str) -> int:
        """A bit for a name: its own of old, otherwise from the top, where numbers of a modern kernel are last."""
        taken = self._taken() | self._unnamed
        wanted = _OLD_BITS.get(name)
        order = [wanted] if wanted is not None else []
        order += range(_BITS - 1, _FIXED - 1, -1)
        for bit in order:
            if not taken >> bit & 1:
                return 1 << bit
        self.notes.add("the text has more kinds of GFP flags than a mask has bits: some are left out")
        return 0
