"""Large kmallocs that are reported twice: of two reports one counts, whatever lies between them."""

from typing import Any

import numpy as np

from kmwatch.events import COLUMNS, Array, Columns, empty_columns
from kmwatch.schema import Pair
from kmwatch.sources.pairs import Pairs

FIRST, SECOND, NONE = Pair.FIRST, Pair.SECOND, 0
Event = tuple[int, int, int]
"""Time, pointer, how it belongs to another."""


def segment(*events: Event, **more: Any) -> tuple[Columns, Array]:
    """Columns and pairs of events; the key says which it was."""
    columns = empty_columns(len(events))
    columns["time"][:] = [event[0] for event in events]
    columns["key"][:] = columns["time"]
    columns["ptr"][:] = [event[1] for event in events]
    for name, values in more.items():
        columns[name][:] = values
    return columns, np.array([event[2] for event in events], np.uint8)


def times(columns: Columns) -> list[int]:
    """When the events that are left were; every column has as many."""
    assert {len(columns[column.name]) for column in COLUMNS} == {len(columns["time"])}
    assert columns["key"].tolist() == columns["time"].tolist()
    found: list[int] = columns["time"].tolist()
    return found


def test_of_a_pair_in_one_segment_the_second_counts() -> None:
    given = segment((1, 7, NONE), (2, 7, FIRST), (3, 7, NONE), (4, 7, SECOND), (5, 8, NONE))

    assert times(Pairs().settle(*given)) == [1, 3, 4, 5]


def test_of_a_pair_over_two_segments_the_second_counts() -> None:
    pairs = Pairs()

    assert times(pairs.settle(*segment((1, 5, NONE), (2, 7, FIRST)))) == [1]
    assert times(pairs.settle(*segment((3, 7, SECOND), (4, 7, NONE)))) == [3, 4]
    assert times(pairs.settle(*segment((5, 7, SECOND)))) == [5]


def test_a_first_that_stays_alone_waits_for_one_segment_and_comes() -> None:
    pairs = Pairs()

    assert times(pairs.settle(*segment((1, 7, FIRST), (2, 5, NONE)))) == [2]
    assert times(pairs.settle(*segment((3, 5, NONE)))) == [1, 3]
    assert times(pairs.settle(*segment((4, 5, NONE)))) == [4]


def test_a_first_that_waits_comes_with_an_empty_segment_too() -> None:
    pairs = Pairs()
    pairs.settle(*segment((1, 7, FIRST)))

    assert times(pairs.settle(*segment())) == [1]
    assert times(pairs.settle(*segment())) == []


def test_a_second_two_segments_later_is_too_late() -> None:
    """Both count then: one too many, but none is lost."""
    pairs = Pairs()
    pairs.settle(*segment((1, 7, FIRST)))

    assert times(pairs.settle(*segment((2, 5, NONE)))) == [1, 2]
    assert times(pairs.settle(*segment((3, 7, SECOND)))) == [3]


def test_where_no_segment_follows_nothing_waits() -> None:
    pairs = Pairs()
    pairs.settle(*segment((1, 7, FIRST), (2, 8, FIRST)))

    assert times(pairs.settle(*segment((3, 8, SECOND), (4, 9, FIRST), (5, 6, NONE)), last=True)) == [1, 3, 4, 5]


def test_pairs_of_different_pointers_lie_in_each_other() -> None:
    given = segment((1, 7, FIRST), (2, 8, FIRST), (3, 7, SECOND), (4, 8, SECOND), (5, 9, SECOND))

    assert times(Pairs().settle(*given)) == [3, 4, 5]


def test_a_pointer_can_be_allocated_again_and_again() -> None:
    given = segment(*((at, 7, FIRST if at % 2 else SECOND) for at in range(1, 9)))

    assert times(Pairs().settle(*given)) == [2, 4, 6, 8]


def test_a_second_that_came_earlier_is_not_of_this_first() -> None:
    """The order of time counts, not that of the rings, which are read one after the other."""
    assert times(Pairs().settle(*segment((9, 7, FIRST), (2, 7, SECOND)), last=True)) == [9, 2]
    assert times(Pairs().settle(*segment((9, 7, SECOND), (2, 7, FIRST)), last=True)) == [9]

    pairs = Pairs()
    assert times(pairs.settle(*segment((9, 7, FIRST), (2, 7, SECOND)))) == [2]
    assert times(pairs.settle(*segment((10, 7, SECOND), (1, 5, NONE)))) == [10, 1]


def test_failed_allocations_are_told_apart_by_their_threads() -> None:
    """They have no pointer."""
    pairs = Pairs()
    given = segment((1, 0, FIRST), (2, 0, FIRST), (3, 0, SECOND), (4, 0, NONE), pid=[70, 71, 70, 71])

    assert times(pairs.settle(*given)) == [3, 4]
    assert times(pairs.settle(*segment((5, 0, SECOND), pid=[72]))) == [2, 5]


def test_threads_do_not_matter_where_there_is_a_pointer() -> None:
    given = segment((1, 7, FIRST), (2, 7, SECOND), pid=[70, 71])

    assert times(Pairs().settle(*given)) == [2]


def test_a_segment_without_pairs_passes_as_it_is() -> None:
    columns, pair = segment((1, 7, NONE), (2, 0, NONE))

    assert Pairs().settle(columns, pair) is columns
