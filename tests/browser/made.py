"""Pages for the tests, with the ledger that each was made from."""

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from click.testing import CliRunner

from kmwatch import __version__
from kmwatch.cli import cli
from kmwatch.cli.sources import Detail, Part, open_source, whole_ledger
from kmwatch.ledger import Ledger
from kmwatch.rows import merged
from kmwatch.rules import judge
from kmwatch.views import page
from kmwatch.views.page.data import site_ids
from kmwatch.views.report import build
from tests.browser.driving import NUMBERS
from tests.unit import hostile, large

Sums = dict[str, dict[str, int]]
"""Of each site of a report, by its id in the page: the numbers of its row."""


@dataclass(frozen=True)
class Made:
    """A file, and what it was made from."""

    file: Path
    ledger: Ledger

    @property
    def url(self) -> str:
        """As a person who double-clicks it opens it."""
        return self.file.as_uri()

    @cached_property
    def report(self) -> dict[str, Any]:
        """What `report --json` says of the same ledger."""
        return build(self.ledger, judge(self.ledger))

    @cached_property
    def slices(self) -> int:
        """How many the time line has."""
        assert self.ledger.timeline
        return len(self.ledger.timeline.slices)

    def during(self, first: int, end: int) -> Ledger:
        """What happened from one slice to before another."""
        assert self.ledger.timeline
        return self.ledger.at(merged(np.concatenate(self.ledger.timeline.slices[first:end])))


def sums(report: dict[str, Any]) -> Sums:
    """The numbers of a report's sites."""
    sites = report["sites"]
    return {
        f"site={name}": {each: one[each] for each in NUMBERS} for name, one in zip(site_ids(sites), sites, strict=True)
    }


def by_command(capture: Path, file: Path) -> Made:
    """The page of a capture as the command writes it, and the ledger of the same capture."""
    ran = CliRunner().invoke(cli, ["report", str(capture), "--html", str(file), "--json"], catch_exceptions=False)
    made = Made(
        file, whole_ledger(open_source(str(capture), Part(), detail=Detail(stacks="sampled", sliced=True)), sliced=True)
    )
    assert json.loads(ran.stdout)["sites"] == made.report["sites"]
    return made


def of_hostile_names(directory: Path) -> Made:
    """The page in which every name is a way out of some format."""
    return by_command(hostile.capture(directory / "hostile.kmw"), directory / "hostile.html")


def of_very_much(directory: Path) -> Made:
    """The page of 5 000 sites and 100 000 stacks."""
    ledger, file = large.ledger(), directory / "large.html"
    how = {"command": "kmwatch report large.kmw --html large.html", "kmwatch": __version__, "made": 0.0}
    file.write_text(page.render(page.build(ledger, judge(ledger), how)), encoding="utf-8")
    return Made(file, ledger)
