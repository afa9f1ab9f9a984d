"""Sums by host, kernel and function: what is kept of each capture, and all of it put together."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from kmwatch.fleet.versions import version_key
from kmwatch.gate.places import Place, function
from kmwatch.ledger import Ledger
from kmwatch.runs import runs

Array = np.ndarray[Any, np.dtype[Any]]

SUMS = ("count", "failures", "bytes_allocated", "bytes_wasted")
"""What is added up of each function, as MEASURES of the ledger."""

LARGEST = 2000
"""Functions that are kept of a capture: so many with most bytes, and as many with most failures."""

BLOCK = 200_000
"""Rows that are compared at a time, more or less."""

_KEPT = np.dtype([("place", "<u4"), ("module", "<u4"), *((name, "<i8") for name in SUMS)])
_ROW = np.dtype([("host", "<u4"), ("kernel", "<u4"), ("micros", "<i8"), *_KEPT.descr])


@dataclass(frozen=True)
class _Unit:
    """What is kept of a host with a kernel: numbers in the lists of Hosts, microseconds, rows of _KEPT."""

    host: int
    kernel: int
    micros: int
    kept: Array


@dataclass(frozen=True)
class Hosts:
    """All captures put together; rows hold indices into the lists, each of which is in order.

    releases, versions: of kernels, and of modules ("" for those that tell none).
    micros: microseconds that each host was watched. seen: every pair of host and release.
    places_of, versions_of: indices into the lists, by the numbers in what is kept.
    """

    names: list[str]
    releases: list[str]
    versions: list[str]
    places: list[Place]
    micros: Array
    seen: Array
    places_of: Array
    versions_of: Array
    units: list[_Unit]

    def blocks(self) -> Iterator[Array]:
        """All rows, those of some functions at a time: host, kernel (release), module (version), place, SUMS.

        A row has also the micros of its host with its kernel. Together all would take several times what is kept.
        """
        total = sum(len(unit.kept) for unit in self.units)
        step = max(len(self.places) * BLOCK // max(total, 1), 1)
        for first in range(0, len(self.places), step):
            yield np.concatenate([self._rows(unit, first, first + step) for unit in self.units])

    def _rows(self, unit: _Unit, first: int, end: int) -> Array:
        """The rows of a unit that are of these functions."""
        places = self.places_of[unit.kept["place"]]
        chosen = (places >= first) & (places < end)
        rows = np.zeros(np.count_nonzero(chosen), _ROW)
        for name in SUMS:
            rows[name] = unit.kept[name][chosen]
        rows["place"], rows["module"] = places[chosen], self.versions_of[unit.kept["module"][chosen]]
        rows["host"], rows["kernel"], rows["micros"] = unit.host, unit.kernel, unit.micros
        return rows


def grouped(rows: Array, *columns: str) -> Array:
    """Rows of a block by these columns, in their order: those columns, SUMS, and micros."""
    order, starts = runs([rows[name] for name in columns], len(rows))
    sums = np.zeros(len(starts), [(name, rows.dtype[name]) for name in (*columns, *SUMS, "micros")])
    for name in columns:
        sums[name] = rows[name][order[starts]]
    for name in (*SUMS, "micros") if len(starts) else ():
        sums[name] = np.add.reduceat(rows[name][order], starts)
    return sums


class Table:
    """The captures so far, by host and kernel. Indices are in order of coming, until all of them are known."""

    def __init__(self) -> None:
        self._places: dict[Place, int] = {}
        self._versions: dict[str, int] = {"": 0}
        self._micros: dict[tuple[str, str], int] = {}
        self._kept: dict[tuple[str, str], Array] = {}

    def add(self, host: str, ledger: Ledger) -> None:
        """Add what a ledger has of each function, each piece of memory once."""
        places, sums = _by_place(ledger)
        chosen = _largest(sums)
        kept = np.zeros(len(chosen), _KEPT)
        for name in SUMS:
            kept[name] = sums[name][chosen]
        versions, named = ledger.meta.modules, [places[at] for at in chosen.tolist()]
        for at, place in enumerate(named):
            kept["place"][at] = self._places.setdefault(place, len(self._places))
            kept["module"][at] = self._versions.setdefault(versions.get(place.module, ""), len(self._versions))
        key = (host, ledger.meta.host.kernel)
        # Whole numbers: seconds that are added up in another order differ in their last digit.
        self._micros[key] = self._micros.get(key, 0) + round(ledger.seconds * 1e6)
        before = self._kept.get(key)
        self._kept[key] = kept if before is None else _merged(np.concatenate([before, kept]))

    def sums(self) -> Hosts:
        """All of it."""
        names = sorted({host for host, _ in self._kept})
        releases = sorted({release for _, release in self._kept}, key=_key)
        places, versions = sorted(self._places), sorted(self._versions, key=_key)
        hosts, kernels = ({name: at for at, name in enumerate(listed)} for listed in (names, releases))
        units = [
            _Unit(hosts[key[0]], kernels[key[1]], self._micros[key], kept) for key, kept in sorted(self._kept.items())
        ]
        micros = np.zeros(len(names), "<i8")
        for unit in units:
            micros[unit.host] += unit.micros
        seen = np.array([(unit.host, unit.kernel) for unit in units], "<i8").reshape(-1, 2)
        ranks = _ranks(places, self._places), _ranks(versions, self._versions)
        return Hosts(names, releases, versions, places, micros, seen, *ranks, units)


def _key(version: str) -> tuple[Any, str]:
    return version_key(version), version


def _ranks(ordered: list[Any], numbers: dict[Any, int]) -> Array:
    """Where each of the old numbers stands now."""
    ranks = np.zeros(len(numbers), "<u4")
    ranks[[numbers[each] for each in ordered]] = np.arange(len(ordered))
    return ranks


def _by_place(ledger: Ledger) -> tuple[list[Place], Array]:
    """The functions of a ledger that have a name, in order, and the sums of each."""
    groups, sites = ledger.groups("site", once=True), ledger.meta.sites
    at = [sites[site] for site in groups["site"].tolist()]
    named = [Place(function(site.symbol), site.module) for site in at]
    places = sorted({place for place in named if place.named})
    numbers = {place: number for number, place in enumerate(places)}
    index = np.array([numbers.get(place, len(places)) for place in named], np.intp)
    sums = np.zeros(len(places) + 1, [(name, "<i8") for name in SUMS])
    for name in SUMS:
        np.add.at(sums[name], index, groups[name])
    return places, sums[:-1]


def _largest(sums: Array) -> Array:
    """Which functions to keep: those with most bytes, and those with most failures; the first of equal ones."""
    by_bytes = np.argsort(-sums["bytes_allocated"], kind="stable")[:LARGEST]
    failed = np.argsort(-sums["failures"], kind="stable")[:LARGEST]
    return np.unique(np.concatenate([by_bytes, failed[sums["failures"][failed] > 0]]))


def _merged(kept: Array) -> Array:
    order, starts = runs([kept["place"], kept["module"]], len(kept))
    sums = kept[order[starts]]
    for name in SUMS if len(starts) else ():
        sums[name] = np.add.reduceat(kept[name][order], starts)
    return sums
