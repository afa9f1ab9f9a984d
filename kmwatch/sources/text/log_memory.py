"""Mem-Info of a kernel log: the zones when an allocation failed, and a cache's slabs.

The shapes are those of show_free_areas() in mm/page_alloc.c (mm/show_mem.c since Linux 6.6) and slab_out_of_memory()
in mm/slub.c and mm/slab.c, from 2.6.32 on. Kernels 4.9 to 4.14 print pieces of a line as lines of their own when
something comes in between or the console is slow.
"""

import re
from dataclasses import dataclass, field
from typing import Any

from kmwatch.failures import SlabState, ZoneState

_MOST_ZONES = 512
_NODE = r"(?:Node (\d{1,4}),? )?"
_ZONE = re.compile(_NODE + r"([A-Z]\w{1,15}) free:(\d{1,15})kB\b(.{0,4096})")
_FIELD = re.compile(r"\b([a-z_]{1,40}):\s?(\d{1,15})(kB|KB)\b")
_BLOCKS = re.compile(_NODE + r"([A-Z]\w{1,15}):\s{1,2}(?=\d{1,12}[*_]\d{1,9}kB)(.{0,4096})")
_BLOCK = re.compile(r"(\d{1,12})[*_](\d{1,9})kB(?:\s{1,2}\(([A-Z]{1,8})\))?")
_TOTAL = re.compile(r"= \d{1,15}kB")
_RESERVE = re.compile(r"lowmem_reserve\[\]:((?:\s{1,2}\d{1,12}){1,16})")
_CPU_LISTS = re.compile(_NODE + r"([A-Z]\w{1,15}) per-cpu:")
_CPU_LIST = re.compile(r"CPU\s{1,8}\d{1,5}: hi:\s{0,8}\d{1,9}, btch:\s{0,8}\d{1,9} usd:\s{0,8}(\d{1,9})")
_HEAD_PIECE = re.compile(r"Node \d{1,4}|(?:Node \d{1,4} )?(?:[A-Z]\w{1,15}|lowmem_reserve\[\]):")
_PIECE = re.compile(
    r"\d{1,12}|\d{1,12}\*\d{1,9}kB|\([A-Z]{1,8}\)|= \d{1,15}kB|[A-Z]\w{1,15}:|[A-Z]\w{1,15} free:.{1,4096}"
)
_SLABS = re.compile(
    r"node\s?(\d{1,4}): slabs: (\d{1,12})(?:/\d{1,12})?, objs: (\d{1,12})(?:/\d{1,12})?(?:, free: (\d{1,12}))?"
)
_KEPT = ("min", "low", "high", "managed", "highatomic", "cma", "cpu_lists")
# Of the reserve for atomic requests newer kernels also say how much is free, and go by that (commit c928807f6f6b).
_CALLED = {
    "reserved_highatomic": "highatomic",
    "free_highatomic": "highatomic",
    "free_cma": "cma",
    "free_pcp": "cpu_lists",
}

Place = tuple[int, str]


@dataclass
class Memory:
    """What a Mem-Info says, collected line by line; kilobytes until it is whole.

    begun: the log has one. cut: lines of it that do not end as they should.
    """

    slabs: list[SlabState] = field(default_factory=list)
    begun: bool = False
    cut: list[str] = field(default_factory=list)
    _zones: dict[Place, dict[str, int]] = field(default_factory=dict)
    _blocks: dict[Place, tuple[list[int], list[str]]] = field(default_factory=dict)
    _reserves: dict[Place, tuple[int, ...]] = field(default_factory=dict)
    _cpu_pages: dict[Place, int] = field(default_factory=dict)
    _page_kb: int = 4
    _last: Place | None = None
    _cpu_lists: Place | None = None
    _piece: str = ""

    @property
    def page_size(self) -> int:
        """Bytes of a page: the smallest block that the log names."""
        return self._page_kb << 10

    def feed(self, text: str) -> bool:
        """Take a line; whether it was one of these."""
        text = text.strip()
        if text.lower().startswith("mem-info"):
            self.begun = True
            return True
        if self._piece and _PIECE.fullmatch(text):
            self._piece += f" {text}"
            return True
        if self._piece:
            self._line(self._piece)
            self._piece = ""
        if _HEAD_PIECE.fullmatch(text) and not text.startswith("Mem"):
            self._piece = text
            return True
        return self._line(text)

    def zones(self) -> tuple[ZoneState, ...]:
        """The zones, in the order of the log, in pages."""
        if self._piece:
            self._line(self._piece)
            self._piece = ""
        return tuple(self._zone(place, levels) for place, levels in self._zones.items())

    def _zone(self, place: Place, levels: dict[str, int]) -> ZoneState:
        blocks, letters = self._blocks.get(place, ([], []))
        known: dict[str, Any] = {name: levels.get(name, 0) // self._page_kb for name in _KEPT}
        known["cpu_lists"] = known["cpu_lists"] or self._cpu_pages.get(place, 0)
        free = levels["free"] // self._page_kb
        return ZoneState(
            *place, free, **known, blocks=tuple(blocks), letters=tuple(letters), reserve=self._reserves.get(place, ())
        )

    def _line(self, text: str) -> bool:
        if match := _ZONE.match(text):
            self._levels(match)
        elif match := _BLOCKS.match(text):
            self._free_blocks(match)
        elif (match := _RESERVE.match(text)) and self._last:
            self._reserves[self._last] = tuple(int(each) for each in match[1].split())
        elif match := _CPU_LISTS.match(text):
            self._cpu_lists = _place(match)
        elif (match := _CPU_LIST.match(text)) and self._cpu_lists and len(self._cpu_pages) < _MOST_ZONES:
            self._cpu_pages[self._cpu_lists] = self._cpu_pages.get(self._cpu_lists, 0) + int(match[1])
        elif (match := _SLABS.match(text)) and len(self.slabs) < _MOST_ZONES:
            node, slabs, objects, free = (int(each or 0) for each in match.groups())
            self.slabs.append(SlabState(node, slabs, objects, free))
        else:
            return False
        return True

    def _levels(self, match: re.Match[str]) -> None:
        """A zone's line; of two for one zone the first counts, the other belongs to a later report."""
        fields = {name: int(value) for name, value, _ in _FIELD.findall(match[4])}
        if "min" not in fields:
            self.cut.append(match[0])
            return
        place = _place(match)
        if place in self._zones or len(self._zones) >= _MOST_ZONES:
            self._last = None
            return
        known = {_CALLED.get(name, name): value for name, value in fields.items()}
        known.setdefault("managed", known.get("present", 0))
        self._zones[place], self._last, self.begun = known | {"free": int(match[3])}, place, True

    def _free_blocks(self, match: re.Match[str]) -> None:
        """The free blocks; a line that was cut says nothing of the larger ones."""
        place, found = _place(match), _BLOCK.findall(match[3])[:32]
        if place in self._blocks or len(self._blocks) >= _MOST_ZONES:
            return
        sizes = [int(size) for _, size, _ in found]
        if not _TOTAL.search(match[3]) or any(size != sizes[0] << order for order, size in enumerate(sizes)):
            self.cut.append(match[0])
            return
        if sizes[0] in (4, 8, 16, 64, 256):
            self._page_kb = sizes[0]
            self._blocks[place] = [int(count) for count, _, _ in found], [owners for _, _, owners in found]


def _place(match: re.Match[str]) -> Place:
    return int(match[1] or 0), match[2]
