"""The command line: opens a source, runs the pipeline, chooses a view. Heavy imports stand where they are needed."""

import json
import os
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from kmwatch import __version__
from kmwatch.errors import UsageError

if TYPE_CHECKING:
    from rich.console import Console

_JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON instead of text.")
_KINDS = click.option("--kinds", metavar="LIST", help="What to observe, separated by commas; everything by default.")
_SECONDS = click.FloatRange(min=0, min_open=True)
_INTERVAL = "Seconds between refreshes."


class _Group(click.Group):
    """Click's group, except that a parameter's own error is one line as everywhere else, without the usage."""

    def main(self, *args: Any, **extra: Any) -> Any:
        """Run; click's usage errors become UsageError."""
        try:
            return super().main(*args, **extra)
        except getattr(click.exceptions, "NoArgsIsHelpError", ()):  # a usage error since click 8.2
            raise
        except click.UsageError as error:
            command = error.ctx.command_path if error.ctx else "kmwatch"
            raise UsageError(f"{error.format_message().rstrip('.')}; see `{command} --help`") from error

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; where the reader of our output has gone, `head` perhaps, it has what it wanted."""
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            return 0


class _WithCommand(click.Command):
    """A command whose arguments after `--` are another command, kept apart so that SOURCE can be left out."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Take what follows `--` away before the rest is parsed."""
        at = args.index("--") if "--" in args else len(args)
        ctx.meta["command"] = tuple(args[at + 1 :])
        return super().parse_args(ctx, args[:at])

    def collect_usage_pieces(self, ctx: click.Context) -> list[str]:
        """The usage line, with the command."""
        return [*super().collect_usage_pieces(ctx), "[-- CMD…]"]


def _examples(*lines: str) -> str:
    return "\b\nExamples:\n" + "\n".join(f"  {line}" for line in lines)


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="kmwatch")
def cli() -> None:
    """Watch the Linux kernel allocate memory: what is wasteful, wrong or dangerous, where, and what to do instead."""


@cli.command(
    epilog=_examples("sudo kmwatch top", "sudo kmwatch top --kinds kmalloc,page_alloc", "sudo kmwatch top --json -d 60")
)
@click.argument("source", default="live")
@_KINDS
@click.option("-i", "--interval", default=1.0, show_default=True, type=click.FloatRange(0.1, 3600), help=_INTERVAL)
@click.option("-d", "--duration", type=_SECONDS, help="Stop after so many seconds.")
@click.option("--once", is_flag=True, help="One refresh as text, then leave.")
@click.option("--json", "as_json", is_flag=True, help="One report a line for each refresh, as JSON.")
def top(source: str, kinds: str | None, interval: float, duration: float | None, once: bool, as_json: bool) -> None:
    """Show live which call sites allocate what, how, and from which context."""
    from kmwatch.sources.workload import Workload

    workload = Workload((), interval if once and not duration else duration)
    live = _live(source, kinds, interval, workload.finished)
    if not (once or as_json):
        from kmwatch.views.top import run

        run(live, workload.start)
        return
    with workload:
        if as_json and not once:
            _each_refresh(live, lambda data: click.echo(json.dumps(data, separators=(",", ":"))), workload.start)
        else:
            _print(_report(live, workload.start), as_json)


@cli.command(
    cls=_WithCommand,
    epilog=_examples(
        "sudo kmwatch report live -d 10",
        "sudo kmwatch report live -- make -j8",
        "sudo kmwatch report live -d 5 --json > report.json",
    ),
)
@click.argument("source", default="live")
@click.option("-d", "--duration", type=_SECONDS, help="Seconds to watch; 5 by default.")
@_KINDS
@click.option("--top", "rows", default=20, show_default=True, type=click.IntRange(1), help="Rows of the table.")
@_JSON
@click.pass_context
def report(
    ctx: click.Context, source: str, duration: float | None, kinds: str | None, rows: int, as_json: bool
) -> None:
    """Watch for a while, or while a command runs, and report.

    SOURCE is `live`. With -- CMD the command's own output comes as usual, and the report after it.
    """
    from kmwatch.sources.workload import Workload

    command = ctx.meta["command"]
    with Workload(command, duration or (None if command else 5.0)) as workload:
        data = _report(_live(source, kinds, 1.0, workload.finished), workload.start)
    _print(data, as_json, rows)


