"""Commands that make captures and look into them."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from kmwatch.cli.base import INTO, JSON, KINDS, NAME, SECONDS, WithCommand, cli, emit, examples, say
from kmwatch.cli.sources import is_fleet

if TYPE_CHECKING:
    from kmwatch.capture.database import Answer

_STACKS = ("none", "pages", "sampled", "all")


class _Size(click.ParamType):  # type: ignore[type-arg]  # generic since click 8.3
    """A number of bytes: 500M, 2G."""

    name = "SIZE"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """The number; a usage error for anything else."""
        number, unit = str(value)[:-1], str(value)[-1:].upper()
        shift = {"K": 10, "M": 20, "G": 30, "T": 40}.get(unit)
        if shift is None or not number.isdecimal() or int(number) == 0:
            self.fail(f"{value!r} is not a size such as 500M or 2G", param, ctx)
        return int(number) << shift


@cli.command(
    cls=WithCommand,
    epilog=examples(
        "sudo kmwatch record -o boot.kmw -d 30",
        "sudo kmwatch record -o build.kmw --stacks sampled -- make -j8",
        "sudo kmwatch record -o night.kmw --max-size 2G --rotate",
        "sudo kmwatch record --into s3://captures/km -d 60",
    ),
)
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Directory of the capture.")
@INTO
@NAME
@click.option("-d", "--duration", type=SECONDS, help="Stop after so many seconds; without it and CMD, on Ctrl-C.")
@KINDS
@click.option(
    "--stacks",
    type=click.Choice(_STACKS),
    default="pages",
    show_default=True,
    help="Which events take their stack along: page, vmalloc and per-CPU allocations and failures; one in 127 "
    "of the others too; or all.",
)
@click.option("--max-size", type=_Size(), metavar="SIZE", help="Stop at so many bytes on the disk: 500M, 2G.")
@click.option("--rotate", is_flag=True, help="At --max-size drop the oldest events instead of stopping.")
@click.option("--force", is_flag=True, help="Replace a capture that is there.")
@click.option(
    "--realtime/--no-realtime",
    default=True,
    show_default=True,
    help="Read events in real time (SCHED_RR 1), or lose some where all CPUs are busy.",
)
@click.option("-q", "--quiet", is_flag=True, help="No progress line, no summary.")
@click.pass_context
def record(ctx: click.Context, /, duration: float | None, kinds: str | None, **options: Any) -> None:
    """Keep every single event in a capture, for a while or while a command runs.

    Reports, `top`, `sql` and `info` then work on the capture, on any machine, without root. It goes to a directory, -o,
    or to its place in a fleet, --into: behind a URL it is sent when it has ended.
    """
    from kmwatch.cli.keeping import record_running
    from kmwatch.cli.targets import Target

    target = Target(options["output"], options["root"], options["name"], options["force"])
    record_running(target, ctx.meta["command"], duration, kinds, options)


@cli.command(epilog=examples("kmwatch info boot.kmw", "kmwatch info boot.kmw --json", "kmwatch info /srv/captures"))
@click.argument("capture")
@JSON
def info(capture: str, as_json: bool) -> int:
    """Say what a capture is: whose memory, when, how many events, and what is missing. Every file is checked.

    Of a directory, a glob or a URL of many captures it says so in a line each, and their sum. Leaves with 4 where one
    of them is unreadable.
    """
    from kmwatch.capture.reader import Capture
    from kmwatch.cli.several import show_info
    from kmwatch.views import captured

    if is_fleet(capture):
        return show_info(capture, as_json)
    opened = Capture(Path(capture))
    opened.check()
    data = captured.build(opened)
    emit(data, as_json, lambda console: captured.render(data, console))
    return 0


@cli.command(
    epilog=examples(
        'kmwatch sql boot.kmw "select site, count(*) from events where failed group by site order by 2 desc"',
        "kmwatch sql boot.kmw --csv \"from events where comm = 'nginx' limit 100\" > nginx.csv",
        'kmwatch sql boot.kmw "describe events"',
        'kmwatch sql /srv/captures "select host, sum(allocated) from events where failed = false group by all"',
    )
)
@click.argument("capture")
@click.argument("query")
@click.option("--csv", "as_csv", is_flag=True, help="Print CSV instead of a table.")
@JSON
def sql(capture: str, query: str, as_csv: bool, as_json: bool) -> int:
    """Ask a capture with SQL, as DuckDB understands it.

    The views are events, sites, stacks and tasks: `describe events` lists the columns, docs/capture-format.md explains
    them. Of a directory, a glob or a URL of many captures they have the rows of all, and the columns capture, host and
    kernel besides. Leaves with 4 where one of them is unreadable.
    """
    from kmwatch.capture.database import ask
    from kmwatch.capture.reader import Capture
    from kmwatch.cli.fleet import unread
    from kmwatch.cli.several import asked

    if is_fleet(capture):
        with asked(capture, query) as (answer, skipped):
            _show(answer, as_csv, as_json)
        return unread(skipped)
    opened = Capture(Path(capture))
    opened.check()
    say(opened.doubts)
    _show(ask(opened, query), as_csv, as_json)
    return 0


def _show(answer: "Answer", as_csv: bool, as_json: bool) -> None:
    from rich.console import Console

    from kmwatch.views import query as view

    if as_csv:
        view.write_csv(answer.columns, answer.rows, sys.stdout)
    elif as_json:
        view.write_json(answer.columns, answer.rows, sys.stdout)
    else:
        view.show_table(answer.columns, answer.rows, Console(file=sys.stdout, highlight=False))


@cli.command(
    "import",
    epilog=examples(
        "kmwatch import trace.txt -o trace.kmw",
        "perf script --ns --header --show-lost-events | kmwatch import - -o perf.kmw",
        "journalctl -k | kmwatch import - -o failures.kmw && kmwatch report failures.kmw",
    ),
)
@click.argument("file", type=click.Path(path_type=Path))
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path), help="Directory of the capture.")
@click.option(
    "--kallsyms",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="A copy of /proc/kallsyms of the boot that was traced, where call sites are bare addresses.",
)
@click.option("--strict", is_flag=True, help="Refuse a text with a line that is not understood.")
@click.option("--force", is_flag=True, help="Replace a capture that is there.")
@click.option("-q", "--quiet", is_flag=True, help="No progress line, no summary.")
def import_(file: Path, output: Path, kallsyms: Path | None, strict: bool, force: bool, quiet: bool) -> None:
    """Make a capture of what another tool wrote: FILE, or - for standard input.

    ftrace (`trace`, `trace_pipe`), `perf script`, `trace-cmd report`, and the kernel's log with its allocation
    failures; which of them is seen from what it says. Texts of kernels from 2.6.32 on are understood.
    """
    from kmwatch.capture.store import refuse_target
    from kmwatch.cli.keeping import import_text
    from kmwatch.sources.text import open_text

    refuse_target(output, force=force)
    import_text(open_text(file, kallsyms=kallsyms, strict=strict), output, force=force, quiet=quiet)


@cli.command("demo-data", epilog=examples("kmwatch demo-data", "kmwatch demo-data -o a.kmw && kmwatch report a.kmw"))
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Copy it there; without it, say where it is.")
def demo_data(output: Path | None) -> None:
    """Show where the bundled capture is: a short real recording, to try the commands on.

    scripts/make_sample.py made it, and tells what ran.
    """
    from shutil import copytree

    from kmwatch.capture.layout import SAMPLE
    from kmwatch.capture.store import refuse_target

    if output:
        refuse_target(output, force=False)
        copytree(SAMPLE, output, dirs_exist_ok=True)
    click.echo(output or SAMPLE)
