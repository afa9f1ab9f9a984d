"""A ledger by slices of time, as forms that tell times need it."""

from collections.abc import Iterator
from typing import NamedTuple

from kmwatch.batch import Rows
from kmwatch.ledger import Ledger

_LEAST = 1e-3  # seconds; of less there is no rate


class Slice(NamedTuple):
    """Rows of a span: its start in seconds since the epoch, its length in seconds."""

    start: float
    seconds: float
    rows: Rows


def slices(ledger: Ledger) -> Iterator[Slice]:
    """The slices of its timeline, the last as long as was watched; without a timeline all is one."""
    line, end = ledger.timeline, ledger.start + ledger.seconds
    if not line or not line.slices:
        yield Slice(ledger.start, max(ledger.seconds, _LEAST), ledger.rows)
        return
    for at, rows in enumerate(line.slices):
        begin = line.start + at * line.length
        last = at == len(line.slices) - 1
        yield Slice(begin, max(end - begin, _LEAST) if last else line.length, rows)
