"""What larger fleets take follows from what was measured: slopes, limits, and which part bends first."""

import math

import pytest

from benchmarks import arithmetic
from benchmarks.arithmetic import Fleet, Linear, Run
from benchmarks.harness import Result, Spread


def run(captures: int, events: int, seconds: float) -> Run:
    """A report of captures of so many events each, whose every other number follows."""
    return Run(captures, captures * events, seconds, 500 + captures, 100 + captures, 2 * seconds, seconds / 2)


# Two seconds to start, 0.1 s for a capture, and a microsecond for an event.
RUNS = [run(10, 1000, 3.01), run(300, 1200, 32.36), run(10, 1_001_000, 13.01)]


def fleet(**changed: object) -> Fleet:
    """A host of 1000 series; reports that take 50 ms a capture with DuckDB, and 1 ms of Spark's driver."""
    taken: dict[str, object] = {
        "series": 1000.0,
        "event_bytes": 3.0,
        "duckdb": Linear(1.0, 0.05, 0.0),
        "memory": Linear(200.0, 0.04, 0.0),
        "spark": Linear(10.0, 0.03, 0.0),
        "driver": Linear(3.0, 0.001, 0.0),
        "shared": Linear(20.0, 0.2, 0.0),
    }
    return Fleet(**{**taken, **changed})  # type: ignore[arg-type]


def test_start_captures_and_events_are_told_apart() -> None:
    found = Linear.of(RUNS, lambda run: run.seconds)

    assert (found.start, found.capture, found.event) == pytest.approx((2, 0.1, 1e-6))
    assert found.each(500_000) == pytest.approx(0.6)


def test_what_shrinks_costs_nothing_rather_than_less() -> None:
    found = Linear.of([run(10, 1000, 5), run(300, 1000, 4), run(10, 9000, 3)], lambda run: run.seconds)

    assert found == Linear(5, 0, 0)


def test_memory_is_compared_between_alike_runs() -> None:
    assert Linear.of(arithmetic.alike(RUNS), lambda run: run.own) == Linear(100, 1, 0)


def test_rows_of_a_result_are_runs_of_an_engine() -> None:
    rows = [("spark", 10, 5000, Spread(1, 2, 3), 700.0, 80.0, 9.0, 1.5), ("duckdb", 10, 5000, *[1.0] * 5)]
    found = Result("Fleets", "", ("engine", *"abcdefg"), rows)
    (only,) = arithmetic.runs(found, "spark")

    assert only == Run(10, 5000, 2, 700, 80, 9, 1.5)
    assert (only.shared, only.length) == (7.5, 500)
    with pytest.raises(ValueError, match="nothing of ray"):
        arithmetic.runs(found, "ray")


def test_a_number_is_found_by_row_and_column() -> None:
    found = Result("x", "", ("", "series"), [("at rest", 7), ("under load", Spread(1, 2, 3)), ("gone", None)])

    assert arithmetic.measured(found, "under load", "series") == 2
    with pytest.raises(ValueError, match="no row 'idle'"):
        arithmetic.measured(found, "idle", "series")
    with pytest.raises(ValueError, match="None is no number"):
        arithmetic.measured(found, "gone", "series")


def test_samples_and_bytes_are_of_series_and_how_often() -> None:
    assert arithmetic.samples(1500, 15) == 100
    assert arithmetic.day_bytes(1500, 15) == 100 * 86400 * arithmetic.SAMPLE.value


def test_cores_share_what_the_driver_leaves_of_the_time() -> None:
    # 1000 captures: 200 s of shared work, in 900 - 10 - 1 seconds.
    assert fleet().cores(1000) == 1
    # 100 000: 20 000 s in 900 - 10 - 100.
    assert fleet().cores(100_000) == math.ceil(20_000 / 790)
    assert fleet().cores(1_000_000) is None


def test_what_bends_first_stands_first() -> None:
    found = arithmetic.bends(fleet())
    hosts = {bend.part.partition(",")[0]: round(bend.hosts) for bend in found}

    assert [bend.hosts for bend in found] == sorted(bend.hosts for bend in found)
    assert hosts == {
        "one Prometheus that scrapes every host": 10_667,
        "a report with DuckDB on one machine within a quarter of an hour": 17_980,
        "the memory of Spark's driver": 195_000,
        "one Prometheus that has what the others recorded": round(32e9 / 3000 / arithmetic.recorded_series()),
        "the time of Spark's driver": 890_000,
    }
    assert arithmetic.bends(fleet(driver=Linear(1, 0, 0)))[-1].hosts == math.inf


def test_every_assumption_says_where_it_is_from() -> None:
    named = {each for each in vars(arithmetic).values() if isinstance(each, arithmetic.Assumption)}

    assert named == set(arithmetic.ASSUMPTIONS)
    assert [each.what for each in named if len(each.source) < 20] == []
