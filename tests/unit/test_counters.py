"""What each counter counts, and that nothing takes anything back from one."""

import pytest

from kmwatch.batch import Batch, Cache, Trust
from kmwatch.kernel.symbols import Site
from kmwatch.metrics import METRICS
from kmwatch.schema import Context, Kind, Via
from kmwatch.serve.cells import Names
from kmwatch.serve.counters import Counters, Limits
from kmwatch.serve.snapshot import Family
from tests.unit import rows
from tests.unit.counted import START, began, series, total


def counted(*observed: rows.Row, before: tuple[rows.Row, ...] = (), **extra: object) -> dict[str, Family]:
    """The counters after two batches: `before`, which lets sites enter, and `observed`."""
    meta = rows.meta()
    counters = Counters(meta, START, Limits(top=5))
    for at, each in enumerate((before, observed)):
        counters.add(rows.batch(meta, *each, start=START + 5 * at, seconds=5.0, **(extra if at else {})))
    return counters.families()


def without_zeros(families: dict[str, Family], name: str) -> dict[tuple[str, ...], float]:
    return {labels: value for labels, value in series(families, name).items() if value}


def test_allocations_by_kind_and_size_class() -> None:
    cache = Cache("task_struct", 9000, 9024)
    families = counted(
        rows.kmalloc("f+0x1", 100, count=3),
        rows.kmalloc("g+0x1", 120, count=2),
        rows.kmalloc("g+0x1", 9000),
        rows.pages("h+0x1", 2, count=5),
        rows.pages("h+0x1", 3, via=Via.SLAB, count=7),  # a slab's: counted with its objects
        rows.object_of(cache, "k+0x1", count=4),
        rows.area("i+0x1", 4096, kind=Kind.IOREMAP),  # maps, and allocates nothing
        rows.kmalloc("f+0x1", 100, count=9, failed=1),
    )
    assert series(families, "allocations_total") == {
        ("128", "kmalloc"): 5,
        ("16384", "kmalloc"): 1,
        ("16384", "page_alloc"): 5,
        ("", "cache_alloc"): 4,
    }
    assert series(families, "requested_bytes_total")["128", "kmalloc"] == 3 * 100 + 2 * 120
    assert series(families, "allocated_bytes_total")["128", "kmalloc"] == 5 * 128
    assert series(families, "wasted_bytes_total")["", "cache_alloc"] == 4 * 24
    assert without_zeros(families, "page_allocations_total") == {("2", ""): 5, ("3", ""): 7}
    assert without_zeros(families, "events_total") == {
        ("kmalloc",): 15,
        ("page_alloc",): 12,
        ("cache_alloc",): 4,
        ("ioremap",): 1,
    }


def test_flags_context_zones_and_frees() -> None:
    families = counted(
        rows.kmalloc("f+0x1", 8, gfp="GFP_ATOMIC", context=Context.SOFTIRQ, count=2),
        rows.pages("f+0x1", 1, gfp="GFP_KERNEL", zone=1, migratetype=1, count=3),
        rows.pages("f+0x1", 0, gfp="GFP_DMA32", count=4),
        rows.row(Kind.KFREE, "f+0x1", count=6),
    )
    assert series(families, "gfp_allocations_total") == {("GFP_ATOMIC",): 2, ("GFP_KERNEL",): 3, ("GFP_DMA32",): 4}
    assert series(families, "context_allocations_total") == {("softirq",): 2, ("process",): 7}
    assert series(families, "zone_pages_total") == {("Normal", "DMA32"): 6, ("DMA32", ""): 4}
    assert series(families, "page_allocations_total") == {("1", "movable"): 3, ("0", ""): 4}
    assert without_zeros(families, "frees_total") == {("kfree",): 6}


