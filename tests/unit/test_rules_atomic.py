"""KM2xx: which allocations and failures are a bug, which are expected, and what is said of them."""

import pytest

from kmwatch.batch import Cache
from kmwatch.schema import Context, Kind, Via
from tests.unit.rows import Row, area, found, kmalloc, ledger, object_of, only, pages, percpu

SILENT = "GFP_KERNEL|__GFP_NORETRY|__GFP_NOWARN"


# KM201: sleeping in atomic context


@pytest.mark.parametrize("context", [each for each in Context if each != Context.UNKNOWN])
def test_what_may_sleep_is_an_error_in_every_atomic_context(context: Context) -> None:
    assert len(found("KM201", ledger(kmalloc("f+0x1", 64, context=context)))) == 1


@pytest.mark.parametrize(
    "bad",
    [
        kmalloc("f+0x1", 64, gfp="GFP_NOFS"),
        kmalloc("f+0x1", 64, gfp=SILENT),  # reclaims once: that sleeps
        kmalloc("f+0x1", 64, failed=1),  # the bug was there all the same
        object_of(Cache("dentry", 192, 192), "f+0x1", gfp="GFP_KERNEL_ACCOUNT"),
        pages("f+0x1", order=2, gfp="GFP_HIGHUSER_MOVABLE"),
        percpu("f+0x1", 64),
        area("f+0x1", 8192),
        area("f+0x1", 8192, kind=Kind.IOREMAP),
        area("f+0x1", 8192, kind=Kind.VMAP),
    ],
)
def test_every_kind_of_sleeping_allocation_counts(bad: Row) -> None:
    assert len(found("KM201", ledger(bad | {"context": Context.PREEMPT_OFF}))) == 1


@pytest.mark.parametrize(
    "good",
    [
        kmalloc("f+0x1", 64),
        kmalloc("f+0x1", 64, context=Context.UNKNOWN),
        kmalloc("f+0x1", 64, context=Context.UNKNOWN | Context.SOFTIRQ),
        area("f+0x1", 8192, context=Context.UNKNOWN),
        kmalloc("f+0x1", 64, gfp="GFP_ATOMIC", context=Context.SOFTIRQ),
        kmalloc("f+0x1", 64, gfp="GFP_NOWAIT", context=Context.HARDIRQ),
        kmalloc("f+0x1", 64, gfp="GFP_TRANSHUGE_LIGHT", context=Context.RCU),
        pages("f+0x1", order=3, via=Via.SLAB, context=Context.PREEMPT_OFF),  # the slab allocator's own affair
        pages("f+0x1", via=Via.PERCPU, context=Context.RCU),
        kmalloc("__pcs_replace_empty_main+0x1", 64, context=Context.HARDIRQ),  # for a caller that is found by itself
    ],
)
def test_what_is_allowed_or_not_known_is_no_error(good: Row) -> None:
    assert found("KM201", ledger(good)) == []


def test_the_finding_says_what_where_and_how_often() -> None:
    bits = Context.SOFTIRQ | Context.RCU
    made = ledger(
        kmalloc("drv_tx+0x9 [drv]", 100, count=2000, context=bits), kmalloc("drv_tx+0x9 [drv]", 120, context=bits)
    )

    finding = only("KM201", made)

    assert finding.site == "drv_tx+0x9 [drv]"
    assert finding.message == "allocates with GFP_KERNEL, which may sleep, in softirq+rcu: 2 001 times"
    assert "GFP_NOWAIT with a fallback" in finding.advice
    assert finding.evidence == {
        "kind": "kmalloc",
        "count": 2001,
        "failures": 0,
        "opportunistic_failures": 0,
        "gfp": "GFP_KERNEL",
        "gfp_mask": "0xcc0",
        "context": "softirq+rcu",
        "zone_asked": "Normal",
        "order": 0,
        "min_request": 100,
        "max_request": 120,
    }


def test_what_has_no_flags_is_called_by_its_kind() -> None:
    finding = only("KM201", ledger(area("f+0x1", 8192, count=3, context=Context.PREEMPT_OFF)))

    assert finding.message == "allocates with vmalloc, which may sleep, in process+preempt-off: 3 times"


# KM202, KM203, KM204: failures


