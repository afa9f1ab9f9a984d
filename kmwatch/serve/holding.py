"""Gauges of what is held, out of the latest batch: as far as it is known, by cache and by site."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from kmwatch.batch import ROW, Batch, Meta, Rows
from kmwatch.coverage import GRADES, LARGE_KMALLOCS, UNKNOWN, coverage, labels
from kmwatch.ledger import Ledger
from kmwatch.schema import Kind
from kmwatch.serve.cells import OTHER, Labels, clean
from kmwatch.serve.ranking import ROOM
from kmwatch.serve.snapshot import Family

_METRICS = ("held_objects", "held_bytes", "held_wasted_bytes")
_BYTES = _METRICS.index("held_bytes")
_UNKNOWN = GRADES.index(UNKNOWN)

Sums = dict[Labels, list[int]]
"""A sum for each of _METRICS, by labels."""


class Holding:
    """What is held, of one source.

    Args:
        meta: what the batches' numbers mean.
        top: sites with series of their own; of caches ROOM times as many.
    """

    def __init__(self, meta: Meta, top: int) -> None:
        self._ledger, self._top = Ledger(meta), top

    def add(self, batch: Batch) -> None:
        """Take over what is held. Releases are added up: what the kernel's own counts are held against."""
        self._ledger.add(replace(batch, rows=_releases(batch.rows), held=None))
        self._ledger.held = batch.held

    def families(self) -> dict[str, Family]:
        """The series; none where nobody looked."""
        held, meta = self._ledger.held, self._ledger.meta
        if held is None:
            return {}
        rows = held.grouped("kind", "site", "cache", "bytes_alloc")
        slabs = [_slab(*label) for label in labels(rows, meta.caches)]
        grades: dict[Labels, int] = {}
        for label, known in coverage(self._ledger).items():
            _raise(grades, _slab(*label), GRADES.index(known.grade))
        sites = [_site(meta, *each) for each in zip(rows["site"].tolist(), rows["kind"].tolist(), strict=True)]
        held_at = rows["objects"] > 0
        believed = [at for at, slab in enumerate(slabs) if held_at[at] and grades[slab] < _UNKNOWN]
        by_site = _bounded(_sums([sites[at] for at in believed], rows[believed]), self._top, _other_site)
        return {
            **_by_slab(_sums(slabs, rows), grades, ROOM * self._top),
            **{f"site_{name}": family for name, family in _families(by_site).items()},
            "held_sample_ratio": Family(((),), (2.0**-held.bits,)),
        }


def _releases(rows: Rows) -> Rows:
    """Releases by nothing but what the grades ask for: as few rows as there are caches."""
    freed = rows[np.isin(rows["kind"], [Kind.KFREE, Kind.CACHE_FREE])]
    plain = np.zeros(len(freed), ROW)
    for name in ("kind", "cache", "count"):
        plain[name] = freed[name]
    return plain


def _by_slab(sums: Sums, grades: dict[Labels, int], most: int) -> dict[str, Family]:
    """Series by kind and cache; of what is unknown the grade alone. Beyond the largest `most` all goes to `other`."""
    largest = set(_largest(sums, most))
    shown: dict[Labels, int] = {}
    for slab, grade in grades.items():
        _raise(shown, slab if slab in largest else _other_slab(slab), grade)
    known = {slab: each for slab, each in _bounded(sums, most, _other_slab).items() if shown[slab] < _UNKNOWN}
    return {**_families(known), "held_grade": Family(tuple(shown), tuple(shown.values()))}


def _sums(keys: list[Labels], rows: Rows) -> Sums:
    sums: Sums = {}
    columns = (rows["objects"], rows["bytes_allocated"], rows["bytes_allocated"] - rows["bytes_requested"])
    for key, *row in zip(keys, *(column.tolist() for column in columns), strict=True):
        sums[key] = [before + more for before, more in zip(sums.get(key, [0] * len(row)), row, strict=True)]
    return sums


def _bounded(sums: Sums, most: int, rest: Callable[[Labels], Labels]) -> Sums:
    """The largest by bytes, and the others added to what `rest` makes of their labels."""
    largest = set(_largest(sums, most))
    bounded: Sums = {}
    for key, row in sums.items():
        into = key if key in largest else rest(key)
        bounded[into] = [before + more for before, more in zip(bounded.get(into, [0] * len(row)), row, strict=True)]
    return bounded


def _largest(sums: Sums, most: int) -> list[Labels]:
    return sorted(sums, key=lambda key: -sums[key][_BYTES])[:most]


def _raise(grades: dict[Labels, int], key: Labels, grade: int) -> None:
    grades[key] = max(grades.get(key, 0), grade)


def _families(sums: Sums) -> dict[str, Family]:
    keys = tuple(sums)
    return {name: Family(keys, tuple(row[at] for row in sums.values())) for at, name in enumerate(_METRICS)}


def _slab(name: str, kind: Kind) -> Labels:
    """What has no cache of its own has no name either: the kind tells it."""
    cached = kind == Kind.CACHE_ALLOC or (kind == Kind.KMALLOC and name != LARGE_KMALLOCS)
    return kind.name.lower(), clean(name) if cached else ""


def _site(meta: Meta, site: int, kind: int) -> Labels:
    return clean(meta.sites[site].symbol), clean(meta.sites[site].module), Kind(kind).name.lower()


def _other_slab(slab: Labels) -> Labels:
    return slab[0], OTHER


def _other_site(site: Labels) -> Labels:
    return OTHER, "", site[-1]
