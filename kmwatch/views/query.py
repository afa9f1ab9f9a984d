"""The answer to a query: a table, CSV, or JSON. Rows are read as they are printed."""

import csv
import json
from collections.abc import Callable, Iterator
from typing import IO, Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from kmwatch.units import printable

_MOST_SHOWN = 1000
_AT_ONCE = 10_000
Rows = Callable[[int], list[tuple[Any, ...]]]


def show_table(columns: tuple[str, ...], rows: Rows, console: Console) -> None:
    """A table of the first rows; more than that is for --csv."""
    shown = rows(_MOST_SHOWN)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for at, name in enumerate(columns):
        numeric = all(isinstance(row[at], int | float) or row[at] is None for row in shown)
        table.add_column(Text(printable(name)), justify="right" if numeric else "left", overflow="fold")
    for row in shown:
        table.add_row(*(Text("" if value is None else printable(str(value))) for value in row))
    console.print(table)
    if rows(1):
        console.print(Text(f"only the first {_MOST_SHOWN} rows: --csv or --json prints all", "dim"))


def write_csv(columns: tuple[str, ...], rows: Rows, file: IO[str]) -> None:
    """All rows as CSV, the names first: exactly what they are in a file, printable on a terminal."""
    shown: Callable[[Any], Any] = _printable if file.isatty() else lambda value: value
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(map(shown, columns))
    for row in _each(rows):
        writer.writerow(map(shown, row))


def write_json(columns: tuple[str, ...], rows: Rows, file: IO[str]) -> None:
    """All rows as a JSON array of objects, one a line."""
    file.write("[")
    for at, row in enumerate(_each(rows)):
        file.write(",\n " if at else "\n ")
        file.write(json.dumps(dict(zip(columns, row, strict=True)), default=str))
    file.write("\n]\n")


def _printable(value: Any) -> Any:
    return value if value is None or isinstance(value, int | float) else printable(str(value))


def _each(rows: Rows) -> Iterator[tuple[Any, ...]]:
    while some := rows(_AT_ONCE):
        yield from some
