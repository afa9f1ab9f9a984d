"""`kmwatch leaks`: what grows and should not, with its stacks, as data and as text."""

import io
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import jsonschema
import numpy as np
import pytest
from click.testing import CliRunner
from rich.cells import cell_len
from rich.console import Console

from kmwatch import __version__
from kmwatch.batch import Batch, Cache, Meta
from kmwatch.cli import cli
from kmwatch.cli import leaks as command
from kmwatch.cli.sources import Detail, Part
from kmwatch.held import Held, bounds
from kmwatch.kernel.symbols import Site
from kmwatch.leaks import Grown, grown
from kmwatch.ledger import Ledger
from kmwatch.schema import Kind
from kmwatch.sources.held import Hold
from kmwatch.views.leaks import SCHEMA, build, render
from tests.unit import rows
from tests.unit.holding import Lives, held, looks, of

PUBLISHED = json.loads((Path(__file__).parents[2] / "docs" / "leaks.schema.json").read_text())
LEAK = rows.kmalloc("leak+0x1 [drv]", 1000)
BUSY = rows.kmalloc("busy+0x1", 1000)
DENTRY = rows.object_of(Cache("dentry", 192, 192), "__d_alloc+0x1")
NODE = rows.object_of(Cache("maple_node", 256, 256), "mas_alloc+0x1")
STEERING = "evil\x1b]0;x\x07[red]+0x1 [m\x1b[2J]"
LINE = tuple(range(100, 1100, 100))


def growing(*given: rows.Row, known: Meta | None = None, bits: int = 0, **extra: Any) -> Ledger:
    """Ten looks a second apart, at each of which these hold a hundred objects more."""
    meta = known or rows.meta()
    return looks(meta, *(held(meta, *(of(row, held=n, released=1) for row in given), bits=bits, **extra) for n in LINE))


def printed(ledger: Ledger, width: int = 120, most: int = 10) -> str:
    out = io.StringIO()
    render(Console(file=out, width=width, highlight=False, color_system=None), build(ledger, grown(ledger)), most)
    return out.getvalue()


def mixed(known: Meta) -> list[Held]:
    """A leak, a site that comes and goes, a cache by design, and one whose releases nobody sees."""
    busy = (900, 100, 1100, 300, 800, 200, 1000, 100, 900, 1200)

    def lives(at: int) -> list[Lives]:
        return [
            of(LEAK, held=LINE[at], released=5),
            of(BUSY, held=busy[at], released=9000),
            of(DENTRY, held=10 * LINE[at], released=50),
            of(NODE, held=20 * LINE[at], released=10, unseen=10_000),
        ]

    return [held(known, *lives(at)) for at in range(len(LINE))]


def test_a_leak_is_found_amid_what_comes_and_goes_and_what_grows_by_design() -> None:
    known = rows.meta()
    found = grown(looks(known, *mixed(known)))
    (suspect,) = found.suspects

    assert known.sites[suspect.site] == Site("leak+0x1", "leak", "drv")
    assert (suspect.kind, suspect.caches, suspect.grade) == (Kind.KMALLOC, ("kmalloc-1k",), "B")
    assert (suspect.objects, suspect.low, suspect.high, suspect.bytes, suspect.error) == (
        1000,
        1000,
        1000,
        1_024_000,
        0,
    )
    assert (suspect.objects_per_second, suspect.bytes_per_second) == (100, 102_400)
    assert suspect.grown_at_least == 900 * 1024
    assert found.by_design == (("dentry", 10_000 * 192),)
    assert found.unknown == ("maple_node",)


def test_what_is_unknown_has_no_number_though_it_grows_by_design() -> None:
    known = rows.meta()
    found = grown(looks(known, *(held(known, of(DENTRY, held=n, unseen=n)) for n in LINE)))

    assert (found.suspects, found.by_design, found.unknown) == ((), (), ("dentry",))


def test_the_steepest_comes_first() -> None:
    steep = rows.kmalloc("steep+0x1", 2000)
    ledger = growing(LEAK, steep)

    assert [ledger.meta.sites[one.site].symbol for one in grown(ledger).suspects] == ["steep", "leak"]


def test_where_nobody_looked_nothing_grows() -> None:
    assert grown(rows.ledger(LEAK)) == Grown()


def test_a_sample_lies_between_bounds() -> None:
    (suspect,) = grown(growing(LEAK, bits=4)).suspects

    assert (suspect.objects, suspect.low, suspect.high) == (16_000, *bounds(16_000, 1000, 4))
    assert suspect.low < 16_000 < suspect.high
    assert 0 < suspect.grown_at_least < 900 * 16 * 1024


# Stacks


