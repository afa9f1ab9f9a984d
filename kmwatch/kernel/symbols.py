"""The kernel's symbols: addresses to names where the kernel is, so that no address has to leave it."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from kmwatch.errors import NotPossibleError
from kmwatch.kernel.allocators import text_ranges
from kmwatch.kernel.kept import Kept

PATH = Path("/proc/kallsyms")
_HEX = np.full(256, 255, np.uint8)
for _index, _digit in enumerate(b"0123456789abcdef"):
    _HEX[_digit] = _index


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

    Raises NotPossibleError where the kernel hides the addresses.
    """

    def __init__(self, raw: bytes) -> None:
        lines = raw.removesuffix(b"\n").split(b"\n") if raw else []
        addresses = _addresses(raw, len(lines))
        if not len(addresses) or not addresses.any():
            msg = "the kernel hides its symbols: run as root, and `sysctl kernel.kptr_restrict=1` or 0"
            raise NotPossibleError(msg)
        kinds = np.frombuffer(b"".join(line[17:18] for line in lines), np.uint8)
        code = np.flatnonzero(np.isin(kinds, np.frombuffer(b"tTwW", np.uint8)))
        order = code[np.argsort(addresses[code], kind="stable")]
        self._addresses = addresses[order]
        self._lines = [lines[i] for i in order.tolist()]
        self._all = lines

    @classmethod
    def running(cls, path: Path = PATH) -> "Symbols":
        """The symbols of the running kernel."""
        with Kept(path) as file:
            return cls(file.read())

    def __len__(self) -> int:
        return len(self._lines)

    def resolve(self, address: int) -> Site:
        """The site of a return address; UNKNOWN where no function is near."""
        at = int(np.searchsorted(self._addresses, np.uint64(address), side="right")) - 1
        if at < 0:
            return UNKNOWN
        offset = address - int(self._addresses[at])
        if offset > 1 << 20:  # no function is that long: the address is not in kernel text
            return UNKNOWN
        name, module = _name(self._lines[at])
        return Site(f"{name}+{offset:#x}", name, module)

    def data(self, name: str) -> int | None:
        """Address of a data symbol; None where the kernel was built without KALLSYMS_ALL."""
        wanted = name.encode()
        for line in self._all:
            if line.endswith(wanted) and line[19:] == wanted:
                return int(line[:16], 16)
        return None

    def length(self, name: str) -> int:
        """Bytes from the beginning of a function to that of the next; 0 where there is no such function."""
        wanted = name.encode()
        for at, line in enumerate(self._lines[:-1]):
            if line.endswith(wanted) and line[19:] == wanted:
                return int(self._addresses[at + 1] - self._addresses[at])
        return 0

    @cached_property
    def allocator_text(self) -> list[tuple[int, int]]:
        """Stretches of kernel text as (first address, Via bit or 0), sorted: which code belongs to the allocators."""
        return text_ranges((_name(line)[0], at) for line, at in zip(self._lines, self._addresses.tolist(), strict=True))


def _name(line: bytes) -> tuple[str, str]:
    name, _, module = line[19:].decode("ascii", "replace").partition("\t")
    return name, module.strip("[] ")


def _addresses(raw: bytes, count: int) -> "np.ndarray[tuple[int], np.dtype[np.uint64]]":
    """The sixteen hexadecimal digits that every line starts with, all lines at once."""
    data = np.frombuffer(raw, np.uint8)
    starts = np.concatenate([[0], np.flatnonzero(data == ord("\n")) + 1])[:count]
    if not count or int(starts[-1]) + 19 > len(data):
        return np.zeros(0, np.uint64)
    digits = _HEX[data[starts[:, None] + np.arange(16)]]
    if (digits == 255).any():
        return np.zeros(0, np.uint64)
    shifts = np.arange(60, -1, -4, dtype=np.uint64)
    total: np.ndarray[tuple[int], np.dtype[np.uint64]] = (digits.astype(np.uint64) << shifts).sum(
        axis=1, dtype=np.uint64
    )
    return total
