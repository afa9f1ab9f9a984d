"""The kernel's symbols: addresses to names where the kernel is, so that no address has to leave it."""

import binascii
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from kmwatch.errors import NotPossibleError
from kmwatch.kernel.allocators import BEGINNINGS, text_ranges
from kmwatch.kernel.kept import Kept

Array = np.ndarray[Any, np.dtype[Any]]

PATH = Path("/proc/kallsyms")
_ADDRESS, _BEFORE_NAME = 16, 19  # a line: the address, a letter that tells the kind, the name, perhaps [its module]
_NEWLINE = ord("\n")
_IS_CODE = np.isin(np.arange(256), np.frombuffer(b"tTwW", np.uint8))


@dataclass(frozen=True)
class Site:
    """A place in the kernel's code: `load_msg+0x41`, its function, and its module ("" in the kernel itself)."""

    text: str
    symbol: str
    module: str = ""

    @property
    def label(self) -> str:
        """The place with its module, as the kernel prints it: `drv_irq+0x9 [drv]`."""
        return f"{self.text} [{self.module}]" if self.module else self.text


UNKNOWN = Site("unknown", "unknown")


class Symbols:
    """A sorted table of the kernel's functions, from the text of /proc/kallsyms.

    The text stays as it is: a line of it is looked at when its name is asked for. Raises NotPossibleError where the
    kernel hides the addresses.
    """

    def __init__(self, raw: bytes) -> None:
        self._raw = raw if raw.endswith(b"\n") else raw + b"\n"
        data = np.frombuffer(self._raw, np.uint8)
        ends = np.flatnonzero(data == _NEWLINE)
        starts = np.concatenate([[0], ends[:-1] + 1])
        addresses = _addresses(self._raw, starts, ends)
        if not addresses.any():
            msg = "the kernel hides its symbols: run as root, and `sysctl kernel.kptr_restrict=1` or 0"
            raise NotPossibleError(msg)
        code = np.flatnonzero(_IS_CODE[data[starts + _ADDRESS + 1]])
        order = code[np.argsort(addresses[code], kind="stable")]
        self._addresses, self._starts, self._ends = addresses[order], starts[order], ends[order]

    @classmethod
    def running(cls, path: Path = PATH) -> "Symbols":
        """The symbols of the running kernel."""
        with Kept(path) as file:
            return cls(file.read())

    def __len__(self) -> int:
        return len(self._addresses)

    def resolve(self, address: int) -> Site:
        """The site of a return address; UNKNOWN where no function is near."""
        at = int(np.searchsorted(self._addresses, np.uint64(address), side="right")) - 1
        if at < 0:
            return UNKNOWN
        offset = address - int(self._addresses[at])
        if offset > 1 << 20:  # no function is that long: the address is not in kernel text
            return UNKNOWN
        name, module = self._name(at)
        return Site(f"{name}+{offset:#x}", name, module)

    def data(self, name: str) -> int | None:
        """Address of a data symbol; None where the kernel was built without KALLSYMS_ALL."""
        line = self._line(name)
        return None if line is None else int(self._raw[line : line + _ADDRESS], 16)

    def length(self, name: str) -> int:
        """Bytes from the beginning of a function to that of the next; 0 where there is no such function."""
        line = self._line(name)
        found = [] if line is None else np.flatnonzero(self._starts[:-1] == line).tolist()
        return int(self._addresses[found[0] + 1] - self._addresses[found[0]]) if found else 0

    @cached_property
    def allocator_text(self) -> list[tuple[int, int]]:
        """Stretches of kernel text as (first address, Via bit or 0), sorted: which code belongs to the allocators."""
        likely = np.zeros(len(self) + 1, bool)
        for length, beginnings in BEGINNINGS.items():
            known = np.sort(np.frombuffer(b"".join(beginnings), f"<u{length}"))
            # Within the text: a name that is moved for that is too short to be one of these.
            places = np.minimum(self._starts + _BEFORE_NAME, len(self._raw) - length)
            words = _words(self._raw, places, known.dtype)
            likely[:-1] |= known[np.searchsorted(known, words) % len(known)] == words
        # All others are outside, and a stretch ends where the next function begins.
        told = np.flatnonzero((likely | np.roll(likely, 1))[:-1]).tolist()
        return text_ranges((self._name(at)[0], int(self._addresses[at])) for at in told)

    def _name(self, at: int) -> tuple[str, str]:
        """The name of a function, and its module."""
        text = self._raw[int(self._starts[at]) + _BEFORE_NAME : int(self._ends[at])].decode("ascii", "replace")
        name, _, module = text.partition("\t")
        return name, module.strip("[] ")

    def _line(self, name: str) -> int | None:
        """Where the line of a symbol of the kernel itself begins, the first of that name; None where there is none."""
        wanted = b" %s\n" % name.encode()
        at = self._raw.find(wanted)
        while at >= 0:
            line = self._raw.rfind(b"\n", 0, at) + 1
            if at - line == _BEFORE_NAME - 1:
                return line
            at = self._raw.find(wanted, at + 1)
        return None


def _addresses(raw: bytes, starts: Array, ends: Array) -> Array:
    """The sixteen hexadecimal digits that every line starts with; all 0 where a line is none of kallsyms."""
    if not len(starts) or int((ends - starts).min()) < _BEFORE_NAME:
        return np.zeros(len(starts), np.uint64)
    try:
        return np.frombuffer(binascii.unhexlify(_words(raw, starts, np.dtype("S16")).tobytes()), ">u8").astype("<u8")
    except binascii.Error:
        return np.zeros(len(starts), np.uint64)


def _words(raw: bytes, places: Array, word: "np.dtype[Any]") -> Array:
    """A word of the text at each of these places."""
    every = np.ndarray(len(raw) - word.itemsize + 1, word, raw, strides=(1,))
    return np.asarray(every[places])
