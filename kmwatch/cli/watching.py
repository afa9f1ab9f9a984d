"""Commands that watch a source and show it: live, a capture, or another tool's text."""

import json
from collections.abc import Callable
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
    thresholds_of,
)
from kmwatch.cli.sources import Part, ledgers, open_source, refuse_live_only, whole_ledger
from kmwatch.errors import UsageError

if TYPE_CHECKING:
    from kmwatch.sources.held import Hold
    from kmwatch.thresholds import Thresholds

_INTERVAL = "Seconds between refreshes; of a capture, recorded seconds."
_SPEED = "Of a capture: recorded seconds in each second, 0 for as fast as possible; 1 by default, 0 with --json."


@cli.command(
    epilog=examples(
        "sudo kmwatch top",
        "sudo kmwatch top --kinds kmalloc,page_alloc",
        "sudo kmwatch top --outstanding",
        "sudo kmwatch top --json -d 60",
        "kmwatch top boot.kmw --speed 4",
    )
)
@click.argument("source", default="live")
@KINDS
@click.option("-i", "--interval", default=1.0, show_default=True, type=click.FloatRange(0.1, 3600), help=_INTERVAL)
@click.option("-d", "--duration", type=SECONDS, help="Stop watching `live` after so many seconds.")
@click.option("--speed", type=click.FloatRange(0, 1024), help=_SPEED)
@click.option("--outstanding", is_flag=True, help="Begin with what is held, key o of the live screen of `live`.")
@click.option("--once", is_flag=True, help="One refresh as text, then leave; of a capture, all of it.")
@CONFIG
@click.option("--json", "as_json", is_flag=True, help="One report a line for each refresh, as JSON.")
def top(
    source: str, kinds: str | None, duration: float | None, speed: float | None, *, outstanding: bool, **shown: Any
) -> None:
    """Show which call sites allocate what, how, and from which context: live, or as a capture has it.

    On a capture Space pauses the time, the arrow keys move in it, + and - change its speed.
    """
    shown["thresholds"] = thresholds_of(shown.pop("config"))
    if outstanding and (source != "live" or shown["once"] or shown["as_json"]):
        raise UsageError(
            "--outstanding goes with the live screen of `live`: only the running kernel tells what is held"
        )
    if source != "live":
        refuse_live_only(source, (), duration)
        _replay(open_source(source, Part(kinds)), speed, **shown)
    elif speed is not None:
        raise UsageError("--speed goes with a capture: `live` has the speed that it has")
    else:
        _watch(kinds, duration, "outstanding" if outstanding else "sites", **shown)


def _watch(
    kinds: str | None,
    duration: float | None,
    view: str,
    *,
    interval: float,
    once: bool,
    as_json: bool,
    thresholds: "Thresholds",
) -> None:
    from kmwatch.sources.held import Hold
    from kmwatch.sources.workload import Workload

    workload = Workload((), interval if once and not duration else duration)
    screen = not (once or as_json)
    live = open_source("live", Part(kinds), interval, workload.finished, Hold() if screen else None)
    if screen:
        from kmwatch.views.top import run

        run(live, workload.start, thresholds, view)
        return
    with workload:
        if once:
            _print(_report(live, thresholds, workload.start), as_json)
        else:
            _each_refresh(live, thresholds, workload.start)


def _replay(
    capture: Any, speed: float | None, *, interval: float, once: bool, as_json: bool, thresholds: "Thresholds"
) -> None:
    from kmwatch.sources.replay import ReplaySource

    if once:
        _print(_report(capture, thresholds), as_json)
        return
    # For a reader of JSON there is no reason to wait.
    replay = ReplaySource(capture, interval, float(not as_json) if speed is None else speed)
    if as_json:
        _each_refresh(replay, thresholds)
        return
    from kmwatch.views.top import run

    run(replay, thresholds=thresholds)


def _hold(source: str, outstanding: bool, sample: int | None) -> "Hold | None":
    """What to look at; None where what is held is not asked for."""
    from kmwatch.sources.held import Hold as Chosen

    if sample is not None and not outstanding:
        raise UsageError("--sample goes with --outstanding: nothing else is sampled")
    if sample is not None and source != "live":
        raise UsageError(f"--sample goes with `live`: of {source} every object is known")
    return Chosen(Chosen.bits if sample is None else sample, sure=True) if outstanding else None


@cli.command(
    cls=WithCommand,
    epilog=examples(
        "sudo kmwatch report live -d 10",
        "sudo kmwatch report live -- make -j8",
        "sudo kmwatch report live -d 5 --json > report.json",
        "sudo kmwatch report live -d 60 --outstanding --sample 1/64",
        "kmwatch report boot.kmw --from 12 --to 1m30 --by comm",
        "kmwatch report boot.kmw --site '\\[nvme\\]$' --cgroup docker",
    ),
)
@click.argument("source", default="live")
@click.option("-d", "--duration", type=SECONDS, help="Seconds to watch `live`; 5 by default.")
@KINDS
@PART
@click.option("--by", type=click.Choice(DIMENSIONS), help="One row for each of these, each piece of memory once.")
@click.option("--top", "rows", default=20, show_default=True, type=click.IntRange(1), help="Rows of the table.")
@click.option(
    "--outstanding", is_flag=True, help="Also what is held at the end, of what was allocated since the start."
)
@click.option("--sample", type=Sample(), help="Of `live`: look at one object of so many, 1/16 by default; 1 for all.")
@CONFIG
@JSON
@click.pass_context
def report(
    ctx: click.Context,
    /,
    source: str,
    duration: float | None,
    by: str | None,
    outstanding: bool,
    sample: int | None,
    **options: Any,
) -> None:
    """Watch for a while, or while a command runs, and report; or report on what was recorded.

    SOURCE is `live`, the directory of a capture, or a text of another tool (see `kmwatch import`). With -- CMD the
    command's own output comes as usual, and the report after it.
    """
    from kmwatch.sources.workload import Workload

    config, rows, as_json = (options.pop(name) for name in ("config", "rows", "as_json"))
    command, thresholds = ctx.meta["command"], thresholds_of(config)
    refuse_live_only(source, command, duration)
    hold = _hold(source, outstanding, sample)
    with Workload(command, duration or (None if command else 5.0)) as workload:
        opened = open_source(source, Part(**options, by=by), 1.0, workload.finished, hold)
        data = _report(opened, thresholds, workload.start, by)
    _print(data, as_json, rows)


def _report(
    source: Any, thresholds: "Thresholds", opened: Callable[[], None] = lambda: None, by: str | None = None
) -> dict[str, Any]:
    """The report over all that a source gives."""
    from kmwatch.rules import judge
    from kmwatch.views.report import build

    ledger = whole_ledger(source, opened, thresholds)
    return build(ledger, judge(ledger), by)


def _each_refresh(source: Any, thresholds: "Thresholds", opened: Callable[[], None] = lambda: None) -> None:
    """Print a report after each batch, as a line of JSON."""
    from kmwatch.rules import judge
    from kmwatch.views.report import build

    for ledger in ledgers(source, opened, thresholds):
        click.echo(json.dumps(build(ledger, judge(ledger)), separators=(",", ":")))


def _print(data: dict[str, Any], as_json: bool, rows: int = 20) -> None:
    from kmwatch.views.text import render

    emit(data, as_json, lambda console: render(data, console, rows))
