"""Call sites and stacks as a text gives them: names, or addresses that only the symbols of that boot can name."""

import re
from pathlib import Path
from typing import NamedTuple

from kmwatch.errors import BadInputError, NotPossibleError
from kmwatch.kernel.allocators import via_of
from kmwatch.kernel.symbols import UNKNOWN, Site, Symbols
from kmwatch.schema import NESTING

MOST = 200_000
"""How many sites, and how many stacks, are told apart; later ones are unknown."""
_MOST_MEMO = 1 << 16
_MOST_BLOCKS, _LONGEST_BLOCK = 1 << 13, 1 << 14  # remembered at most, and the characters of one
_LONGEST_NAME = 512  # KSYM_NAME_LEN
_OWNER_FRAMES = 16  # FRAMES of bpf/stack.h
_LARGEST_SYMBOLS = 256 << 20
_MOST_FRAMES = 127  # sysctl kernel.perf_event_max_stack
_ADDRESS = re.compile(r"0x[0-9a-f]{1,16}|[0-9a-f]{8}|[0-9a-f]{16}|0")
_PLACE = re.compile(r"(\S.*?)(\+0x[0-9a-f]{1,8})?(?:/0x[0-9a-f]{1,8})?(?: \[([^\[\]]*)\])?")
_SHORT = re.compile(rb"(?m)^([0-9a-f]{8})(?= )")
_KERNEL_FILE = re.compile(r"\[(?:guest\.)?kernel[^\]]*\]|(?:.*/)?(?:vmlinux|bzImage)[^/]*")
_MODULE_FILE = re.compile(r"(?:.*/)?([\w.-]+?)\.ko(?:\.\w+)?")
_NOT_KERNEL = ("[vdso]", "[vsyscall]", "[heap]", "[stack]", "[unknown]")


class Stack(NamedTuple):
    """A stack's number, 0 for none; its owner: a site, the allocators before it; whether none was found."""

    number: int
    site: int
    via: int
    unknown: bool


NO_STACK = Stack(0, 0, 0, unknown=True)


def symbols_of(path: Path) -> Symbols:
    """The symbols in a copy of /proc/kallsyms; raises BadInputError where it is none, or has no addresses."""
    try:
        with path.open("rb") as stream:
            raw = stream.read(_LARGEST_SYMBOLS)
        # A 32-bit kernel writes half as many digits.
        return Symbols(_SHORT.sub(rb"00000000\1", raw))
    except OSError as error:
        raise BadInputError(f"cannot read {path} ({error.strerror}): give a copy of /proc/kallsyms") from error
    except NotPossibleError as error:
        msg = f"{path} has no addresses: copy /proc/kallsyms as root, on the boot that was traced"
        raise BadInputError(msg) from error


