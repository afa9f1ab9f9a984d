"""What happened in each slice of time, as plain data: by site, by size class, and pressure."""

from typing import Any

import numpy as np

from kmwatch.events import fill_shifts
from kmwatch.ledger import ALLOCATIONS, MAPPINGS, PRESSURE, SITE, Array, Ledger
from kmwatch.schema import Kind

SUMS = ("count", "failures", "opportunistic_failures", "bytes_requested", "bytes_allocated")
"""What is told of a site in a slice; bytes wasted follow."""

_CLASS = ("count", "bytes_requested", "bytes_allocated")


def build(ledger: Ledger, sites: Array) -> dict[str, Any]:
    """The slices: where each begins and how long it is (seconds), and columns of what was in them.

    sites: one entry for each site (its place in `sites`) and slice in which it did something, by site, then slice.
    classes: bytes of the kmalloc classes, with the bytes of an eighth; sizes: by class and slice, requests by eighth.
    """
    timeline = ledger.timeline
    parts = timeline.slices if timeline and timeline.slices else [ledger.rows]
    length = timeline.length if timeline and len(parts) > 1 else ledger.seconds
    ledgers = [ledger.at(rows) for rows in parts]
    rest = ledger.seconds - length * (len(parts) - 1)
    last = rest if 0 < rest < length else length
    return {
        "start": round(ledger.start, 6),
        "length": length,
        "seconds": [length] * (len(parts) - 1) + [last],
        "events": [each.events() for each in ledgers],
        "pressure": {kind.name.lower(): [each.events(kind) for each in ledgers] for kind in PRESSURE},
        "sites": _sites(ledgers, sites),
        **_sizes(ledgers),
    }


def keys(groups: Array) -> list[tuple[int, ...]]:
    """What tells the sites of a report apart, of each group."""
    return list(zip(*(groups[name].tolist() for name in SITE), strict=True))


def _sites(ledgers: list[Ledger], sites: Array) -> dict[str, list[int]]:
    numbers = {key: at for at, key in enumerate(keys(sites))}
    found = []
    for at, each in enumerate(ledgers):
        groups = each.groups(*SITE, kinds=(*ALLOCATIONS, *MAPPINGS))
        # What a later slice took back altogether is no site of the report.
        places = np.array([numbers.get(key, -1) for key in keys(groups)], np.int64)
        columns = [places, np.full(len(groups), at), *(groups[name] for name in SUMS)]
        found.append(np.stack(columns)[:, places >= 0])
    whole = np.concatenate(found, axis=1)
    whole = whole[:, np.lexsort((whole[1], whole[0]))]
    return dict(zip(("site", "slice", *SUMS), whole.tolist(), strict=True))


def _sizes(ledgers: list[Ledger]) -> dict[str, Any]:
    groups = [each.groups("bytes_alloc", kinds=(Kind.KMALLOC,)) for each in ledgers]
    every = np.unique(np.concatenate([each["bytes_alloc"] for each in groups]))
    shifts = fill_shifts(np.array([(size,) for size in every.tolist()], [("bytes_alloc", every.dtype)]))
    classes = {size: at for at, size in enumerate(every.tolist())}
    sizes: dict[str, list[Any]] = {name: [] for name in ("slice", "class", *_CLASS, "fill")}
    for at, each in enumerate(groups):
        sizes["slice"] += [at] * len(each)
        sizes["class"] += [classes[size] for size in each["bytes_alloc"].tolist()]
        for name in (*_CLASS, "fill"):
            sizes[name] += each[name].tolist()
    eighths = [1 << shift for shift in shifts.tolist()]
    return {"classes": [{"size": s, "eighth": e} for s, e in zip(classes, eighths, strict=True)], "sizes": sizes}
