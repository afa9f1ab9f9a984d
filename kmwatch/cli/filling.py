"""Commands that fill a fleet: with a capture that is there, or with what is made up."""

from pathlib import Path
from typing import Any

import click

from kmwatch.cli.base import INTO, JSON, NAME, cli, emit, examples


@cli.command(
    epilog=examples(
        "kmwatch upload boot.kmw --into s3://captures/km",
        "kmwatch upload boot.kmw --into /srv/km --name boot-3",
    )
)
@click.argument("capture", type=click.Path(path_type=Path))
@INTO
@NAME
@click.option("--force", is_flag=True, help="Replace a capture that is there.")
def upload(capture: Path, root: str | None, name: str, force: bool) -> None:
    """Copy a capture to its place in a fleet, by its host and its date.

    Its journal goes last, so that a capture that is there is whole. The credentials are those of the environment, as
    the storage's own programs take them.
    """
    from kmwatch.capture.reader import Capture
    from kmwatch.errors import BadInputError, UsageError
    from kmwatch.fleet.layout import into
    from kmwatch.fleet.staging import upload as send

    if root is None:
        raise UsageError("--into ROOT says where to: the root of a fleet; see `kmwatch upload --help`")
    opened = Capture(capture)
    opened.check()
    if opened.end is None:
        raise BadInputError(f"{capture} has no end: wait until it is recorded; of a cut one `kmwatch info` tells more")
    where = into(root, opened.meta, name)
    send(capture, where, force=force)
    click.echo(where)


@cli.command(epilog=examples("kmwatch synth -o fleet", "kmwatch synth -o fleet --hosts 1000 --seed 7 --json"))
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path), help="Root of the fleet.")
@click.option("--hosts", type=click.IntRange(8, 100_000), default=300, show_default=True, help="How many hosts.")
@click.option("--seed", type=click.IntRange(0), default=1, show_default=True, help="The same makes the same fleet.")
@click.option(
    "--events",
    type=click.IntRange(1000, 1_000_000),
    default=4000,
    show_default=True,
    help="Of each host, more or less.",
)
@JSON
def synth(output: Path, as_json: bool, **options: Any) -> None:
    """Make up a fleet of captures, to try commands on and to test what finds faults.

    No kernel is watched: names, sizes and rates are like those of real hosts, which differ in kernel, in what they do
    and how busy they are. Some have faults, which are told, and stand in ROOT/planted.json.
    """
    from kmwatch.fleet.synth import make
    from kmwatch.views.planted import render
    from kmwatch.views.progress import Bar

    hosts = options["hosts"]
    with Bar("synthetic captures", hosts) as bar:
        told = make(output, **options, done=lambda count: bar.show(count, f"{count} of {hosts}"))
    emit(told, as_json, lambda console: render(told, str(output), console))
