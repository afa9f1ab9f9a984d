"""How many more atomic requests of an order would succeed, by numbers done by hand, and the rule that speaks of it."""

import json
from dataclasses import asdict, replace
from typing import Any

import pytest

from kmwatch.capture import manifest
from kmwatch.errors import BadInputError
from kmwatch.failures import Failure, ZoneState
from kmwatch.ledger import Ledger
from kmwatch.watermarks import headroom
from tests.unit.rows import TABLE, Row, found, kmalloc, ledger, meta, only, pages

# 1000 pages above min, in 100 single pages, 50 of order 1 and 100 of order 3; min is 400, of which GFP_ATOMIC may take
# half and a quarter of the rest: 150 must stay.
NORMAL = ZoneState(0, "Normal", free=1000, min=400, low=500, high=600, managed=9999, blocks=(100, 50, 0, 100))


def asking(order: int, gfp: str = "GFP_ATOMIC", *zones: ZoneState) -> int:
    """The headroom for one request."""
    return headroom(Failure("page", order, TABLE.encode(gfp), kernel="6.18.0", zones=zones or (NORMAL,)), TABLE)


@pytest.mark.parametrize(
    ("order", "gfp", "more"),
    [
        (0, "GFP_ATOMIC", 850),
        (1, "GFP_ATOMIC", 425),  # 450 blocks in all, but the pages above the mark are fewer
        (2, "GFP_ATOMIC", 200),  # as the blocks of order 3 are halved
        (3, "GFP_ATOMIC", 100),
        (4, "GFP_ATOMIC", 0),
        (0, "GFP_NOWAIT", 600),
        (3, "GFP_NOWAIT", 75),
        (3, "GFP_ATOMIC|GFP_DMA32", 100),  # there is no such zone here: Normal serves it
    ],
)
def test_blocks_and_watermarks_bound_what_is_left(order: int, gfp: str, more: int) -> None:
    assert asking(order, gfp) == more


def test_a_lower_zone_keeps_its_reserve_and_serves_what_is_above_it() -> None:
    low = ZoneState(
        0, "DMA32", free=300, min=80, low=90, high=100, managed=999, blocks=(0, 0, 0, 37), reserve=(0, 0, 200, 200)
    )

    assert asking(3, "GFP_ATOMIC", low, NORMAL) == 100 + (300 - 30 - 200) // 8
    assert asking(3, "GFP_ATOMIC|GFP_DMA32", low, NORMAL) == (300 - 30) // 8


@pytest.mark.parametrize(("order", "more"), [(1, (850 - 300) // 2), (3, (800 - 300) // 8)])
def test_what_is_set_aside_is_taken_for_the_largest_blocks(order: int, more: int) -> None:
    """Where letters tell whose a block is, they decide."""
    assert asking(order, "GFP_ATOMIC", replace(NORMAL, cma=300)) == more
    told = replace(NORMAL, cma=300, letters=("UC", "U", "", "U"))
    assert asking(3, "GFP_ATOMIC", told) == min((850 - 300) // 8, 100)


def seen(zone: ZoneState, *rows: Row) -> Ledger:
    """A ledger of a machine with that zone at the end."""
    made = ledger(*rows)
    made.meta.memory.append(zone)
    return made


def test_the_next_burst_is_told_before_it_fails() -> None:
    short = ZoneState(0, "Normal", free=100_000, min=400, low=500, high=600, blocks=(99_000, 0, 0, 7))
    finding = only("KM504", seen(short, pages("f+0x1", order=3, gfp="GFP_ATOMIC", count=31)))

    assert finding.message == (
        "asks for order 3 with GFP_ATOMIC, which cannot wait, and got it 31 times: there is room for 7 more"
    )
    assert (finding.evidence["headroom"], finding.evidence["blocks_by_zone"]) == (7, {"0 Normal": 7})


@pytest.mark.parametrize("order", [4, 9])
def test_where_nothing_is_left_it_says_so(order: int) -> None:
    finding = only("KM504", seen(NORMAL, pages("f+0x1", order=order, gfp="GFP_ATOMIC")))

    assert finding.message.endswith("there is no room for another")


@pytest.mark.parametrize(
    "quiet",
    [
        pages("f+0x1", order=3, gfp="GFP_ATOMIC"),  # a hundred are left
        pages("f+0x1", order=4, gfp="GFP_KERNEL"),
        pages("f+0x1", order=0, gfp="GFP_ATOMIC"),
        pages("f+0x1", order=4, gfp="GFP_ATOMIC", failed=1),  # KM202's
        pages("f+0x1", order=4, gfp="GFP_NOWAIT|__GFP_NORETRY|__GFP_NOWARN"),
        kmalloc("f+0x1", 8192, gfp="GFP_ATOMIC"),  # a slab's
    ],
)
def test_what_can_wait_or_has_room_or_a_fallback_is_left_alone(quiet: Row) -> None:
    assert found("KM504", seen(NORMAL, quiet)) == []


def test_without_the_zones_nothing_is_said() -> None:
    assert found("KM504", ledger(pages("f+0x1", order=9, gfp="GFP_ATOMIC"))) == []


def test_a_large_kmalloc_is_asked_for_in_pages_too() -> None:
    assert only("KM504", seen(NORMAL, kmalloc("f+0x1", 65_536, gfp="GFP_ATOMIC"))).evidence["order"] == 4


def test_a_capture_keeps_the_zones() -> None:
    told = meta()
    told.memory.append(NORMAL)
    data: dict[str, Any] = json.loads(json.dumps(manifest.to_json(told)))

    assert manifest.from_json(data).memory == [NORMAL]
    assert manifest.from_json({name: value for name, value in data.items() if name != "memory"}).memory == []
    for damaged in ([{}], [asdict(NORMAL) | {"free": -1}], "zones", [asdict(NORMAL)] * 1000):
        with pytest.raises(BadInputError):
            manifest.from_json(data | {"memory": damaged})
