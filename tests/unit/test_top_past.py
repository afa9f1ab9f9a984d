"""The lines of blocks: how a site and all of it went in the last refreshes."""

import numpy as np
import pytest

from kmwatch.batch import Batch, Meta
from kmwatch.views.top.catalog import VIEWS
from kmwatch.views.top.columns import layout
from kmwatch.views.top.frame import Frame, Frames, Part, fit
from kmwatch.views.top.past import LOOKS, places, sparkline, sparklines
from kmwatch.views.top.table import cell
from tests.unit import rows
from tests.unit.test_top_build import shown


def refresh(known: Meta, seconds: float = 1.0, **counts: int) -> Batch:
    """So many kmallocs of 64 bytes from each function."""
    made = [rows.kmalloc(f"{name}+0x1", 64, count=count) for name, count in counts.items()]
    return rows.batch(known, *made, seconds=seconds)


def frame_after(*refreshes: dict[str, int]) -> Frame:
    """The frame after refreshes, of two seconds where they say `seconds=2`."""
    known = rows.meta()
    frames = Frames(known)
    for counts in refreshes:
        frame = frames.add(refresh(known, counts.pop("seconds", 1), **counts))
    return frame


def trends(frame: Frame) -> dict[str, str]:
    return {row["site"]: row["trend"] for row in shown(frame, "sites", "site", "trend")}


@pytest.mark.parametrize(
    ("values", "line"),
    [([], ""), ([0, 0], "▁▁"), ([1], "█"), ([0, 7, 14], "▁▅█"), (range(20), "▂▃▃▄▄▄▅▅▅▆▆▇▇▇██")],
)
def test_a_line_of_blocks_begins_at_nothing(values: list[int], line: str) -> None:
    """The last sixteen looks; half of the most is half a block."""
    assert sparkline(np.array(values, np.int64)) == line


def test_lines_are_each_of_their_own_scale_and_what_was_taken_back_is_nothing() -> None:
    assert sparklines(np.array([[0.0, 7.0], [700.0, 350.0], [-5.0, 1.0]])) == ["▁█", "█▅", "▁█"]
    assert sparklines(np.zeros((2, 0))) == ["", ""]
    assert sparklines(np.zeros((0, 3))) == []


def test_a_block_a_refresh_by_the_rate() -> None:
    """Twice as many in twice the time are the same."""
    frame = frame_after({"f": 7}, {"f": 14, "g": 1, "seconds": 2}, {"g": 2})

    assert trends(frame) == {"f+0x1": "██▁", "g+0x1": "▁▃█"}
    assert frame.past.bytes_allocated.tolist() == [448.0, 480.0, 128.0]
    assert frame.past.events.tolist() == [7.0, 7.5, 2.0]


def test_a_refresh_of_no_length_is_none() -> None:
    assert trends(frame_after({"f": 7}, {"seconds": 0}, {"f": 7})) == {"f+0x1": "██"}


def test_what_is_read_anew_begins_anew() -> None:
    known = rows.meta()
    frames = Frames(known)
    frames.add(refresh(known, f=7))
    fresh = refresh(known, f=1)
    frame = frames.add(Batch(fresh.rows, fresh.start, fresh.seconds, fresh=True))

    assert trends(frame) == {"f+0x1": "█"}
    assert len(frame.past.events) == 1


def test_no_more_is_remembered_than_is_shown() -> None:
    """Of sites that come and go those of the last refreshes, and one line however they were called."""
    frame = frame_after(*({f"f{at}": 1} for at in range(40)), {"f39": 1})

    assert len(frame.past._rates) == LOOKS - 1
    assert len(frame.past.events) == LOOKS
    assert trends(frame)["f39+0x1"] == "▁" * (LOOKS - 2) + "██"
    assert trends(frame)["f0+0x1"] == "▁" * LOOKS


def test_groups_are_found_among_others_by_their_key() -> None:
    types = [("a", "u1"), ("b", "u1"), ("c", "u1")]
    some, others = (np.array(each, types) for each in ([(1, 2, 0), (3, 4, 0), (1, 3, 0)], [(1, 3, 9), (1, 2, 9)]))

    assert places(some, others, ("a", "b")).tolist() == [1, -1, 0]
    assert places(some, others[:0], ("a", "b")).tolist() == [-1, -1, -1]
    assert places(some[:0], others, ("a", "b")).tolist() == []


@pytest.mark.parametrize(("width", "there"), [(40, False), (79, False), (100, True), (160, True)])
def test_the_column_is_there_where_the_width_allows(width: int, there: bool) -> None:
    columns = VIEWS["sites"].columns

    assert ("trend" in [columns[at].title for at, _ in layout(columns, width)]) is there


def test_the_header_keeps_a_place_for_what_comes() -> None:
    """And drops blocks before words, words before all blocks."""
    parts = [Part("long one", "one", rates=(0.0, 3.0)), Part("two", "2")]

    assert [text for text, _ in fit(parts, 30)] == ["long one               ▁█", "two"]
    assert [text for text, _ in fit(parts, 29)] == ["long one       ▁█", "two"]
    assert [text for text, _ in fit(parts, 21)] == ["one       ▁█", "2"]
    assert [text for text, _ in fit(parts, 14)] == ["long one", "two"]
    assert [text for text, _ in fit(parts, 12)] == ["one", "2"]


def test_blocks_are_of_the_scale_of_those_that_are_shown() -> None:
    parts = [Part("all", "all", rates=(100.0, *[1.0] * 8))]

    assert fit(parts, 20)[0][0] == f"all {'█▁▁▁▁▁▁▁▁':>16}"
    assert fit(parts, 12)[0][0] == f"all {'█' * 8}"


def test_the_header_does_not_move_when_numbers_change() -> None:
    """On 80 columns, and where there is room for all."""
    small, large = (frame_after({"f": count}, {"f": count}).header[1] for count in (1, 1_234_567))

    for width in (80, 140):
        first, second = ([text for text, _ in fit(parts, width)] for parts in (small, large))
        assert list(map(len, first)) == list(map(len, second))
        assert first != second


def test_of_blocks_that_do_not_fit_the_latest_are_shown() -> None:
    looks = next(column for column in VIEWS["outstanding"].columns if column.title == "looks")

    assert [cell(looks, text, 4) for text in ("▁▂▃▄▅▆", "▁▂")] == ["▃▄▅▆", "▁▂  "]
