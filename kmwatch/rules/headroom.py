"""KM504: whether an order that is asked for without waiting will still be there the next time."""

from collections.abc import Iterator
from typing import Any

from kmwatch.failures import Failure
from kmwatch.findings import Finding, rule
from kmwatch.ledger import Ledger
from kmwatch.rules.groups import evidence, groups, order, site
from kmwatch.schema import Kind
from kmwatch.units import number
from kmwatch.watermarks import headroom


@rule("KM504", "no-room-for-the-order", "warning", since="0.2")
def no_room(ledger: Ledger) -> Iterator[Finding]:
    """A request that cannot wait asks for contiguous pages of which hardly a block is left.

    What it sees: page allocations and large kmallocs of order 1 and more, without direct reclaim and without a
    fallback, that have succeeded, and for which the zones had no more than 32 blocks when they were last looked at:
    above the watermark that holds for the mask, and above what is kept from it.

    Why it matters: it is the failure of the next burst, told before it happens. Free memory does not show it: gigabytes
    may lie in single pages.

    What to do: as for KM202, before the night in which it is needed: order 0 and chained pages, or blocks allocated
    ahead. For now `sysctl vm.compact_memory=1` makes blocks, and a larger vm.min_free_kbytes keeps some.

    When it is fine: in the moment of a burst, and where the caller survives NULL.

    Kernel's own words: __zone_watermark_ok() in mm/page_alloc.c is the test that is done here with the same numbers.

    Needs: /proc/zoneinfo and /proc/buddyinfo of the end of the span, which imported traces do not have. Whose blocks
    they are is not in them, so that there may be fewer: the finding is likely.
    """
    if not ledger.meta.memory:
        return
    for group in groups(ledger, (Kind.PAGE_ALLOC, Kind.KMALLOC)):
        mask, of_order = int(group["gfp"]), order(ledger, group)
        quiet = group["may_sleep"] or not group["count"] or ledger.meta.gfp.opportunistic(mask)
        if quiet or not of_order or not _whole_pages(ledger, group):
            continue
        left = headroom(_next(ledger, mask, of_order), ledger.meta.gfp)
        if left <= ledger.thresholds.headroom_blocks:
            yield _finding(ledger, group, of_order, left)


def _whole_pages(ledger: Ledger, group: Any) -> bool:
    return group["kind"] == Kind.PAGE_ALLOC or int(group["max_request"]) > ledger.meta.limits.largest_slab


def _next(ledger: Ledger, mask: int, of_order: int) -> Failure:
    """The next such request, in the state in which memory is."""
    meta = ledger.meta
    return Failure("page", of_order, mask, kernel=meta.host.kernel, zones=tuple(meta.memory))


def _finding(ledger: Ledger, group: Any, of_order: int, left: int) -> Finding:
    told = evidence(ledger, group)
    blocks = {f"{each.node} {each.name}": sum(each.blocks[of_order:]) for each in ledger.meta.memory}
    room = f"room for {number(left)} more" if left else "no room for another"
    return Finding(
        site=site(ledger, group),
        message=f"asks for order {of_order} with {told['gfp']}, which cannot wait, and got it {number(told['count'])} "
        f"times: there is {room}",
        advice="chain pages of order 0 or allocate ahead; vm.compact_memory=1 makes blocks for now",
        evidence=told | {"headroom": left, "blocks_by_zone": blocks},
        confidence="likely",
    )
