"""The ledger: equal keys merged, each piece of memory counted once, every outcome in its own column."""

import numpy as np
import pytest

from kmwatch.batch import Cache, Cost, Trust
from kmwatch.ledger import ALLOCATIONS, FREES, MAPPINGS, MEASURES, PRESSURE, Ledger, Totals
from kmwatch.rules import judge
from kmwatch.schema import Context, Kind, Via
from tests.unit.rows import area, batch, kmalloc, ledger, meta, object_of, pages, percpu, row

DENTRY = Cache("dentry", 192, 200)


def test_every_kind_has_one_part_to_play() -> None:
    assert sorted((*ALLOCATIONS, *MAPPINGS, *FREES, *PRESSURE)) == sorted(Kind)


def test_equal_keys_are_one_row_whatever_batch_they_come_in() -> None:
    known = meta()
    made = ledger(kmalloc("f+0x1", 100, count=2), kmalloc("g+0x1", 100), known=known)
    made.add(batch(known, kmalloc("g+0x1", 120, count=4), kmalloc("f+0x1", 100, count=3), kmalloc("f+0x1", 70)))

    rows = {known.sites[each["site"]].text: each for each in made.rows}

    assert len(made.rows) == 3  # 100 and 120 bytes are one class, 70 another
    assert rows["g+0x1"]["count"] == 5
    assert rows["g+0x1"]["bytes_requested"] == 100 + 4 * 120
    assert rows["g+0x1"]["bytes_allocated"] == 5 * 128
    assert (rows["g+0x1"]["min_request"], rows["g+0x1"]["max_request"]) == (100, 120)
    assert rows["g+0x1"]["fill"].tolist() == [0, 0, 0, 0, 0, 0, 1, 4]
    assert sorted(made.rows["count"].tolist()) == [1, 5, 5]


@pytest.mark.parametrize(
    "other",
    [
        {"gfp": "GFP_ATOMIC"},
        {"context": Context.SOFTIRQ},
        {"failed": 1},
        {"zone": 1},
        {"node": 0},
        {"order": 1},
        {"via": Via.VMALLOC},
        {"migratetype": 1},
    ],
)
def test_keys_that_differ_anywhere_stay_apart(other: dict[str, object]) -> None:
    assert len(ledger(row(Kind.PAGE_ALLOC, "f+0x1"), row(Kind.PAGE_ALLOC, "f+0x1", **other)).rows) == 2  # type: ignore[arg-type]


def test_what_is_taken_back_altogether_is_gone() -> None:
    known = meta()
    made = ledger(kmalloc("inner+0x1", 9000), kmalloc("f+0x1", 9000), known=known)
    made.add(batch(known, kmalloc("inner+0x1", 9000, count=-1)))

    assert [known.sites[each["site"]].text for each in made.rows] == ["f+0x1"]
    assert made.totals().bytes_requested == 9000


def test_eighths_that_are_taken_back_wrap_to_what_is_left() -> None:
    known = meta()
    made = ledger(kmalloc("f+0x1", 9000, count=5), known=known)
    made.add(batch(known, kmalloc("f+0x1", 9000, count=-2)))

    assert made.rows["fill"].tolist() == [[0, 0, 0, 0, 3, 0, 0, 0]]
    assert made.groups("site")["fill"].tolist() == [[0, 0, 0, 0, 3, 0, 0, 0]]
    assert made.rows["count"].tolist() == [3]


def test_totals_count_each_piece_of_memory_once() -> None:
    """Pages of a slab, a vmalloc area or a per-CPU chunk are counted where they are handed out."""
    made = ledger(
        kmalloc("f+0x1", 100, count=7),
        object_of(DENTRY, "d_alloc+0x1", count=3),
        area("v+0x1", 8192, count=2),
        percpu("p+0x1", 64),
        pages("fault+0x1", order=1, count=5, via=0),
        pages("f+0x1", order=3, count=1000, via=Via.SLAB),
        pages("v+0x1", count=1000, via=Via.VMALLOC | Via.VMAP),
        pages("p+0x1", count=1000, via=Via.PERCPU),
        area("drv+0x1", 4096, kind=Kind.IOREMAP, count=1000),
        area("gpu+0x1", 4096, kind=Kind.VMAP, count=1000),
    )

    assert made.totals() == Totals(
        allocations=7 + 3 + 2 + 1 + 5,
        frees=0,
        failures=0,
        opportunistic_failures=0,
        bytes_requested=700 + 3 * 192 + 2 * 8192 + 64 + 5 * 8192,
        bytes_allocated=7 * 128 + 3 * 200 + 2 * 8192 + 64 + 5 * 8192,
        bytes_wasted=7 * 28 + 3 * 8,
    )


