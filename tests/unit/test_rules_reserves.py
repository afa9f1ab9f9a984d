"""KM206 to KM210: atomic requests that succeed, failures that nobody hears of, callers that ask again and again."""

import pytest

from kmwatch.schema import Context, Kind, Via
from tests.unit.rows import Row, found, kmalloc, ledger, only, pages, row

SILENT = "GFP_KERNEL|__GFP_NORETRY|__GFP_NOWARN"
LOCKED = kmalloc("other+0x1", 64, gfp="GFP_ATOMIC", context=Context.PREEMPT_OFF)

# KM206: contiguous pages without waiting


@pytest.mark.parametrize(("order", "count", "severity"), [(1, 10, ""), (3, 50, ""), (4, 1, "warning")])
def test_contiguous_pages_without_waiting_are_told(order: int, count: int, severity: str) -> None:
    finding = only("KM206", ledger(pages("f+0x1", order, count=count, gfp="GFP_ATOMIC", context=Context.SOFTIRQ)))

    assert f"(order {order}) with GFP_ATOMIC, which cannot wait: {count} times" in finding.message
    assert (finding.severity, finding.evidence["count"]) == (severity, count)


@pytest.mark.parametrize(
    "quiet",
    [
        pages("f+0x1", 0, count=50, gfp="GFP_ATOMIC"),
        pages("f+0x1", 3, count=50),
        pages("f+0x1", 3, count=9, gfp="GFP_ATOMIC"),
        pages("f+0x1", 3, count=50, gfp="GFP_ATOMIC|__GFP_NORETRY|__GFP_NOWARN"),
        pages("f+0x1", 9, count=50, gfp="GFP_TRANSHUGE_LIGHT"),
        pages("f+0x1", 3, count=50, gfp="GFP_ATOMIC", via=Via.SLAB),
        pages("f+0x1", 4, count=50, gfp="GFP_ATOMIC", failed=1),  # KM202's
        kmalloc("f+0x1", 20_000, count=50, gfp="GFP_ATOMIC"),  # KM301's
    ],
)
def test_single_pages_first_tries_and_what_may_wait_are_left_alone(quiet: Row) -> None:
    assert found("KM206", ledger(quiet)) == []


# KM207: GFP_ATOMIC where it may sleep


def test_atomic_flags_in_a_process_without_a_lock_are_a_candidate() -> None:
    finding = only("KM207", ledger(kmalloc("f+0x1", 64, count=100, gfp="GFP_ATOMIC"), LOCKED))

    assert finding.message == "kmalloc with GFP_ATOMIC in a process that holds no spinlock: 100 times"
    assert "unless interrupts are off" in finding.advice
    assert finding.confidence == "candidate"


@pytest.mark.parametrize(
    "quiet",
    [
        [kmalloc("f+0x1", 64, count=100, gfp="GFP_ATOMIC")],  # nothing shows that spinlocks are counted
        [
            kmalloc("f+0x1", 64, count=100, gfp="GFP_ATOMIC"),
            kmalloc("g+0x1", 64, gfp="GFP_ATOMIC", context=Context.SOFTIRQ | Context.PREEMPT_OFF),
        ],
        [kmalloc("f+0x1", 64, count=99, gfp="GFP_ATOMIC"), LOCKED],
        [kmalloc("f+0x1", 64, count=100, gfp="GFP_NOWAIT"), LOCKED],
        [kmalloc("f+0x1", 64, count=100), LOCKED],
        [kmalloc("f+0x1", 64, count=100, gfp="GFP_ATOMIC", context=Context.UNKNOWN), LOCKED],
        [
            kmalloc("f+0x1", 64, count=100, gfp="GFP_ATOMIC"),
            kmalloc("f+0x1", 64, gfp="GFP_ATOMIC", context=Context.SOFTIRQ),  # called from there, too
            LOCKED,
        ],
    ],
)
def test_what_may_be_atomic_for_a_reason_is_left_alone(quiet: list[Row]) -> None:
    assert found("KM207", ledger(*quiet)) == []


# KM208: the reserves under pressure

RECLAIM = row(Kind.DIRECT_RECLAIM, count=7)


