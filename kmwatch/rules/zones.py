"""KM5xx: zones that serve those who asked for others, and blocks that lose their mobility."""

from collections.abc import Iterator
from typing import Any

from kmwatch.findings import PAGE_ALLOCATOR, Finding, rule
from kmwatch.ledger import Ledger
from kmwatch.rules.groups import per_second
from kmwatch.schema import Kind
from kmwatch.units import number, size

_LOW = ("DMA", "DMA32")
_MOBILITY = {0: "unmovable", 2: "reclaimable"}  # enum migratetype, include/linux/mmzone.h; movable (1) can be undone


def _pages(group: Any) -> int:
    return int(group["count"]) << int(group["order"])


def _zoned(ledger: Ledger, *columns: str) -> Iterator[tuple[Any, str]]:
    """Page allocations with a known zone, each group with the name of its zone."""
    names = ledger.meta.zones
    for group in ledger.groups("zone", "zone_asked", "order", *columns, kinds=(Kind.PAGE_ALLOC,)):
        if group["zone"] < len(names) and group["count"] > 0:
            yield group, names[group["zone"]]


@rule("KM501", "zone-fallback", "notice", since="0.2")
def zone_fallback(ledger: Ledger) -> Iterator[Finding]:
    """Most pages for which any memory would do come from the lower zones.

    What it sees: of the pages whose mask allows zone Normal or Movable, at least half, and 16 MiB, came from DMA32 or
    DMA, on a machine whose zone Normal gave pages too.

    Why it matters: the zone below is what 32-bit devices live on. It is used when Normal is at its low watermark:
    memory is shorter than /proc/meminfo looks.

    What to do: look at the watermarks of Normal (/proc/zoneinfo) and at who fills it; `vm.lowmem_reserve_ratio` keeps
    more of the lower zones for those who can use nothing else.

    When it is fine: where most of the machine's memory lies in DMA32, as with 4 to 6 GiB; under page cache that is
    read once.

    Kernel's own words: Documentation/admin-guide/sysctl/vm.rst on lowmem_reserve_ratio.

    Needs: kmem:mm_page_alloc, and the zones of the page frames, which imported traces do not have. How large the zones
    are is not in the ledger: the finding is a candidate.
    """
    limits = ledger.thresholds
    taken: dict[str, int] = {}
    for group, zone in _zoned(ledger):
        if str(group["zone_asked"]) not in _LOW:
            taken[zone] = taken.get(zone, 0) + _pages(group)
    low, total = sum(taken.get(zone, 0) for zone in _LOW), sum(taken.values())
    if not taken.get("Normal") or low < max(limits.lower_zone_pages, limits.lower_zone_share * total):
        return
    page = ledger.meta.limits.page_size
    yield Finding(
        site=PAGE_ALLOCATOR,
        message=f"{low / total:.0%} of the pages for which any memory would do came from "
        f"{' and '.join(zone for zone in _LOW if taken.get(zone))}: {size(low * page)}",
        advice="see who fills zone Normal (/proc/zoneinfo); vm.lowmem_reserve_ratio keeps more of the lower zones",
        evidence={"count": low, "pages": total, "pages_by_zone": taken},
        confidence="candidate",
    )


@rule("KM502", "dma-zone-for-others", "warning", since="0.2")
def dma_for_others(ledger: Ledger) -> Iterator[Finding]:
    """The 16 MiB of zone DMA serve callers that never asked for them.

    What it sees: sixteen pages or more from zone DMA, by masks without GFP_DMA, where that zone gives less than a tenth
    of all pages.

    Why it matters: the zone is the last to be used: all others were below their watermarks by more than is kept there
    (lowmem_reserve). Whoever can use nothing else fails next.

    What to do: find what fills memory; a higher protection of zone DMA is a lower first number in
    `vm.lowmem_reserve_ratio`.

    When it is fine: on machines with less than a gigabyte, for a moment.

    Kernel's own words: Documentation/admin-guide/sysctl/vm.rst on lowmem_reserve_ratio: the zones below are defended
    from requests that could use those above.

    Needs: kmem:mm_page_alloc, and the zones of the page frames, which imported traces do not have. Where zone DMA is
    large, as on arm64, it gives more than a tenth, and nothing is found.
    """
    found = [(group, zone) for group, zone in _zoned(ledger, "site")]
    total = sum(_pages(group) for group, _ in found)
    from_dma = [group for group, zone in found if zone == "DMA"]
    if 10 * sum(_pages(group) for group in from_dma) >= total:
        return
    sites: dict[int, int] = {}
    for group in from_dma:
        if str(group["zone_asked"]) != "DMA":
            sites[int(group["site"])] = sites.get(int(group["site"]), 0) + _pages(group)
    for index, pages in sites.items():
        if pages < ledger.thresholds.dma_zone_pages:
            continue
        yield Finding(
            site=ledger.meta.sites[index].label,
            message=f"got {number(pages)} pages of zone DMA without asking for it",
            advice="all zones above were short: find what fills them; vm.lowmem_reserve_ratio protects zone DMA",
            evidence={"count": pages, "pages": total},
        )


@rule("KM503", "page-blocks-stolen", "notice", since="0.2")
def blocks_stolen(ledger: Ledger) -> Iterator[Finding]:
    """Memory fragments: pages that cannot be moved are taken from the blocks of pages that can.

    What it sees: fifty or more a second, and five hundred in all, of unmovable or of reclaimable allocations that were
    served from another mobility's page block.

    Why it matters: one page that cannot be moved keeps its whole block (2 MiB on x86-64) from ever becoming a huge page
    or a large buffer again. It is the cause of failures that come weeks later.

    What to do: find who allocates most of that mobility (`kmwatch report`, page_alloc and slabs); raise
    vm.min_free_kbytes, so that free blocks are at hand more often.

    When it is fine: while a load begins, or memory is much larger than what is in use.

    Kernel's own words: Documentation/trace/events-kmem.rst: a large number of mm_page_alloc_extfrag implies that memory
    is fragmenting and that high-order allocations will start failing at some time; larger min_free_kbytes help.

    Needs: kmem:mm_page_alloc_extfrag, which does not tell who asked.
    """
    limits = ledger.thresholds
    for group in ledger.groups("migratetype", kinds=(Kind.EXTFRAG,)):
        mobility, count = _MOBILITY.get(int(group["migratetype"])), int(group["count"])
        rate = per_second(ledger, count)
        if mobility is None or count < limits.steal_count or rate < limits.steal_rate:
            continue
        yield Finding(
            site=PAGE_ALLOCATOR,
            message=f"{number(count)} {mobility} allocations ({number(round(rate))} a second) were served from blocks "
            "of another mobility",
            advice=f"see who allocates {mobility} memory (`kmwatch report`), and raise vm.min_free_kbytes",
            evidence={"count": count, "migratetype": mobility, "per_second": round(rate, 1)},
        )
