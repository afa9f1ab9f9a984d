"""KM202 to KM204: what they say where the program that saw the failure also saw what was free."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from kmwatch.failures import Failure, ZoneState
from kmwatch.ledger import Ledger
from kmwatch.schema import Context
from kmwatch.sources.capture import CaptureSource
from tests.unit.captures import at, write_capture
from tests.unit.rows import TABLE, Row, area, found, kmalloc, ledger, meta, only, pages

SMALL = ZoneState(0, "Normal", 100_000, 4000, 5000, 6000, 1_000_000, blocks=(100_000, *[0] * 10), letters=("U",) * 11)
EMPTY = replace(SMALL, free=900, blocks=(900, *[0] * 10))
DMA = ZoneState(0, "DMA", 20, 60, 70, 80, 3840, blocks=(20, *[0] * 10), letters=("U",) * 11)
EDGE = replace(SMALL, free=1300, blocks=(1300, *[0] * 10))  # a quarter of min less a half of it is 1500
DMA_EDGE = replace(DMA, free=70, blocks=(70, *[0] * 10), letters=("H",) * 11)
PLENTY = replace(SMALL, blocks=(0,) * 10 + (100,))


def seen(*zones: ZoneState, gfp: str = "GFP_ATOMIC", **changes: Any) -> Failure:
    """A failed page allocation of f, as a program saw it."""
    known: dict[str, Any] = {"kind": "page", "order": 0, "event": "page_alloc", "site": "f+0x1", "symbol": "f"}
    return Failure(**known | {"gfp": TABLE.encode(gfp), "zones": zones, "taken": "program"} | changes)


def told(code: str, row: Row, *failures: Failure) -> Any:
    return only(code, ledger(row, known=meta(failures=list(failures))))


@pytest.mark.parametrize(
    ("code", "row", "failure", "verdict"),
    [
        ("KM202", pages("f+0x1", failed=1, gfp="GFP_ATOMIC"), seen(EMPTY), "depletion"),
        ("KM202", pages("f+0x1", 3, failed=1, gfp="GFP_ATOMIC"), seen(SMALL, order=3), "fragmentation"),
        ("KM202", pages("f+0x1", failed=1, gfp="GFP_ATOMIC"), seen(EDGE), "depletion"),
        ("KM202", pages("f+0x1", failed=1, gfp="GFP_ATOMIC"), seen(replace(EDGE, free=1600)), "depletion"),
        (
            "KM202",
            pages("f+0x1", failed=1, gfp="GFP_ATOMIC|GFP_DMA"),
            seen(DMA_EDGE, PLENTY, gfp="GFP_ATOMIC|GFP_DMA"),
            "wrong zone",
        ),
        (
            "KM202",
            pages("f+0x1", failed=1, gfp="GFP_ATOMIC|GFP_DMA"),
            seen(DMA, PLENTY, gfp="GFP_ATOMIC|GFP_DMA"),
            "wrong zone",
        ),
        ("KM204", pages("f+0x1", 4, failed=1), seen(SMALL, order=4, gfp="GFP_KERNEL"), "fragmentation"),
        (
            "KM204",
            kmalloc("f+0x1", 8 << 20, failed=1),
            seen(PLENTY, gfp="GFP_KERNEL", event="kmalloc", order=11),
            "too large",
        ),
        (
            "KM204",
            kmalloc("f+0x1", 2000, failed=1, gfp="GFP_KERNEL_ACCOUNT"),
            seen(PLENTY, gfp="GFP_KERNEL_ACCOUNT", event="kmalloc", kind="slab", cgroup=True),
            "cgroup limit",
        ),
    ],
)
def test_the_verdict_follows_what_was_free(code: str, row: Row, failure: Failure, verdict: str) -> None:
    finding = told(code, row, failure)

    assert f"; {verdict}: " in finding.message
    assert finding.evidence["verdict"] == verdict
    assert finding.evidence["state"] == "free lists read by the program that saw the failure"
    assert finding.evidence["zones"]
    assert finding.advice != told(code, row).advice
    assert found("KM205", ledger(row, known=meta(failures=[failure]))) == []


def test_the_message_says_all_of_it() -> None:
    finding = told("KM202", pages("f+0x1", 3, count=2, failed=1, gfp="GFP_ATOMIC"), seen(SMALL, order=3))

    assert finding.message == (
        "page_alloc of order 3 with GFP_ATOMIC in process failed 2 times and succeeded 0 times, zone asked for: "
        "Normal; Normal had 390.6 MiB free in 100 000 blocks, the largest 4 KiB: none of the 32 KiB wanted; "
        "fragmentation: in Normal only 5.9 MiB must stay free: there was enough, but no block of 32 KiB for this mask"
    )


@pytest.mark.parametrize(
    "other",
    [
        {"site": "g+0x1"},
        {"order": 1},
        {"event": "kmalloc"},
        {"context": Context.SOFTIRQ},
        {"gfp": TABLE.encode("GFP_NOWAIT")},
    ],
)
def test_the_state_of_another_group_tells_nothing(other: dict[str, Any]) -> None:
    row = pages("f+0x1", failed=1, gfp="GFP_ATOMIC")

    assert told("KM202", row, replace(seen(EMPTY), **other)) == told("KM202", row)


def test_the_newest_state_speaks() -> None:
    row = pages("f+0x1", 3, failed=1, gfp="GFP_ATOMIC")
    states = seen(EMPTY, order=3, seconds=9.0), seen(SMALL, order=3, seconds=1.0)

    assert told("KM202", row, *states).evidence["verdict"] == "depletion"


def test_who_expects_failure_is_told_what_was_free_and_advised_nothing() -> None:
    gfp = "GFP_KERNEL|__GFP_NORETRY|__GFP_NOWARN"
    finding = told("KM203", pages("f+0x1", 4, failed=1, gfp=gfp), seen(SMALL, order=4, gfp=gfp))

    assert "; fragmentation: " in finding.message
    assert finding.advice.startswith("none needed")


def test_what_the_zones_do_not_explain_leaves_the_advice_as_it_was() -> None:
    row = pages("f+0x1", failed=1, gfp="GFP_ATOMIC")
    finding = told("KM202", row, seen(PLENTY))

    assert finding.message.endswith(
        "unknown: when the program looked, Normal had enough: others had freed memory by then"
    )
    assert finding.advice == told("KM202", row).advice


def test_an_area_is_found_although_its_event_has_no_flags() -> None:
    failure = seen(PLENTY, kind="vmalloc", event="vmalloc", gfp="GFP_KERNEL", size=1 << 40)

    assert "the vmalloc address space" in told("KM204", area("f+0x1", 1 << 40, failed=1), failure).message


def test_a_capture_tells_the_same(tmp_path: Path) -> None:
    failure = seen(SMALL, order=3)
    row = pages("f+0x1", 3, failed=1, gfp="GFP_ATOMIC")
    directory = write_capture(tmp_path / "a.kmw", [[at(0.5, row)]], failures=[failure])

    with CaptureSource(directory) as source:
        made = Ledger(source.meta)
        for batch in source:
            made.add(batch)

    assert source.meta.failures == [failure]
    assert only("KM202", made) == told("KM202", row, failure)