@pytest.mark.parametrize(
    ("gfp", "via"), [("GFP_ATOMIC", Via.SLAB), ("GFP_ATOMIC", 0), ("GFP_KERNEL|__GFP_MEMALLOC", 0)]
)
def test_pages_that_flow_from_the_reserves_under_pressure_are_told(gfp: str, via: int) -> None:
    finding = only("KM208", ledger(pages("f+0x1", count=1024, gfp=gfp, via=via), RECLAIM))

    assert finding.message.startswith(f"takes 4.0 MiB/s of pages with {gfp}")
    assert finding.evidence["direct_reclaims"] == 7
    assert finding.confidence == "candidate"


@pytest.mark.parametrize(
    "quiet",
    [
        [pages("f+0x1", count=1024, gfp="GFP_ATOMIC")],  # memory is at hand
        [pages("f+0x1", count=1023, gfp="GFP_ATOMIC"), RECLAIM],
        [pages("f+0x1", count=1024), RECLAIM],
        [pages("f+0x1", count=1024, gfp="GFP_ATOMIC|__GFP_NOMEMALLOC"), RECLAIM],
        [kmalloc("f+0x1", 4096, count=1024, gfp="GFP_ATOMIC"), RECLAIM],  # its pages tell
    ],
)
def test_reserves_that_are_not_touched_are_left_alone(quiet: list[Row]) -> None:
    assert found("KM208", ledger(*quiet)) == []


# KM209 and KM210


@pytest.mark.parametrize("gfp", ["GFP_KERNEL|__GFP_NOWARN", "GFP_ATOMIC|__GFP_NOWARN"])
def test_a_real_failure_that_the_log_does_not_tell_is_told(gfp: str) -> None:
    finding = only("KM209", ledger(kmalloc("f+0x1", 100_000, count=3, gfp=gfp, failed=1)))

    assert finding.message == f"kmalloc of order 5 with {gfp} failed 3 times, and the kernel log says nothing of it"
    assert (finding.evidence["failures"], finding.confidence) == (3, "candidate")


@pytest.mark.parametrize(
    "quiet",
    [
        kmalloc("f+0x1", 100_000, failed=1),  # the log has it
        kmalloc("f+0x1", 100_000, gfp=SILENT, failed=1),
        kmalloc("f+0x1", 100_000, gfp="GFP_NOWAIT", failed=1),
        kmalloc("f+0x1", 100_000, gfp="GFP_KERNEL|__GFP_NOWARN"),
    ],
)
def test_failures_that_are_logged_or_expected_are_not_silent(quiet: Row) -> None:
    assert found("KM209", ledger(quiet)) == []


@pytest.mark.parametrize(
    ("gfp", "advice"), [("GFP_KERNEL", "no loop around the allocator"), ("GFP_ATOMIC", "give up here")]
)
def test_a_site_that_keeps_asking_is_a_storm(gfp: str, advice: str) -> None:
    made = ledger(
        kmalloc("f+0x1", 100_000, count=200, gfp=gfp, failed=1),
        kmalloc("f+0x1", 100_000, count=200, gfp=gfp),
        seconds=20.0,
    )

    finding = only("KM210", made)

    assert finding.message == f"kmalloc of order 5 with {gfp} failed 200 of 400 times, 10 a second"
    assert finding.advice.startswith(advice)
    assert finding.evidence["failures_per_second"] == 10.0
    assert finding.confidence == "likely"


@pytest.mark.parametrize(
    "quiet",
    [
        [kmalloc("f+0x1", 100_000, count=199, failed=1)],  # 9.95 a second
        [kmalloc("f+0x1", 100_000, count=200, failed=1), kmalloc("f+0x1", 100_000, count=201)],  # most succeed
        [kmalloc("f+0x1", 100_000, count=2000, failed=1, gfp=SILENT)],
    ],
)
def test_a_shortage_and_first_tries_are_no_storm(quiet: list[Row]) -> None:
    assert found("KM210", ledger(*quiet, seconds=20.0)) == []


def test_a_burst_is_no_storm() -> None:
    assert found("KM210", ledger(kmalloc("f+0x1", 100_000, count=49, failed=1))) == []
    assert len(found("KM210", ledger(kmalloc("f+0x1", 100_000, count=50, failed=1)))) == 1