def stacked(*stacks: tuple[str, ...], counts: tuple[int, ...]) -> Ledger:
    """The leak, of whose objects so many have each stack, innermost first; and another site's stack."""
    known = rows.meta()
    names = sorted({"leak+0x1 [drv]", "busy+0x1", *(name for stack in stacks for name in stack)})
    rows.rows_of(known, *(rows.kmalloc(name, 1) for name in names))
    numbers = {name: known.sites.index(rows_site(name)) for name in names}
    known.stacks.update({at + 1: tuple(numbers[name] for name in stack) for at, stack in enumerate(stacks)})
    known.stacks[99] = (numbers["busy+0x1"],)
    taken = [(Kind.KMALLOC, numbers["leak+0x1 [drv]"], at + 1) for at, count in enumerate(counts) for _ in range(count)]
    taken += [(Kind.KMALLOC, numbers["busy+0x1"], 99), (Kind.PAGE_ALLOC, numbers["leak+0x1 [drv]"], 99)]
    return growing(LEAK, known=known, stacks=np.array(taken, np.int64))


def rows_site(name: str) -> Site:
    """The site of a name as tests.unit.rows writes it."""
    text, _, module = name.partition(" [")
    return Site(text, text.partition("+")[0], module.rstrip("]"))


def test_stacks_begin_at_the_site_and_equal_ones_are_one() -> None:
    ledger = stacked(
        ("__kmalloc+0x9", "leak+0x1 [drv]", "open+0x1"),
        ("trace+0x3", "__kmalloc+0x9", "leak+0x1 [drv]", "open+0x1"),
        ("leak+0x1 [drv]", "ioctl+0x1"),
        ("lost+0x1",),
        counts=(2, 3, 4, 1),
    )

    assert [(stack["share"], stack["frames"]) for stack in build(ledger, grown(ledger))["sites"][0]["stacks"]] == [
        (0.5, ["leak+0x1 [drv]", "open+0x1"]),
        (0.4, ["leak+0x1 [drv]", "ioctl+0x1"]),
        (0.1, ["lost+0x1"]),
    ]


def test_the_three_most_frequent_stacks_are_told() -> None:
    ledger = stacked(*(("leak+0x1 [drv]", f"by{at}+0x1") for at in range(5)), counts=(1, 2, 3, 4, 5))
    (suspect,) = grown(ledger).suspects

    assert [round(share * 15) for _, share in suspect.stacks] == [5, 4, 3]


def test_without_stacks_there_are_none() -> None:
    (suspect,) = grown(growing(LEAK)).suspects

    assert suspect.stacks == ()


# Data


def test_the_data_are_these() -> None:
    ledger = stacked(("leak+0x1 [drv]", "open+0x1"), counts=(7,))
    ledger.held = replace(ledger.held, refused=3) if ledger.held else None

    data = json.loads(json.dumps(build(ledger, grown(ledger)), allow_nan=False))

    jsonschema.validate(data, PUBLISHED)
    assert data == {
        "schema": "kmwatch.leaks/1",
        "kmwatch": __version__,
        "host": {"hostname": "box", "kernel": "6.18.0", "boot_id": ledger.meta.host.boot_id, "cpus": 4},
        "span": {"start": 1000.0, "seconds": 10.0},
        "trust": {"lost": 0, "map_full": 0, "refused": 3},
        "cost": {"kernel_cpu_seconds": 0.0, "own_cpu_seconds": 0.0},
        "sample": 1.0,
        "looks": 10,
        "least_looks": 8,
        "sites": [
            {
                "kind": "kmalloc",
                "site": "leak+0x1",
                "symbol": "leak",
                "module": "drv",
                "caches": ["kmalloc-1k"],
                "objects": 1000,
                "low": 1000,
                "high": 1000,
                "bytes": 1_024_000,
                "objects_per_second": 100.0,
                "bytes_per_second": 102_400.0,
                "grade": "B",
                "stacks": [{"share": 1.0, "frames": ["leak+0x1 [drv]", "open+0x1"]}],
            }
        ],
        "modules": [{"module": "drv", "bytes_per_second": 102_400.0}],
        "by_design": {},
        "unknown": [],
    }


def test_modules_are_summed_the_fastest_first() -> None:
    others = [rows.kmalloc(f"{name}+0x1", 500) for name in ("a", "b", "c")]
    ledger = growing(LEAK, rows.kmalloc("more+0x1 [drv]", 200), *others)

    assert build(ledger, grown(ledger))["modules"] == [
        {"module": "", "bytes_per_second": 3 * 51_200.0},
        {"module": "drv", "bytes_per_second": 102_400.0 + 25_600.0},
    ]
    assert "by module: the kernel itself 150.0 KiB/s, drv 125.0 KiB/s" in printed(ledger)


# Text


def test_the_text_says_what_grows_and_who_asked_for_it() -> None:
    ledger = stacked(("leak+0x1 [drv]", "open+0x1"), ("leak+0x1 [drv]", "ioctl+0x1"), counts=(3, 1))
    lines = [" ".join(line.split()) for line in printed(ledger).splitlines()]

    assert lines[0] == "10 s watched, each object looked at; what was allocated before is not known"
    assert lines[1] == "leak+0x1 [drv] grows by 100.0 KiB a second"
    assert "leak+0x1 [drv] (kmalloc-1k) 1 000 exact 1000.0 KiB 100.0 KiB/s B" in lines
    at = lines.index("leak+0x1: 75% of them by")
    assert lines[at : at + 6] == [
        "leak+0x1: 75% of them by",
        "leak+0x1 [drv]",
        "open+0x1",
        "leak+0x1: 25% of them by",
        "leak+0x1 [drv]",
        "ioctl+0x1",
    ]


