"""Numbers made whole: what was left out is given to the rows that were kept, exactly."""

from typing import Any

import numpy as np
import pytest

from kmwatch import schema
from kmwatch.schema import KINDS, LARGE, Kind
from kmwatch.sources.sampling import Sampling
from tests.unit.rows import kmalloc, meta, pages, row, rows_of


class Programs:
    """Maps of programs, as far as they are looked at."""

    def __init__(self) -> None:
        self.sampled = np.zeros((KINDS, 2), schema.dtype("sampled"))
        self.written: list[Any] = []

    def read_arrays(self, name: str, dtype: Any, copies: int) -> Any:
        """What was left out."""
        assert (name, dtype, copies) == ("sampled", self.sampled.dtype, 2)
        return self.sampled

    def write_array(self, name: str, value: Any) -> None:
        """The switch."""
        assert name == "sampling"
        self.written.append(value[0])


def sampling() -> tuple[Sampling, Programs]:
    programs = Programs()
    return Sampling(programs, 2), programs  # type: ignore[arg-type]


def left_out(kind: Kind, count: int) -> Any:
    made = np.zeros(KINDS, np.int64)
    made[kind] = count
    return made


def test_the_switch_says_what_is_left_out() -> None:
    one, programs = sampling()
    assert not one.is_on

    one.choose((Kind.KFREE, Kind.PAGE_FREE, Kind.KFREE), 4)
    now = programs.written[-1]
    assert one.is_on
    assert int(now["dropped"]) == 1 << Kind.KFREE | 1 << Kind.PAGE_FREE
    assert int(now["mask"]) == 0xF << 60
    assert int(now["key"]) & 1
    assert sum(not (at * int(now["key"]) & int(now["mask"])) for at in range(16_000)) == pytest.approx(1000, abs=50)

    one.choose((), 0)
    assert (int(programs.written[-1]["dropped"]), int(programs.written[-1]["mask"])) == (0, 0)
    assert not one.is_on


def test_each_left_out_event_is_told_once() -> None:
    one, programs = sampling()
    programs.sampled["left_out"][Kind.KMALLOC] = (3, 4)

    assert one.gained()[Kind.KMALLOC] == 7
    assert one.gained().sum() == 0
    programs.sampled["left_out"][Kind.KMALLOC] += 1
    assert one.gained()[Kind.KMALLOC] == 2


def test_nothing_left_out_changes_nothing() -> None:
    rows = rows_of(meta(), kmalloc("a", 64, count=7), kmalloc("b", 32, count=5))

    assert sampling()[0].whole(rows.copy(), left_out(Kind.KMALLOC, 0)).tobytes() == rows.tobytes()


@pytest.mark.parametrize("more", [1, 2, 93, 1_000_003])
def test_rows_are_scaled_to_all_that_happened(more: int) -> None:
    rows = rows_of(meta(), kmalloc("a", 60, count=7), kmalloc("b", 32, count=5), kmalloc("c", 8))
    before = rows.copy()

    whole = sampling()[0].whole(rows, left_out(Kind.KMALLOC, more))

    assert whole["count"].sum() == before["count"].sum() + more
    exact = before["count"] * (1 + more / 13)
    assert np.abs(whole["count"] - exact).max() < 1
    assert whole["bytes_requested"] == pytest.approx(whole["count"] * np.array([60, 32, 8]), abs=1)


def test_what_is_always_kept_is_not_scaled() -> None:
    failed = kmalloc("c", 64, count=5, failed=1)
    rows = rows_of(meta(), kmalloc("a", 64, count=7), kmalloc("b", LARGE + 1, count=5), failed)
    paged = rows_of(meta(), pages("a", count=3), pages("a", 3, count=3))

    one, _ = sampling()
    assert one.whole(rows, left_out(Kind.KMALLOC, 10))["count"].tolist() == [17, 5, 5]
    assert one.whole(paged, left_out(Kind.PAGE_ALLOC, 10))["count"].tolist() == [13, 3]


def test_what_finds_no_row_waits_for_one() -> None:
    one, _ = sampling()
    assert len(one.whole(rows_of(meta()), left_out(Kind.KMALLOC, 10))) == 0

    assert one.whole(rows_of(meta(), kmalloc("a", 64, count=7)), left_out(Kind.KMALLOC, 1))["count"].tolist() == [18]
    assert one.whole(rows_of(meta(), kmalloc("a", 64, count=7)), left_out(Kind.KMALLOC, 0))["count"].tolist() == [7]


def test_kinds_that_are_dropped_are_no_estimates() -> None:
    rows = rows_of(meta(), row(Kind.KFREE, count=3))

    assert sampling()[0].whole(rows, left_out(Kind.KFREE, 1000))["count"].tolist() == [3]
