"""KM603 to KM605: what lives for a moment, and what is released elsewhere."""

from typing import Any

import pytest

from kmwatch.batch import Cache
from kmwatch.findings import Finding
from tests.unit.holding import lived, of
from tests.unit.rows import Row, area, found, kmalloc, ledger, meta, object_of, only, pages

MOMENT = 300e-6  # seconds


def judged(code: str, row: Row, *, bits: int = 0, seconds: float = 1.0, **columns: Any) -> list[Finding]:
    """What a rule finds where all that was allocated was released, after a moment."""
    told = {"released": row["count"], "lived": MOMENT, **columns}
    return found(code, lived(meta(), of(row, **told), bits=bits, seconds=seconds))


# KM603


def test_areas_that_live_for_a_moment_want_a_buffer() -> None:
    row = area("f+0x1", 5000, count=2000, bytes_alloc=8192)

    finding = only("KM603", lived(meta(), of(row, released=1990, held=10, lived=MOMENT), seconds=10.0))

    assert finding.site == "f+0x1"
    assert finding.message == "makes 200 vmalloc areas a second, half of which live for 524 µs at most"
    assert finding.confidence == "likely"
    assert finding.evidence == {
        "cache": "vmalloc",
        "count": 2000,
        "allocations_per_second": 200.0,
        "min_request": 5000,
        "max_request": 5000,
        "released": 1990,
        "released_looked_at": 1990,
        "grade": "B",
        "median_seconds": 524_288e-9,
    }


@pytest.mark.parametrize(
    ("columns", "fires"),
    [
        ({}, True),
        ({"seconds": 2.0}, True),
        ({"seconds": 2.01}, False),  # less than a hundred a second
        ({"lived": 0.00104}, True),
        ({"lived": 0.00105}, False),
        ({"released": 100}, True),
        ({"released": 99}, False),
        ({"bits": 1, "released": 199}, False),  # of which 99 were looked at
        ({"bits": 1, "released": 200}, True),
        ({"released": 0}, False),
        ({"unseen": 50}, False),  # grade D
    ],
)
def test_many_areas_must_live_shortly(columns: Any, fires: bool) -> None:
    assert bool(judged("KM603", area("f+0x1", 5000, count=200), **columns)) is fires


def test_a_site_is_judged_by_all_its_areas() -> None:
    """Sixty a second of two sizes are more than a hundred; most of them live long, or not."""
    for other, fires in ((MOMENT, True), (1.0, False)):
        some = of(area("f+0x1", 5000, count=60, bytes_alloc=8192), released=60, lived=MOMENT)
        more = of(area("f+0x1", 9000, count=61, bytes_alloc=12288), released=61, lived=other)
        assert bool(found("KM603", lived(meta(), some, more))) is fires


def test_a_kmalloc_is_no_area() -> None:
    assert judged("KM603", kmalloc("f+0x1", 1 << 16, count=10**6)) == []


# KM604


def test_a_large_buffer_taken_again_and_again_wants_to_be_kept() -> None:
    (finding,) = judged("KM604", kmalloc("f+0x1", 8000, count=5000), seconds=2.0, lived=3e-6)

    assert finding.message == "kmallocs 8 000 bytes 2 500 times a second, half of which live for 4 µs at most"
    assert finding.advice == "keep a buffer, one for each CPU or in the object that needs it"
    assert finding.evidence["cache"] == "kmalloc-8k"
    assert finding.confidence == "likely"


@pytest.mark.parametrize(
    ("asked", "count", "fires"),
    [
        (4096, 1000, True),
        (4096, 999, False),
        (2049, 1000, True),  # takes a page
        (2048, 49_999, False),
        (2048, 50_000, True),
        (8, 50_000, True),
        (100_000, 1000, True),
    ],
)
def test_from_a_page_on_fewer_are_enough(asked: int, count: int, fires: bool) -> None:
    assert bool(judged("KM604", kmalloc("f+0x1", asked, count=count))) is fires


@pytest.mark.parametrize(
    "columns", [{"lived": 0.0011}, {"released": 99}, {"released": 50_000, "unseen": 50_000}, {"bits": 10}]
)
def test_what_lives_longer_or_is_not_known_is_left_alone(columns: Any) -> None:
    assert judged("KM604", kmalloc("f+0x1", 4096, count=50_000), **columns) == []


def test_sizes_that_vary_fit_no_pool() -> None:
    made = lived(
        meta(),
        *(of(kmalloc("f+0x1", size, count=5000), released=5000, lived=MOMENT) for size in (4000, 4096)),
    )

    assert found("KM604", made) == []


@pytest.mark.parametrize(
    "row", [object_of(Cache("own", 4096, 4096), "f+0x1", count=10**6), pages("f+0x1", count=10**6)]
)
def test_what_is_no_kmalloc_has_its_pool(row: Row) -> None:
    assert judged("KM604", row) == []


# KM605


def test_objects_that_cross_cpus_are_told() -> None:
    row = object_of(Cache("skbuff_head_cache", 232, 256), "__alloc_skb+0x1", count=50_000)

    finding = only("KM605", lived(meta(), of(row, held=10_000, released=40_000, elsewhere=30_000), seconds=2.0))

    assert finding.message == ("75% of its objects of skbuff_head_cache are released on another CPU, 15 000 a second")
    assert finding.confidence == "candidate"
    assert finding.evidence == {
        "cache": "skbuff_head_cache",
        "count": 50_000,
        "allocations_per_second": 25_000.0,
        "min_request": 232,
        "max_request": 232,
        "released": 40_000,
        "released_looked_at": 40_000,
        "grade": "B",
        "released_elsewhere_share": 0.75,
        "released_elsewhere_per_second": 15_000.0,
    }


@pytest.mark.parametrize(
    ("row", "columns", "fires"),
    [
        (kmalloc("f+0x1", 64, count=20_000), {"elsewhere": 10_000}, True),
        (kmalloc("f+0x1", 64, count=20_000), {"elsewhere": 9_999}, False),
        (kmalloc("f+0x1", 64, count=40_000), {"elsewhere": 19_999}, False),  # less than half
        (kmalloc("f+0x1", 64, count=20_000), {"elsewhere": 10_000, "seconds": 1.01}, False),
        (kmalloc("f+0x1", 64, count=20_000), {"elsewhere": 20_000, "released": 99}, False),
        (kmalloc("f+0x1", 64, count=20_000), {"elsewhere": 20_000, "unseen": 5_000}, False),  # grade D
        (kmalloc("f+0x1", 8192, count=20_000), {"elsewhere": 20_000}, True),
        (kmalloc("f+0x1", 8193, count=20_000), {"elsewhere": 20_000}, False),  # pages
        (pages("f+0x1", count=20_000), {"elsewhere": 20_000}, False),
    ],
)
def test_most_must_be_released_elsewhere_and_often(row: Row, columns: Any, fires: bool) -> None:
    assert bool(judged("KM605", row, **columns)) is fires


def test_what_is_held_still_was_not_released_elsewhere() -> None:
    row = kmalloc("f+0x1", 64, count=20_000)

    assert judged("KM605", row, released=15_000, elsewhere=10_000, held=5_000) != []
    assert judged("KM605", row, released=14_000, elsewhere=9_000, held=6_000) == []


@pytest.mark.parametrize("code", ["KM603", "KM604", "KM605"])
def test_without_the_table_nothing_is_found(code: str) -> None:
    assert found(code, ledger(kmalloc("f+0x1", 4096, count=10**6), area("g+0x1", 5000, count=10**6))) == []
