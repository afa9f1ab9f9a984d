"""A capture told in slices of time, and with the stacks of its events."""

from pathlib import Path

import numpy as np
import pytest

from kmwatch.batch import Trust
from kmwatch.capture.choosing import Choice
from kmwatch.ledger import Ledger
from kmwatch.profile import profile
from kmwatch.sources.capture import CaptureSource
from kmwatch.timeline import Timeline
from tests.unit import rows
from tests.unit.captures import START, at, write_capture

PATHS = (("f+0x1", "open+0x2"), ("f+0x1", "read+0x3"))


@pytest.fixture
def capture(tmp_path: Path) -> Path:
    """Ten seconds; in second n, n events a third of a second after its start, by one way where n is odd."""
    seconds = [
        [at(second + 1 / 3, rows.kmalloc("f+0x1", 60, count=second), stack=PATHS[second % 2])] if second else []
        for second in range(10)
    ]
    return write_capture(tmp_path / "a.kmw", seconds, trust={3: Trust(lost=7)})


def sliced(path: Path, slices: int, begin: float | None = None, end: float | None = None) -> Ledger:
    with CaptureSource(path, stacks=True, slices=slices) as source:
        source.limit(begin, end)
        ledger = Ledger(source.meta, timeline=Timeline(source.slice_length))
        for batch in source:
            ledger.add(batch)
    return ledger


def counts(ledger: Ledger) -> list[int]:
    assert ledger.timeline
    return [int(each["count"].sum()) for each in ledger.timeline.slices]


@pytest.mark.parametrize(
    ("slices", "expected"),
    [
        (10, [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]),
        (5, [1, 5, 9, 13, 17]),
        (1, [45]),
        (20, [0, 0, 1, 0, 2, 0, 3, 0, 4, 0, 5, 0, 6, 0, 7, 0, 8, 0, 9, 0]),
    ],
)
def test_each_slice_has_what_happened_in_it(capture: Path, slices: int, expected: list[int]) -> None:
    ledger = sliced(capture, slices)

    assert counts(ledger) == expected
    assert (ledger.start, round(ledger.seconds, 6)) == (START, 10.0)


def test_slices_and_no_slices_make_one_ledger(capture: Path) -> None:
    whole = sliced(capture, 0)
    parts = sliced(capture, 7)

    assert np.array_equal(np.sort(parts.rows), np.sort(whole.rows))
    assert np.array_equal(np.sort(parts.stacked), np.sort(whole.stacked))
    assert (parts.trust, parts.cost) == (whole.trust, whole.cost)
    assert parts.trust.lost == 7
    assert parts.seconds == pytest.approx(whole.seconds)


def test_slices_are_those_of_the_part_that_is_wanted(capture: Path) -> None:
    ledger = sliced(capture, 4, 2.0, 6.0)

    assert counts(ledger) == [2, 3, 4, 5]
    assert (ledger.start, ledger.seconds) == (START + 2, pytest.approx(4.0))


def test_portions_that_end_within_a_slice_lose_nothing(capture: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kmwatch.sources.capture._AT_ONCE", 9)
    ledger = sliced(capture, 4)

    assert sum(counts(ledger)) == 45
    assert counts(ledger) == [1 + 2, 3 + 4, 5 + 6 + 7, 8 + 9]
    assert ledger.seconds == pytest.approx(10.0)


def test_an_event_outside_of_its_segments_span_is_in_the_next_slice(tmp_path: Path) -> None:
    early = at(-0.25, rows.kmalloc("f+0x1", 60))
    late = at(2.5, rows.kmalloc("f+0x1", 60))
    path = write_capture(tmp_path / "a.kmw", [[early], [late]])

    assert counts(sliced(path, 2)) == [1, 1]


def test_stacks_are_those_of_the_events(capture: Path) -> None:
    ledger = sliced(capture, 3)
    found = profile(ledger)

    ways = {found.frames[path[0]].name: int(value[0]) for path, value in zip(found.paths, found.values(), strict=True)}
    assert ways == {"open": 2 + 4 + 6 + 8, "read": 1 + 3 + 5 + 7 + 9}


def test_stacks_of_others_are_left_out(capture: Path) -> None:
    with CaptureSource(capture, Choice(sites=lambda site: site.symbol == "g"), stacks=True) as source:
        assert [len(batch.stacked) for batch in source] == [0]


def test_they_come_only_where_they_are_asked_for(capture: Path) -> None:
    with CaptureSource(capture) as source:
        assert [len(batch.stacked) for batch in source] == [0]
