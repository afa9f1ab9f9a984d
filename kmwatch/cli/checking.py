"""Commands for a build: whether a run keeps to its budget, and what changed from one run to another."""

from pathlib import Path
from typing import Any

import click

from kmwatch.cli.base import CONFIG, JSON, KINDS, PART, SECONDS, WithCommand, cli, emit, examples, thresholds_of

_FORMATS = ("text", "json", "sarif", "junit")
_FILE = click.Path(path_type=Path)
_MODULE = click.option(
    "--module",
    "modules",
    multiple=True,
    metavar="NAME",
    help="Only what this module does, or `kernel` for the kernel itself; can be given again.",
)


def _BASELINES(command: Any) -> Any:  # noqa: N802  # used as click's options are
    """What counts: which rules, which known findings, how many."""
    for option in (
        click.option(
            "--budget", type=_FILE, metavar="FILE", help="TOML file: how much is allowed; no errors by default."
        ),
        click.option("--select", metavar="CODES", help="Only these rules: KM2,KM301, codes or their beginnings."),
        click.option("--ignore", metavar="CODES", help="Not these rules."),
        click.option("--baseline", type=_FILE, metavar="FILE", help="JSON file: findings that are known do not count."),
        click.option("--write-baseline", type=_FILE, metavar="FILE", help="Keep what is found as known, leave with 0."),
    )[::-1]:
        command = option(command)
    return command


def _SHOWN(command: Any) -> Any:  # noqa: N802  # the same
    """How and where to it is printed."""
    for option in (
        click.option(
            "--format",
            "form",
            type=click.Choice(_FORMATS),
            default="text",
            show_default=True,
            help="How the result is written.",
        ),
        click.option("-o", "--output", type=_FILE, metavar="FILE", help="Write it there, and text to the terminal."),
        click.option("--vmlinux", type=_FILE, metavar="FILE", help="The kernel with debug information: name lines."),
        click.option("--module-dir", type=_FILE, metavar="DIR", help="Where modules were built: name lines."),
    )[::-1]:
        command = option(command)
    return command


@cli.command(
    cls=WithCommand,
    epilog=examples(
        "kmwatch check test.kmw --module mydrv",
        "sudo kmwatch check live --budget memory.toml -- ./run-tests.sh",
        "kmwatch check test.kmw --select KM2,KM301 --baseline known.json",
        "kmwatch check test.kmw --write-baseline known.json",
        "kmwatch check test.kmw --format sarif -o kmwatch.sarif --module-dir build",
    ),
)
@click.argument("source")
@click.option("-d", "--duration", type=SECONDS, help="Seconds to watch `live`; 5 by default.")
@KINDS
@PART
@_MODULE
@_BASELINES
@CONFIG
@_SHOWN
@click.pass_context
def check(ctx: click.Context, /, source: str, duration: float | None, **options: Any) -> int:
    """Pass or fail a run: findings and memory against a budget, for a driver's tests.

    SOURCE is `live`, the directory of a capture, or a text of another tool. Leaves with 0 where the run keeps to the
    budget and with 1 where it does not; without a budget there may be no finding of severity error.
    """
    from kmwatch.cli.fleet import unread_of
    from kmwatch.cli.gate import Gate
    from kmwatch.cli.sources import Part, open_source, refuse_live_only, whole_ledger
    from kmwatch.sources.workload import Workload

    command = ctx.meta["command"]
    part = {name: options[name] for name in ("kinds", "begin", "end", "site", "comm", "cgroup")}
    refuse_live_only(source, command, duration)
    # First: a mistake in these files must not cost a test run.
    gate, thresholds = Gate(options), thresholds_of(options["config"])
    with Workload(command, duration or (None if command else 5.0)) as workload:
        opened = open_source(source, Part(**part), 1.0, workload.finished)
        ledger = whole_ledger(opened, workload.start, thresholds)
    return gate.pass_or_fail(ledger, source) or unread_of(opened)


@cli.command(
    epilog=examples(
        "kmwatch diff before.kmw after.kmw",
        "kmwatch diff before.kmw after.kmw --module mydrv --fail-on 'waste>10%' --fail-on 'failures>0'",
        "kmwatch diff before.kmw after.kmw --per mydrv_xmit --json",
    )
)
@click.argument("before")
@click.argument("after")
@click.option("--per-second", is_flag=True, help="Compare numbers per second; this is the default.")
@click.option(
    "--per", metavar="EVENT", help="Compare numbers per event: a kind (kmalloc), or a function's allocations."
)
@_MODULE
@click.option(
    "--fail-on",
    multiple=True,
    metavar="COND",
    help="Leave with 1 where this grew: 'waste>10%', 'failures>=1'; of waste, bytes, count, failures.",
)
@click.option("--top", default=20, show_default=True, type=click.IntRange(1), help="Rows of the table.")
@JSON
def diff(before: str, after: str, top: int, as_json: bool, **options: Any) -> int:
    """Say what changed from one run to another, by function.

    BEFORE and AFTER are captures, or texts of another tool. Offsets and addresses do not matter, so the two can be of
    different builds. Without --fail-on it leaves with 0 whatever changed.
    """
    from kmwatch.cli.gate import compare
    from kmwatch.views import diff as view

    data = compare((before, after), **options)
    emit(data, as_json, lambda console: view.render(data, console, top))
    return 0 if data["passed"] else 1
