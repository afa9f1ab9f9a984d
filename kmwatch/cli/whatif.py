"""The command that replays what kmalloc was asked for against other size classes."""

from typing import TYPE_CHECKING, Any

import click

from kmwatch.cli.base import JSON, PART, SECONDS, WithCommand, cli, emit, examples, say
from kmwatch.cli.sources import Part, ledgers, open_source, refuse_live_only
from kmwatch.errors import UsageError

if TYPE_CHECKING:
    from kmwatch.demand import Demand
    from kmwatch.sources.workload import Workload
    from kmwatch.views.progress import Progress

_MOST_CLASSES = 1000
_EXTRA = 4


class _Classes(click.ParamType):  # type: ignore[type-arg]  # generic since click 8.3
    """Sizes in bytes, separated by commas."""

    name = "LIST"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, ...]:
        """The sizes, ascending, each once; a usage error for what no object can have."""
        words = [word.strip() for word in str(value).split(",")]
        for word in words:
            if not (word.isascii() and word.isdigit() and len(word) < 10) or int(word) % 8 or not int(word):
                self.fail(f"{word!r:.40} is not a size class: give bytes, multiples of 8, as 64,96,128", param, ctx)
        if len(words) > _MOST_CLASSES:
            self.fail(f"these are {len(words)} classes: {_MOST_CLASSES} at most", param, ctx)
        return tuple(sorted({int(word) for word in words}))


@cli.command(
    cls=WithCommand,
    epilog=examples(
        "kmwatch whatif boot.kmw",
        "kmwatch whatif boot.kmw --extra 8 --site '\\[nvme\\]$'",
        "kmwatch whatif boot.kmw --classes 8,16,32,64,128,256,512,1024,2048,4096,8192",
        "sudo kmwatch whatif live -d 30 --json > whatif.json",
    ),
)
@click.argument("source", default="live")
@click.option("-d", "--duration", type=SECONDS, help="Seconds to watch `live`; 5 by default.")
@click.option("--classes", type=_Classes(), help="What these size classes would have cost, in bytes: 8,16,32,64.")
@click.option("--extra", type=click.IntRange(1, 64), help="How many extra classes to find; 4 by default.")
@PART
@click.option("--top", "rows", default=20, show_default=True, type=click.IntRange(1), help="Rows of the caches' table.")
@JSON
@click.pass_context
def whatif(ctx: click.Context, /, source: str, duration: float | None, rows: int, as_json: bool, **asked: Any) -> None:
    """Say what kmalloc's requests would take from other size classes, or from caches of their own.

    Without --classes it finds the extra classes that would save most of all, and the best kmem_cache for each call
    site. Bytes are those of slabs, with the order that SLUB would choose. SOURCE is as of `report`: of a capture or a
    text each size is known exactly, `live` to an eighth of its class.
    """
    refuse_live_only(source, ctx.meta["command"], duration)
    classes, extra = asked.pop("classes"), asked.pop("extra")
    if classes and extra:
        raise UsageError("--classes and --extra exclude each other: what is given is not searched for")
    data = _replayed(source, duration, ctx.meta["command"], Part("kmalloc", **asked), (classes, extra or _EXTRA))
    _print(data, as_json, rows)


def _replayed(
    source: str, duration: float | None, command: tuple[str, ...], part: Part, wanted: tuple[Any, int]
) -> dict[str, Any]:
    from kmwatch.sources.workload import Workload
    from kmwatch.views import whatif as view
    from kmwatch.views.progress import Progress

    with Workload(command, duration or (None if command else 5.0)) as workload:
        opened = open_source(source, part, 1.0, workload.finished)
        classes, extra = wanted
        if classes and classes[-1] > opened.meta.limits.costly:
            raise UsageError(f"{classes[-1]} bytes: SLUB has no class above {opened.meta.limits.costly}, only pages")
        with Progress() as progress:
            watch = _watched if source == "live" else _recorded
            demand = watch(opened, workload, progress)
    return view.build(demand, opened.meta, classes, extra)


def _watched(live: Any, workload: "Workload", progress: "Progress") -> "Demand":
    from kmwatch.demand import Demand, by_eighths

    demand = Demand(exact=False)
    for ledger in ledgers(live, workload.start):
        progress.show({"seconds": ledger.seconds, "events": ledger.events(), "lost": ledger.trust.lost})
        rows, trust, cost = by_eighths(ledger.rows), ledger.trust, ledger.cost
        demand = Demand(False, rows, ledger.start, ledger.seconds, trust, cost)
    return demand


def _recorded(capture: Any, workload: "Workload", progress: "Progress") -> "Demand":
    from kmwatch.demand import Demand

    demand = Demand(exact=True)
    with capture:
        say(capture.notes)
        for part in capture.demand():
            demand.add(part)
            events = int(demand.requests["count"].sum())
            progress.show({"seconds": demand.seconds, "events": events, "lost": demand.trust.lost})
            if workload.interrupted:
                say([f"interrupted: these are its first {demand.seconds:.1f} s"])
                break
    return demand


def _print(data: dict[str, Any], as_json: bool, rows: int) -> None:
    from kmwatch.views.whatif import render

    emit(data, as_json, lambda console: render(data, console, rows))
