"""All about a row of the live screen: which sizes, which stacks, which flags."""

from dataclasses import replace

import pytest

from kmwatch.batch import Batch, Meta
from kmwatch.schema import Context, Via
from kmwatch.views.top.about import MOST_STACKS, About, Bar, all_sizes, of_row, sizes
from kmwatch.views.top.catalog import VIEWS
from kmwatch.views.top.frame import Frame, Frames
from tests.unit import rows
from tests.unit.rows import Row
from tests.unit.top_data import DENTRY, make_batch, with_stacks

Stacks = dict[tuple[str, ...], int]


def frame_of(*made: Row, stacks: Stacks | None = None) -> Frame:
    """The frame after one batch."""
    known = rows.meta()
    return frame_after(known, with_stacks(known, rows.batch(known, *made), stacks or {}))


def frame_after(known: Meta, *batches: Batch) -> Frame:
    frames = Frames(known)
    for batch in batches:
        frame = frames.add(batch)
    return frame


def about(frame: Frame, at: int = 0, view: str = "sites") -> About:
    """All about the row of a view at that place."""
    found = of_row(VIEWS[view], frame.rows(view)[at].key)(frame)
    assert found
    return found


def stacks_of(found: About) -> list[tuple[str, str, str]]:
    return [(stack.part, stack.events, " ".join(stack.frames)) for stack in found.stacks]


def test_requests_by_eighth_of_their_class() -> None:
    """Of 64 bytes an eighth is 8: 60 is in 57 to 64, 40 in 33 to 40. Bars are of bytes taken, not of requests."""
    (found,) = sizes(frame_of(rows.kmalloc("f+0x1", 60, count=6), rows.kmalloc("g+0x1", 40, count=3)).total)

    assert (found.name, found.told) == (
        "kmalloc 64",
        "9 of 40-60 bytes; wasted 96 of 576, 17%",
    )
    assert found.bars == [Bar("40", "3", "192", 0.5, 0.375), Bar("57-60", "6", "384", 1.0, 0.0625)]


def test_classes_between_powers_of_two_are_told_by_eighths_of_the_next() -> None:
    """96 has eighths of 16 bytes; above the largest class whole pages are taken."""
    frame = frame_of(*(rows.kmalloc("f+0x1", asked) for asked in (65, 96, 9000)))
    first, second = sizes(frame.total)

    assert (first.name, [bar.sizes for bar in first.bars]) == ("kmalloc 96", ["65-80", "81-96"])
    assert second.name == "kmalloc 16.0K pages"
    assert [(bar.sizes, bar.length) for bar in second.bars] == [("8.8K", 1.0)]


def test_what_failed_took_nothing() -> None:
    assert sizes(frame_of(rows.kmalloc("f+0x1", 60, failed=1, gfp="GFP_ATOMIC")).total) == []


def test_counts_that_went_round_are_told_by_their_largest() -> None:
    """The eighths are modulo 2^32."""
    (found,) = sizes(frame_of(rows.kmalloc("f+0x1", 60, count=(1 << 32) + 5)).total)

    assert [(bar.sizes, bar.requests) for bar in found.bars] == [("60", "4.3G")]


def test_a_row_has_its_own_sizes_and_all_of_them_together() -> None:
    frame = frame_of(
        rows.kmalloc("f+0x1", 60, count=6), rows.kmalloc("f+0x1", 60, gfp="GFP_ATOMIC"), rows.kmalloc("g+0x1", 8)
    )

    assert about(frame).sizes[0].told.startswith("6 of 60 bytes")
    assert [each.name for each in all_sizes(frame).sizes] == ["kmalloc 8", "kmalloc 64"]
    assert about(frame, view="caches").sizes[0].told.startswith("7 of 60 bytes")


def test_without_a_kmalloc_that_is_said() -> None:
    frame = frame_of(rows.pages("f+0x1"))

    assert all_sizes(frame).page.lines == [("sizes", "no kmalloc seen yet")]
    assert about(frame).sizes == []


def test_stacks_by_their_share_of_the_events() -> None:
    """Three of four that were taken are three quarters of the 100 events, whoever took how many."""
    stacks = {("f+0x1", "open+0x2", "entry+0x3"): 1, ("f+0x1", "read+0x2 [ext4]", "entry+0x3"): 3, ("g+0x1", "x"): 9}
    frame = frame_of(rows.kmalloc("f+0x1", 60, count=100), rows.kmalloc("g+0x1", 60), stacks=stacks)

    assert stacks_of(about(frame)) == [("75%", "75", "f read [ext4] entry"), ("25%", "25", "f open entry")]


