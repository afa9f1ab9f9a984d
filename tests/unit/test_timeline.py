"""Rows by slices of time: nothing is lost however long it takes, and there are never many slices."""

from dataclasses import replace
from typing import Any

import pytest

from kmwatch.ledger import Ledger
from kmwatch.timeline import SLICES, Timeline
from tests.unit import rows

KNOWN = rows.meta()


def counts(timeline: Timeline) -> list[int]:
    """The events of each slice."""
    return [int(each["count"].sum()) for each in timeline.slices]


def second(start: float, count: int = 1, **extra: Any) -> rows.Batch:
    return replace(rows.batch(KNOWN, rows.kmalloc("f+0x1", 60, count=count), start=start), **extra)


def test_a_batch_is_in_the_slice_in_which_it_starts() -> None:
    timeline = Timeline(2.0)
    for at in (100.0, 101.0, 102.0, 107.9, 103.999):
        timeline.add(second(at))

    assert (timeline.start, timeline.length) == (100.0, 2.0)
    assert counts(timeline) == [2, 2, 0, 1]


def test_a_key_has_one_row_in_a_slice() -> None:
    timeline = Timeline(10.0)
    for at in range(5):
        timeline.add(second(100.0 + at, count=7))

    (slice_,) = timeline.slices
    assert (len(slice_), slice_["count"].tolist(), slice_["bytes_requested"].tolist()) == (1, [35], [35 * 60])


@pytest.mark.parametrize("seconds", [SLICES, SLICES + 1, 1009])
def test_slices_grow_instead_of_becoming_more(seconds: int) -> None:
    timeline = Timeline(1.0)
    for at in range(seconds):
        timeline.add(second(1000.0 + at, count=at + 1))

    assert SLICES / 2 <= len(timeline.slices) <= SLICES
    each = int(timeline.length)
    assert timeline.length == each
    asked = [at + 1 for at in range(seconds)]
    assert counts(timeline) == [sum(asked[at : at + each]) for at in range(0, seconds, each)]


def test_a_gap_as_long_as_you_like_takes_no_more_slices() -> None:
    timeline = Timeline(0.1)
    timeline.add(second(1000.0, count=3))
    timeline.add(second(1_000_000_000.0, count=5))

    assert len(timeline.slices) <= SLICES
    assert (counts(timeline)[0], counts(timeline)[-1], sum(counts(timeline))) == (3, 5, 8)


def test_a_clock_that_was_set_back_loses_nothing() -> None:
    timeline = Timeline(1.0)
    for at in (1000.0, 1001.0, 900.0):
        timeline.add(second(at))

    assert counts(timeline) == [2, 1]


def test_thirds_of_a_second_fill_one_slice_each() -> None:
    """A sum of thirds falls a bit short of a whole number."""
    timeline, at = Timeline(1 / 3), 1000.1
    for _ in range(31):
        timeline.add(second(at))
        at += 1 / 3

    assert counts(timeline) == [1] * 31


def test_a_fresh_batch_begins_anew() -> None:
    timeline = Timeline(1.0)
    timeline.add(second(1000.0, count=3))
    timeline.add(second(2000.0, count=5, fresh=True))

    assert (timeline.start, counts(timeline)) == (2000.0, [5])


def test_a_ledger_keeps_one_where_it_is_given_one() -> None:
    ledger = Ledger(KNOWN, timeline=Timeline(1.0))
    ledger.add(second(1000.0, count=3))
    ledger.add(second(1001.0, count=5))

    assert ledger.timeline
    assert counts(ledger.timeline) == [3, 5]
    assert ledger.at(ledger.timeline.slices[1]).totals().allocations == 5
    assert ledger.totals().allocations == 8
    assert Ledger(KNOWN).timeline is None
