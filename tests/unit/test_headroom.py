"""How many further atomic allocations would succeed, against the kernel's test told in other words."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kmwatch.headroom import headroom
from kmwatch.kernel.zones import FreeBlocks, Zone, parse_buddyinfo, parse_zoneinfo
from tests.unit import rows

DATA = Path(__file__).parent.parent / "data" / "linux-6.18"


def zone(name: str = "Normal", index: int = 2, *, blocks: tuple[int, ...] = (), **changes: object) -> tuple:
    """A zone and its free blocks, whose pages are its free pages."""
    free = sum(count << order for order, count in enumerate(blocks))
    known = {"min": 0, "low": 0, "high": 0, "free": free} | changes
    return Zone(0, name, index, 0, 1 << 20, present=1 << 20, managed=1 << 20, **known), FreeBlocks(0, name, blocks)


def test_blocks_are_split_and_not_joined() -> None:
    """3 single pages, 1 pair, 1 block of 8 pages: 13 pages, 12 of them while one must stay above the watermark."""
    made, blocks = zone(blocks=(3, 1, 0, 1))
    assert headroom([made], [blocks], rows.meta()) == (13, 5, 2, 1)


def test_the_reserve_that_atomic_requests_may_use_ends() -> None:
    """Of min 80 __GFP_HIGH may use half of it, and who cannot wait a quarter of the rest: 30 pages stay."""
    made, blocks = zone(blocks=(100,), min=80)
    assert headroom([made], [blocks], rows.meta()) == (70,)


def test_a_lower_zone_keeps_its_reserve() -> None:
    low, low_blocks = zone("DMA32", 1, blocks=(100,), protection=(0, 0, 90, 90, 90))
    high, high_blocks = zone(blocks=(7,), protection=(0, 0, 0, 0, 0))
    assert headroom([low, high], [low_blocks, high_blocks], rows.meta()) == (7 + 10,)


def test_cma_is_for_what_can_be_moved() -> None:
    made, blocks = zone(blocks=(2, 0, 0, 1), free_cma=8)
    assert headroom([made], [blocks], rows.meta()) == (2, 0, 0, 0)


def test_nothing_known_is_nothing_said() -> None:
    made, _ = zone(blocks=(1,))
    assert headroom([], [], rows.meta()) == ()
    assert headroom([made], [], rows.meta()) == ()


@given(st.lists(st.integers(0, 40), min_size=4, max_size=8), st.integers(0, 400), st.integers(0, 50), st.integers(0, 3))
@settings(deadline=None)
def test_it_is_the_number_of_times_that_the_kernel_would_say_yes(
    blocks: list[int], least: int, boost: int, order: int
) -> None:
    """Taken one after another by hand; `min` is the watermark of an atomic request, as the tests above have it."""
    made, free = zone(blocks=tuple(blocks), min=least + boost, boost=boost)
    given_pages = least + boost - (min(boost, least + boost) if order == 0 else 0)
    mark = given_pages - given_pages // 2
    mark -= mark // 4
    left, pages, times = made.free, list(blocks), 0
    while left - ((1 << order) - 1) > mark and any(pages[order:]):
        at = next(at for at in range(order, len(pages)) if pages[at])
        pages[at] -= 1
        for smaller in range(order, at):
            pages[smaller] += 1
        left, times = left - (1 << order), times + 1
    assert headroom([made], [free], rows.meta())[order] == times


def test_a_real_machine() -> None:
    zones = parse_zoneinfo((DATA / "zoneinfo").read_text())
    assert [each.protection for each in zones] == [(0, 3019, 5195, 5195, 5195), (0, 0, 2176, 2176, 2176), (0,) * 5]
    blocks = parse_buddyinfo((DATA / "buddyinfo").read_text())
    made = headroom(zones, blocks, rows.meta())
    assert len(made) == 11
    assert list(made) == sorted(made, reverse=True)
    assert 0 < made[0] < sum(each.pages_at_least(0) for each in blocks)
    assert made[10] <= sum(each.counts[10] for each in blocks)


@pytest.mark.parametrize("line", ["protection: (1, 2", "protection: (x)", "protection: (" + "1, " * 500 + "1)"])
def test_a_damaged_protection_is_none(line: str) -> None:
    text = (DATA / "zoneinfo").read_text()
    first = next(each for each in text.splitlines() if "protection" in each)
    assert parse_zoneinfo(text.replace(first, f"        {line}", 1))[0].protection == ()
