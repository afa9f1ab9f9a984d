"""`kmwatch top`: a source watched on a live screen, or refresh by refresh as text."""

import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from kmwatch.cli.base import CONFIG, KINDS, SECONDS, cli, examples, thresholds_of
from kmwatch.cli.reporting import report_of, show_report
from kmwatch.cli.sources import Detail, Part, ledgers, open_source, refuse_fleet, refuse_live_only
from kmwatch.errors import UsageError

if TYPE_CHECKING:
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
        if not shown["once"]:
            refuse_fleet(source)
        # Text and JSON show no stacks.
        detail = Detail() if shown["once"] or shown["as_json"] else Detail(stacks="sampled")
        _replay(open_source(source, Part(kinds), detail=detail), speed, **shown)
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
    detail = Detail(Hold(), stacks="sampled") if screen else Detail()
    live = open_source("live", Part(kinds), interval, workload.finished, detail)
    if screen:
        from kmwatch.views.top import run

        run(live, workload.start, thresholds, view)
        return
    with workload:
        if once:
            show_report(report_of(live, thresholds, workload.start), as_json)
        else:
            _each_refresh(live, thresholds, workload.start)


def _replay(
    capture: Any, speed: float | None, *, interval: float, once: bool, as_json: bool, thresholds: "Thresholds"
) -> None:
    from kmwatch.sources.replay import ReplaySource

    if once:
        show_report(report_of(capture, thresholds), as_json)
        return
    # For a reader of JSON there is no reason to wait.
    replay = ReplaySource(capture, interval, float(not as_json) if speed is None else speed)
    if as_json:
        _each_refresh(replay, thresholds)
        return
    from kmwatch.views.top import run

    run(replay, thresholds=thresholds)


def _each_refresh(source: Any, thresholds: "Thresholds", opened: Callable[[], None] = lambda: None) -> None:
    """Print a report after each batch, as a line of JSON."""
    from kmwatch.rules import judge
    from kmwatch.views.report import build

    for ledger in ledgers(source, opened, thresholds):
        click.echo(json.dumps(build(ledger, judge(ledger)), separators=(",", ":")))
