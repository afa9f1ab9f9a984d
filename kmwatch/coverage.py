"""How far to believe what is held: each cache's allocations, releases and the kernel's own count side by side, graded.

Some releases have no event (in bulk, by kfree_rcu, into a sheaf): what they gave back seems held until its address is
handed out again. The share of such releases, and how much more seems held than the kernel's own count grew, tell.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from kmwatch.held import Held, bounds
from kmwatch.schema import LARGE, Kind
from kmwatch.witness import kmalloc_name

if TYPE_CHECKING:
    from kmwatch.ledger import Ledger

GRADES = "ABCD"
"""A: right but for the sample. B: nearly, or nobody confirms it. C: about right. D: unknown."""

UNKNOWN = GRADES[-1]
"""Of what is held by a cache of this grade no number is told."""

LARGE_KMALLOCS = "kmalloc, large"
"""The label of kmallocs that take whole pages."""

_UNSEEN = (0.001, 0.01, 0.1)  # share of releases without event, at most, of A, B and C
_EXCESS = (0.05, 0.2, 0.5)  # share of what seems held that the kernel does not have, at most, of A, B and C
_SLABS, _SHEAVES = 2, 128  # slabs and objects of each CPU that the kernel counts as in use though they are free


@dataclass(frozen=True)
class Coverage:
    """What is known of one cache since the watching began; numbers of objects.

    name: the cache; kmalloc-SIZE for a size class, and the kind for what has no cache.
    grown: by how much the kernel's own count grew, None where there is none.
    """

    name: str
    kind: Kind
    allocations: int
    released: int
    unseen: int
    held: int
    grown: int | None
    grade: str


def labels(rows: Any, caches: list[Any]) -> list[tuple[str, Kind]]:
    """Cache and kind of rows that have kind, cache and bytes_alloc."""
    return [
        _label(Kind(kind), cache, size, caches)
        for kind, cache, size in zip(*(rows[name].tolist() for name in ("kind", "cache", "bytes_alloc")), strict=True)
    ]


def _label(kind: Kind, cache: int, size: int, caches: list[Any]) -> tuple[str, Kind]:
    if kind == Kind.CACHE_ALLOC:
        return caches[cache].name or "unknown", kind
    if kind == Kind.KMALLOC:
        return (kmalloc_name(size) if size <= LARGE else LARGE_KMALLOCS), kind
    return kind.name.lower(), kind


def coverage(ledger: "Ledger") -> dict[tuple[str, Kind], Coverage]:
    """Every cache of which something is held or was released, by name and kind; empty where nobody looked."""
    held = ledger.held
    if held is None:
        return {}
    tallies = _by_label(held, ledger)
    excess = _excess(held, tallies, _frees(ledger), ledger.meta.host.cpus)
    found = {}
    for (name, kind), row in tallies.items():
        released, unseen, objects = (int(row[column]) for column in ("released", "unseen", "objects"))
        grown = held.grown(name)
        grade = grade_of(released, unseen, excess[name, kind], confirmed=grown is not None)
        found[name, kind] = Coverage(
            name, kind, objects + released + unseen, released, unseen, objects, grown[0] if grown else None, grade
        )
    return found


def grade_of(released: int, unseen: int, excess: float, *, confirmed: bool) -> str:
    """The grade, of releases with and without event and the share of what is held that the kernel does not have."""
    grade = sum(excess > most for most in _EXCESS)
    if not confirmed:
        grade = max(grade, GRADES.index("B" if released or unseen else "C"))
    if unseen:
        grade = max(grade, sum(unseen / (released + unseen) > most for most in _UNSEEN))
    return GRADES[grade]


def _by_label(held: Held, ledger: "Ledger") -> dict[tuple[str, Kind], Any]:
    rows = held.grouped("kind", "cache", "bytes_alloc")
    tallies: dict[tuple[str, Kind], Any] = {}
    for label, row in zip(labels(rows, ledger.meta.caches), rows, strict=True):
        known = tallies.setdefault(label, np.zeros_like(row))
        for name in ("sampled", "objects", "released", "unseen"):
            known[name] += row[name]
    return tallies


def _frees(ledger: "Ledger") -> dict[str, int]:
    """Releases with an event, by cache; those of kmallocs, whose events tell no size, as ""."""
    rows = ledger.rows[np.isin(ledger.rows["kind"], [Kind.KFREE, Kind.CACHE_FREE])]
    names = [cache.name for cache in ledger.meta.caches]
    frees: dict[str, int] = {}
    for kind, cache, count in zip(*(rows[name].tolist() for name in ("kind", "cache", "count")), strict=True):
        name = "" if kind == Kind.KFREE else names[cache]
        frees[name] = frees.get(name, 0) + count
    return frees


def _excess(
    held: Held, tallies: dict[tuple[str, Kind], Any], frees: dict[str, int], cpus: int
) -> dict[tuple[str, Kind], float]:
    """The share of what seems held that the kernel's own count does not have; 0 where it has none.

    What was released of older objects made that count smaller. Of kmallocs it is known only of all sizes together.
    """
    found, all_held, all_known, all_released = {}, 0, 0, 0
    for (name, kind), row in tallies.items():
        grown = held.grown(name) if kind in (Kind.KMALLOC, Kind.CACHE_ALLOC) else None
        if grown is None:
            found[name, kind] = 0.0
            continue
        least = bounds(int(row["objects"]), int(row["sampled"]), held.bits)[0]
        known = max(grown[0], 0) + cpus * (_SLABS * grown[1] + _SHEAVES)
        if kind == Kind.CACHE_ALLOC:
            known += max(0, frees.get(name, 0) - int(row["released"]))
        else:
            all_held, all_known, all_released = all_held + least, all_known + known, all_released + int(row["released"])
        found[name, kind] = _share(least, known)
    together = _share(all_held, all_known + max(0, frees.get("", 0) - all_released))
    return {
        (name, kind): min(share, together) if kind == Kind.KMALLOC else share for (name, kind), share in found.items()
    }


def _share(held: int, known: int) -> float:
    return max(0, held - known) / max(held, 1)
