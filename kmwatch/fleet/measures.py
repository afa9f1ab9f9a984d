"""What hosts and releases are compared by: names as they are published, words and units as they are shown."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from kmwatch.fleet.sums import Array
from kmwatch.units import short, size


@dataclass(frozen=True)
class Measure:
    """What a number is called where people read it, how it is written, and how much an outlier by it matters."""

    words: str
    shown: Callable[[float], str]
    weight: int = 0


@dataclass(frozen=True)
class Column:
    """A measure of each row: its value, the logarithm by which values are compared, and whether it is worth a look."""

    values: Array
    logs: Array
    matters: Array


def _events(value: float) -> str:
    return f"{value:.3g}" if value < 10 else short(value)


MEASURES = {
    "failures_per_second": Measure("failures", lambda value: f"{_events(value)}/s", 8),
    "bytes_wasted_per_second": Measure("wasted", lambda value: f"{size(value)}/s", 4),
    "waste_share": Measure("waste", lambda value: f"{value:.1%}", 4),
    "bytes_allocated_per_second": Measure("allocated", lambda value: f"{size(value)}/s", 2),
    "count_per_second": Measure("allocations", lambda value: f"{_events(value)}/s", 1),
    "bytes_per_allocation": Measure("an allocation", size),
    "failures_per_thousand": Measure("failures in 1000", _events),
}
"""By name. Real failures are meant: those that callers expect are not counted."""


def factor(value: float) -> str:
    """How many times, `5.3` or `120`."""
    return f"{value:.1f}" if value < 99.95 else short(value)


def column(values: Array, floor: float, matters: Array) -> Column:
    """A measure whose values below the floor are all the same: there is no logarithm of nothing."""
    return Column(values, np.log(np.maximum(values, floor)), matters)


def share_column(share: Array, floor: float, matters: Array) -> Column:
    """A share, compared by its odds: those from 50 % to 80 % are four times as high, as from 20 % to 50 %."""
    odds = share / np.maximum(1.0 - share, 1e-9)
    return Column(share, np.log(np.maximum(odds, floor)), matters)
