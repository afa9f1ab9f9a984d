"""`kmwatch report`: all of a source in one report, as text, JSON, or a page to look at."""

import shlex
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from kmwatch.cli.base import (
    CONFIG,
    DIMENSIONS,
    JSON,
    KINDS,
    PART,
    SECONDS,
    Sample,
    WithCommand,
    cli,
    emit,
    examples,
    say,
    thresholds_of,
)
from kmwatch.cli.fleet import ENGINES, engine_of, refuse_engine, show_survey, survey
from kmwatch.cli.output import refuse_nowhere, write_whole
from kmwatch.cli.sources import Detail, Part, is_fleet, open_source, refuse_live_only, whole_ledger
from kmwatch.errors import UsageError

if TYPE_CHECKING:
    from kmwatch.ledger import Ledger
    from kmwatch.sources.held import Hold
    from kmwatch.thresholds import Thresholds

_SECONDS = 5.0
_SLICES, _SHORTEST, _LONGEST = 50, 0.1, 10.0  # of the time line of `live`; seconds of a slice


def slice_length(seconds: float | None) -> float:
    """How long slices of `live` are to be where so many seconds are watched; None where that is not known."""
    return min(max((seconds or _SECONDS) / _SLICES, _SHORTEST), _LONGEST)


def _hold(source: str, outstanding: bool, sample: int | None) -> "Hold | None":
    """What to look at; None where what is held is not asked for."""
    if sample is not None and not outstanding:
        raise UsageError("--sample goes with --outstanding: nothing else is sampled")
    if sample is not None and source != "live":
        raise UsageError(f"--sample goes with `live`: of {source} every object is known")
    if not outstanding:
        return None
    from kmwatch.sources.held import Hold as Chosen

    return Chosen(Chosen.bits if sample is None else sample, sure=True)


def _detail(source: str, html: Path | None, stacks: str | None, hold: "Hold | None") -> Detail:
    """A page shows stacks and time, nothing else does."""
    if stacks is not None and html is None:
        raise UsageError("--stacks goes with --html: text and JSON have no stacks")
    if stacks is not None and source != "live":
        raise UsageError(f"--stacks goes with `live`: {source} has those that were recorded")
    return Detail(hold, stacks or "sampled", sliced=True) if html else Detail(hold)


@cli.command(
    cls=WithCommand,
    epilog=examples(
        "sudo kmwatch report live -d 10",
        "sudo kmwatch report live -- make -j8",
        "sudo kmwatch report live -d 30 --html report.html",
        "sudo kmwatch report live -d 5 --json > report.json",
        "sudo kmwatch report live -d 60 --outstanding --sample 1/64",
        "kmwatch report boot.kmw --from 12 --to 1m30 --by comm",
        "kmwatch report boot.kmw --site '\\[nvme\\]$' --cgroup docker",
        "kmwatch report /srv/captures --by kernel",
        "kmwatch report 's3://bucket/captures/host=web-*' --html fleet.html",
        "kmwatch report /srv/captures --engine spark --master spark://head:7077",
    ),
)
@click.argument("source", default="live")
@click.option("-d", "--duration", type=SECONDS, help="Seconds to watch `live`; 5 by default.")
@KINDS
@PART
@click.option("--by", type=click.Choice(DIMENSIONS), help="One row for each of these, each piece of memory once.")
@click.option("--top", "rows", default=20, show_default=True, type=click.IntRange(1), help="Rows of the table.")
@click.option(
    "--html", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE", help="Make a page of it: one file."
)
@click.option(
    "--stacks",
    type=click.Choice(("none", "sampled", "all")),
    help="Of `live`, for the page: whose stacks are taken, of one event in 127 and the first of each site by default.",
)
@click.option(
    "--outstanding", is_flag=True, help="Also what is held at the end, of what was allocated since the start."
)
@click.option("--sample", type=Sample(), help="Of `live`: look at one object of so many, 1/16 by default; 1 for all.")
@click.option("--engine", type=click.Choice(ENGINES), help="What adds many captures up; duckdb by default.")
@click.option("--master", metavar="URL", help="Of --engine spark: `spark://HOST:7077`, or local[4] for this machine.")
@CONFIG
@JSON
@click.pass_context
def report(
    ctx: click.Context, /, source: str, duration: float | None, outstanding: bool, sample: int | None, **options: Any
) -> int:
    """Watch for a while, or while a command runs, and report; or report on what was recorded.

    SOURCE is `live`, the directory of a capture, or a text of another tool (see `kmwatch import`). With -- CMD the
    command's own output comes as usual, and the report after it. With --html the report is a page for a browser, in one
    file that needs nothing else.

    A directory, a glob or a URL of many captures is a fleet: it is told how many hosts have each finding, which differ
    from the rest, what changed between kernels, and where to look first. Leaves with 4 where one of them is unreadable.
    """
    from kmwatch.sources.workload import Workload

    config, rows, as_json, html, stacks, engine, master = (
        options.pop(name) for name in ("config", "rows", "as_json", "html", "stacks", "engine", "master")
    )
    command, thresholds = ctx.meta["command"], thresholds_of(config)
    refuse_live_only(source, command, duration)
    refuse_nowhere(html)
    part = Part(**options)
    refuse_engine(source, engine, master, outstanding=outstanding)
    if is_fleet(source):
        hold = _hold(source, outstanding, sample)
        data = survey(source, part, Detail(hold), engine_of(engine, master), thresholds)
        return show_survey(data, html, as_json, rows, _how())
    detail = _detail(source, html, stacks, _hold(source, outstanding, sample))
    seconds = duration or (None if command else _SECONDS)
    interval = slice_length(seconds) if html else 1.0
    with Workload(command, seconds) as workload:
        opened = open_source(source, part, interval, workload.finished, detail)
        ledger = whole_ledger(opened, workload.start, thresholds, sliced=detail.sliced)
    found = _Found(ledger, part.by)
    if html:
        found.write_page(html)
    if as_json or not html:
        show_report(found.report(), as_json, rows)
    return 0


def _how() -> dict[str, Any]:
    """How a page is made."""
    return {"command": shlex.join(["kmwatch", *sys.argv[1:]]), "made": time.time()}


@dataclass
class _Found:
    """What a source gave, judged once."""

    ledger: "Ledger"
    by: str | None = None

    def __post_init__(self) -> None:
        from kmwatch.rules import judge

        self._findings = judge(self.ledger)

    def report(self) -> dict[str, Any]:
        """As plain data."""
        from kmwatch.views.report import build

        return build(self.ledger, self._findings, self.by)

    def write_page(self, path: Path) -> None:
        """As a page, with how it was made."""
        from kmwatch.views import page

        text = page.render(page.build(self.ledger, self._findings, _how())).encode()
        write_whole(path, text)
        say([f"wrote {path}, {len(text) / 1e6:.1f} MB: open it in a browser"])


def report_of(source: Any, thresholds: "Thresholds", opened: Callable[[], None] = lambda: None) -> dict[str, Any]:
    """The report over all that a source gives."""
    return _Found(whole_ledger(source, opened, thresholds)).report()


def show_report(data: dict[str, Any], as_json: bool, rows: int = 20) -> None:
    """Print a report, with so many rows of its table where it is text."""
    from kmwatch.views.text import render

    emit(data, as_json, lambda console: render(data, console, rows))
