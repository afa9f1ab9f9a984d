"""The survey of a fleet: what its captures have in common, which hosts differ, and where to look first.

Captures come one after the other, each judged by itself; of each some compact rows are kept: 40 bytes for each of its
functions, 2000 with most bytes and 2000 with most failures at most, and 200 findings of some 100 bytes. A host takes
about 40 kB. Some functions are compared at a time, which takes less than 100 MB more. All sums are integers and
everything is sorted, so that neither the order of captures nor the engine that read them makes a difference.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from kmwatch.findings import Found
from kmwatch.fleet.common import Common, Findings
from kmwatch.fleet.outliers import Outlier, outliers
from kmwatch.fleet.ranking import First, first
from kmwatch.fleet.releases import Move, moves
from kmwatch.fleet.sums import Hosts, Table
from kmwatch.ledger import Ledger
from kmwatch.thresholds import Thresholds

MOST = 500
"""Findings, outliers and moves that are told; of the rest only the number."""


@dataclass(frozen=True)
class Captures:
    """What was surveyed: captures, their hosts, events, those not counted (lost, or no room), and seconds in all."""

    count: int
    hosts: int
    events: int
    lost: int
    seconds: float


@dataclass(frozen=True)
class Kernel:
    """A release, and how many hosts were seen with it; one that was upgraded counts for both."""

    release: str
    hosts: int


@dataclass(frozen=True)
class Skipped:
    """A capture that could not be used, and why."""

    name: str
    reason: str


@dataclass(frozen=True)
class Surveyed:
    """What a fleet's captures have in common, and who is different. more: how many are left out of each list."""

    captures: Captures
    kernels: tuple[Kernel, ...]
    findings: tuple[Common, ...]
    outliers: tuple[Outlier, ...]
    releases: tuple[Move, ...]
    first: tuple[First, ...]
    skipped: tuple[Skipped, ...]
    more: dict[str, int]


class Survey:
    """Captures so far, held to some thresholds."""

    def __init__(self, thresholds: Thresholds) -> None:
        self._thresholds = thresholds
        self._table = Table()
        self._findings = Findings()
        self._skipped: list[Skipped] = []
        self._count, self._events, self._lost = 0, 0, 0

    def add(self, name: str, host: str, ledger: Ledger, found: Sequence[Found]) -> None:
        """Add a capture with what was found in it; where no host is told the capture is one of its own."""
        host = host or name
        self._count += 1
        self._events += ledger.events()
        self._lost += ledger.trust.lost + ledger.trust.map_full
        self._table.add(host, ledger)
        self._findings.add(host, found)

    def skip(self, name: str, reason: str) -> None:
        """Note that a capture could not be used."""
        self._skipped.append(Skipped(name, reason))

    def result(self) -> Surveyed:
        """What there is to say of all captures so far."""
        hosts, limits = self._table.sums(), self._thresholds
        total = len(hosts.names)
        common, far, moved = self._findings.common(total), outliers(hosts, limits), moves(hosts, limits)
        found = {"findings": len(common), "outliers": len(far), "releases": len(moved)}
        return Surveyed(
            Captures(self._count, total, self._events, self._lost, int(hosts.micros.sum()) / 1e6),
            _kernels(hosts),
            tuple(common[:MOST]),
            tuple(far[:MOST]),
            tuple(moved[:MOST]),
            tuple(first(total, self._findings, far, limits)),
            tuple(sorted(self._skipped, key=lambda each: (each.name, each.reason))),
            {name: max(count - MOST, 0) for name, count in found.items()},
        )


def _kernels(hosts: Hosts) -> tuple[Kernel, ...]:
    counts = np.bincount(hosts.seen[:, 1], minlength=len(hosts.releases)).tolist()
    return tuple(Kernel(release, count) for release, count in zip(hosts.releases, counts, strict=True))
