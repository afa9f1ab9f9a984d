"""What changed between two runs: plain data in the form `kmwatch.diff/1`, and the same as a table."""

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from kmwatch import __version__
from kmwatch.gate.changes import MEASURES, Change, Run
from kmwatch.gate.conditions import Condition
from kmwatch.units import number, printable, short, size

if TYPE_CHECKING:
    from rich.console import Console

SCHEMA = "kmwatch.diff/1"
_STYLES = {"new": "yellow", "gone": "green", "grown": "yellow", "shrunk": "green"}
_STATES = ("new", "grown", "shrunk", "gone")
_COLUMNS = 54  # of the state and the numbers
_MANY_LOST = 1000  # one event in so many makes counts doubtful


def build(
    runs: Sequence[tuple[str, Run]], per: str, changed: Sequence[Change], conditions: Sequence[Condition]
) -> dict[str, Any]:
    """The changes from the first of two runs to the second as plain data; all numbers are per `per`."""
    (_, before), (_, after) = runs
    failed = [each for each in conditions if each.holds(before, after)]
    return {
        "schema": SCHEMA,
        "kmwatch": __version__,
        "per": per,
        "runs": [_run(source, run) for source, run in runs],
        "passed": not failed,
        "conditions": [
            {
                "text": each.text,
                "holds": each in failed,
                "growth": grown if (grown := each.growth(before, after)) != float("inf") else None,
            }
            for each in conditions
        ],
        "changes": [_change(each) for each in changed],
        "notes": _notes(runs),
    }


def _run(source: str, run: Run) -> dict[str, Any]:
    ledger = run.ledger
    return {
        "source": source,
        "kernel": ledger.meta.host.kernel,
        "seconds": round(ledger.seconds, 6),
        "units": run.units,
        "total": run.total(),
    }


def _change(change: Change) -> dict[str, Any]:
    return {
        "symbol": change.place.symbol,
        "module": change.place.module,
        "state": change.state,
        "before": change.before,
        "after": change.after,
    }


def _notes(runs: Sequence[tuple[str, Run]]) -> list[str]:
    """What makes the comparison doubtful."""
    notes = []
    for source, run in runs:
        trust, events = run.ledger.trust, run.ledger.events()
        missing = trust.lost + trust.map_full
        if missing * _MANY_LOST > events:
            notes.append(f"{source}: {number(missing)} of {number(events + missing)} events are not counted")
        notes += [f"{source}: {doubt}" for doubt in run.ledger.meta.doubts]
        if unnamed := sum(not place.named for place in run.sums):
            notes.append(f"{source}: {number(unnamed)} functions have no name, and no partner in the other run")
    return notes


def render(data: dict[str, Any], console: "Console", top: int) -> None:
    """Print the totals, the greatest changes, and whether the conditions held."""
    from rich.text import Text

    _totals(data, console)
    if data["changes"]:
        _changes(data, console, top)
    for note in data["notes"]:
        console.print(Text(printable(f"note    {note}"), "cyan"))
    for each in data["conditions"]:
        grown = "from nothing" if each["growth"] is None else f"by {each['growth']:g}{'%' * each['text'].endswith('%')}"
        style = "bold red" if each["holds"] else "green"
        console.print(Text(f"{'failed' if each['holds'] else 'passed'}  {each['text']}: it grew {grown}", style))
    counts = Counter(each["state"] for each in data["changes"])
    told = ", ".join(f"{number(counts[state])} {state}" for state in _STATES if counts[state])
    console.print(Text(told or "no function changed", "" if told else "green"))


def _totals(data: dict[str, Any], console: "Console") -> None:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    table.add_column(Text(f"per {printable(data['per'])}"), no_wrap=True, overflow="ellipsis", max_width=_room(console))
    for name in MEASURES:
        table.add_column(name, justify="right", no_wrap=True)
    for run in data["runs"]:
        name = f"{run['source']} ({run['kernel']})"
        table.add_row(Text(printable(name)), *(Text(each) for each in _numbers(run["total"])))
    console.print(table)
    console.print()


def _changes(data: dict[str, Any], console: "Console", top: int) -> None:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    table.add_column("", no_wrap=True)
    table.add_column("function", overflow="ellipsis", no_wrap=True, max_width=_room(console))
    for name in MEASURES:
        table.add_column(name, justify="right", no_wrap=True)
    for each in data["changes"][:top]:
        place = f"{each['symbol']} [{each['module']}]" if each["module"] else each["symbol"]
        more = {name: each["after"][name] - each["before"][name] for name in each["after"]}
        row = Text(each["state"], _STYLES[each["state"]]), Text(printable(place))
        table.add_row(*row, *(Text(one if one[0] == "-" else f"+{one}") for one in _numbers(more)))
    console.print(table)
    if len(data["changes"]) > top:
        rest = number(len(data["changes"]) - top)
        console.print(Text(f"{rest} more rows: --top N shows more, --json shows all", "dim"))
    console.print()


def _room(console: "Console") -> int:
    """The columns that names have: the numbers keep theirs."""
    return max(console.width - _COLUMNS, 20)


def _numbers(sums: dict[str, float]) -> list[str]:
    """Bytes as sizes, counts as counts; below ten a rate of events needs its fraction."""
    return [size(sums["bytes"]), _count(sums["count"]), size(sums["waste"]), _count(sums["failures"])]


def _count(value: float) -> str:
    return f"{value:.2f}" if value % 1 and abs(value) < 10 else short(value)
