"""The command that looks for what grows."""

from typing import TYPE_CHECKING, Any

import click

from kmwatch.cli.base import CONFIG, JSON, KINDS, SECONDS, Sample, cli, emit, examples, thresholds_of
from kmwatch.cli.sources import Detail, Part, ledgers, open_source

if TYPE_CHECKING:
    from kmwatch.ledger import Ledger
    from kmwatch.sources.maps import LiveSource
    from kmwatch.sources.workload import Workload
    from kmwatch.thresholds import Thresholds

_LOOKS = 60  # in the time to watch, at least, where it is long enough
_LEAST, _MOST = 0.5, 5.0  # seconds between two looks


@cli.command(
    epilog=examples(
        "sudo kmwatch leaks",
        "sudo kmwatch leaks -d 5m --sample 1/4",
        "sudo kmwatch leaks --kinds kmalloc,kfree --json",
    )
)
@click.argument("source", default="live", type=click.Choice(["live"]))
@click.option("-d", "--duration", type=SECONDS, default="1m", show_default=True, help="How long to watch.")
@click.option("--sample", type=Sample(), default="1/16", show_default=True, help="Look at one object of so many.")
@KINDS
@click.option("--top", "most", default=10, show_default=True, type=click.IntRange(1), help="Sites shown with stacks.")
@CONFIG
@JSON
def leaks(source: str, duration: float, sample: int, kinds: str | None, most: int, config: Any, as_json: bool) -> None:
    """Watch what is held, and name the sites at which it grows and should not: what may leak.

    Each is shown with the stacks of its objects. Caches that grow by design (dentry, inodes) are only summed up, and
    those whose releases cannot be seen are only named. Ctrl-C ends the watching early, and what was seen so far is
    judged.
    """
    from kmwatch.leaks import grown
    from kmwatch.sources.held import Hold
    from kmwatch.sources.workload import Workload
    from kmwatch.views.leaks import build, render

    hold = Hold(sample, stacks=True, sure=True)
    interval = min(max(duration / _LOOKS, _LEAST), _MOST)
    with Workload((), duration) as workload:
        live = open_source(source, Part(kinds), interval, workload.finished, Detail(hold))
        ledger = _watched(live, workload, duration, thresholds_of(config))
    data = build(ledger, grown(ledger))
    emit(data, as_json, lambda console: render(console, data, most))


def _watched(live: "LiveSource", workload: "Workload", duration: float, thresholds: "Thresholds") -> "Ledger":
    """The ledger of all of it, with a bar of how far it is."""
    from kmwatch.views.progress import Bar

    ledger: Any = None
    with Bar("watching what is held", duration) as bar:
        for ledger in ledgers(live, workload.start, thresholds):
            held = ledger.held
            objects = int(held.rows["objects"].sum()) if held else 0
            bar.show(ledger.seconds, f"{objects:,} objects held")
    return ledger  # type: ignore[no-any-return]
