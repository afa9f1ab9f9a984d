"""What all benchmarks share: medians and quartiles, turns, targets, and results that come back as they were kept."""

import math
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path

import pytest

from benchmarks import harness
from benchmarks.harness import Missing, Options, Result, Spread, Target
from scripts import generate_docs


def example() -> Result:
    return Result(
        title="Pairs",
        about="Pairs are counted.",
        columns=("way", "ns", "ratio"),
        rows=[("old", 12345.6, None), ("new", 7, Spread(1.0, 1.25, 1.5))],
        targets=[
            Target("new to old", Spread(1.0, 1.25, 1.5), 1.2, reason="it waits"),
            Target("pairs", 7.0, 5, "a second", at_least=True, reason="it is slow"),
        ],
        notes=["perf was not there"],
        machine={"kernel": "Linux 6.1", "perf": "6.1.2"},
    )


def test_a_spread_is_the_median_and_the_quartiles_of_what_is_a_number() -> None:
    assert Spread.of([5, 1, 3, 2, 4]) == (2, 3, 4)
    assert Spread.of([math.nan, 1, math.inf, 3]) == (1.5, 2, 2.5)
    assert Spread.of([7]) == (7, 7, 7)
    assert Spread.of([math.nan]) is None


def test_what_is_added_and_ratios_are_taken_within_a_round() -> None:
    assert harness.added([10, 30], [1, 2]) == [9, 28]
    assert harness.ratios([9, 28], [3, 7]) == [3, 4]
    assert math.isnan(harness.ratios([9], [0])[0])
    assert math.isnan(harness.ratios([9], [-1])[0])


def test_ways_take_turns_and_the_first_round_does_not_count() -> None:
    seen: list[str] = []

    @contextmanager
    def way(name: str) -> Iterator[None]:
        seen.append(f"+{name}")
        yield
        seen.append(f"-{name}")

    numbers = iter(range(100))
    ways = {name: lambda name=name: way(name) for name in "AB"}
    found = harness.in_turn(ways, lambda name: {name.lower(): next(numbers)}, 2)

    assert seen == ["+A", "-A", "+B", "-B"] * 3
    assert found == {"A": {"a": [2, 4]}, "B": {"b": [3, 5]}}


def test_a_way_that_is_missing_is_left_out_and_says_why() -> None:
    @contextmanager
    def there() -> Iterator[None]:
        yield

    def gone() -> AbstractContextManager[None]:
        raise Missing("it is not installed")

    missing: dict[str, str] = {}
    found = harness.in_turn({"there": there, "gone": gone}, lambda _: {"ns": 1.0}, 3, missing)

    assert found == {"there": {"ns": [1.0, 1.0, 1.0]}}
    assert missing == {"gone": "it is not installed"}


def test_when_time_is_up_no_further_round_begins_but_one_has_counted() -> None:
    assert harness.in_turn({"A": nullcontext}, lambda _: {"ns": 1.0}, 9, seconds=-1) == {"A": {"ns": [1.0]}}


@pytest.mark.parametrize(
    ("measured", "at_least", "verdict"),
    [
        (2.0, False, "PASS"),
        (2.1, False, "over"),
        (Spread(1.0, 2.0, 3.0), False, "PASS"),
        (Spread(1.0, 2.1, 3.0), False, "over"),
        (2.0, True, "PASS"),
        (1.9, True, "below"),
        (None, False, "not measured"),
    ],
)
def test_a_target_is_held_by_the_median(measured: float | Spread | None, at_least: bool, verdict: str) -> None:
    assert Target("x", measured, 2.0, at_least=at_least).verdict == verdict


def test_cells_are_short_and_never_in_powers_of_ten() -> None:
    cells = [None, "a", 1234567, 123456.7, 12.345, 0.12345, 0.00001, 0.0, Spread(1.0, 1.5, 200.2), -3.14159]
    assert [harness.shown(cell) for cell in cells] == [
        *("-", "a", "1,234,567", "123,457", "12.35", "0.123", "0.000", "0.00", "1.50 (1.00 to 200)", "-3.14")
    ]


def test_a_result_comes_back_as_it_was_kept() -> None:
    kept = example()
    found = Result.read(kept.written())

    assert found.written() == kept.written()
    assert found.rows == [["old", 12345.6, None], ["new", 7, Spread(1.0, 1.25, 1.5)]]
    assert [each.verdict for each in found.targets] == ["over", "PASS"]


@pytest.mark.parametrize(("row", "said"), [(("old", 1.0), "2 cells"), (("old", math.nan, 1), "JSON compliant")])
def test_a_result_that_is_none_is_not_kept(row: tuple[str | float, ...], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Result("Pairs", "", ("way", "ns", "ratio"), [row]).written()


def test_a_table_has_every_cell_and_what_came_of_the_targets() -> None:
    assert harness.table(example()) == [
        "Pairs",
        "way      ns                ratio",
        "old  12,346                    -",
        "new       7  1.25 (1.00 to 1.50)",
        "over: new to old: 1.25 (1.00 to 1.50); at most 1.20",
        "PASS: pairs: 7.00; at least 5 a second",
        "note: perf was not there",
    ]


def test_the_result_is_written_where_that_is_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(harness, "ROOT", tmp_path)
    monkeypatch.setattr(harness, "RESULTS", tmp_path / "results")
    asked: list[Options] = []

    def measure(options: Options) -> Result:
        asked.append(options)
        return example()

    harness.main("pairs", measure, [])
    assert not (tmp_path / "results").exists()
    harness.main("pairs", measure, ["--full", "--write"])
    harness.main("pairs", measure, ["--rounds", "3"])

    assert asked == [(harness.ROUNDS, False), (harness.FULL_ROUNDS, True), (3, False)]
    assert "results/pairs.json written" in capsys.readouterr().out
    [result] = harness.results()
    assert result.rows == [["old", 12345.6, None], ["new", 7, Spread(1.0, 1.25, 1.5)]]
    assert {"date", "kernel", "processor", "kmwatch"} <= result.machine.keys()


def test_what_is_missing_altogether_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    def measure(_: Options) -> Result:
        raise Missing("cc is not installed")

    harness.main("pairs", measure, [])

    assert capsys.readouterr().err == "pairs: cc is not installed\n"


def test_the_page_shows_the_reason_of_a_missed_target_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(harness, "results", lambda: [example()])
    page = generate_docs.performance()

    assert "\n## Pairs\n\nPairs are counted.\n\n*Measured: Linux 6.1, perf 6.1.2.*\n" in page
    assert "\n| new | 7 | 1.25 (1.00 to 1.50) |\n" in page
    assert "\n| new to old | at most 1.20 | 1.25 (1.00 to 1.50) | over | it waits |\n" in page
    assert "\n| pairs | at least 5 a second | 7.00 | PASS |  |\n" in page
    assert page.endswith("\n* perf was not there\n")
