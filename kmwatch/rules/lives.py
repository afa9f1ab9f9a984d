"""What rules on held objects share: rows of the table with their grade, and the allocations that belong to them."""

from collections.abc import Iterator
from typing import Any

from kmwatch.coverage import UNKNOWN, Coverage, coverage, labels
from kmwatch.held import Held, median_seconds
from kmwatch.ledger import Ledger
from kmwatch.schema import Kind

# A size class of kmalloc is what a cache is; areas have as many sizes as there are callers.
_COLUMNS = {
    Kind.KMALLOC: ("site", "bytes_alloc"),
    Kind.CACHE_ALLOC: ("site", "cache"),
    Kind.VMALLOC: ("site",),
}
COUNTED = tuple(_COLUMNS)
"""The kinds of which `lives` knows what belongs together."""


class Life:
    """What one site does with one cache, size class, or kind of memory.

    row: dtype HELD. name: of the cache. grade: A to C. group: the allocations, as of Ledger.groups.
    """

    def __init__(self, row: Any, bits: int, known: Coverage, group: Any) -> None:
        self.row, self._bits, self.group = row, bits, group
        self.name, self.grade = known.name, known.grade

    @property
    def looked_at(self) -> int:
        """The released objects whose lifetimes are known: those of the sample."""
        return int(self.row["released"]) >> self._bits

    @property
    def median(self) -> float:
        """Half of the released objects lived at most so many seconds; infinity where none was released."""
        found = median_seconds(self.row["lifetimes"])
        return float("inf") if found is None else found

    @property
    def elsewhere(self) -> float:
        """The share of the releases that was on another CPU than the allocation."""
        return int(self.row["elsewhere"]) / max(int(self.row["released"]), 1)


def lives(ledger: Ledger, kind: Kind, *, least: float = 0.0) -> Iterator[Life]:
    """What is known of a kind of COUNTED, by site and cache or size class; nothing of grade D.

    Args:
        ledger: what was watched.
        kind: one of COUNTED.
        least: allocations a second, at least. They are counted each; what was looked at may be any share of them.
    """
    of_kind = _of_kind(ledger, kind)
    if of_kind is None:
        return
    columns = _COLUMNS[kind]
    groups = ledger.groups(*columns, kinds=(kind,))
    groups = groups[groups["count"] >= max(least * ledger.seconds, 1)]
    busy = {tuple(int(group[name]) for name in columns): group for group in groups}
    if not busy:
        return
    rows, covered = of_kind.grouped("kind", *columns), coverage(ledger)
    for row, label in zip(rows, labels(rows, ledger.meta.caches), strict=True):
        group = busy.get(tuple(int(row[name]) for name in columns))
        if group is not None and covered[label].grade != UNKNOWN:
            yield Life(row, of_kind.bits, covered[label], group)


def _of_kind(ledger: Ledger, kind: Kind) -> Held | None:
    if ledger.held is None:
        return None
    rows = ledger.held.rows
    return Held(rows[rows["kind"] == kind], ledger.held.bits)


def confidence(grade: str, best: str = "likely") -> str:
    """How sure a finding is that rests on numbers of this grade; `best` where they are right."""
    return best if grade < "C" else "candidate"
