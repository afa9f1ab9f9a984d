"""KM601 and KM602: what grows, and what is wasted for good."""

import itertools

import pytest

from kmwatch.batch import Cache
from kmwatch.ledger import Ledger
from kmwatch.schema import Via
from tests.unit.holding import Lives, held, lived, looks, of
from tests.unit.rows import Row, area, found, kmalloc, ledger, meta, object_of, only, pages, percpu

LEAK = kmalloc("leak+0x1", 1000)
LINE = tuple(range(100, 1100, 100))


def grows(row: Row, numbers: tuple[int, ...], *, bits: int = 0, every: float = 1.0, **columns: int) -> Ledger:
    """A ledger in which a row's objects are as many at each look; one was released, so that grade B is possible."""
    known = meta()
    lives = [of(row, held=number, **{"released": 1, **columns}) for number in numbers]
    return looks(known, *(held(known, each, bits=bits) for each in lives), rows=(row,), every=every)


# KM601


def test_a_site_that_never_gives_back_grows() -> None:
    finding = only("KM601", grows(LEAK, LINE))

    assert finding.site == "leak+0x1"
    assert finding.message == (
        "holds 1 000 objects (kmalloc-1k), 1000.0 KiB, and 100.0 KiB more each second, over 10 looks"
    )
    assert finding.confidence == "likely"
    assert finding.evidence == {
        "kind": "kmalloc",
        "cache": "kmalloc-1k",
        "objects": 1000,
        "bytes": 1_024_000,
        "error": 0,
        "bytes_grown_at_least": 921_600,
        "bytes_per_second": 102_400.0,
        "looks": 10,
        "grade": "B",
    }


@pytest.mark.parametrize(
    "row",
    [
        object_of(Cache("kmwatch_lab", 1000, 1024), "leak+0x1"),
        pages("leak+0x1", order=2),
        area("leak+0x1", 5000, bytes_alloc=8192),
        percpu("leak+0x1", 4096, bytes_alloc=4096),
    ],
)
def test_all_kinds_of_memory_grow(row: Row) -> None:
    assert only("KM601", grows(row, LINE)).evidence["objects"] == 1000


@pytest.mark.parametrize(
    ("row", "numbers"),
    [
        (LEAK, (1000,) * 10),
        (LEAK, (100, 400, 700, 1000, 1000, 1000, 1000, 1000, 1000, 1000)),  # fills up, and levels off
        (LEAK, (0, 0, 0, 0, 0, 0, 0, 0, 0, 1000)),  # a burst
        (LEAK, (100, 900, 200, 1000, 300, 1100, 400, 1200, 500, 1300)),  # falls as often as it rises
        (LEAK, LINE[::-1]),
        *((object_of(Cache(name, 1000, 1024), "f+0x1"), LINE) for name in ("dentry", "ext4_inode_cache", "xfs_inode")),
        (object_of(Cache("buffer_head", 104, 104), "f+0x1"), LINE),
        (kmalloc("alloc_slab_obj_exts+0x58", 1000), LINE),
        (kmalloc("memcg_alloc_slab_cgroups+0x58", 1000), LINE),  # the same, before Linux 6.10
        (pages("fault+0x1", gfp="GFP_HIGHUSER_MOVABLE"), LINE),
        (kmalloc("names+0x1", 1000, gfp="GFP_KERNEL|__GFP_RECLAIMABLE"), LINE),
    ],
)
def test_what_does_not_grow_or_grows_by_design_is_left_alone(row: Row, numbers: tuple[int, ...]) -> None:
    assert found("KM601", grows(row, numbers)) == []


def test_a_site_that_is_mostly_page_cache_grows_by_design() -> None:
    known, user = meta(), pages("folio+0x1", gfp="GFP_HIGHUSER_MOVABLE")

    def mixed(share: int) -> Ledger:
        own = pages("folio+0x1", gfp="GFP_NOFS")
        each = [held(known, of(user, held=n * share, released=1), of(own, held=n * 10)) for n in LINE]
        return looks(known, *each, rows=(user, own))

    assert [len(found("KM601", mixed(share))) for share in (9, 10)] == [1, 0]


def test_eight_looks_are_needed() -> None:
    assert [len(found("KM601", grows(LEAK, LINE[:number]))) for number in (7, 8)] == [0, 1]


def test_a_kibibyte_a_second_is_enough() -> None:
    one_more = tuple(range(1, 11))  # of 1024 bytes at each look

    assert [len(found("KM601", grows(LEAK, one_more, every=every))) for every in (1.001, 1.0)] == [0, 1]


def test_of_any_two_looks_the_later_one_must_mostly_have_more() -> None:
    """Of 45 pairs 36 rise, or 34."""
    enough, too_few = (0, 30, 20, 5, 40, 50, 25, 70, 45, 65), (0, 30, 20, 5, 60, 50, 25, 70, 45, 65)

    assert [pairs_that_rise(numbers) for numbers in (enough, too_few)] == [36, 34]
    assert [len(found("KM601", grows(LEAK, numbers))) for numbers in (enough, too_few)] == [1, 0]


def pairs_that_rise(numbers: tuple[int, ...]) -> int:
    return sum(later > earlier for earlier, later in itertools.combinations(numbers, 2))


