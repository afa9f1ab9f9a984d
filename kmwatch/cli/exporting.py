"""`kmwatch export`: all of a source as a file for other programs."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from kmwatch.cli.base import CONFIG, KINDS, SECONDS, WithCommand, cli, examples, part_until, say, thresholds_of
from kmwatch.cli.output import refuse_nowhere, write_whole
from kmwatch.cli.reporting import slice_length
from kmwatch.cli.sources import Detail, Part, open_source, refuse_live_only, whole_ledger
from kmwatch.errors import UsageError
from kmwatch.units import size
from kmwatch.views.export.formats import FORMATS, Format
from kmwatch.views.export.measures import WORDS

if TYPE_CHECKING:
    from kmwatch.ledger import Ledger
    from kmwatch.thresholds import Thresholds

_SECONDS = 5.0
_STDOUT = Path("-")
_END = "--until"  # --to is the form here


@cli.command(
    cls=WithCommand,
    epilog=examples(
        "kmwatch export boot.kmw --to folded | flamegraph.pl --countname=bytes > flame.svg",
        "kmwatch export boot.kmw --to speedscope -o boot.speedscope.json",
        "sudo kmwatch export live -d 30 --to pprof -o kernel.pb.gz",
        f"kmwatch export boot.kmw --from 12 {_END} 1m30 --to perfetto -o boot.perfetto-trace",
        "kmwatch export boot.kmw --site '\\[nvme\\]$' --to csv -o sites.csv",
    ),
)
@click.argument("source", default="live")
@click.option(
    "--to", "form", required=True, type=click.Choice(list(FORMATS)), help="The form of the file: docs/exports.md."
)
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    default=_STDOUT,
    help="Write it there, whole or not at all; by default, or as -, to standard output.",
)
@click.option("--measure", type=click.Choice(WORDS), help=f"What the values of `folded` are; {WORDS[0]} by default.")
@click.option("-d", "--duration", type=SECONDS, help="Seconds to watch `live`; 5 by default.")
@click.option(
    "--stacks",
    type=click.Choice(("none", "sampled", "all")),
    help="Of `live`: whose stacks are taken, of one event in 127 and the first of each site by default.",
)
@KINDS
@part_until(_END)
@CONFIG
@click.pass_context
def export(ctx: click.Context, /, source: str, form: str, output: Path, config: Path | None, **options: Any) -> None:
    """Write all that was watched, or recorded, in the form of another program: flame graphs, traces, tables, metrics.

    SOURCE is `live`, the directory of a capture, or a text of another tool (see `kmwatch import`). Sums are exact in
    every form; stacks and times are told as far as they were seen.
    """
    from kmwatch.rules import judge
    from kmwatch.views.export.formats import write

    measure, duration, stacks = (options.pop(name) for name in ("measure", "duration", "stacks"))
    refuse_live_only(source, ctx.meta["command"], duration)
    _refuse(FORMATS[form], output, measure)
    detail = _detail(FORMATS[form], source, stacks)
    thresholds = thresholds_of(config)
    ledger = _watched(source, Part(**options, end_option=_END), ctx.meta["command"], duration, detail, thresholds)
    _put(FORMATS[form], output, write(form, ledger, judge(ledger), measure or WORDS[0]))


def _refuse(form: Format, output: Path, measure: str | None) -> None:
    """Raise UsageError before anything is watched in vain."""
    if measure and form.name != "folded":
        raise UsageError(f"--measure goes with `--to folded`: {form.name} has all of them")
    if output != _STDOUT:
        refuse_nowhere(output)
    elif form.binary and sys.stdout.isatty():
        raise UsageError(f"{form.name} is nothing for a terminal: -o FILE writes it to a file")


def _detail(form: Format, source: str, stacks: str | None) -> Detail:
    """What the form tells."""
    if stacks and not form.stacks:
        raise UsageError(f"--stacks goes with a form that tells them: {form.name} does not")
    if stacks and source != "live":
        raise UsageError(f"--stacks goes with `live`: {source} has those that were recorded")
    return Detail(stacks=(stacks or "sampled") if form.stacks else "none", sliced=form.slices)


def _watched(
    source: str, part: Part, command: tuple[str, ...], duration: float | None, detail: Detail, thresholds: "Thresholds"
) -> "Ledger":
    from kmwatch.sources.workload import Workload

    seconds = duration or (None if command else _SECONDS)
    interval = slice_length(seconds) if detail.sliced else 1.0
    with Workload(command, seconds) as workload:
        opened = open_source(source, part, interval, workload.finished, detail)
        return whole_ledger(opened, workload.start, thresholds, sliced=detail.sliced)


def _put(form: Format, output: Path, data: bytes) -> None:
    if output == _STDOUT:
        sys.stdout.buffer.write(data)
        sys.stdout.flush()
        return
    write_whole(output, data)
    say([f"wrote {output}, {size(len(data))}; what opens it: {form.opens}"])
