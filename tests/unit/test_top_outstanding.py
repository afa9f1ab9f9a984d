"""The outstanding view: what is held, how sure that is, and how it grows."""

from dataclasses import replace

import pytest
from click.testing import CliRunner

from kmwatch.batch import Cache, Meta
from kmwatch.cli import cli
from kmwatch.ledger import Ledger
from kmwatch.views.top.catalog import VIEWS, build
from kmwatch.views.top.frame import Frame, Frames
from tests.unit import rows
from tests.unit.holding import Lives, held, of
from tests.unit.test_top_app import running
from tests.unit.test_top_build import shown
from tests.unit.top_data import FakeSource

NUMBERS = ("objects", "±", "bytes", "waste", "looks", "grows/s", "lives", "grade")


def looked_at(known: Meta, *looks: tuple[Lives, ...], bits: int = 0, grown: dict[str, int] | None = None) -> Frame:
    """The frame after a look every two seconds."""
    frames = Frames(known)
    for at, objects in enumerate(looks):
        made = rows.batch(known, start=2.0 * at, seconds=2.0)
        frame = frames.add(replace(made, held=held(known, *objects, bits=bits, grown=grown)))
    return frame


def kmallocs(count: int, asked: int = 60) -> tuple[Lives, ...]:
    return (of(rows.kmalloc("f+0x1", asked), held=count),)


def texts(frame: Frame, *titles: str) -> list[tuple[str, ...]]:
    return [tuple(row.values()) for row in shown(frame, "outstanding", *titles)]


def test_an_estimate_has_an_error_and_what_is_counted_has_none() -> None:
    """10 of 16 each are 160, between 74 and 346; 64 bytes each, 4 of them never asked for."""
    known = rows.meta()
    grown = {"kmalloc-64": 1000}

    assert texts(looked_at(known, kmallocs(10), bits=4, grown=grown), *NUMBERS) == [
        ("160", "±186", "10.0K", "640", "█", "", "permanent", "A")
    ]
    assert texts(looked_at(known, kmallocs(10), grown=grown), *NUMBERS) == [
        ("10", "", "640", "40", "█", "", "permanent", "A")
    ]


def test_what_grows_has_a_slope_and_a_line() -> None:
    """One more of 64 bytes every two seconds; most bytes come first."""
    known = rows.meta()
    still = of(rows.object_of(Cache("dentry", 192, 192), "g+0x1"), held=2)
    looks = [(*kmallocs(count), still) for count in (1, 2, 3, 4)]
    found = texts(looked_at(known, *looks), "site", "cache", "bytes", "looks", "grows/s")

    assert found == [("g+0x1", "dentry", "384", "████", ""), ("f+0x1", "kmalloc-64", "256", "▃▅▆█", "32")]


def test_a_site_with_two_size_classes_is_one_row_with_the_worse_grade() -> None:
    known = rows.meta()
    one, other = (
        of(rows.kmalloc("f+0x1", asked), held=10, released=90, unseen=unseen) for asked, unseen in ((60, 0), (100, 9))
    )
    grown = {"kmalloc-64": 1000, "kmalloc-128": 1000}

    assert texts(looked_at(known, (one, other), grown=grown), "cache", "objects", "grade") == [
        ("kmalloc-64, kmalloc-128", "20", "C")
    ]


def test_of_grade_d_no_number_is_shown() -> None:
    known = rows.meta()
    doubtful = of(rows.object_of(Cache("bad\x1b", 192, 192), "f+0x1"), held=5, released=1, unseen=9)
    frame = looked_at(known, (doubtful, *kmallocs(1)))
    first, second = texts(frame, "cache", *NUMBERS, "±bytes", "age", "lived", "elsewhere")

    assert first == ("bad�", "unknown", "", *["unknown"] * 5, "D", "", *["unknown"] * 3)
    assert "unknown" not in second


def test_where_the_rest_went_is_in_the_details() -> None:
    known = rows.meta()
    one = of(rows.kmalloc("f+0x1 [drv]", 60), held=1, released=200, unseen=1, lived=3e-3)
    found = texts(looked_at(known, (one,), grown={"kmalloc-64": 1}), "lives", "released", "lived", "unseen", "module")

    assert found == [("ms", "200", "4.2 ms", "1", "drv")]


def test_what_was_all_released_has_no_row() -> None:
    known = rows.meta()
    gone = of(rows.kmalloc("f+0x1", 60), released=5)

    assert texts(looked_at(known, (gone,)), "site") == []


def test_a_frame_keeps_the_looks_that_it_had() -> None:
    """A paused screen may build its view long after the counting went on."""
    known = rows.meta()
    frames = Frames(known)
    first, _ = (
        frames.add(replace(rows.batch(known, start=at, seconds=1.0), held=held(known, *kmallocs(count))))
        for at, count in ((0.0, 1), (1.0, 2))
    )

    assert texts(first, "bytes", "looks", "grows/s") == [("64", "█", "")]


def test_without_a_look_the_view_says_why_it_is_empty() -> None:
    ledger, view = Ledger(rows.meta()), VIEWS["outstanding"]

    assert build(view, ledger, ledger) == []
    assert Frame(ledger, ledger).empty(view).startswith("what is held is looked at in the running kernel only")
    assert looked_at(rows.meta(), ()).empty(view) == "nothing is held"
    assert Frame(ledger, ledger).empty(VIEWS["sites"]) == "no allocation seen yet"


async def test_the_view_at_80_by_24() -> None:
    async with running(FakeSource(), view="outstanding") as screen:
        for _ in range(3):
            await screen.batch()
        assert screen.app.view.name == "outstanding"
        assert screen.table()[:3] == [
            "site                      cache       objects       ±   ▼bytes  looks     grade",
            "load_msg+0x41             kmalloc-64      160    ±186    10.0K  ▅▇█       A",
            "[red]�[2J+0x0             dentry      unknown          unknown  unknown   D",
        ]
        await screen.press("r")
        assert screen.column()[0] == "[red]�[2J+0x0"
        await screen.press("slash", *"kmalloc", "enter")
        assert screen.column() == ["load_msg+0x41"]


@pytest.mark.parametrize("arguments", [["--once"], ["--json"], ["capture.kmw"]])
def test_the_option_is_of_the_live_screen(arguments: list[str]) -> None:
    result = CliRunner().invoke(cli, ["top", "--outstanding", *arguments])

    assert result.exit_code != 0
    assert "--outstanding goes with the live screen of `live`" in str(result.exception) + result.output
