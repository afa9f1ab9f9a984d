"""Hosts that differ from the fleet in what a function does there: far above the median, and enough of it to matter.

Values are compared by their logarithms, since rates of hosts differ by factors. The spread is that of a bell curve with
the same median of absolute deviations, or with the same upper tenth where that is wider: what more than a tenth of the
hosts do is how the fleet is. It is taken for wider where few hosts tell it, and never for so narrow that less than
`outlier_times` the median were far.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from math import log

import numpy as np

from kmwatch.fleet.measures import Column, column, share_column
from kmwatch.fleet.sums import Array, Hosts, grouped
from kmwatch.gate.places import Place
from kmwatch.thresholds import Thresholds

DEVIATION = 1.4826
"""Standard deviations in a median of absolute deviations, of a bell curve."""

_UPPER_TENTH = 1.2816  # standard deviations from the median to it
_FEW = 8.0  # of so many hosts a spread is taken for twice as wide: theirs may be narrow by chance
_SHORTEST = 1_000_000  # microseconds: of less a rate means nothing
_NO_SPREAD = 1e-9  # where a threshold is set to nothing
_UNSEEN = 0.01  # of what matters: less is the same as nothing


@dataclass(frozen=True)
class Outlier:
    """A host, a function and a measure by which it is far above the fleet.

    value, median: of this host and of all `hosts` that have the function. times: value by median, None where that is 0.
    spreads: how many spreads lie between them, on a logarithmic scale.
    """

    host: str
    place: Place
    measure: str
    value: float
    median: float
    times: float | None
    spreads: float
    hosts: int


def outliers(hosts: Hosts, limits: Thresholds) -> list[Outlier]:
    """All of them, the farthest first."""
    found = [each for rows in hosts.blocks() for each in _outliers(hosts, rows, limits)]
    return sorted(found, key=lambda each: (-each.spreads, each.host, each.place, each.measure))


def _outliers(hosts: Hosts, block: Array, limits: Thresholds) -> Iterator[Outlier]:
    """Those of some functions."""
    rows = grouped(block[hosts.micros[block["host"]] >= _SHORTEST], "place", "host")
    if not len(rows):
        return
    starts = np.flatnonzero(np.diff(rows["place"], prepend=rows["place"][0] + 1))
    ends = np.append(starts[1:], len(rows))
    for name, measured in _columns(rows, hosts.micros[rows["host"]] / 1e6, limits).items():
        worth = np.logical_or.reduceat(measured.matters, starts) & (ends - starts >= limits.outlier_hosts)
        for start, end in zip(starts[worth].tolist(), ends[worth].tolist(), strict=True):
            values, logs, matters = (each[start:end] for each in (measured.values, measured.logs, measured.matters))
            median, spreads = float(np.median(values)), far(logs, limits)
            for at in np.flatnonzero(matters & (spreads > limits.outlier_spreads)).tolist():
                value = float(values[at])
                host, place = hosts.names[rows["host"][start + at]], hosts.places[rows["place"][start]]
                times = value / median if median > 0 else None
                yield Outlier(host, place, name, value, median, times, float(spreads[at]), end - start)


def far(logs: Array, limits: Thresholds) -> Array:
    """By how many spreads each value lies above the median of all."""
    above = logs - np.median(logs)
    tenth = float(np.quantile(above, 0.9, method="lower"))
    spread = max(DEVIATION * float(np.median(np.abs(above))), tenth / _UPPER_TENTH) * (1 + _FEW / len(logs))
    least = log(max(limits.outlier_times, 1)) / max(limits.outlier_spreads, _NO_SPREAD)
    return np.asarray(above / max(spread, least, _NO_SPREAD))


def _columns(rows: Array, seconds: Array, limits: Thresholds) -> dict[str, Column]:
    """Every measure of each function on each host."""
    rates = {name: rows[name] / seconds for name in ("count", "failures", "bytes_allocated", "bytes_wasted")}
    share = rows["bytes_wasted"] / np.maximum(rows["bytes_allocated"], 1)
    enough = rows["count"] >= limits.outlier_count
    matters = {
        "bytes_allocated": (limits.outlier_bytes_rate, enough),
        "bytes_wasted": (limits.waste_rate, enough),
        "count": (limits.outlier_count_rate, enough),
        "failures": (limits.outlier_failures_rate, rows["failures"] >= limits.outlier_count),
    }
    columns = {
        f"{name}_per_second": column(rates[name], max(least * _UNSEEN, 1e-9), among & (rates[name] >= least))
        for name, (least, among) in matters.items()
    }
    wasteful = enough & (rates["bytes_wasted"] >= limits.waste_rate) & (share >= limits.waste_share)
    columns["waste_share"] = share_column(share, _UNSEEN, wasteful)
    return columns
