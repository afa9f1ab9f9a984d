"""What a gate says: plain data in the form `kmwatch.check/1`, and the same as text."""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kmwatch import __version__
from kmwatch.findings import Finding
from kmwatch.gate.places import Place, spot_of
from kmwatch.gate.verdict import Judged, Limit, Verdict
from kmwatch.kernel.debuginfo import Code
from kmwatch.ledger import Ledger
from kmwatch.units import number, printable, seconds
from kmwatch.views.report import finding

if TYPE_CHECKING:
    from rich.console import Console

SCHEMA = "kmwatch.check/1"

Lines = Mapping[Code, tuple[str, int]]


def code_of(one: Finding) -> Code | None:
    """The place in the code that debug information is asked for; None where the offset is not known."""
    spot = spot_of(one)
    return None if spot.offset is None else Code(spot.symbol, spot.offset, spot.place.module)


def build(ledger: Ledger, verdict: Verdict, source: str, baseline: str | None, lines: Lines) -> dict[str, Any]:
    """The verdict as plain data. passed: no limit is exceeded; baseline: its file, None where there is none."""
    over = verdict.over
    return {
        "schema": SCHEMA,
        "kmwatch": __version__,
        "source": source,
        "baseline": baseline,
        "kernel": ledger.meta.host.kernel,
        "seconds": round(ledger.seconds, 6),
        "events": ledger.events(),
        "lost": ledger.trust.lost + ledger.trust.map_full,
        "passed": not over,
        "limits": [_limit(each) for each in verdict.limits],
        "findings": [_finding(each, over, lines) for each in verdict.judged],
        "gone": [asdict(each) for each in verdict.gone],
        "notes": [f"module {name} allocated nothing: was it loaded and used?" for name in verdict.unseen],
    }


def _limit(limit: Limit) -> dict[str, Any]:
    return {
        "name": limit.name,
        "most": limit.most,
        "value": limit.value,
        "unit": limit.unit,
        "over": limit.over,
    }


def _finding(judged: Judged, over: frozenset[str], lines: Lines) -> dict[str, Any]:
    """A finding; known: the baseline has it; counts: it counts against a limit that is exceeded; line: from 1."""
    one = judged.found.finding
    place, code = spot_of(one).place, code_of(one)
    file, line = lines.get(code, (None, None)) if code else (None, None)
    return {
        **finding(judged.found),
        "symbol": place.symbol,
        "module": place.module,
        "file": relative(file) if file else None,
        "line": line,
        "known": judged.known,
        "counts": not judged.known and judged.limit in over,
    }


def relative(file: str) -> str:
    """A path as seen from the current directory where it lies below, else as it is."""
    path, here = Path(file), Path.cwd()
    return str(path.relative_to(here)) if path.is_relative_to(here) else str(path)


def render(data: dict[str, Any], console: "Console") -> None:
    """Print a verdict: the findings that are not known, what is gone, the limits, and the end of it in one line."""
    from rich.padding import Padding
    from rich.text import Text

    for each in (one for one in data["findings"] if not one["known"]):
        where = f" ({each['file']}:{each['line']})" if each["file"] else ""
        style = "bold red" if each["counts"] else "yellow"
        head = (f"{each['severity']:<8}", style), (each["rule"], "bold"), f" {each['name']}  "
        console.print(Text.assemble(*head, (printable(each["site"] + where), "bold")))
        console.print(Padding(Text(printable(each["message"])), (0, 0, 0, 8)))
        console.print(Padding(Text(printable(each["advice"]), "italic"), (0, 0, 0, 8)))
    for each in data["gone"]:
        told = f"gone    {each['rule']} {Place(each['symbol'], each['module']).label}: no longer found"
        console.print(Text(printable(told), "green"))
    for line in data["notes"]:
        console.print(Text(printable(f"note    {line}"), "cyan"))
    _limits(data, console)


def _limits(data: dict[str, Any], console: "Console") -> None:
    from rich.text import Text

    for each in data["limits"]:
        if each["over"]:
            unit = "found" if each["unit"] == "findings" else each["unit"]
            told = f"over    {each['name']}: {_amount(each['value'])} {unit}, allowed {_amount(each['most'])}"
            console.print(Text(printable(told), "bold red"))
    known = sum(one["known"] for one in data["findings"])
    new = len(data["findings"]) - known
    found = f"{number(new)} finding{'s' * (new != 1)}, {number(known)} known, {number(len(data['gone']))} gone"
    doubt = f", {number(data['lost'])} lost" if data["lost"] else ""
    span = f"{number(data['events'])} events in {seconds(data['seconds'])}{doubt}"
    head = ("passed", "bold green") if data["passed"] else ("failed", "bold red")
    console.print(Text.assemble(head, f": {found}; {span}"))


def _amount(value: float) -> str:
    return number(round(value)) if value == int(value) or value >= 100 else f"{value:.1f}"
