"""The size classes and limits of the running kernel's kmalloc, from /proc/slabinfo and /proc/buddyinfo."""

import os
import re
from bisect import bisect_left
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kmwatch.errors import BadInputError
from kmwatch.kernel import zones

# What x86-64 has had since SLUB became the default: mm/slab_common.c, kmalloc_info.
USUAL_CLASSES = (8, 16, 32, 64, 96, 128, 192, 256, 512, 1024, 2048, 4096, 8192)
USUAL_MAX_ORDER = 10  # MAX_PAGE_ORDER (Linux 6.8), MAX_ORDER - 1 up to 6.3
COSTLY_ORDER = 3  # PAGE_ALLOC_COSTLY_ORDER, include/linux/mmzone.h: the same on every kernel

_SLABINFO = Path("/proc/slabinfo")
_LARGEST_TEXT = 8 << 20
_LONGEST_LINE = 512
# Some cache names have blanks: the numbers are found from the end of the name.
_LINE = re.compile(
    r"(\S(?:.{0,126}\S)?)[ \t]+(\d{1,18})[ \t]+(\d{1,18})[ \t]+(\d{1,12})[ \t]+(\d{1,9})[ \t]+(\d{1,9})[ \t]+:",
    re.ASCII,
)
_KMALLOC = re.compile(r"kmalloc-(\d{1,6})(k|M|)", re.ASCII)
_UNIT = {"": 1, "k": 1 << 10, "M": 1 << 20}


@dataclass(frozen=True)
class SlabInfo:
    """One cache: objects in use and in all, bytes per object (as stored), objects and pages per slab."""

    name: str
    active_objs: int
    num_objs: int
    objsize: int
    objperslab: int
    pagesperslab: int


@dataclass(frozen=True)
class AllocatorLimits:
    """What kmalloc can do here. All sizes in bytes; `source` says how they are known."""

    classes: tuple[int, ...] = USUAL_CLASSES
    page_size: int = 4096
    max_order: int = USUAL_MAX_ORDER
    source: str = "the usual values of x86-64 (/proc/slabinfo needs root)"

    @property
    def smallest(self) -> int:
        """The smallest kmalloc, in bytes."""
        return self.classes[0]

    @property
    def largest_slab(self) -> int:
        """The largest kmalloc that comes from a slab, in bytes; above it whole pages are allocated."""
        return self.classes[-1]

    @property
    def largest_kmalloc(self) -> int:
        """The largest kmalloc of all, in bytes: 2^max_order contiguous pages."""
        return self.page_size << self.max_order

    @property
    def costly(self) -> int:
        """The size in bytes above which the page allocator gives up early (order above COSTLY_ORDER)."""
        return self.page_size << COSTLY_ORDER

    def class_for(self, size: int) -> int:
        """The bytes that kmalloc takes for a request of `size` bytes; 0 for 0.

        Above `largest_kmalloc` the request fails; the value is then what the kernel's trace event shows, the
        next power-of-two number of pages.
        """
        if size <= 0:
            return 0
        if size <= self.largest_slab:
            return self.classes[bisect_left(self.classes, size)]
        return self.page_size << self.order_for(size)

    def order_for(self, size: int) -> int:
        """The order (2^order pages) that holds `size` bytes; 0 for a page or less."""
        return max((size - 1) // self.page_size, 0).bit_length()

    def next_smaller_class(self, alloc: int) -> int:
        """The largest size in bytes that kmalloc hands out below `alloc` bytes; 0 when there is none."""
        if alloc <= self.largest_slab:
            below = bisect_left(self.classes, alloc)
            return self.classes[below - 1] if below else 0
        pages = self.page_size << max(self.order_for(alloc) - 1, 0)
        return max(pages, self.largest_slab)

    def to_json(self) -> dict[str, Any]:
        """The limits as plain data, for a capture."""
        return {
            "classes": list(self.classes),
            "page_size": self.page_size,
            "max_order": self.max_order,
            "source": self.source,
        }

    @classmethod
    def from_json(cls, data: object) -> "AllocatorLimits":
        """The limits that `to_json` wrote; raises BadInputError on anything else."""
        match data:
            case {"classes": [*classes], "page_size": int(page), "max_order": int(order), "source": str(source)}:
                numbers = [size for size in classes if isinstance(size, int) and 0 < size <= 1 << 30]
                ascending = sorted(set(numbers)) == classes
                if classes and ascending and page in (1 << 12, 1 << 14, 1 << 16) and 0 < order < 32:
                    return cls(tuple(numbers), page, order, source[:200])
        raise BadInputError("the allocator limits are damaged or not kmwatch's: record the capture again")


def parse_slabinfo(text: str) -> tuple[SlabInfo, ...]:
    """The caches in the text of /proc/slabinfo; lines that are not understood are left out.

    Names may repeat: caches with one name and another size are different caches. Raises BadInputError when the text
    is not slabinfo's, version 2.
    """
    if len(text) > _LARGEST_TEXT or not text.startswith("slabinfo - version: 2"):
        raise BadInputError("this is not the text of /proc/slabinfo (version 2.x): give that file, read as root")
    lines = (line for line in text.splitlines()[1:] if line[:1] != "#" and len(line) <= _LONGEST_LINE)
    matches = (_LINE.match(line) for line in lines)
    return tuple(SlabInfo(match[1], *map(int, match.groups()[1:])) for match in matches if match)


def kmalloc_classes(caches: tuple[SlabInfo, ...]) -> tuple[int, ...]:
    """The sizes in bytes of the plain kmalloc caches, ascending; empty when there are too few to be all.

    The size is read from the name: `objsize` is larger under slub_debug or KASAN. The kmalloc-cg, -rcl, -rnd and dma
    caches have the same classes, and may be merged away.
    """
    matches = (_KMALLOC.fullmatch(cache.name) for cache in caches)
    sizes = sorted({int(match[1]) * _UNIT[match[2]] for match in matches if match})
    return tuple(sizes) if len(sizes) >= 4 and sizes[0] > 0 else ()


def limits_from(slabinfo: str | None, buddyinfo: str | None, page_size: int = 4096) -> AllocatorLimits:
    """The limits for the texts of /proc/slabinfo and /proc/buddyinfo; None for one that could not be read."""
    classes = kmalloc_classes(parse_slabinfo(slabinfo)) if slabinfo else ()
    free = zones.parse_buddyinfo(buddyinfo) if buddyinfo else ()
    max_order = len(free[0].counts) - 1 if free else USUAL_MAX_ORDER
    if classes:
        return AllocatorLimits(classes, page_size, max_order, "this kernel (/proc/slabinfo, /proc/buddyinfo)")
    return AllocatorLimits(USUAL_CLASSES, page_size, max_order)


def running() -> tuple[SlabInfo, ...]:
    """The caches of the running kernel; empty when /proc/slabinfo cannot be read (it needs root)."""
    text = _read(_SLABINFO)
    return parse_slabinfo(text) if text else ()


def running_limits() -> AllocatorLimits:
    """The limits of the running kernel; `source` says so when the usual values had to stand in."""
    return limits_from(_read(_SLABINFO), _read(zones.BUDDYINFO), os.sysconf("SC_PAGE_SIZE"))


def _read(path: Path) -> str | None:
    try:
        with path.open("rb") as stream:
            return stream.read(_LARGEST_TEXT).decode("utf-8", "replace")
    except OSError:
        return None
