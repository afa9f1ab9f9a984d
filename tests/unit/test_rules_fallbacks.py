"""KM405 and KM407: whether a function that failed got something else."""

import pytest

from kmwatch.schema import Via
from tests.unit.rows import Row, area, found, kmalloc, ledger, only, pages

SILENT = "GFP_KERNEL|__GFP_NORETRY|__GFP_NOWARN"
LARGE = pages("f+0x1", order=4, gfp="GFP_KERNEL", failed=1, count=3)


@pytest.mark.parametrize("fallback", [pages("f+0x9", count=3), kmalloc("f+0x9", 64, count=5), area("f+0x9", 65_536)])
def test_a_first_try_that_waits_is_told_to_give_up_early(fallback: Row) -> None:
    fallback = fallback | {"count": max(fallback["count"], 3)}
    finding = only("KM405", ledger(LARGE, fallback))

    assert finding.site == "f+0x1"
    assert finding.message == (
        f"asks for 64.0 KiB in one piece with GFP_KERNEL, fails 3 times, and gets less {fallback['count']} times"
    )
    assert (finding.evidence["failures"], finding.confidence) == (3, "likely")


@pytest.mark.parametrize(
    "quiet",
    [
        [LARGE],  # it has nothing else: KM204's
        [LARGE, pages("f+0x9", count=2)],  # less often
        [LARGE, pages("g+0x1", count=9)],  # another function
        [LARGE, pages("f+0x9", order=5, count=9)],  # more, not less
        [pages("f+0x1", order=4, gfp=SILENT, failed=1, count=3), pages("f+0x9", count=9)],
        [pages("f+0x1", order=4, gfp="GFP_ATOMIC", failed=1, count=3), pages("f+0x9", count=9)],
        [pages("f+0x1", order=0, failed=1, count=3), kmalloc("f+0x9", 64, count=9)],
        [kmalloc("f+0x1", 65_536, failed=1, count=3, via=Via.KVMALLOC), area("f+0x9", 65_536, count=3)],
    ],
)
def test_who_has_no_fallback_or_says_so_is_not(quiet: list[Row]) -> None:
    assert found("KM405", ledger(*quiet)) == []


def test_a_try_that_announces_a_fallback_which_is_not_seen_is_a_candidate() -> None:
    tries = [kmalloc("f+0x1", 65_536, gfp=SILENT, failed=1, count=23), kmalloc("f+0x1", 65_536, gfp=SILENT, count=9)]
    finding = only("KM407", ledger(*tries))

    assert finding.message == (
        "kmalloc of up to 64.0 KiB with GFP_KERNEL|__GFP_NOWARN|__GFP_NORETRY failed 23 times, "
        "and nothing else was tried there"
    )
    assert finding.confidence == "candidate"


@pytest.mark.parametrize(
    "quiet",
    [
        [kmalloc("f+0x1", 65_536, gfp=SILENT, failed=1, count=19)],  # few
        [kmalloc("f+0x1", 65_536, gfp="GFP_KERNEL|__GFP_NOWARN", failed=1, count=23)],
        [kmalloc("f+0x1", 65_536, gfp=SILENT, failed=1, count=23), kmalloc("f+0x9", 4096)],
        [kmalloc("f+0x1", 65_536, gfp=SILENT, failed=1, count=23), area("f+0x9", 65_536)],
        [pages("f+0x1", order=3, gfp=SILENT, failed=1, count=23), pages("f+0x9")],
        [kmalloc("f+0x1", 65_536, gfp=SILENT, failed=1, count=23, via=Via.KVMALLOC)],
    ],
)
def test_one_that_falls_back_or_fails_seldom_is_not(quiet: list[Row]) -> None:
    assert found("KM407", ledger(*quiet)) == []
