"""The command that stays: metrics for Prometheus, all year."""

from pathlib import Path
from typing import Any

import click

from kmwatch.cli.base import KINDS, cli, examples

_FILE = click.Path(path_type=Path)


def _SETTINGS(command: Any) -> Any:  # noqa: N802  # used as click's options are
    """The options that are settings of [serve] too, by the same names; what is not given is left to the file."""
    for option in (
        click.option("--listen", metavar="HOST:PORT", help="Where Prometheus comes; 127.0.0.1:9436 by default."),
        click.option("--top", type=int, metavar="N", help="Sites with series of their own, the rest is `other`; 50."),
        click.option("-i", "--interval", type=float, metavar="SECONDS", help="Time between two readings; 5."),
        click.option("--idle", type=float, metavar="SECONDS", help="Time until an idle site goes to `other`; 3600."),
        click.option("--window", type=float, metavar="SECONDS", help="Time that findings are judged over; 300."),
        click.option(
            "--max-overhead",
            metavar="SHARE",
            help="Most of all CPU time for the programs in the kernel, 1% or 0.01; above it events are left out, "
            "estimated, and that is said. 1%.",
        ),
        KINDS,
        click.option("--held/--no-held", default=None, help="Whether objects are followed to their release; they are."),
        click.option("--user", metavar="NAME", help="Who to become once the programs are attached; nobody."),
        click.option(
            "--tls-certificate", metavar="FILE", help="Certificate and chain, PEM: TLS instead of plain HTTP."
        ),
        click.option("--tls-key", metavar="FILE", help="Its key, PEM."),
        click.option("--tls-client-ca", metavar="FILE", help="Whose certificates scrapers must show, PEM."),
    )[::-1]:
        command = option(command)
    return command


@cli.command(
    epilog=examples(
        "sudo kmwatch serve",
        "sudo kmwatch serve --listen 127.0.0.1:9000 --kinds kmalloc,page_alloc --max-overhead 0.5%",
        "sudo kmwatch serve --config /etc/kmwatch/kmwatch.toml",
        "sudo kmwatch serve --listen :9436 --tls-certificate tls.crt --tls-key tls.key --tls-client-ca scrapers.crt",
    )
)
@click.option(
    "--config", type=_FILE, metavar="FILE", help="[serve] and [thresholds], TOML; ./kmwatch.toml where there is one."
)
@_SETTINGS
def serve(config: Path | None, **options: Any) -> None:
    """Serve metrics for Prometheus, until it is told to end.

    It starts as root, attaches its programs, and gives all privileges up before anybody can talk to it. SIGHUP reads
    the configuration again; options win over it. Leaves with 0 at SIGTERM or Ctrl-C, 2 for a wrong option, 3 where the
    kernel or the privileges do not allow it, 4 for a wrong file, 5 for a fault of its own.
    """
    from kmwatch import settings
    from kmwatch.serve.start import reader
    from kmwatch.serve.start import serve as start
    from kmwatch.thresholds import load

    config = settings.find(config)
    read = reader(config, {name: value for name, value in options.items() if value is not None})
    held, thresholds, made = read(), load(config), list[Any]()

    def reread() -> Any:
        found, judged_by = read(), load(config)
        for exposed in made:
            exposed.judge_by(judged_by)
        return found

    def pipeline(source: Any) -> Any:
        # It brings numpy, whose threads must not begin with what the process gives up before.
        from kmwatch.cli.exposing import Exposed

        made.append(Exposed(source.meta, held, thresholds, source.notes))
        return made[-1]

    start(held, reread, pipeline)
