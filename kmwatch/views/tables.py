"""Tables that the views of text share."""

from collections.abc import Sequence

from rich import box
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

_BETWEEN = 3  # columns between two of a table


def show_table(names: Sequence[str], rows: Sequence[tuple[str, ...]], console: Console, words: int = 0) -> None:
    """A table of numbers, which keep their width; the column of words before them, if there is one, has the rest."""
    widths = [max(map(len, column)) for column in zip(names, *rows, strict=True)]
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for name in names[:words]:
        rest = console.width - sum(widths[words:]) - _BETWEEN * (len(names) - 1)
        table.add_column(name, overflow="ellipsis", no_wrap=True, max_width=max(rest, 10))
    for name in names[words:]:
        table.add_column(name, justify="right", no_wrap=True)
    for row in rows:
        table.add_row(*map(Text, row))
    console.print(table)


def show_shared(
    named: Sequence[str],
    numbered: Sequence[str],
    rows: Sequence[tuple[tuple[str | Text, ...], tuple[str, ...]]],
    console: Console,
    *,
    folded: bool = False,
) -> None:
    """A table of names and numbers. Names share what the numbers leave of the width, each as much as it needs.

    Those that are too long are cut, or `folded`.
    """
    numbers = [max(map(len, column)) for column in zip(numbered, *(row[1] for row in rows), strict=True)]
    needed = [
        max(cell_len(line) for each in column for line in str(each).split("\n"))
        for column in zip(named, *(row[0] for row in rows), strict=True)
    ]
    room = console.width - sum(numbers) - _BETWEEN * (len(named) + len(numbered) - 1)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for name, width in zip(named, _shared(needed, room), strict=True):
        table.add_column(name, overflow="fold" if folded else "ellipsis", no_wrap=not folded, max_width=width)
    for name in numbered:
        table.add_column(name, justify="right", no_wrap=True)
    for first, second in rows:
        table.add_row(*(each if isinstance(each, Text) else Text(each) for each in (*first, *second)))
    console.print(table)


def _shared(needed: Sequence[int], room: int) -> list[int]:
    """Widths: who needs less than an equal share has all of it, the others share the rest."""
    widths = list(needed)
    for left, at in enumerate(sorted(range(len(needed)), key=lambda each: needed[each])):
        widths[at] = min(needed[at], max(room // (len(needed) - left), 6))
        room -= widths[at]
    return widths
