"""What tests of the counters share: batches of an hour, and series by name and labels."""

from collections.abc import Mapping

import numpy as np

from kmwatch.batch import ROW, Batch, Meta
from kmwatch.kernel.symbols import Site
from kmwatch.metrics import METRICS
from kmwatch.schema import NO_ZONE, Kind
from kmwatch.serve.snapshot import Family
from tests.unit import rows

Array = np.ndarray
Series = dict[tuple[str, ...], float]
START = 1_700_000_000.0


def known(sites: int) -> Meta:
    """A kernel with so many functions that ask, two call sites in each, some of them in modules."""
    meta = rows.meta()
    for at in range(sites):
        module = f"module_{at % 7}" if at % 3 == 0 else ""
        meta.sites += [Site(f"function_{at}+{offset:#x}", f"function_{at}", module) for offset in (1, 2)]
    return meta


def kmallocs(
    sites: Array, counts: Array, *, asked: int = 100, failed: bool = False, at: float = START, seconds: float = 5.0
) -> Batch:
    """A batch of kmallocs of one size, by the numbers of their sites."""
    made = np.zeros(len(sites), ROW)
    made["kind"], made["gfp"], made["failed"] = Kind.KMALLOC, rows.TABLE.encode("GFP_KERNEL"), failed
    for name in ("zone", "node", "migratetype"):
        made[name] = NO_ZONE
    taken = rows.LIMITS.class_for(asked)
    made["site"], made["count"], made["bytes_alloc"] = sites, counts, taken
    made["min_request"] = made["max_request"] = asked
    if not failed:
        made["bytes_requested"], made["bytes_allocated"] = asked * counts, taken * counts
    return Batch(made, at, seconds)


def series(families: Mapping[str, Family], name: str) -> Series:
    """The values of one metric by their labels; each label set stands once."""
    family = families[name]
    found = dict(zip(family.labels, family.values, strict=True))
    assert len(found) == len(family.labels), f"{name} has a series twice"
    assert all(len(labels) == len(METRICS[name].labels) for labels in found)
    return found


def began(families: Mapping[str, Family], name: str) -> Series:
    """When each series of one metric began at 0."""
    return dict(zip(families[name].labels, families[name].created, strict=True))


def total(families: Mapping[str, Family], name: str) -> float:
    """All series of one metric together."""
    return sum(families[name].values)
