"""The zones of a logged failure, tested as the kernel tests them: __zone_watermark_ok() of mm/page_alloc.c.

Free pages must stay above the watermark, and above what is reserved for requests that can use no other zone; then a
free block of the order must exist.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from kmwatch.failures import Failure, ZoneState
from kmwatch.kernel.gfp import GfpTable

RANKS = {"DMA": 0, "DMA32": 1, "Normal": 2, "HighMem": 3, "Movable": 4}
_VERSION = re.compile(r"(\d{1,2})\.(\d{1,3})")
_NEWEST = (99, 0)  # what a log that does not name its kernel is taken for


@dataclass(frozen=True)
class Tried:
    """A zone that the mask may use, tested: the watermark that applied and the reserve, in pages.

    aside: free pages that belong to others only: CMA, the reserve for atomic requests.
    above: free pages are above the watermark; open: and above the reserve; block: of the order, None where unknown.
    """

    zone: ZoneState
    mark: int
    reserve: int
    aside: int
    above: bool
    open: bool
    block: bool | None


def version_of(kernel: str) -> tuple[int, int] | None:
    """The first two numbers of a kernel's version; None where it has none."""
    match = _VERSION.match(kernel)
    return (int(match[1]), int(match[2])) if match else None


def watermark(zone: ZoneState, gfp: GfpTable, failure: Failure) -> int:
    """The pages that must stay free for a request in the slow path: `min`, less the reserves that it may use.

    __zone_watermark_ok(): half of `min` for __GFP_HIGH (ALLOC_MIN_RESERVE, before Linux 6.3 ALLOC_HIGH), and a quarter
    of the rest off where it cannot wait (ALLOC_NON_BLOCK, before that ALLOC_HARDER); before Linux 4.4 that quarter
    went to whoever could not wait. What `min` is raised by does not hold for single pages with __GFP_HIGH
    (zone_watermark_fast(), Linux 5.8 on; nothing is known of it before).
    """
    mark, high = zone.min, failure.gfp & gfp.bit("__GFP_HIGH")
    if high and not failure.order:
        mark -= min(zone.boost, mark)
    if high:
        mark -= mark // 2
    if _hurried(gfp, failure) and (high or is_old(failure)):
        mark -= mark // 4
    return mark


def _hurried(gfp: GfpTable, failure: Failure) -> bool:
    """Whether the caller cannot wait, and is helped for it: gfp_to_alloc_flags()."""
    mask = failure.gfp
    if gfp.may_sleep(mask) or mask & gfp.bit("__GFP_NOMEMALLOC"):
        return False
    return not is_old(failure) or bool(mask & gfp.bit("__GFP_KSWAPD_RECLAIM"))


def zone_asked(failure: Failure, gfp: GfpTable) -> str:
    """The highest zone that the mask allows among those that the machine has (OPT_ZONE_DMA, OPT_ZONE_DMA32)."""
    present = {zone.name for zone in failure.zones}
    asked = gfp.zone_asked(failure.gfp, highmem="HighMem" in present)
    return "Normal" if present and asked in ("DMA", "DMA32") and asked not in present else asked


def usable_zones(failure: Failure) -> list[ZoneState]:
    """The zones of the nodes that were allowed, whatever the mask."""
    nodes = failure.nodes
    return [zone for zone in failure.zones if zone.name in RANKS and (not nodes or zone.node in nodes)]


def tried_zones(failure: Failure, gfp: GfpTable, asked: str) -> Iterator[Tried]:
    """Each zone that the mask may use, tested."""
    order = 0 if failure.kind == "vmalloc" else failure.order
    names = {zone.name for zone in failure.zones}
    for zone in usable_zones(failure):
        if RANKS[zone.name] > RANKS[asked]:
            continue
        mark, reserve = watermark(zone, gfp, failure), _reserve(zone, asked, names)
        aside = _set_aside(zone, gfp, failure)
        free = zone.free - aside - ((1 << order) - 1)
        block = has_block(zone, gfp, failure, order, mark)
        yield Tried(zone, mark, reserve, aside, free > mark, free > mark + reserve, block)


