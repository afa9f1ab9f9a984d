"""What changed from one release to the next: where the median over hosts of what a function does moved, and clearly.

A host counts once for each release that it was watched with. Compared are ratios, which do not depend on the load: how
much of what is allocated is wasted, how large an allocation is, how many fail.
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import pairwise
from math import sqrt

import numpy as np

from kmwatch.fleet.measures import Column, column, share_column
from kmwatch.fleet.outliers import DEVIATION
from kmwatch.fleet.sums import Array, Hosts, grouped
from kmwatch.gate.places import Place
from kmwatch.thresholds import Thresholds

_TENTH = 1.6449  # standard deviations within which nine of ten lie
_OF_MEDIAN = 1.2533  # the standard error of a median, by that of a mean
_LEAST = 0.01  # spread that is taken for none: medians of equal hosts differ by rounding
_FEW = 8.0  # of so many hosts a spread is taken for twice as wide


@dataclass(frozen=True)
class _Medians:
    old: float
    new: float
    change: float | None
    errors: float


@dataclass(frozen=True)
class Move:
    """A function of which a measure's median moved from one release to the next that enough hosts have.

    subject: whose releases they are: "kernel", or the module's name for its own versions.
    before, after: releases, and hosts that have the function on each; old, new: the medians.
    change: new by old, less 1; None where old is 0. errors: how many standard errors lie between the medians.
    """

    place: Place
    subject: str
    measure: str
    before: str
    after: str
    hosts_before: int
    hosts_after: int
    old: float
    new: float
    change: float | None
    errors: float


def moves(hosts: Hosts, limits: Thresholds) -> list[Move]:
    """What changed with the kernel, and what with a module's own version; the clearest first."""
    by = {"kernel": hosts.releases, "module": hosts.versions}
    found = [move for block in hosts.blocks() for each in by for move in _moves(hosts, block, each, by[each], limits)]
    return sorted(found, key=lambda each: (-each.errors, each.place, each.measure, each.subject, each.before))


def _moves(hosts: Hosts, block: Array, by: str, labels: list[str], limits: Thresholds) -> Iterator[Move]:
    """Those of some functions, by the releases in this column of the rows; labels are their names, in order."""
    named = np.array([bool(label) for label in labels], bool)
    rows = grouped(block[named[block[by]]], "place", by, "host")
    rows = rows[rows["count"] + rows["failures"] >= limits.release_count]
    if not len(rows):
        return
    columns = _columns(rows, limits)
    starts = np.flatnonzero(np.diff(rows["place"], prepend=rows["place"][0] + 1))
    for start, end in zip(starts.tolist(), [*starts[1:].tolist(), len(rows)], strict=True):
        sides = _sides(rows[by][start:end], start, limits)
        place = hosts.places[rows["place"][start]]
        subject = place.module if by == "module" else by
        for old, new in pairwise(sides):
            for name, measured in columns.items():
                move = _move(measured, old, new, limits)
                if move:
                    before, after = (labels[rows[by][side.start]] for side in (old, new))
                    counts = (old.stop - old.start, new.stop - new.start)
                    yield Move(place, subject, name, before, after, *counts, **asdict(move))


def _sides(releases: Array, start: int, limits: Thresholds) -> list[slice]:
    """The rows of each release that enough hosts have; equal ones lie together."""
    cuts = np.flatnonzero(np.diff(releases)) + 1
    edges = [0, *cuts.tolist(), len(releases)]
    return [slice(start + a, start + b) for a, b in pairwise(edges) if b - a >= limits.release_hosts]


def _move(measured: Column, old: slice, new: slice, limits: Thresholds) -> _Medians | None:
    """Both medians; None where nothing moved that matters, or not clearly."""
    if not any(measured.matters[side].mean() > 0.5 for side in (old, new)):
        return None
    was, now = (float(np.median(measured.values[side])) for side in (old, new))
    change = now / was - 1 if was > 0 else None
    if change is not None and abs(change) < limits.release_change:
        return None
    logs = [measured.logs[side] for side in (old, new)]
    middles = [float(np.median(each)) for each in logs]
    distance = (middles[1] - middles[0]) * (1 if now > was else -1)
    rests = [np.abs(each - middle) for each, middle in zip(logs, middles, strict=True)]
    together = _spread(np.concatenate(rests))
    # Those of few hosts may be alike by chance, and those of short captures farther apart than the others.
    variances = [max(_spread(each), together) ** 2 / len(each) for each in rests]
    errors = distance / (_OF_MEDIAN * sqrt(sum(variances)))
    if distance < limits.release_spreads * together or errors < limits.release_errors:
        return None
    return _Medians(was, now, change, errors)


def _spread(rest: Array) -> float:
    """Of distances from a median: the standard deviation of a bell curve with as many nearby, or as far away."""
    near, away = DEVIATION * float(np.median(rest)), float(np.quantile(rest, 0.9, method="higher")) / _TENTH
    return max(near, away, _LEAST) * (1 + _FEW / len(rest))


def _columns(rows: Array, limits: Thresholds) -> dict[str, Column]:
    """Every measure of each function on each host with each release."""
    seconds = np.maximum(rows["micros"], 1) / 1e6
    share = rows["bytes_wasted"] / np.maximum(rows["bytes_allocated"], 1)
    failed = 1000 * rows["failures"] / (rows["count"] + rows["failures"])
    wasteful = (rows["bytes_wasted"] >= limits.waste_rate * seconds) & (share >= limits.waste_share)
    large = rows["bytes_allocated"] >= limits.outlier_bytes_rate * seconds
    # Half a failure more: none of fifty may as well be one of a hundred.
    likely = (rows["failures"] + 0.5) / (rows["count"] + rows["failures"] + 1)
    return {
        "waste_share": share_column(share, 0.01, wasteful),
        "bytes_per_allocation": column(rows["bytes_allocated"] / np.maximum(rows["count"], 1), 1.0, large),
        "failures_per_thousand": Column(failed, np.log(likely), failed >= 1),
    }
