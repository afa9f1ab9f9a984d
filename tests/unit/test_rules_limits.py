"""KM304 to KM307: what other kernels or this one cannot give, vmalloc on hot paths, first tries in vain."""

import pytest

from kmwatch.schema import Kind, Via
from tests.unit.rows import Row, area, found, kmalloc, ledger, only, row

SILENT = "GFP_KERNEL|__GFP_NORETRY|__GFP_NOWARN"
FREED = row(Kind.VFREE, count=600)


def test_a_module_above_the_portable_limit_is_told() -> None:
    finding = only("KM304", ledger(kmalloc("f+0x1 [mod]", 131_073, count=4), kmalloc("f+0x1 [mod]", 140_000, failed=1)))

    assert finding.message == ("kmalloc of up to 140 000 bytes, 5 times: kernels with a limit of 128.0 KiB refuse it")


@pytest.mark.parametrize(
    "quiet",
    [
        kmalloc("f+0x1 [mod]", 131_072),
        kmalloc("f+0x1", 131_073),  # the kernel's own code
        kmalloc("f+0x1 [mod]", 131_073, via=Via.KVMALLOC),
        kmalloc("f+0x1 [mod]", 131_073, gfp=SILENT),
        kmalloc("f+0x1 [mod]", 5 << 20, failed=1),  # KM305's
    ],
)
def test_what_is_portable_or_need_not_be_is_left_alone(quiet: Row) -> None:
    assert found("KM304", ledger(quiet)) == []


def test_what_can_never_succeed_is_an_error_that_says_so() -> None:
    finding = only("KM305", ledger(kmalloc("f+0x1", (4 << 20) + 1, count=3, failed=1)))

    assert finding.message == (
        "asks kmalloc for up to 4 194 305 bytes, and 4 194 304 is the most: failed 3 times, and always will"
    )
    assert (finding.evidence["failures"], finding.evidence["largest_kmalloc"]) == (3, 4 << 20)


@pytest.mark.parametrize(
    "quiet",
    [kmalloc("f+0x1", 4 << 20, failed=1), kmalloc("f+0x1", 5 << 20, failed=1, gfp=SILENT), area("f+0x1", 5 << 20)],
)
def test_what_can_succeed_or_falls_back_is_not_above_the_largest(quiet: Row) -> None:
    assert found("KM305", ledger(quiet)) == []


def test_areas_on_a_hot_path_are_churn() -> None:
    finding = only("KM306", ledger(area("f+0x1", 8192, count=1000), FREED))

    assert finding.message == (
        "makes 1 000 vmalloc areas a second of 8 192 to 8 192 bytes; 600 areas were freed meanwhile"
    )
    assert finding.confidence == "likely"


@pytest.mark.parametrize(
    "quiet",
    [
        [area("f+0x1", 8192, count=999), FREED],
        [area("f+0x1", 8192, count=1201), FREED],  # they stay
        [area("f+0x1", 8192, kind=Kind.IOREMAP, count=1000), FREED],
    ],
)
def test_areas_that_are_few_or_stay_are_no_churn(quiet: list[Row]) -> None:
    assert found("KM306", ledger(*quiet)) == []


def test_first_tries_that_mostly_fail_are_told() -> None:
    first = {"gfp": SILENT, "via": Via.KVMALLOC}
    made = ledger(kmalloc("f+0x1", 100_000, count=10, failed=1, **first), kmalloc("f+0x1", 100_000, count=10, **first))

    finding = only("KM307", made)

    assert finding.message == "kvmalloc of up to 100 000 bytes: 10 of 20 first tries failed"
    assert finding.evidence["failures"] == 10


@pytest.mark.parametrize(
    ("failed", "done", "via"), [(9, 11, Via.KVMALLOC), (10, 9, Via.KVMALLOC), (20, 0, 0), (0, 20, Via.KVMALLOC)]
)
def test_first_tries_that_succeed_or_are_few_are_left_alone(failed: int, done: int, via: int) -> None:
    first = {"gfp": SILENT, "via": via}
    made = ledger(
        kmalloc("f+0x1", 100_000, count=failed, failed=1, **first), kmalloc("f+0x1", 100_000, count=done, **first)
    )

    assert found("KM307", made) == []
