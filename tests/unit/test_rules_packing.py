"""KM102 to KM105: sizes just above a class, large kmallocs that are rounded, objects that fill their slabs badly."""

import pytest

from kmwatch.batch import Cache
from kmwatch.schema import Via
from tests.unit.rows import Row, found, kmalloc, ledger, object_of, only, pages

# KM102: just above a size class


@pytest.mark.parametrize(
    ("asked", "over", "taken", "smaller"),
    [(33, 1, 64, 32), (66, 2, 96, 64), (520, 8, 1024, 512), (544, 32, 1024, 512), (4352, 256, 8192, 4096)],
)
def test_a_few_bytes_above_a_class_are_named_and_what_they_cost(
    asked: int, over: int, taken: int, smaller: int
) -> None:
    made = ledger(kmalloc("f+0x1", asked, count=1000))

    finding = only("KM102", made)

    assert finding.message.startswith(f"asks for {asked if asked < 1000 else '4 352'} bytes and takes ")
    assert finding.advice.startswith(f"take {over} byte{'s' * (over > 1)} off the object")
    assert finding.saving == 1000.0 * (taken - smaller)
    assert (finding.evidence["bytes_above"], finding.evidence["size_class"]) == (over, taken)
    assert (finding.evidence["next_smaller_class"], finding.evidence["count"]) == (smaller, 1000)


@pytest.mark.parametrize(
    "quiet",
    [
        [kmalloc("f+0x1", 545, count=1000)],  # more than a sixteenth
        [kmalloc("f+0x1", 520, count=1000), kmalloc("f+0x1", 1000)],  # not all of them
        [kmalloc("f+0x1", 520, count=4)],  # little in all
        [kmalloc("f+0x1", 8200, count=1000)],  # KM103's
        [kmalloc("f+0x1", 520, count=1000, failed=1)],
        [kmalloc("f+0x1", 4, count=10_000)],  # there is no smaller class
    ],
)
def test_what_no_trimming_helps_is_left_alone(quiet: list[Row]) -> None:
    assert found("KM102", ledger(*quiet)) == []


def test_of_km101_and_km102_one_speaks() -> None:
    """The site's worst class decides, and where it is just above a smaller one the precise rule has it."""
    near, far = kmalloc("f+0x1", 520, count=1000), kmalloc("f+0x1", 1500, count=2000)

    assert [len(found(code, ledger(near))) for code in ("KM101", "KM102")] == [0, 1]
    assert [len(found(code, ledger(kmalloc("f+0x1", 600, count=1000)))) for code in ("KM101", "KM102")] == [1, 0]
    assert [len(found(code, ledger(near, far))) for code in ("KM101", "KM102")] == [1, 1]


def test_sizes_that_vary_inside_a_class_are_a_notice_without_a_saving() -> None:
    finding = only("KM101", ledger(kmalloc("f+0x1", 50, count=3000), kmalloc("f+0x1", 55, count=3000)))

    assert (finding.severity, finding.saving) == ("notice", 0.0)
    assert finding.advice.startswith("none is cheap: ")


def test_a_size_far_above_the_smaller_class_is_not_told_to_shrink() -> None:
    finding = only("KM101", ledger(kmalloc("f+0x1", 408, count=1000)))

    assert finding.advice == "a kmem_cache of its own, 20 in 8.0 KiB, saves 100.0 KiB/s"
    assert finding.saving == 1000 * (512 - 409.6)


# KM103 and KM104: large kmallocs


def test_whole_pages_that_are_never_used_are_given_back_by_alloc_pages_exact() -> None:
    finding = only("KM103", ledger(kmalloc("f+0x1", 132 << 10, count=10), seconds=2.0))

    assert finding.message == (
        "asks for up to 135 168 bytes and takes 256.0 KiB, of which 31 pages are never used: 10 times, 1.2 MiB in all"
    )
    assert finding.advice == (
        "alloc_pages_exact() takes 132.0 KiB, saving 620.0 KiB/s; kvmalloc() where it need not be contiguous"
    )
    assert finding.saving == 31 * 4096 * 5.0


def test_many_objects_of_one_size_want_a_cache() -> None:
    """Three of 10 176 bytes in 32 KiB, where kmalloc puts two."""
    made = ledger(kmalloc("f+0x1", 10_176, count=300))

    finding = only("KM104", made)

    assert finding.message == (
        "asks 300 times for 10 176 bytes and takes 16 384: in 32.0 KiB lie 2, where a cache of its own puts 3"
    )
    assert "up to 10 880 bytes 3 fit a slab of order 3" in finding.advice
    assert finding.evidence["objects_by_order"] == {"2": 1, "3": 3}
    assert finding.saving == 1_638_400.0
    assert finding.confidence == "likely"
    assert found("KM103", made) == []


def test_few_objects_want_no_cache_but_exact_pages() -> None:
    made = ledger(kmalloc("f+0x1", 10_176, count=99))

    assert [len(found(code, made)) for code in ("KM103", "KM104")] == [1, 0]


@pytest.mark.parametrize(
    "quiet",
    [
        kmalloc("f+0x1", 16_384, count=300),  # a power of two
        kmalloc("f+0x1", 13_000, count=300),  # the fourth page is used
        kmalloc("f+0x1", 10_176, count=300, via=Via.KVMALLOC),
        kmalloc("f+0x1", 10_176, count=300, gfp="GFP_KERNEL|__GFP_NORETRY|__GFP_NOWARN"),
        kmalloc("f+0x1", 10_176, count=300, failed=1),
        kmalloc("f+0x1", 640, count=300),
        pages("f+0x1", order=2, count=300),
    ],
)
def test_what_is_exact_or_has_a_fallback_is_left_alone(quiet: Row) -> None:
    made = ledger(quiet)

    assert found("KM103", made) == found("KM104", made) == []


# KM105: caches that waste their slabs


@pytest.mark.parametrize(
    ("cache", "says", "advice"),
    [
        (Cache("odd", 600, 1024), "600 bytes take 1 024, and with the end of the slab 1 024: 41%", "alignment"),
        (Cache("half", 17_000, 17_000), "with the end of the slab 32 768: 48%", "at ≤ 16 384 bytes 2 fit a slab"),
        (Cache("huge", 40_000, 40_000), "with the end of the slab 65 536: 39%", "at ≤ 32 768 bytes 2 fit a slab"),
    ],
)
def test_a_cache_that_leaves_a_quarter_of_its_slabs_is_told(cache: Cache, says: str, advice: str) -> None:
    finding = only("KM105", ledger(object_of(cache, "f+0x1", count=1000)))

    assert finding.site == f"cache {cache.name}"
    assert says in finding.message
    assert advice in finding.advice
    assert finding.confidence == "likely"


@pytest.mark.parametrize(
    "quiet",
    [
        object_of(Cache("dentry", 192, 192), "f+0x1", count=10_000),
        object_of(Cache("filp", 184, 192), "f+0x1", count=10_000),
        object_of(Cache("odd", 600, 1024), "f+0x1", count=100),  # little traffic
        object_of(Cache("imported", 0, 0), "f+0x1", count=10_000),  # sizes unknown
        kmalloc("f+0x1", 600, count=10_000),
    ],
)
def test_caches_that_fill_their_slabs_are_left_alone(quiet: Row) -> None:
    assert found("KM105", ledger(quiet)) == []
