"""Points in time as people type them."""

import os
import time
from collections.abc import Iterator
from datetime import datetime

import pytest

from kmwatch.errors import UsageError
from kmwatch.timespec import parse

BERLIN = "CET-1CEST,M3.5.0,M10.5.0/3"
START = 1_700_000_000.25  # 2023-11-14 22:13:20 UTC, 23:13:20 in Berlin


@pytest.fixture(autouse=True)
def _berlin() -> Iterator[None]:
    """Clocks that change twice a year."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(os.environ, "TZ", BERLIN)
        time.tzset()
        yield
    time.tzset()


def berlin(text: str) -> float:
    """Seconds since the epoch of a time there."""
    return datetime.fromisoformat(text).timestamp()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0", 0.0),
        ("12", 12.0),
        ("12.5", 12.5),
        ("12.5s", 12.5),
        ("90s", 90.0),
        ("1m", 60.0),
        ("1m30", 90.0),
        ("1m30s", 90.0),
        ("1m0.25s", 60.25),
        ("2h", 7200.0),
        ("2h5s", 7205.0),
        ("1h1m1", 3661.0),
        ("100m", 6000.0),
    ],
)
@pytest.mark.parametrize("start", [0.0, START])
def test_a_span_counts_from_the_start(text: str, expected: float, start: float) -> None:
    assert parse(text, start, "--from") == expected


def test_nothing_is_nothing() -> None:
    assert parse(None, START, "--from") is None


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("23:14", "2023-11-14T23:14:00"),
        ("23:13:21", "2023-11-14T23:13:21"),
        ("23:13:30.5", "2023-11-14T23:13:30.500"),
        ("23:13:20", "2023-11-14T23:13:20"),  # what the clock showed at the start is the start
        ("23:13:19", "2023-11-15T23:13:19"),
        ("23:13", "2023-11-15T23:13:00"),
        ("0:00", "2023-11-15T00:00:00"),
        ("14:03:07", "2023-11-15T14:03:07"),
        ("2023-11-14T23:15", "2023-11-14T23:15:00"),
        ("2023-11-15", "2023-11-15T00:00:00"),
        ("2023-11-14 23:15:01.5", "2023-11-14T23:15:01.500"),
        ("2023-11-14T22:15+00:00", "2023-11-14T23:15:00"),
        ("2023-11-14T22:15Z", "2023-11-14T23:15:00"),
        ("2023-11-14T20:00", "2023-11-14T20:00:00"),  # before the start: --from can begin there
    ],
)
def test_a_clock_or_a_date_is_of_this_time_zone(text: str, shown: str) -> None:
    assert parse(text, START, "--from") == pytest.approx(berlin(shown) - START)


@pytest.mark.parametrize(
    ("start", "text", "after"),
    [
        ("2023-03-26T00:30", "14:03", 12.55),  # 02:00 to 03:00 was left out
        ("2023-10-29T00:30", "14:03", 14.55),  # 02:00 to 03:00 was there twice
        ("2023-10-29T00:30", "02:30", 2.0),
        ("2023-10-28T23:30", "02:30", 3.0),
        ("2023-03-25T20:00", "12:00", 15.0),
        ("2023-03-24T20:00", "12:00", 16.0),
    ],
)
def test_a_clock_is_read_on_the_days_that_it_is_put_forward_or_back(start: str, text: str, after: float) -> None:
    assert parse(text, berlin(start), "--to") == after * 3600


def test_in_the_second_of_two_equal_hours_the_first_is_over() -> None:
    second = berlin("2023-10-29T01:45") + 3600  # 02:45, for the first time

    assert parse("02:30", second, "--to") == 45 * 60
    assert parse("02:50", second, "--to") == 5 * 60
    assert parse("02:50", second + 3600, "--to") == 5 * 60


@pytest.mark.parametrize(
    "text",
    ["", " ", "soon", "-5", "5x", "1.5m", "5m1h", "12:", "24:00", "12:60", "12:30:60", "99:99", "12:3", "1e9", "m", "h",
     "s", "inf", "nan", "2023-13-01", "0000-01-01", "9999-12-31T23:59", "x" * 9999],
)  # fmt: skip
@pytest.mark.parametrize("start", [START, 0.0])
def test_anything_else_is_a_mistake_that_names_the_option(text: str, start: float) -> None:
    with pytest.raises(UsageError, match=r"^--from '.{0,40} is no point in time: 12\.5, 1m30s, 14:03:07 or 2026-11-22"):
        parse(text, start, "--from")


@pytest.mark.parametrize("text", ["14:03", "14:03:07", "2026-11-22T14:03"])
def test_without_a_known_start_only_spans_are_possible(text: str) -> None:
    with pytest.raises(
        UsageError, match=r"^--to .*: when this capture began is not known; give seconds since its start"
    ):
        parse(text, 0.0, "--to")


@pytest.mark.parametrize("start", [1e300, float("nan"), float("inf"), 1e17])
def test_a_start_that_no_clock_ever_showed_is_no_traceback(start: float) -> None:
    with pytest.raises(UsageError):
        parse("14:03", start, "--to")