@pytest.mark.parametrize(
    ("failure", "code"),
    [
        (kmalloc("f+0x1", 64, gfp="GFP_ATOMIC", failed=1), "KM202"),
        (kmalloc("f+0x1", 64, gfp="GFP_NOWAIT", failed=1), "KM203"),
        (pages("f+0x1", order=3, gfp="GFP_ATOMIC", failed=1), "KM202"),
        (pages("f+0x1", order=3, gfp="GFP_ATOMIC", context=Context.UNKNOWN, failed=1), "KM202"),
        (pages("f+0x1", order=9, gfp="GFP_TRANSHUGE_LIGHT", failed=1), "KM203"),
        (kmalloc("f+0x1", 1 << 20, gfp=SILENT, failed=1), "KM203"),
        (kmalloc("f+0x1", 64, gfp="GFP_ATOMIC|__GFP_NORETRY|__GFP_NOWARN", failed=1), "KM203"),
        (kmalloc("f+0x1", 64, failed=1), "KM204"),
        (pages("f+0x1", order=5, gfp="GFP_KERNEL|__GFP_RETRY_MAYFAIL|__GFP_NOWARN", failed=1), "KM204"),
        (object_of(Cache("dentry", 192, 192), "f+0x1", gfp="GFP_KERNEL_ACCOUNT", failed=1), "KM204"),
        (area("f+0x1", 1 << 40, failed=1), "KM204"),
        (pages("f+0x1", order=3, gfp="GFP_ATOMIC", via=Via.SLAB, failed=1), None),  # the slab-level event tells
        (pages("f+0x1", via=Via.VMALLOC, failed=1), None),
        (area("f+0x1", 1 << 20, kind=Kind.IOREMAP, failed=1), None),
        (pages("f+0x1", order=3, gfp="GFP_ATOMIC"), None),
    ],
)
def test_a_failure_belongs_to_one_rule(failure: Row, code: str | None) -> None:
    assert [one for one in ("KM202", "KM203", "KM204") if found(one, ledger(failure))] == ([code] if code else [])


def test_an_atomic_failure_tells_order_zone_context_and_site() -> None:
    tx = {"gfp": "GFP_ATOMIC|GFP_DMA32", "context": Context.SOFTIRQ}
    made = ledger(
        pages("wifi_tx+0x20 [wifi]", 3, count=5, failed=1, **tx), pages("wifi_tx+0x20 [wifi]", 3, count=10_007, **tx)
    )

    finding = only("KM202", made)

    assert finding.site == "wifi_tx+0x20 [wifi]"
    assert finding.message == (
        "page_alloc of order 3 with GFP_ATOMIC|GFP_DMA32 in softirq failed 5 times and succeeded 10 007 times, "
        "zone asked for: DMA32"
    )
    assert {
        name: finding.evidence[name] for name in ("order", "failures", "count", "context", "zone_asked", "gfp_mask")
    } == {
        "order": 3,
        "failures": 5,
        "count": 10_007,
        "context": "softirq",
        "zone_asked": "DMA32",
        "gfp_mask": "0x824",
    }


def test_the_order_of_a_kmalloc_is_that_of_its_size() -> None:
    made = ledger(kmalloc("f+0x1", 20_000, gfp="GFP_ATOMIC", failed=1))

    assert only("KM202", made).evidence["order"] == 3
    assert only("KM202", made).message.startswith("kmalloc of order 3 with GFP_ATOMIC in process failed 1 times")


def test_failures_of_one_site_are_grouped_by_what_they_depend_on() -> None:
    made = ledger(
        pages("f+0x1", 3, gfp="GFP_ATOMIC", failed=1),
        pages("f+0x1", 2, gfp="GFP_ATOMIC", failed=1),
        pages("f+0x1", 3, gfp="GFP_ATOMIC", failed=1, context=Context.SOFTIRQ),
        pages("f+0x1", 3, gfp="GFP_ATOMIC", failed=1, migratetype=1, zone=2),  # no reason for a finding of its own
    )

    assert sorted(
        (each.evidence["order"], each.evidence["context"], each.evidence["failures"]) for each in found("KM202", made)
    ) == [
        (2, "process", 1),
        (3, "process", 2),
        (3, "softirq", 1),
    ]


def test_silent_first_tries_are_worth_a_notice_only() -> None:
    finding = only("KM203", ledger(kmalloc("f+0x1", 1 << 20, count=9, gfp=SILENT, failed=1)))

    assert finding.advice == "none needed: the caller falls back; many of them mean fragmentation"
    assert (finding.evidence["failures"], finding.evidence["opportunistic_failures"]) == (0, 9)


def test_a_sleeping_failure_names_what_needs_no_contiguous_pages() -> None:
    assert "kvmalloc()" in only("KM204", ledger(kmalloc("f+0x1", 1 << 20, failed=1))).advice