def test_failures_are_told_apart_and_one_is_seen_with_its_site_at_once() -> None:
    opportunistic = "GFP_KERNEL|__GFP_NOWARN|__GFP_NORETRY"
    families = counted(
        rows.pages("tx+0x1 [wifi]", 3, gfp="GFP_ATOMIC", context=Context.SOFTIRQ, failed=1),
        rows.kmalloc("f+0x1", 20000, gfp=opportunistic, failed=1, count=4),
        rows.pages("slub+0x1", 3, gfp=opportunistic, via=Via.SLAB, failed=1),  # told by the slab's own event
    )
    assert without_zeros(families, "failures_total") == {("page_alloc", "real"): 1, ("kmalloc", "opportunistic"): 4}
    assert series(families, "site_failures_total") == {
        ("tx", "wifi", "page_alloc", "3", "softirq", "real"): 1,
        ("f", "", "kmalloc", "3", "process", "opportunistic"): 4,
    }
    assert set(began(families, "site_failures_total").values()) == {START + 5}


def test_what_rule_km201_finds_is_what_is_counted_as_sleeping() -> None:
    observed = (
        rows.kmalloc("bad+0x1 [drv]", 64, context=Context.PREEMPT_OFF, count=3),
        rows.kmalloc("bad+0x1 [drv]", 64, context=Context.PREEMPT_OFF, count=2, failed=1),
        rows.area("maps+0x1", 4096, kind=Kind.IOREMAP, context=Context.HARDIRQ),
        rows.kmalloc("good+0x1", 64, gfp="GFP_ATOMIC", context=Context.PREEMPT_OFF),
        rows.kmalloc("good+0x1", 64),
        rows.kmalloc("unseen+0x1", 64, context=Context.UNKNOWN),
        rows.kmalloc("__vmalloc_node_range+0x1", 64, context=Context.PREEMPT_OFF),  # for itself
    )
    families = counted(*observed)
    assert series(families, "site_sleeping_in_atomic_total") == {
        ("bad", "drv", "kmalloc", "process+preempt-off"): 5,
        ("maps", "", "ioremap", "hardirq"): 1,
    }
    assert without_zeros(families, "sleeping_in_atomic_total") == {("kmalloc",): 5, ("ioremap",): 1}
    assert {each.site for each in rows.found("KM201", rows.ledger(*observed))} == {"bad+0x1 [drv]", "maps+0x1"}


def test_large_kmallocs_and_slabs_have_a_top_of_their_own() -> None:
    cache = Cache("dentry", 192, 192)
    before = (rows.kmalloc("f+0x1", 8193), rows.object_of(cache, "g+0x1"))
    families = counted(rows.kmalloc("f+0x1", 8193, count=2), rows.object_of(cache, "g+0x1", count=3), before=before)
    assert series(families, "site_large_allocations_total") == {("f", "", "2"): 2, ("other", "", "2"): 1}
    assert series(families, "slab_allocations_total") == {("dentry",): 3, ("other",): 1}
    assert series(families, "slab_allocated_bytes_total") == {("dentry",): 3 * 192, ("other",): 192}
    assert set(began(families, "slab_allocations_total").values()) == {START, START + 5}


def test_pressure_and_doubt() -> None:
    trust = Trust(lost=3, map_full=4, unknown_site=5)
    families = counted(
        rows.row(Kind.DIRECT_RECLAIM, count=2),
        rows.row(Kind.COMPACTION, count=3),
        rows.row(Kind.EXTFRAG, migratetype=0, count=4),
        rows.row(Kind.OOM_VICTIM),
        trust=trust,
    )
    assert series(families, "direct_reclaims_total") == {(): 2}
    assert series(families, "compactions_total") == {(): 3}
    assert series(families, "extfrag_total") == {("unmovable",): 4, ("movable",): 0, ("reclaimable",): 0}
    assert series(families, "oom_victims_total") == {(): 1}
    assert series(families, "events_lost_total") == {("lost",): 3, ("map_full",): 4}
    assert series(families, "events_doubtful_total")["unknown_site",] == 5


