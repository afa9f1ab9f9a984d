"""A fleet's report for the terminal: as wide as it is, no colour where there is none. It decides nothing."""

from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.padding import Padding
from rich.text import Text

from kmwatch.units import number, printable
from kmwatch.views import fleet_words as words
from kmwatch.views.tables import show_shared
from kmwatch.views.text import SEVERITY_STYLES, show_lines, show_rows

_WIDE = 110  # columns from which there is room for both releases and their hosts
_LONGEST = 400  # characters of a name


def render(data: dict[str, Any], console: Console, top: int = 20) -> None:
    """Print a fleet's report (`kmwatch.views.fleet.build`): where to look first, then `top` rows of each list."""
    console.print(Text(_plain(words.verdict(data)), "bold"))
    console.print()
    show_lines({label: text[:_LONGEST] for label, text in words.summary(data).items()}, console)
    _first(data, console)
    _findings(data, console, top)
    _outliers(data, console, top)
    _releases(data, console, top)
    console.print()
    console.print(Text(words.rows_title(data), "bold"), end="")
    show_rows(data["report"], console, top)
    if data["skipped"]:
        rows = [((_plain(each["name"]), _plain(each["reason"])), ()) for each in data["skipped"]]
        _table("Skipped captures", ("capture", "reason"), (), rows[:top], console)
        _rest(words.left_out(data, "skipped", len(rows[:top])), console)


def _first(data: dict[str, Any], console: Console) -> None:
    if not data["first"]:
        return
    console.print()
    console.print(Text("Look first at", "bold"))
    for each in data["first"]:
        console.print(Text.assemble((_plain(each["host"]), "bold cyan"), (f"  score {each['score']}", "dim")))
        for reason in each["reasons"]:
            console.print(Padding(Text(_plain(reason)), (0, 0, 0, 4)))


def _findings(data: dict[str, Any], console: Console, top: int) -> None:
    found = data["findings"][:top]
    if not found:
        console.print()
        console.print(Text("no findings", "green"))
        return
    rows = [
        (
            (Text(each["severity"], SEVERITY_STYLES[each["severity"]]), f"{each['rule']} {each['name']}",
             _plain(words.place(each))),
            (words.hosts_of(each), words.saving(each)),
        )
        for each in found
    ]  # fmt: skip
    _table("Findings", ("severity", "rule", "function"), ("hosts", "saves"), rows, console)
    _rest(words.left_out(data, "findings", len(found)), console)


def _outliers(data: dict[str, Any], console: Console, top: int) -> None:
    far = data["outliers"][:top]
    if not far:
        return
    rows = [
        ((_plain(each["host"]), _plain(words.place(each))), (words.measure(each), *words.outlier_numbers(each)))
        for each in far
    ]
    _table("Outliers", ("host", "function"), ("measure", "value", "median", "times"), rows, console)
    _rest(words.left_out(data, "outliers", len(far)), console)


def _releases(data: dict[str, Any], console: Console, top: int) -> None:
    moved = data["releases"][:top]
    if not moved:
        return
    named, numbered = ("since", "function", "before"), ("measure", "old", "new", "change", "hosts")
    cut = None if console.width >= _WIDE else -1
    rows = []
    for each in moved:
        names = (words.since(each), words.place(each), words.before(each))
        rows.append((tuple(map(_plain, names))[:cut], (words.measure(each), *words.move_numbers(each))[:cut]))
    _table("Changes between releases", named[:cut], numbered[:cut], rows, console)
    _rest(words.left_out(data, "releases", len(moved)), console)


def _table(
    title: str,
    named: Sequence[str],
    numbered: Sequence[str],
    rows: Sequence[tuple[tuple[str | Text, ...], tuple[str, ...]]],
    console: Console,
) -> None:
    console.print()
    console.print(Text(title, "bold"))
    show_shared(named, numbered, rows, console)


def _rest(count: int, console: Console) -> None:
    if count > 0:
        console.print(Text(f"{number(count)} more rows: --top N shows more, --json shows all", "dim"))


def _plain(text: str) -> str:
    """Any text, which cannot steer a terminal nor fill it."""
    return printable(text if len(text) <= _LONGEST else text[:_LONGEST] + "…")
