"""Tables that the views of text share."""

from collections.abc import Sequence

from rich import box
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
