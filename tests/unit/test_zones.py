"""Zones and free blocks, from the texts of a real kernel and from texts that nobody should trust."""

import time
from pathlib import Path

import pytest

from kmwatch.errors import BadInputError
from kmwatch.failures import ZoneState
from kmwatch.kernel.zones import FreeBlocks, Zone, parse_buddyinfo, parse_zoneinfo, states

DATA = Path(__file__).parent.parent / "data" / "linux-6.18"
# Two nodes; the second has an empty DMA zone, and per-CPU lists whose `high:` is no watermark.
TWO_NODES = """\
Node 0, zone      DMA
  per-node stats
      nr_free 1
  pages free     10
        min      1
        low      2
        high     3
        boost    1
        spanned  4095
        present  3998
        managed  3840
        protection: (0, 5, 7, 7)
      nr_free_cma  4
  pagesets
    cpu: 0
              count: 7
              high:  99
              batch: 1
  start_pfn:           1
Node 1, zone      DMA
  pages free     0
        min      0
        low      0
        high     0
        spanned  0
        present  0
        managed  0
Node 1, zone   Normal
  pages free     50
        min      4
        low      5
        high     6
        spanned  1000
        present  900
        managed  800
  start_pfn:           4096
"""


def test_linux_618_has_three_populated_zones() -> None:
    zones = parse_zoneinfo((DATA / "zoneinfo").read_text())
    assert [(zone.node, zone.name, zone.index, zone.start_pfn, zone.end_pfn) for zone in zones] == [
        (0, "DMA", 0, 1, 4096),
        (0, "DMA32", 1, 4096, 1048576),
        (0, "Normal", 2, 1048576, 6553600),
    ]
    assert (zones[0].present, zones[0].managed) == (3998, 3840)
    assert all(0 < zone.min < zone.low < zone.high for zone in zones)
    assert [zone.reserve for zone in zones] == [(0, 3019, 5195, 5195, 5195), (0, 0, 2176, 2176, 2176), (0,) * 5]


def test_unpopulated_zones_count_for_the_index_only() -> None:
    assert parse_zoneinfo(TWO_NODES) == (
        Zone(0, "DMA", 0, 1, 4096, 3998, 3840, free=10, min=1, low=2, high=3, boost=1, cma=4, reserve=(0, 5, 7, 7)),
        Zone(1, "Normal", 1, 4096, 5096, present=900, managed=800, free=50, min=4, low=5, high=6),
    )


@pytest.mark.parametrize(
    "text",
    [
        "",
        "hello\n" * 100,
        "Node 0, zone Normal\n",
        "Node 0, zone Normal\n        spanned  0\n  start_pfn:           1\n",
        "Node 0, zone Normal\n        spanned  " + "9" * 100 + "\n  start_pfn:           1\n",
        "        spanned  5\n  start_pfn:           1\n",
        "Node 0, zone Normal\n        spanned  5\n  start_pfn:           1\n" * 10_000,
    ],
)
def test_what_is_not_zoneinfo_is_refused(text: str) -> None:
    with pytest.raises(BadInputError):
        parse_zoneinfo(text)


def test_a_zone_and_its_free_blocks_are_one_state() -> None:
    blocks = parse_buddyinfo("Node 1, zone   Normal      5      4      3      2 \nNode 0, zone DMA 1 0 0 0\n")

    dma, normal = states(parse_zoneinfo(TWO_NODES), blocks)

    assert dma == ZoneState(
        0, "DMA", free=10, min=1, low=2, high=3, managed=3840, blocks=(1, 0, 0, 0), reserve=(0, 5, 7, 7), cma=4, boost=1
    )
    assert (normal.node, normal.blocks, normal.reserve) == (1, (5, 4, 3, 2), ())


def test_linux_618_has_eleven_orders() -> None:
    blocks = parse_buddyinfo((DATA / "buddyinfo").read_text())
    assert [(entry.zone, len(entry.counts)) for entry in blocks] == [("DMA", 11), ("DMA32", 11), ("Normal", 11)]


def test_free_blocks_are_counted_by_order() -> None:
    (blocks,) = parse_buddyinfo("Node 0, zone   Normal      5      4      3      2 \n")
    assert blocks == FreeBlocks(0, "Normal", (5, 4, 3, 2))
    assert [blocks.pages_at_least(order) for order in range(5)] == [41, 36, 28, 16, 0]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Node 0, zone Normal\n",
        "Node 0, zone Normal 1 2\n",
        "Node 0, zone Normal 1 2 3 x\n",
        "Node 0, zone Normal 1 2 3 ٤\n",
        "Node 0, zone Normal " + "1 " * 40 + "\n",
        "Node 0, zone DMA 1 2 3 4\nNode 0, zone Normal 1 2 3 4 5\n",
        "Node 0, zone Normal 1 2 3 " + "9" * 30 + "\n",
    ],
)
def test_what_is_not_buddyinfo_is_refused(text: str) -> None:
    with pytest.raises(BadInputError):
        parse_buddyinfo(text)


def test_a_hostile_text_takes_no_more_than_a_moment() -> None:
    started = time.monotonic()
    for text in (
        "Node 0, zone" + " " * 500_000,
        ("Node 0, zone Normal\n" + " " * 2000 + "\n") * 2000,
        "Node " * 200_000,
    ):
        for parse in (parse_zoneinfo, parse_buddyinfo):
            with pytest.raises(BadInputError):
                parse(text)
    assert time.monotonic() - started < 5
