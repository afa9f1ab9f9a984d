"""KM501 to KM503, zones that serve others and blocks that lose their mobility; KM903, context that is not known."""

import pytest

from kmwatch.schema import NO_ZONE, Context, Kind
from tests.unit.rows import Row, found, kmalloc, ledger, meta, only, pages, row

DMA, DMA32, NORMAL = 0, 1, 2

# KM501, what comes from below


def test_pages_that_mostly_come_from_below_are_told_once() -> None:
    made = ledger(
        pages("f+0x1", count=3000, zone=DMA32),
        pages("g+0x1", 3, count=137, zone=DMA32, gfp="GFP_HIGHUSER_MOVABLE"),
        pages("f+0x1", count=4000, zone=NORMAL),
    )

    finding = only("KM501", made)

    assert finding.message == "51% of the pages for which any memory would do came from DMA32: 16.0 MiB"
    assert finding.evidence == {"count": 4096, "pages": 8096, "pages_by_zone": {"DMA32": 4096, "Normal": 4000}}
    assert finding.confidence == "candidate"


@pytest.mark.parametrize(
    "quiet",
    [
        [pages("f+0x1", count=9000, zone=DMA32)],  # a machine without Normal
        [pages("f+0x1", count=4096, zone=DMA32), pages("f+0x1", count=4097, zone=NORMAL)],
        [pages("f+0x1", count=4095, zone=DMA32), pages("f+0x1", count=10, zone=NORMAL)],
        [
            pages("f+0x1", count=9000, zone=DMA32, gfp="GFP_KERNEL|__GFP_DMA32"),
            pages("f+0x1", count=10, zone=NORMAL),
        ],
        [pages("f+0x1", count=9000, zone=NO_ZONE), pages("f+0x1", count=10, zone=NORMAL)],
        [pages("f+0x1", count=9000, zone=DMA32, failed=1), pages("f+0x1", count=10, zone=NORMAL)],
    ],
)
def test_zones_that_are_asked_for_or_all_there_is_are_no_fallback(quiet: list[Row]) -> None:
    assert found("KM501", ledger(*quiet)) == []


# KM502: zone DMA

MUCH = pages("f+0x1", count=1000, zone=NORMAL)


def test_the_dma_zone_for_those_who_never_asked_is_told_by_site() -> None:
    made = ledger(MUCH, pages("f+0x1", 2, count=4, zone=DMA), pages("g+0x1", count=15, zone=DMA))

    finding = only("KM502", made)

    assert finding.site == "f+0x1"
    assert finding.message == "got 16 pages of zone DMA without asking for it"


@pytest.mark.parametrize(
    "quiet",
    [
        [MUCH, pages("f+0x1", count=16, zone=DMA, gfp="GFP_KERNEL|__GFP_DMA")],
        [MUCH, pages("f+0x1", count=15, zone=DMA)],
        [MUCH, pages("f+0x1", count=200, zone=DMA)],  # a large zone DMA, as on arm64
        [pages("f+0x1", count=16, zone=DMA)],
        [MUCH, pages("f+0x1", count=16, zone=DMA, failed=1)],
    ],
)
def test_the_dma_zone_for_those_who_ask_or_have_no_other_is_left_alone(quiet: list[Row]) -> None:
    assert found("KM502", ledger(*quiet)) == []


def test_other_names_of_zones_are_no_zone_dma() -> None:
    made = ledger(MUCH, pages("f+0x1", count=16, zone=DMA), known=meta(zones=("DMA32", "Normal", "Movable")))

    assert found("KM502", made) == []


# KM503, stolen blocks


@pytest.mark.parametrize(("number", "word"), [(0, "unmovable"), (2, "reclaimable")])
def test_a_stream_of_stolen_blocks_is_told_by_mobility(number: int, word: str) -> None:
    made = ledger(
        row(Kind.EXTFRAG, order=0, migratetype=number, count=400),
        row(Kind.EXTFRAG, order=3, migratetype=number, count=100),
        row(Kind.EXTFRAG, order=3, migratetype=1, count=5000),
        seconds=10.0,
    )

    finding = only("KM503", made)

    assert finding.message == f"500 {word} allocations (50 a second) were served from blocks of another mobility"
    assert finding.evidence == {"count": 500, "migratetype": word, "per_second": 50.0}


@pytest.mark.parametrize(
    ("count", "seconds", "migratetype"), [(499, 1.0, 0), (500, 10.1, 0), (5000, 1.0, 1), (5000, 1.0, NO_ZONE)]
)
def test_bursts_and_movable_pages_are_left_alone(count: int, seconds: float, migratetype: int) -> None:
    made = ledger(row(Kind.EXTFRAG, migratetype=migratetype, count=count), seconds=seconds)

    assert found("KM503", made) == []


# KM903: the context


def test_unknown_contexts_are_counted() -> None:
    made = ledger(kmalloc("f+0x1", 64, count=7, context=Context.UNKNOWN), kmalloc("f+0x1", 64, count=3))

    finding = only("KM903", made)

    assert finding.message == "the context of 7 of 10 allocations is unknown"
    assert finding.confidence == "certain"


def test_many_allocations_without_a_spinlock_make_a_kernel_that_counts_none() -> None:
    made = ledger(kmalloc("f+0x1", 64, count=9000), kmalloc("f+0x1", 64, count=1000, context=Context.SOFTIRQ))

    finding = only("KM903", made)

    assert finding.message.startswith("none of 10 000 allocations was under a spinlock")
    assert finding.confidence == "likely"


@pytest.mark.parametrize(
    "quiet",
    [
        [kmalloc("f+0x1", 64, count=9999)],
        [kmalloc("f+0x1", 64, count=20_000), kmalloc("f+0x1", 64, gfp="GFP_ATOMIC", context=Context.PREEMPT_OFF)],
        [kmalloc("f+0x1", 64, count=20_000), kmalloc("f+0x1", 64, gfp="GFP_ATOMIC", context=Context.RCU)],
        [row(Kind.KFREE, count=20_000)],
        [row(Kind.EXTFRAG, count=20_000)],
    ],
)
def test_a_known_context_and_too_few_events_are_no_doubt(quiet: list[Row]) -> None:
    assert found("KM903", ledger(*quiet)) == []