def headroom(failure: Failure, gfp: GfpTable) -> int:
    """How many such requests would succeed one after the other, nothing freed meanwhile, nothing reclaimed.

    Each takes a block from what lies above the watermark and the reserve; larger blocks are split. Where nothing tells
    whose the blocks are, those that belong to others only are taken for the largest: rather too few are told.
    """
    order, asked = failure.order, zone_asked(failure, gfp)
    return sum(_room(each, gfp, failure, order) for each in tried_zones(failure, gfp, asked) if each.open)


def atomic_headroom(zones: tuple[ZoneState, ...], gfp: GfpTable, kernel: str) -> tuple[int, ...]:
    """The headroom of GFP_ATOMIC by order, of a kernel's release; empty where the free blocks are not known."""
    orders, mask = max((len(zone.blocks) for zone in zones), default=0), gfp.bit("GFP_ATOMIC")
    return tuple(headroom(Failure("page", order, mask, kernel=kernel, zones=zones), gfp) for order in range(orders))


def _room(tried: Tried, gfp: GfpTable, failure: Failure, order: int) -> int:
    free = tried.zone.free - tried.aside - tried.mark - tried.reserve
    if not order:
        return free
    blocks = open_blocks(tried.zone, gfp, failure.gfp)
    whole = sum(count << at for at, count in enumerate(blocks) if at >= order)
    return max(min(free, whole - (0 if tried.zone.letters else tried.aside)) >> order, 0)


def _reserve(zone: ZoneState, asked: str, names: set[str]) -> int:
    """What `zone` keeps from requests that may use up to `asked`: lowmem_reserve, in the order of the kernel's zones.

    The log has numbers without names, one for each zone that the kernel was built with, also those without memory.
    """
    built = {"Normal", "Movable"} | (names & set(RANKS))
    for name in ("DMA", "DMA32"):
        if len(built) < len(zone.reserve):
            built.add(name)
    at = sorted(built, key=RANKS.__getitem__).index(asked) if asked in built else len(zone.reserve)
    return zone.reserve[at] if at < len(zone.reserve) else 0


def _set_aside(zone: ZoneState, gfp: GfpTable, failure: Failure) -> int:
    """Free pages that this request may not take: __zone_watermark_unusable_free().

    The reserve for atomic requests is open to __GFP_HIGH and to whoever cannot wait; before Linux 6.3 it took both.
    """
    high, hurried = bool(failure.gfp & gfp.bit("__GFP_HIGH")), _hurried(gfp, failure)
    before = (version_of(failure.kernel) or _NEWEST) < (6, 3)
    reserves = high and hurried if before else high or hurried
    aside = 0 if reserves else zone.highatomic
    return aside if movable(gfp, failure.gfp) else aside + zone.cma


def movable(gfp: GfpTable, mask: int) -> bool:
    """Whether the pages can be moved later, and so lie in CMA areas."""
    return bool(mask & gfp.bit("__GFP_MOVABLE"))


def has_block(zone: ZoneState, gfp: GfpTable, failure: Failure, order: int, mark: int) -> bool | None:
    """Whether a free block of the order or larger is there for this mask; None where the log does not say."""
    if not order:
        return True
    if not zone.blocks:
        return None
    if is_old(failure):
        return _has_block_of_old(zone, order, mark)
    return any(open_blocks(zone, gfp, failure.gfp)[order:])


def open_blocks(zone: ZoneState, gfp: GfpTable, mask: int) -> list[int]:
    """The free blocks by order, without those that belong to others only: CMA, isolated, the atomic reserve."""
    barred = set("I") | (set() if movable(gfp, mask) else set("C"))
    if not mask & gfp.bit("__GFP_HIGH") or gfp.may_sleep(mask):
        barred.add("H")
    letters = zone.letters or ("",) * len(zone.blocks)
    there = zip(zone.blocks, letters, strict=True)
    return [count if not owners or set(owners) - barred else 0 for count, owners in there]


def is_old(failure: Failure) -> bool:
    """Before Linux 4.4 (commit 97a16fc82a7c) the watermark held for each order by itself."""
    return (version_of(failure.kernel) or _NEWEST) < (4, 4)


def _has_block_of_old(zone: ZoneState, order: int, mark: int) -> bool:
    """What lies in smaller blocks did not count, for half the mark each order."""
    free = zone.free - ((1 << order) - 1)
    for at, count in enumerate(zone.blocks[:order]):
        free -= count << at
        mark >>= 1
        if free <= mark:
            return False
    return True