def test_groups_leave_out_what_is_counted_elsewhere_only_when_asked() -> None:
    made = ledger(pages("f+0x1", count=3), pages("f+0x1", count=1000, via=Via.SLAB))

    assert made.groups("kind")["count"].tolist() == [1003]
    assert made.groups("kind", once=True)["count"].tolist() == [3]


def test_frees_and_pressure_are_events_but_no_memory() -> None:
    frees = [row(kind, count=10 + kind) for kind in FREES]
    made = ledger(kmalloc("f+0x1", 64), *frees, row(Kind.EXTFRAG, count=100), row(Kind.OOM_VICTIM))

    assert made.totals().frees == sum(10 + kind for kind in FREES)
    assert (made.totals().allocations, made.totals().bytes_allocated) == (1, 64)
    assert made.events() == 1 + made.totals().frees + 100 + 1
    assert made.events(Kind.EXTFRAG) == 100
    assert made.events(Kind.EXTFRAG, Kind.OOM_VICTIM) == 101
    assert made.events(Kind.COMPACTION) == 0


@pytest.mark.parametrize(
    ("gfp", "real"),
    [
        ("GFP_ATOMIC", True),
        ("GFP_NOWAIT", False),  # with __GFP_NOWARN since Linux 6.7
        ("GFP_KERNEL", True),
        ("GFP_KERNEL|__GFP_NORETRY", True),
        ("GFP_KERNEL|__GFP_NOWARN", True),
        ("GFP_KERNEL|__GFP_NORETRY|__GFP_NOWARN", False),
        ("GFP_TRANSHUGE_LIGHT", False),
        ("__GFP_NOWARN", False),
    ],
)
def test_a_failure_is_real_unless_its_caller_expected_it(gfp: str, real: bool) -> None:
    made = ledger(pages("f+0x1", order=3, count=4, gfp=gfp, failed=1), pages("f+0x1", order=3, count=9, gfp=gfp))
    totals = made.totals()

    assert (totals.failures, totals.opportunistic_failures) == ((4, 0) if real else (0, 4))
    assert totals.allocations == 9


@pytest.mark.parametrize("failed", [area("f+0x1", 1 << 40, failed=1), percpu("f+0x1", 64, gfp=0, failed=1)])
def test_a_failure_of_an_event_without_flags_is_real(failed: dict[str, object]) -> None:
    """The failure events of vmalloc and the per-CPU allocator carry no flags: 0 there is no mask without reclaim."""
    totals = ledger(failed).totals()

    assert (totals.failures, totals.opportunistic_failures) == (1, 0)


def test_a_failure_carries_no_bytes_even_if_a_row_claims_them() -> None:
    made = ledger(pages("f+0x1", order=3, count=4, failed=1, bytes_requested=999, bytes_allocated=999))

    group = made.groups("site")[0]

    assert [int(group[name]) for name in MEASURES] == [0, 4, 0, 0, 0, 0]
    assert made.totals().bytes_allocated == 0


def test_groups_go_by_any_columns_and_facts() -> None:
    made = ledger(
        kmalloc("f+0x1", 100, count=2),
        kmalloc("f+0x1", 100, count=3, gfp="GFP_ATOMIC", context=Context.SOFTIRQ),
        kmalloc("f+0x1", 500, count=5, gfp="GFP_ATOMIC", context=Context.SOFTIRQ),
        kmalloc("g+0x1", 100, count=7, gfp="GFP_KERNEL|GFP_DMA"),
        pages("g+0x1", count=11),
    )

    by_site = made.groups("site", kinds=(Kind.KMALLOC,))
    assert [made.meta.sites[each["site"]].text for each in by_site] == ["f+0x1", "g+0x1"]
    assert by_site["count"].tolist() == [10, 7]
    assert (by_site["min_request"][0], by_site["max_request"][0]) == (100, 500)
    assert by_site["bytes_wasted"][0] == 5 * 28 + 5 * 12
    assert by_site["fill"][0].tolist() == [0, 0, 0, 0, 0, 0, 5, 5]

    by_facts = made.groups("may_sleep", "zone_asked", "kind")
    assert (by_facts.dtype.names or ())[:3] == ("may_sleep", "zone_asked", "kind")
    assert {
        (bool(each["may_sleep"]), str(each["zone_asked"]), int(each["kind"])): int(each["count"]) for each in by_facts
    } == {
        (False, "Normal", Kind.KMALLOC): 8,
        (True, "DMA", Kind.KMALLOC): 7,
        (True, "Normal", Kind.KMALLOC): 2,
        (True, "Normal", Kind.PAGE_ALLOC): 11,
    }
    assert made.groups()["count"].tolist() == [28]