@cli.command(epilog=_examples("kmwatch doctor", "sudo kmwatch doctor --attach"))
@click.option("--attach", is_flag=True, help="Also compile, load and attach every program, then detach it.")
@_JSON
def doctor(attach: bool, as_json: bool) -> int:
    """Say what this kernel and this user allow, and how to fix what they do not.

    Leaves with 3 where the main job, watching live, cannot run.
    """
    from kmwatch.sources.doctor import examine
    from kmwatch.views import doctor as view

    data = view.build(examine(attach=attach))
    _emit(data, as_json, lambda console: view.render(data, console))
    return 0 if data["can_watch"] else 3


@cli.command(
    epilog=_examples("kmwatch gfp 0x820", "kmwatch gfp GFP_KERNEL __GFP_ZERO", "kmwatch gfp 'mode:0xa20(GFP_ATOMIC)'")
)
@click.argument("flags", nargs=-1, required=True, metavar="MASK|NAME…")
@_JSON
def gfp(flags: tuple[str, ...], as_json: bool) -> None:
    """Decode a GFP mask, or encode flags, with this kernel's own table."""
    from kmwatch.kernel.gfp import running_table
    from kmwatch.views import explain as view

    data = view.build_gfp(flags, running_table())
    _emit(data, as_json, lambda console: view.render(data, console))


@cli.command(
    epilog=_examples("kmwatch explain GFP_ATOMIC", "kmwatch explain vremap", "kmwatch explain KM201", "kmwatch explain")
)
@click.argument("name", required=False)
@_JSON
def explain(name: str | None, as_json: bool) -> None:
    """Explain a GFP flag, an allocator, a term or a rule; without NAME, list them all."""
    from kmwatch.kernel.gfp import running_table
    from kmwatch.kernel.slab import running_limits
    from kmwatch.views import explain as view
    from kmwatch.views import rulebook

    if name is None:
        _emit({**view.names(), "rules": rulebook.codes()}, as_json, _render_all_names)
    elif not view.knows(name) and (name.upper().startswith("KM") or rulebook.knows(name)):
        page = rulebook.build(name)
        _emit(page, as_json, lambda console: rulebook.render(page, console))
    else:
        data = view.build_term(name, running_table(), running_limits())
        _emit(data, as_json, lambda console: view.render(data, console))


@cli.command(epilog=_examples("kmwatch rules", "kmwatch rules --json"))
@_JSON
def rules(as_json: bool) -> None:
    """List the rule book."""
    from kmwatch.views import rulebook

    _emit(rulebook.build_all(), as_json, rulebook.render_names)


def _render_all_names(console: "Console") -> None:
    from kmwatch.views import explain, rulebook

    explain.render_names(console)
    rulebook.render_names(console)


def _live(source: str, kinds: str | None, interval: float, until: Callable[[], bool]) -> Any:
    """The live source, not yet open."""
    if source != "live":
        raise UsageError(f"unknown source {source!r}: this version watches `live` only")
    from kmwatch.sources.maps import LiveSource
    from kmwatch.sources.probes import parse_kinds

    live = LiveSource(parse_kinds(kinds), interval, until)
    _say_notes(live)
    return live


def _say_notes(live: Any) -> None:
    while live.notes:
        click.echo(f"kmwatch: {live.notes.pop(0)}", err=True)


def _report(source: Any, opened: Callable[[], None] = lambda: None) -> dict[str, Any]:
    """The report over all that a source gives; `opened` is called when it is watching."""
    last: dict[str, Any] = {}
    _each_refresh(source, last.update, opened, every=False)
    return last


def _each_refresh(
    source: Any, show: Callable[[dict[str, Any]], Any], opened: Callable[[], None] = lambda: None, *, every: bool = True
) -> None:
    """Show a report after each batch, or only after the last. Ctrl-C ends the watching, not the reporting."""
    from kmwatch.ledger import Ledger
    from kmwatch.rules import judge
    from kmwatch.views.report import build

    with source:
        _say_notes(source)
        ledger = Ledger(source.meta)
        opened()
        for batch in source:
            ledger.add(batch)
            if every:
                show(build(ledger, judge(ledger)))
    if not every:
        show(build(ledger, judge(ledger)))


def _print(data: dict[str, Any], as_json: bool, rows: int = 20) -> None:
    from kmwatch.views.text import render

    _emit(data, as_json, lambda console: render(data, console, rows))


def _emit(data: Any, as_json: bool, render: "Callable[[Console], Any]") -> None:
    if as_json:
        click.echo(json.dumps(data, indent=2))
        return
    from rich.console import Console

    render(Console(file=sys.stdout, highlight=False, soft_wrap=False))