def test_of_what_is_no_suspect_the_sum_is_told_and_of_the_unknown_no_number() -> None:
    known = rows.meta()
    text = printed(looks(known, *mixed(known)))

    assert "grows by design: dentry 1.8 MiB\n" in text
    assert "cannot be told: releases have no event, grade D: maple_node\n" in text
    assert "busy" not in text


def test_a_sample_and_what_found_no_room_are_told() -> None:
    text = printed(growing(LEAK, bits=4, refused=1234))
    low, high = bounds(16_000, 1000, 4)

    assert "one object of 16 looked at" in text
    assert f"{low:,} to {high:,}".replace(",", " ") in text
    assert text.endswith("1 234 objects found no room in the table: held is more\n")


def test_as_many_sites_as_asked_for_are_shown() -> None:
    ledger = growing(LEAK, rows.kmalloc("other+0x1", 100), rows.kmalloc("third+0x1", 100))
    text = printed(ledger, most=1)

    assert "leak+0x1 [drv] grows by 100.0 KiB a second; 2 more sites grow" in text
    assert "other" not in text
    assert len(build(ledger, grown(ledger))["sites"]) == 3


def test_where_nothing_grows_it_says_so() -> None:
    known = rows.meta()
    still = looks(known, *[held(known, of(LEAK, held=100, released=1))] * 10)

    assert printed(still).splitlines()[1:] == ["nothing grows that should not"]


def test_too_few_looks_are_told_and_nothing_else() -> None:
    known = rows.meta()
    few = looks(known, *mixed(known)[:7])

    assert grown(few) == Grown()
    assert printed(few).splitlines()[1:] == ["7 looks are too few to tell what grows: watch longer (-d)"]


def test_names_are_only_names() -> None:
    known = rows.meta()
    hostile = rows.object_of(Cache("\x1b[31m[bold]", 1000, 1024), STEERING)
    rows.rows_of(known, hostile)
    known.stacks[1] = (len(known.sites) - 1,)
    taken = np.array([(Kind.CACHE_ALLOC, len(known.sites) - 1, 1)], np.int64)
    text = printed(growing(hostile, known=known, stacks=taken))

    assert [each for each in text if not each.isprintable() and each != "\n"] == []
    assert "evil�]0;x�[red]+0x1 [m�[2J] grows by" in text
    assert "(�[31m[bold])" in text
    assert text.count("evil�]0;x�[red]+0x1") == 4


@pytest.mark.parametrize("width", [40, 80, 200])
def test_no_line_is_wider_than_the_console(width: int) -> None:
    ledger = growing(LEAK, rows.kmalloc("a_function_with_a_name_that_is_rather_long+0x1 [a_module]", 100))
    lines = printed(ledger, width).splitlines()

    assert len(lines) > 5
    assert [line for line in lines if cell_len(line.rstrip()) > width] == []


# The command


class FakeLive:
    """A live source that looks ten times."""

    def __init__(self) -> None:
        self.meta, self.notes = rows.meta(), list[str]()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def __iter__(self) -> Iterator[Batch]:
        for at, look in enumerate(mixed(self.meta)):
            yield replace(rows.batch(self.meta, start=1000.0 + at), held=look)


def invoked(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> tuple[str, list[Any]]:
    """What it prints, and what it opened."""
    asked: list[Any] = []

    def opened(*given: Any) -> FakeLive:
        asked.extend(given)
        return FakeLive()

    monkeypatch.setattr(command, "open_source", opened)
    result = CliRunner().invoke(cli, ["leaks", *arguments], standalone_mode=False, env={"COLUMNS": "120"})
    assert not result.exception, result.exception
    return result.stdout, asked


def test_the_command_gives_the_data(monkeypatch: pytest.MonkeyPatch) -> None:
    data = json.loads(invoked(monkeypatch, "-d", "2", "--json")[0])

    assert (data["schema"], data["looks"], data["span"]) == (SCHEMA, 10, {"start": 1000.0, "seconds": 10.0})
    assert [site["symbol"] for site in data["sites"]] == ["leak"]
    assert (data["by_design"], data["unknown"]) == ({"dentry": 1_920_000}, ["maple_node"])


def test_the_command_gives_the_text(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "\nleak+0x1 [drv] grows by 100.0 KiB a second\n" in invoked(monkeypatch)[0]


@pytest.mark.parametrize(("duration", "interval"), [("2", 0.5), ("1m", 1.0), ("2m", 2.0), ("1h", 5.0)])
def test_it_looks_sixty_times_or_as_often_as_it_may(
    duration: str, interval: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, (name, part, every, _, detail) = invoked(monkeypatch, "-d", duration, "--sample", "1/4", "--kinds", "kmalloc")

    assert (name, part, every) == ("live", Part("kmalloc"), interval)
    assert detail == Detail(Hold(2, stacks=True, sure=True))