def test_groups_add_up_to_the_totals_whatever_the_columns() -> None:
    random = np.random.default_rng(1)
    drawn = [
        kmalloc(
            f"f{random.integers(4)}+0x1",
            int(random.integers(1, 20000)),
            count=int(random.integers(1, 9)),
            gfp=str(random.choice(["GFP_KERNEL", "GFP_ATOMIC"])),
            context=int(random.choice([0, 1, 8])),
            failed=int(random.integers(2)),
        )
        for _ in range(300)
    ]
    made = ledger(*drawn)
    totals = vars(made.totals())

    for columns in (("site",), ("site", "gfp"), ("context", "atomic", "failed"), ("bytes_alloc", "zone_asked"), ()):
        groups = made.groups(*columns, once=True)
        assert {name: int(groups[name].sum()) for name in MEASURES[1:]} == {name: totals[name] for name in MEASURES[1:]}
        assert groups["count"].sum() == totals["allocations"]
        assert len(np.unique(groups[list(columns)])) == len(groups) if columns else len(groups) == 1


@pytest.mark.parametrize(
    ("context", "atomic"),
    [(0, False), (Context.SOFTIRQ, True), (Context.PREEMPT_OFF, True), (Context.RCU, True), (Context.UNKNOWN, False)],
)
def test_every_known_context_but_the_bare_process_is_atomic(context: int, atomic: bool) -> None:
    assert ledger(kmalloc("f+0x1", 64, context=context)).facts["atomic"].tolist() == [atomic]


def test_what_has_no_flags_may_sleep_where_its_function_does() -> None:
    made = ledger(
        area("f+0x1", 4096),
        area("f+0x1", 4096, kind=Kind.IOREMAP),
        area("f+0x1", 4096, kind=Kind.VMAP),
        kmalloc("f+0x1", 64, gfp="GFP_ATOMIC"),
    )

    groups = made.groups("kind", "may_sleep", kinds=(*ALLOCATIONS, *MAPPINGS))
    sleeps = {Kind(int(each["kind"])): bool(each["may_sleep"]) for each in groups}

    assert sleeps == {Kind.VMALLOC: True, Kind.IOREMAP: True, Kind.VMAP: True, Kind.KMALLOC: False}


def test_an_empty_ledger_answers_everything() -> None:
    for made in (Ledger(meta()), ledger()):
        assert made.totals() == Totals(0, 0, 0, 0, 0, 0, 0)
        assert made.events() == made.events(Kind.KMALLOC) == 0
        assert len(made.facts) == len(made.groups()) == len(made.groups("site", "zone_asked", once=True)) == 0
        assert judge(made) == []


def test_facts_are_of_the_rows_as_they_are_now() -> None:
    known = meta()
    made = ledger(kmalloc("f+0x1", 100), known=known)
    assert made.totals().allocations == made.facts["count"].sum() == 1

    made.add(batch(known, kmalloc("f+0x1", 100, count=2), kmalloc("g+0x1", 100, count=4)))

    assert made.totals().allocations == made.facts["count"].sum() == 7
    assert len(made.facts) == 2


def test_span_doubt_and_cost_add_up_and_the_start_is_the_first() -> None:
    made = Ledger(meta())
    made.add(batch(made.meta, start=50.0, seconds=1.5, trust=Trust(1, 2, 3, 4), cost=Cost(0.25, 0.5)))
    made.add(batch(made.meta, start=51.5, seconds=2.0, trust=Trust(10, 20, 30, 40), cost=Cost(0.25, 0.5)))

    assert (made.start, made.seconds) == (50.0, 3.5)
    assert made.trust == Trust(lost=11, map_full=22, duplicates_removed=33, unknown_site=44)
    assert made.cost == Cost(kernel=0.5, own=1.0)