def test_what_is_seldom_is_there_at_0_before_it_happens() -> None:
    """The first failure after a quiet year must be an increase, and not a new series."""
    families = Counters(rows.meta(), START).families()
    assert series(families, "failures_total")["page_alloc", "real"] == 0
    assert series(families, "sleeping_in_atomic_total")["ioremap",] == 0
    assert series(families, "oom_victims_total") == {(): 0}
    watching = Counters(rows.meta(), START, kinds=[Kind.KMALLOC]).families()
    assert set(series(watching, "failures_total")) == {("kmalloc", "real"), ("kmalloc", "opportunistic")}
    assert series(watching, "oom_victims_total") == {}


def test_what_is_taken_back_is_waited_for() -> None:
    """A large kmalloc: counted where it was first reported, taken back from there in the next reading."""
    meta = rows.meta()
    counters = Counters(meta, START, Limits(top=5))
    wrong, right = (rows.kmalloc(site, 9000, count=1) for site in ("__kmalloc+0x1", "f+0x1"))
    back = wrong | {"count": -1, "bytes_requested": -9000, "bytes_allocated": -16384}
    shown = []
    for observed in ([wrong], [back, right], [], [wrong], [wrong]):
        counters.add(rows.batch(meta, *observed, seconds=5.0))
        families = counters.families()
        shown.append([total(families, name) for name in ("allocations_total", "events_total", "wasted_bytes_total")])
        assert total(families, "site_allocations_total") == total(families, "allocations_total")
    waste = 16384 - 9000
    assert shown == [[1, 1, waste], [2, 2, 2 * waste], [2, 2, 2 * waste], [2, 2, 2 * waste], [3, 3, 3 * waste]]


def test_another_source_goes_on_counting_the_same_functions() -> None:
    first, second = rows.meta(), rows.meta()
    counters = Counters(first, START, Limits(top=5))
    counters.add(rows.batch(first, rows.kmalloc("f+0x1", 8, count=10), seconds=5.0))
    counters.add(rows.batch(first, rows.kmalloc("f+0x1", 8, count=10), seconds=5.0))
    counters.follow(second)
    rows.rows_of(second, rows.kmalloc("g+0x9", 8))  # other numbers in the other tables
    counters.add(rows.batch(second, rows.kmalloc("f+0x7", 8, count=10), seconds=5.0))
    assert series(counters.families(), "site_allocations_total")["f", "", "kmalloc"] == 20


def test_names_are_cut_few_and_never_stand_for_two_things() -> None:
    names = Names(("other",), most=2)
    assert [names.number(each) for each in ("a", "other", "b", "c", "a")] == [1, 0, 2, 0, 1]
    assert Names().number("x" * 10_000) == 1
    long = Names()
    assert long.number("x" * 10_000) == long.number("x" * 9_999)
    assert len(long.labels[1][0]) <= 200


@pytest.mark.parametrize("name", ["other", "", "f\n", 'f"', "f\\", "\ud800", "\x00\x1b[31m"])
def test_a_hostile_site_is_counted(name: str) -> None:
    meta = rows.meta()
    meta.sites.append(Site(f"{name}+0x1", name, name))
    made = rows.rows_of(meta, rows.kmalloc("x+0x1", 8, count=5))
    made["site"] = meta.sites.index(Site(f"{name}+0x1", name, name))
    counters = Counters(meta, START, Limits(top=5))
    for _ in range(2):
        counters.add(Batch(made.copy(), START, 5.0))
    assert total(counters.families(), "site_allocations_total") == 10


def test_every_family_of_the_counters_is_in_the_table() -> None:
    families = counted(rows.kmalloc("f+0x1", 8))
    assert set(families) <= set(METRICS)
    for name, family in families.items():
        metric = METRICS[name]
        assert len(family.created) == (len(family.labels) if metric.type == "counter" else 0)
        assert all(len(labels) == len(metric.labels) for labels in family.labels)