class Places:
    """Numbers for sites and stacks; both tables are only added to.

    Args:
        sites: the table to fill, as Meta.sites.
        stacks: the table to fill, as Meta.stacks.
        symbols: names addresses; without it they are `site-1`, `site-2` and so on: no address leaves here.

    full: names or stacks that found no room.
    unnamed: addresses without a name.
    """

    def __init__(self, sites: list[Site], stacks: dict[int, tuple[int, ...]], symbols: Symbols | None) -> None:
        self._sites, self._stacks, self._symbols = sites, stacks, symbols
        self._vias = [0] * len(sites)
        self._numbers: dict[Site, int] = {UNKNOWN: 0}
        self._memo: dict[str, int] = {}
        self._blocks: dict[str, Stack] = {}
        self._stack_numbers: dict[tuple[int, ...], int] = {}
        self._addresses: dict[int, int] = {}
        self.full = self.unnamed = 0

    def via(self, site: int) -> int:
        """Which allocator a site belongs to, as allocators.via_of."""
        return self._vias[site]

    def of(self, text: str) -> int:
        """The number of a place as the kernel or perf writes it: `sym+0x1/0x2 [module]`, or an address."""
        if text not in self._memo:
            if len(self._memo) >= _MOST_MEMO:
                self._memo.clear()
            self._memo[text] = self._place(text.strip(), "")
        return self._memo[text]

    def stack(self, block: str) -> Stack:
        """The stack in the lines of a block, innermost first, and who owns what it allocated."""
        found = self._blocks.get(block)
        if found is None:
            found = self._stack(block)
            if len(block) <= _LONGEST_BLOCK:
                if len(self._blocks) >= _MOST_BLOCKS:
                    self._blocks.clear()
                self._blocks[block] = found
        return found

    def _place(self, text: str, module: str) -> int:
        match = _PLACE.fullmatch(text[: 2 * _LONGEST_NAME])
        if not match:
            return 0
        # On 64-bit PowerPC a function's own name has a dot in front.
        symbol = match[1][:_LONGEST_NAME].removeprefix(".")
        if _ADDRESS.fullmatch(symbol):
            return self._address(int(symbol, 16))
        if not symbol or not symbol.isprintable() or symbol[0] in "([":
            return 0
        module = module or (match[3] or "").partition(" ")[0][:64]
        return self._number(Site(symbol + (match[2] or ""), symbol, module))

    def _address(self, address: int) -> int:
        if not address:
            return 0
        if address in self._addresses:
            return self._addresses[address]
        site = self._symbols.resolve(address) if self._symbols else UNKNOWN
        if site is UNKNOWN:
            self.unnamed += 1
            name = f"site-{self.unnamed}"
            site = Site(name, name)
        number = self._number(site)
        if number:
            self._addresses[address] = number
        return number

    def _number(self, site: Site) -> int:
        number = self._numbers.get(site)
        if number is None:
            if len(self._sites) >= MOST:
                self.full += 1
                return 0
            number = self._numbers[site] = len(self._sites)
            self._sites.append(site)
            self._vias.append(via_of(site.symbol))
        return number

    def _stack(self, block: str) -> Stack:
        frames = [frame for line in block.split("\n")[: 4 * _MOST_FRAMES] if (frame := self._frame(line)) >= 0]
        frames = frames[:_MOST_FRAMES]
        if not frames:
            return NO_STACK
        site, via, unknown = self._owner(frames[:_OWNER_FRAMES])
        whole = tuple(frames)
        number = self._stack_numbers.get(whole, 0)
        if not number:
            if len(self._stacks) >= MOST:
                self.full += 1
            else:
                number = self._stack_numbers[whole] = len(self._stacks) + 1
                self._stacks[number] = whole
        return Stack(number, site, via, unknown)

    def _owner(self, frames: list[int]) -> tuple[int, int, bool]:
        """As find_owner() of bpf/stack.h: the first frame outside the allocators, and those that lie before it."""
        met = 0
        for frame in frames:
            via = self._vias[frame]
            if not via or via & met & NESTING:
                return frame, met & 255, frame == 0
            met |= via
        return frames[-1], met & 255, len(frames) == _OWNER_FRAMES

    def _frame(self, line: str) -> int:
        """The site of a frame of the kernel; -1 for any other line.

        perf: `ffffffff8164e795 name+0x215 ([kernel.kallsyms])`; ftrace: `=> name` or `=> name+0x1/0x2`.
        """
        line = line.strip()
        if line.startswith("=>"):
            return self._place(line[2:].strip().partition(" (")[0].partition(" <")[0], "")
        digits, _, rest = line.partition(" ")
        name, file = rest, ""
        if rest.endswith(")"):
            name, _, file = rest[:-1].rpartition(" (")
        try:
            address = int(digits, 16)
        except ValueError:
            return -1
        if not _in_kernel(address, file):
            return -1
        if name.strip() in ("", "[unknown]"):
            return self._address(address & (1 << 64) - 1)
        return self._place(name.strip(), _module(file))


def _in_kernel(address: int, file: str) -> bool:
    if file in _NOT_KERNEL or file == "inlined":  # the function around it has a frame of its own
        return False
    if file.startswith("[") or _KERNEL_FILE.fullmatch(file) or _MODULE_FILE.fullmatch(file):
        return True
    return address >> 63 == 1


def _module(file: str) -> str:
    if match := _MODULE_FILE.fullmatch(file):
        return match[1].replace("-", "_")[:64]
    if file.startswith("bpf_prog_") or file == "[bpf]":
        return "bpf"
    if file.startswith("[") and not _KERNEL_FILE.fullmatch(file) and file not in _NOT_KERNEL:
        return file.strip("[]")[:64]
    return ""