def test_the_later_half_must_grow_as_well() -> None:
    """20 a look and then 6 or 5: the median of the whole is 11.6 or 11."""

    def bent(late: int) -> tuple[int, ...]:
        return (*range(0, 100, 20), *(80 + late * at for at in range(1, 6)))

    assert [len(found("KM601", grows(LEAK, bent(late)))) for late in (6, 5)] == [1, 0]


def test_a_sample_must_grow_by_more_than_it_may_be_off() -> None:
    small, large = grows(LEAK, tuple(range(100, 120, 2)), bits=4), grows(LEAK, LINE, bits=4)

    finding = only("KM601", large)

    assert found("KM601", small) == []
    assert finding.evidence["objects"] == 16_000
    assert 0 < finding.evidence["error"] < finding.evidence["bytes"] / 10
    assert f"15.6 MiB ± {finding.evidence['error'] / 2**20:.1f} MiB" in finding.message
    assert finding.evidence["bytes_grown_at_least"] < 900 * 16 * 1024


@pytest.mark.parametrize(
    ("columns", "confidence"),
    [({"released": 0}, "candidate"), ({"unseen": 50, "released": 950}, "candidate"), ({"unseen": 1}, None)],
)
def test_it_is_as_sure_as_the_numbers_are(columns: Lives, confidence: str | None) -> None:
    """Grade C where nothing confirms it, or one of twenty releases has no event; D where one of two has none."""
    findings = found("KM601", grows(LEAK, LINE, **columns))

    assert [each.confidence for each in findings] == ([confidence] if confidence else [])


@pytest.mark.parametrize(("number", "fires"), [(1, False), (0, True)])
def test_a_site_is_as_unknown_as_the_worst_size_that_it_holds(number: int, fires: bool) -> None:
    known, other = meta(), kmalloc("leak+0x1", 64)
    made = looks(
        known,
        *(held(known, of(LEAK, held=n, released=1), of(other, held=number, released=1, unseen=9)) for n in LINE),
        rows=(LEAK, other),
    )

    assert bool(found("KM601", made)) is fires


def test_what_the_kernel_does_not_count_is_unknown() -> None:
    """Objects that seem held though the cache did not grow were released without an event."""
    known = meta()
    row = object_of(Cache("mine", 1024, 1024), "leak+0x1")
    last = {
        grown: looks(
            known,
            *(held(known, of(row, held=10 * n, released=9), grown={"mine": grown}) for n in LINE),
            rows=(row,),
        )
        for grown in (0, 10_000)
    }

    assert found("KM601", last[0]) == []
    assert only("KM601", last[10_000]).evidence["grade"] == "A"


# KM602


def test_what_stays_and_is_half_empty_is_wasted_for_good() -> None:
    finding = only("KM602", lived(meta(), of(kmalloc("f+0x1", 33), held=5000, released=100)))

    assert finding.site == "f+0x1"
    assert finding.message == "holds 5 000 of kmalloc-64 for good, of which each wastes 31 of 64 bytes: 151.4 KiB"
    assert (finding.confidence, finding.saving) == ("likely", 0.0)
    assert finding.evidence == {
        "cache": "kmalloc-64",
        "objects": 5000,
        "bytes": 320_000,
        "bytes_wasted": 155_000,
        "error": 0,
        "released": 100,
        "grade": "B",
    }


@pytest.mark.parametrize(
    ("row", "number", "fires"),
    [
        (kmalloc("f+0x1", 33), 2114, False),  # 65 534 bytes
        (kmalloc("f+0x1", 33), 2115, True),
        (kmalloc("f+0x1", 768), 256, True),  # a quarter
        (kmalloc("f+0x1", 769), 10_000, False),
        (object_of(Cache("odd", 640, 1024), "f+0x1"), 171, True),
        (object_of(Cache("odd", 640, 1024), "f+0x1"), 170, False),
        (area("f+0x1", 4097, bytes_alloc=8192), 17, True),
        (area("f+0x1", 4097, bytes_alloc=8192), 16, False),
        (pages("f+0x1", order=3), 1000, False),
    ],
)
def test_much_and_a_quarter_must_be_wasted(row: Row, number: int, fires: bool) -> None:
    assert bool(found("KM602", lived(meta(), of(row, held=number, released=1)))) is fires


@pytest.mark.parametrize(("released", "fires"), [(5000, True), (5001, False)])
def test_half_of_all_objects_must_stay(released: int, fires: bool) -> None:
    assert bool(found("KM602", lived(meta(), of(kmalloc("f+0x1", 33), held=5000, released=released)))) is fires


@pytest.mark.parametrize("row", [kmalloc("f+0x1", 640), object_of(Cache("odd", 640, 1024), "f+0x1")])
def test_a_sample_must_waste_as_much_at_the_least(row: Row) -> None:
    """Eleven of sixteen times as many waste 65 KiB and more, but it may be half of that."""
    few, many = (lived(meta(), of(row, held=number, released=160), bits=4) for number in (11, 110))

    assert found("KM602", few) == []
    assert 0 < only("KM602", many).evidence["error"] < 110 * 16 * 384 / 2


def test_what_is_unknown_is_not_judged() -> None:
    made = lived(meta(), of(kmalloc("f+0x1", 33, via=Via.KVMALLOC), held=5000, released=100, unseen=100))

    assert found("KM602", made) == []


@pytest.mark.parametrize("code", ["KM601", "KM602"])
def test_without_the_table_nothing_is_found(code: str) -> None:
    assert found(code, ledger(kmalloc("f+0x1", 33, count=10**6))) == []
