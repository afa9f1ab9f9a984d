"""docs/scale.md and docs/fleet.svg tell what benchmarks/results/ has, and nothing else."""

import re
from xml.etree import ElementTree as ET

import pytest

from benchmarks import arithmetic, fleet, harness
from benchmarks.arithmetic import DUCKDB, SPARK
from benchmarks.harness import Result, Spread
from kmwatch.capture import engine
from scripts import generate_docs, plot_fleet

SVG = "{http://www.w3.org/2000/svg}"


def made(*rows: tuple[object, ...]) -> Result:
    return Result("Fleets", "", fleet.COLUMNS, [(*row, *(1.0,) * (len(fleet.COLUMNS) - len(row))) for row in rows])


def test_the_picture_is_of_the_committed_result() -> None:
    assert plot_fleet.PICTURE.read_text(encoding="utf-8") == plot_fleet.svg(arithmetic.result("fleet"))


def test_the_picture_has_each_engine_at_each_size_in_both_panels() -> None:
    found = arithmetic.result("fleet")
    sizes = [run.captures for run in arithmetic.alike(arithmetic.runs(found, DUCKDB))]
    drawn = ET.fromstring(plot_fleet.svg(found))  # noqa: S314  # written two lines above
    titles = [each.text for each in drawn.iter(f"{SVG}title")]

    assert len(sizes) >= 4
    for name in (DUCKDB, SPARK):
        of_it = [title.partition(":")[0] for title in titles if title.startswith(f"{name}, ")]
        assert of_it == [f"{name}, {size:,.0f} captures" for size in sizes] * 2


def test_points_stand_where_axes_say() -> None:
    """Twice as far for a hundred times as much as for ten times; what is larger is higher."""
    axis = plot_fleet.Axis(1, 100, 0, 200)

    assert [axis.at(value) for value in (1, 10, 100)] == pytest.approx([0, 100, 200])
    assert list(axis.ticks()) == [1, 2, 5, 10, 20, 50, 100]
    drawn = ET.fromstring(  # noqa: S314  # our own text
        plot_fleet.svg(made((DUCKDB, 10, 50, 1.0), (DUCKDB, 100, 600, Spread(7.0, 8.0, 9.0)), (DUCKDB, 10, 5000, 99.0)))
    )
    _, first, second, *_ = drawn.iter(f"{SVG}circle")  # the legend's comes first
    assert float(first.get("cx", "")) < float(second.get("cx", ""))
    assert float(first.get("cy", "")) > float(second.get("cy", ""))
    assert len(list(drawn.iter(f"{SVG}circle"))) == 1 + 2 * 2
    assert {each.text for each in drawn.iter(f"{SVG}title")} >= {f"{DUCKDB}, 100 captures: 8.00 (7.00 to 9.00)"}


def test_a_name_in_a_result_cannot_become_markup() -> None:
    hostile = made((DUCKDB, 10, 50, 1.0), (DUCKDB, 100, 500, 2.0), ("<script>", 10, 50, 1.0))

    assert "<script" not in plot_fleet.svg(hostile)


def test_what_bends_first_is_said_first() -> None:
    """The sentence and the table are in the order that the numbers have."""
    page = generate_docs.PAGES["scale.md"]()
    bends = arithmetic.bends(arithmetic.Fleet.read())
    said = re.search(r"## What bends first\n\n(.+) bends first, at about (.+?): ", page)

    assert said
    assert said[1].lower() == bends[0].part.lower()
    assert said[2] == generate_docs._hosts(bends[0].hosts)
    parts = re.findall(r"^\| (.+?) \|", page.partition("## What bends first")[2].partition("## Why")[0], re.MULTILINE)
    assert parts[2:] == [bend.part for bend in bends]


def test_the_page_names_the_limit_that_folding_has() -> None:
    assert f"({engine._MEMORY.replace('MB', ' MB')})" in generate_docs.PAGES["scale.md"]()


def test_every_assumption_is_on_the_page() -> None:
    page = generate_docs.PAGES["scale.md"]()

    assert [each.what for each in arithmetic.ASSUMPTIONS if f"| {each.what} | " not in page] == []


def test_numbers_are_short() -> None:
    assert [generate_docs._bytes(value) for value in (0, 999, 123_456, 5e12)] == ["0 B", "999 B", "123 kB", "5 TB"]
    assert [generate_docs._hosts(value) for value in (10_667.0, 0.5)] == ["11,000 hosts", "less than one host"]
    assert generate_docs._hosts(float("inf")) == "no number of hosts that could be measured"


def test_the_results_that_the_page_reads_are_there() -> None:
    assert {"fleet.json", "serving.json", "recording.json", "offline.json"} <= {
        path.name for path in harness.RESULTS.glob("*.json")
    }
