"""Pages for the tests, with the ledger that each was made from."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from kmwatch import __version__
from kmwatch.capture.layout import SAMPLE
from kmwatch.ledger import Ledger
from kmwatch.rows import merged
from kmwatch.rules import judge
from kmwatch.sources.capture import CaptureSource
from kmwatch.timeline import SLICES, Timeline
from kmwatch.views import page, report
from tests.unit import hostile, large

HOW = {"command": "kmwatch report capture --html report.html", "kmwatch": __version__, "made": "2026-01-01 00:00:00 UTC"}


@dataclass(frozen=True)
class Made:
    """A file, and what it was made from."""

    file: Path
    ledger: Ledger
    how: dict[str, Any]

    @property
    def url(self) -> str:
        """As a person who double-clicks it opens it."""
        return self.file.as_uri()

    @cached_property
    def report(self) -> dict[str, Any]:
        """What `report --json` says of the same ledger."""
        return report.build(self.ledger, judge(self.ledger))

    def during(self, first: int, end: int) -> Ledger:
        """What happened from one slice to before another."""
        assert self.ledger.timeline
        return self.ledger.at(merged(np.concatenate(self.ledger.timeline.slices[first:end])))


def written(directory: Path, ledger: Ledger, **how: str) -> Made:
    """The page of a ledger, as the command writes it."""
    told = {**HOW, **how}
    file = directory / "report.html"
    file.write_text(page.render(page.build(ledger, judge(ledger), told)), encoding="utf-8")
    return Made(file, ledger, told)


def of_capture(capture: Path) -> Ledger:
    """The ledger of a capture, with stacks and by slices."""
    with CaptureSource(capture, stacks=True, slices=SLICES) as source:
        ledger = Ledger(source.meta, timeline=Timeline(source.capture.seconds / SLICES))
        for batch in source:
            ledger.add(batch)
    return ledger


def sample(directory: Path) -> Made:
    """The page of the bundled capture."""
    return written(directory, of_capture(SAMPLE))


def of_hostile_names(directory: Path) -> Made:
    """The page in which every name is a way out of some format."""
    ledger = of_capture(hostile.capture(directory / "hostile.kmw"))
    return written(directory, ledger, command=f"kmwatch report {hostile.NAMES['script']} --html x")


def of_very_much(directory: Path) -> Made:
    """The page of 5 000 sites and 100 000 stacks."""
    return written(directory, large.ledger())