def test_what_is_rare_is_not_nothing() -> None:
    frame = frame_of(rows.kmalloc("f+0x1", 60, count=1000), stacks={("f+0x1", "g"): 999, ("f+0x1", "h"): 1})

    assert stacks_of(about(frame)) == [("100%", "999", "f g"), ("<1%", "1", "f h")]


def test_what_is_missing_is_named() -> None:
    """A site without a stack, and one whose stack is as deep as they are read."""
    deep = ("g+0x1", *(f"f{at}+0x1" for at in range(31)))
    frame = frame_of(rows.kmalloc("f+0x1", 200), rows.kmalloc("g+0x1", 60), stacks={deep: 1})

    assert stacks_of(about(frame)) == [("100%", "1", "f [no stack taken]")]
    assert about(frame, 1).stacks[0].frames[-2:] == ["f30", "[callers not seen]"]


@pytest.mark.parametrize(
    "made",
    [rows.pages("f+0x1", via=Via.SLAB), rows.area("f+0x1", 8192, kind=rows.Kind.IOREMAP)],
    ids=["another allocator's pages", "mapped"],
)
def test_what_is_not_counted_here_has_stacks_too(made: Row) -> None:
    assert stacks_of(about(frame_of(made, stacks={("f+0x1", "h+0x1"): 1}))) == [("100%", "1", "f h")]


def test_failures_are_events() -> None:
    frame = frame_of(rows.pages("f+0x1", 3, failed=1, count=4, gfp="GFP_ATOMIC"), stacks={("f+0x1", "h+0x1"): 1})

    assert stacks_of(about(frame, view="failures")) == [("100%", "4", "f h")]


def test_a_row_has_its_own_stacks() -> None:
    """One function, two contexts; a view that tells them not apart has both."""
    known = rows.meta()
    made = rows.kmalloc("f+0x1", 60, count=3), rows.kmalloc("f+0x1", 60, context=Context.SOFTIRQ)
    first, second = (
        with_stacks(known, rows.batch(known, each), {("f+0x1", f"h{at}+0x1"): 1}) for at, each in enumerate(made)
    )
    frame = frame_after(known, first, second)

    assert [stacks_of(about(frame, at)) for at in (0, 1)] == [[("100%", "3", "f h0")], [("100%", "1", "f h1")]]
    assert stacks_of(about(frame, view="gfp")) == [("75%", "3", "f h0"), ("25%", "1", "f h1")]


def test_no_more_stacks_than_anybody_reads() -> None:
    stacks = {("f+0x1", f"h{at}+0x1"): 1 for at in range(MOST_STACKS + 4)}
    found = about(frame_of(rows.kmalloc("f+0x1", 60, count=160), stacks=stacks))

    assert len(found.stacks) == MOST_STACKS
    assert found.more == "4 more, 25% of all"


def test_frames_cannot_steer_a_terminal() -> None:
    frame = frame_of(rows.kmalloc("f+0x1", 60), stacks={("f+0x1", "[bold]\x1b[2J\u202e+0x1 [m\x07]"): 1})

    assert about(frame).stacks[0].frames == ["f", "[bold]�[2J� [m�]"]


def test_flags_are_explained() -> None:
    found = about(frame_of(rows.kmalloc("f+0x1", 60, gfp="GFP_ATOMIC|__GFP_NORETRY"))).flags

    assert dict(found)["__GFP_HIGH"]
    assert ("remark", "__GFP_NORETRY: without effect on a mask that does not reclaim.") in found
    assert about(frame_of(rows.area("f+0x1", 8192))).flags == []
    assert about(frame_of(rows.kmalloc("f+0x1", 60)), view="context").flags == []


def test_a_row_that_is_gone_is_none() -> None:
    known = rows.meta()
    first = rows.batch(known, rows.kmalloc("f+0x1", 60))
    before = frame_after(known, first)
    told = of_row(VIEWS["sites"], before.rows("sites")[0].key)

    assert told(before)
    assert told(frame_after(known, first, replace(rows.batch(known), fresh=True))) is None


def test_a_finding_is_its_page() -> None:
    known = rows.meta()
    found = about(frame_after(known, make_batch(known)), view="findings")

    assert dict(found.page.lines)["rule"] == "KM201"
    assert found[1:] == ([], [], "", [])
    assert about(frame_of(rows.object_of(DENTRY, "f+0x1"))).page.title == "sites: f+0x1"
