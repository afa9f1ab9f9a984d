"""Adding up rows that belong together."""

import numpy as np

from kmwatch.batch import GROUPING, STACKED, Rows
from kmwatch.runs import Array, runs

_STACKED_BY = tuple(name for name in STACKED.names or () if name != "count")


def merged(rows: Rows) -> Rows:
    """Rows (dtype ROW) with equal keys added up; rows that were taken back altogether disappear."""
    order, starts = runs([rows[name] for name in GROUPING], len(rows))
    if not len(starts):
        return rows
    rows = rows[order]
    sums = rows[starts].copy()
    for name in ("count", "bytes_requested", "bytes_allocated"):
        sums[name] = np.add.reduceat(rows[name], starts)
    reduce_requests(sums, rows, starts)
    kept: Rows = sums[(sums["count"] != 0) | (sums["bytes_requested"] != 0)]
    return kept


def reduce_requests(into: Array, rows: Array, starts: Array) -> None:
    """Smallest and largest request and the fill of each run of `rows`, that begin at `starts`."""
    into["min_request"] = np.minimum.reduceat(rows["min_request"], starts)
    into["max_request"] = np.maximum.reduceat(rows["max_request"], starts)
    into["fill"] = np.add.reduceat(rows["fill"], starts, axis=0)


def merged_stacks(stacked: Rows) -> Rows:
    """Rows (dtype STACKED) with equal keys and stacks added up."""
    order, starts = runs([stacked[name] for name in _STACKED_BY], len(stacked))
    sums: Rows = stacked[order[starts]]
    if len(starts):
        sums["count"] = np.add.reduceat(stacked["count"][order], starts)
    return sums
