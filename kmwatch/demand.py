"""What kmalloc was asked for: each size, how often, by whom. From single events exactly, from a ledger by eighths."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from kmwatch.batch import Cost, Rows, Trust
from kmwatch.events import fill_shifts
from kmwatch.schema import FILL_BUCKETS, Kind

Array = np.ndarray[Any, np.dtype[Any]]

REQUEST = np.dtype([("site", "<u4"), ("size", "<i8"), ("taken", "<i8"), ("count", "<i8")])
"""So many requests of one size from one site: `size` was asked for and `taken` given, in bytes; none that failed."""

LARGEST = 1 << 32
"""Bytes that no kmalloc reaches; a larger number is none of a kernel and is taken for this one."""


@dataclass
class Demand:
    """Requests (dtype REQUEST, each site, size and taken once) over a span, in seconds since the epoch and seconds.

    exact: sizes are what was asked for; otherwise each is the largest of its eighth of the size class that it can be.
    """

    exact: bool
    requests: Array = field(default_factory=lambda: np.zeros(0, REQUEST))
    start: float = 0.0
    seconds: float = 0.0
    trust: Trust = field(default_factory=Trust)
    cost: Cost = field(default_factory=Cost)

    def add(self, other: "Demand") -> None:
        """Add what follows in time."""
        if not self.seconds:
            self.start = other.start
        self.seconds += other.seconds
        self.trust.add(other.trust)
        self.cost = Cost(self.cost.kernel + other.cost.kernel, self.cost.own + other.cost.own)
        self.exact &= other.exact
        self.requests = merged(np.concatenate([self.requests, other.requests]))


def requests(site: Array, size: Array, taken: Array, count: Array) -> Array:
    """Requests from columns; what has no size, or no count left, is left out."""
    made = np.zeros(len(site), REQUEST)
    for name, column in zip(REQUEST.names or (), (site, size, taken, count), strict=True):
        made[name] = np.clip(column, 0, LARGEST) if name == "size" else column
    return merged(made[(made["size"] > 0) & (made["count"] > 0)])


def merged(parts: Array) -> Array:
    """Requests with equal site, size and taken added up, in this order."""
    if not len(parts):
        return parts
    parts = parts[np.lexsort((parts["taken"], parts["size"], parts["site"]))]
    changed = np.ones(len(parts), bool)
    changed[1:] = np.any([parts[name][1:] != parts[name][:-1] for name in ("site", "size", "taken")], axis=0)
    starts = np.flatnonzero(changed)
    sums: Array = parts[starts].copy()
    sums["count"] = np.add.reduceat(parts["count"], starts)
    return sums


def by_eighths(rows: Rows) -> Array:
    """The requests in rows of a ledger: each is as large as its eighth of the size class lets it be.

    The smallest and largest of a row are known, so a row of one size is exact. Where the eighths do not add up to the
    row, for they are modulo 2^32, all of it is as large as the largest.
    """
    rows = rows[(rows["kind"] == Kind.KMALLOC) & (rows["failed"] == 0) & (rows["count"] > 0)]
    fill, largest = rows["fill"].astype(np.int64), rows["max_request"].astype(np.int64)
    eighths = np.arange(1, FILL_BUCKETS + 1) << fill_shifts(rows)[:, None]
    uppers = np.minimum(eighths, largest[:, None])
    whole = (fill.sum(axis=1) != rows["count"]) | (rows["min_request"] == rows["max_request"])
    fill[whole] = 0
    fill[whole, -1], uppers[whole, -1] = rows["count"][whole], largest[whole]
    site, taken = (np.repeat(rows[name], FILL_BUCKETS) for name in ("site", "bytes_alloc"))
    return requests(site, uppers.ravel(), taken, fill.ravel())
