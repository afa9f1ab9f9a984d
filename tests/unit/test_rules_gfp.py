"""KM401 to KM406: GFP flags that contradict each other, or that have had their day."""

import pytest

from kmwatch.batch import Cache
from kmwatch.failures import Failure
from kmwatch.rules import judge
from kmwatch.schema import Context, Via
from tests.unit.rows import Row, found, kmalloc, ledger, meta, object_of, only, pages

NOFAIL = "GFP_KERNEL|__GFP_NOFAIL"
DENTRY = Cache("dentry", 192, 192)

# KM401, a promise


@pytest.mark.parametrize(
    ("bad", "severity", "says"),
    [
        (pages("f+0x1", 2, gfp=NOFAIL), "warning", "and is of order 2: 1 times"),
        (kmalloc("f+0x1", 10_000, gfp=NOFAIL), "warning", "and is of order 2"),
        (pages("f+0x1", gfp="GFP_ATOMIC|__GFP_NOFAIL"), "error", "and cannot wait in process"),
        (kmalloc("f+0x1", 64, gfp=NOFAIL, context=Context.PREEMPT_OFF), "error", "cannot wait in process+preempt-off"),
        (object_of(DENTRY, "f+0x1", gfp="GFP_NOWAIT|__GFP_NOFAIL"), "error", "cannot wait"),
    ],
)
def test_a_promise_that_cannot_be_kept_is_told(bad: Row, severity: str, says: str) -> None:
    made = ledger(bad)
    finding = only("KM401", made)

    assert says in finding.message
    assert [one.severity for one in judge(made) if one.rule.code == "KM401"] == [severity]


@pytest.mark.parametrize(
    "quiet",
    [
        pages("f+0x1", 1, gfp=NOFAIL),
        pages("f+0x1", 3, gfp=NOFAIL, via=Via.SLAB),
        pages("f+0x1", 2),
        kmalloc("f+0x1", 8192, gfp=NOFAIL),
        object_of(Cache("large", 20_000, 20_000), "f+0x1", gfp=NOFAIL),
        kmalloc("f+0x1", 64, gfp=NOFAIL, context=Context.UNKNOWN),
    ],
)
def test_a_promise_that_can_be_kept_is_left_alone(quiet: Row) -> None:
    assert found("KM401", ledger(quiet)) == []


# KM402 and KM403, zones


@pytest.mark.parametrize("flag", ["__GFP_HIGHMEM", "__GFP_DMA32"])
@pytest.mark.parametrize("kind", [kmalloc, object_of])
def test_a_zone_that_the_slab_does_not_serve_is_told(flag: str, kind: object) -> None:
    asked = f"GFP_KERNEL|{flag}"
    bad = kmalloc("f+0x1", 64, gfp=asked) if kind is kmalloc else object_of(DENTRY, "f+0x1", gfp=asked)

    finding = only("KM402", ledger(bad))

    assert f"{flag} is taken away, 1 times" in finding.message
    assert finding.evidence["flags"] == [flag]


@pytest.mark.parametrize(
    "quiet",
    [
        kmalloc("f+0x1", 64, gfp="GFP_KERNEL|__GFP_DMA"),
        pages("f+0x1", gfp="GFP_KERNEL|__GFP_DMA32"),
        pages("f+0x1", gfp="GFP_HIGHUSER_MOVABLE"),
    ],
)
def test_zones_that_are_served_are_left_alone(quiet: Row) -> None:
    assert found("KM402", ledger(quiet)) == []


def test_the_dma_zone_is_a_candidate_where_there_is_one() -> None:
    bad = kmalloc("f+0x1", 64, gfp="GFP_KERNEL|__GFP_DMA", count=3)
    finding = only("KM403", ledger(bad))

    assert finding.message == "kmalloc with GFP_KERNEL|GFP_DMA, from the zone DMA alone: 3 times"
    assert finding.confidence == "candidate"
    assert found("KM403", ledger(bad, known=meta(zones=("DMA32", "Normal")))) == []


@pytest.mark.parametrize("gfp", ["GFP_KERNEL", "GFP_KERNEL|__GFP_DMA32", "GFP_KERNEL|__GFP_DMA32|__GFP_HIGHMEM"])
def test_other_zones_are_not_the_dma_zone(gfp: str) -> None:
    assert found("KM403", ledger(pages("f+0x1", gfp=gfp))) == []


# KM404, scopes


@pytest.mark.parametrize(("gfp", "scope"), [("GFP_NOFS", "nofs"), ("GFP_NOIO", "noio")])
def test_a_module_that_says_it_by_flag_is_told_once(gfp: str, scope: str) -> None:
    made = ledger(
        kmalloc("f+0x1 [fs]", 64, gfp=gfp, count=600),
        object_of(DENTRY, "g+0x1 [fs]", gfp=gfp, count=400),
        kmalloc("h+0x1", 64, gfp=gfp, count=999),
    )

    finding = only("KM404", made)

    assert finding.message == f"kmalloc with {gfp}, and 1 more sites of fs: 1 000 times a second"
    assert finding.site == "f+0x1 [fs]"
    assert finding.advice.startswith(f"memalloc_{scope}_save()")
    assert finding.evidence["sites"] == ["f+0x1 [fs]", "g+0x1 [fs]"]
    assert finding.confidence == "candidate"


@pytest.mark.parametrize(
    "quiet",
    [
        kmalloc("f+0x1", 64, gfp="GFP_NOFS", count=999),
        kmalloc("f+0x1", 64, count=5000),
        kmalloc("f+0x1", 64, gfp="GFP_ATOMIC", count=5000),
        pages("f+0x1", gfp="GFP_NOFS", count=5000),  # a scope looks the same there
    ],
)
def test_what_is_rare_or_in_a_scope_is_left_alone(quiet: Row) -> None:
    assert found("KM404", ledger(quiet)) == []


# KM406, names of old


def logged(mode: str, **changes: str) -> Failure:
    return Failure(**{"kind": "page", "order": 0, "gfp": 0, "mode": mode, "site": "f+0x1"} | changes)  # type: ignore[arg-type]


def test_a_flag_of_old_is_named_with_what_to_use() -> None:
    failures = [logged("0x2000d0(GFP_TEMPORARY|__GFP_NOTRACK)"), logged("0x2000d0(GFP_TEMPORARY)")]

    first, second = found("KM406", ledger(known=meta(failures=failures)))

    assert first.message.startswith("passes GFP_TEMPORARY, short-lived kernel memory (removed in Linux 4.14): 2 ")
    assert (first.advice, first.evidence["count"]) == ("Use GFP_KERNEL.", 2)
    assert second.evidence["flag"] == "__GFP_NOTRACK"


@pytest.mark.parametrize("mode", ["0xcc0(GFP_KERNEL)", "0xa20(GFP_ATOMIC)", "0x200(__GFP_ATOMIC)", "0x20", ""])
def test_flags_of_today_and_numbers_are_left_alone(mode: str) -> None:
    assert found("KM406", ledger(known=meta(failures=[logged(mode)]))) == []
