"""How many further allocations of each order would succeed now that cannot wait: what is left before drivers fail.

Tested as a failure is judged, by kmwatch.watermarks. Free pages of CMA are taken to lie in the largest blocks, as
/proc/buddyinfo does not tell whose a block is; so the number is rather too low than too high. What the CPUs hold in
their own lists is left out.
"""

from collections.abc import Iterable

from kmwatch.batch import Meta
from kmwatch.failures import Failure, ZoneState
from kmwatch.kernel.zones import FreeBlocks, Zone
from kmwatch.watermarks import Tried, tried_zones, zone_asked

MASK = "GFP_ATOMIC"
"""The request that is tried."""


def headroom(zones: Iterable[Zone], blocks: Iterable[FreeBlocks], meta: Meta) -> tuple[int, ...]:
    """The number by order, over all zones and nodes; empty where nothing is known of the free blocks."""
    free = {(each.node, each.zone): each for each in blocks}
    states = tuple(_state(zone, free[zone.node, zone.name]) for zone in zones if (zone.node, zone.name) in free)
    orders = max((len(state.blocks) for state in states), default=0)
    return tuple(_of_order(order, states, meta) for order in range(orders))


def _of_order(order: int, states: tuple[ZoneState, ...], meta: Meta) -> int:
    gfp = meta.gfp
    asked = Failure("page", order, gfp.bit(MASK), kernel=meta.host.kernel, zones=states)
    return sum(_fits(tried, order) for tried in tried_zones(asked, gfp, zone_asked(asked, gfp)))


def _fits(tried: Tried, order: int) -> int:
    """How many are taken from a zone, one after another, until the test fails or no block is left."""
    above = -(-tried.left >> order)  # the first needs `left` above 0, each further one 2^order more
    pages = sum(count << at for at, count in enumerate(tried.zone.blocks) if at >= order)
    return max(0, min(above, (pages - tried.zone.cma) >> order))


def _state(zone: Zone, blocks: FreeBlocks) -> ZoneState:
    return ZoneState(
        node=zone.node,
        name=zone.name,
        free=zone.free,
        min=zone.min,
        low=zone.low,
        high=zone.high,
        managed=zone.managed,
        blocks=blocks.counts,
        reserve=zone.protection,
        cma=zone.free_cma,
        boost=zone.boost,
    )
