"""What is held: objects from their allocation to their release, grouped, with how far an estimate may be off.

The kernel's table (bpf/held.h) and the pairing of a capture's events give the same thing: a tally for each key.
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from kmwatch.batch import KEY, ROW, Meta, Rows, sized
from kmwatch.events import KEY_TYPE
from kmwatch.runs import runs
from kmwatch.schema import Kind
from kmwatch.witness import Witness

Array = np.ndarray[Any, np.dtype[Any]]

BUCKETS = 40
"""Of times, by binary logarithm of units of 128 ns: 2 ends at a microsecond, 12 at a millisecond, 22 at a second."""

_TIMES = ("<i8", (BUCKETS,))
TALLY = np.dtype(
    [
        ("sampled", "<i8"),
        ("requested", "<i8"),
        ("waste_squares", "<f8"),
        ("ages", *_TIMES),
        ("released", "<i8"),
        ("elsewhere", "<i8"),
        ("unseen", "<i8"),
        ("lifetimes", *_TIMES),
    ]
)
"""Of one key. Looked at, not scaled: sampled objects that are held, the bytes that these asked for, the squares of what
each wastes (0 where all are looked at), their ages. Scaled already: objects released with an event, of which on another
CPU; released without one, for they were handed out again; the lifetimes of the former."""

GROUP = ("kind", "site", "cache", "gfp", "bytes_alloc", "via", "order")
HELD = np.dtype(
    [
        *((name, *KEY_TYPE.fields[name][:1]) for name in GROUP),  # type: ignore[index]
        ("sampled", "<i8"),
        ("objects", "<i8"),
        ("bytes_requested", "<i8"),
        ("bytes_allocated", "<i8"),
        ("bytes_squares", "<f8"),
        ("waste_squares", "<f8"),
        *((name, *TALLY.fields[name][:1]) for name in ("ages", "released", "elsewhere", "unseen", "lifetimes")),  # type: ignore[index]
    ]
)
"""One row of what is held, scaled to all objects; `sampled` are those looked at, and the squares are theirs."""

SUMMED = tuple(name for name in HELD.names or () if name not in GROUP)
_SURE = 2.576  # standard deviations: 99 of 100 estimates are within


@dataclass(frozen=True)
class Held:
    """What is held at one time, of what was allocated since the watching began.

    rows: dtype HELD. bits: one object of 2^bits was looked at. refused: objects that no room was found for.
    stacks: (n, 3) of kind, site, and number of the stack in Meta.stacks, one for each sampled object that has one.
    before, now: what the kernel says, when the watching began and at that time; None where it was not asked.
    """

    rows: Rows
    bits: int = 0
    refused: int = 0
    stacks: Array = field(default_factory=lambda: np.zeros((0, 3), np.int64))
    before: Witness | None = None
    now: Witness | None = None

    def grown(self, cache: str) -> tuple[int, int] | None:
        """By how many objects the kernel's own count of a cache grew, and the objects of one slab; None without one."""
        if not self.before or not self.now or cache not in self.now.slabs:
            return None
        active, per_slab = self.now.slabs[cache]
        return active - self.before.slabs.get(cache, (0, 0))[0], per_slab

    def function_grown(self, symbol: str) -> int | None:
        """By how many bytes the kernel's own account of a function (/proc/allocinfo) grew; None where it has none."""
        if not self.before or not self.now or symbol not in self.now.functions:
            return None
        return self.now.functions[symbol] - self.before.functions.get(symbol, 0)

    def grouped(self, *columns: str) -> Rows:
        """The rows added up by some columns of GROUP; the others are 0."""
        order, starts = runs([self.rows[name] for name in columns], len(self.rows))
        summed = np.zeros(len(starts), HELD)
        if len(starts):
            rows = self.rows[order]
            for name in columns:
                summed[name] = rows[name][starts]
            for name in SUMMED:
                summed[name] = np.add.reduceat(rows[name], starts, axis=0)
        return summed


_RELEASED_BY = {
    Kind.KMALLOC: (Kind.KFREE,),
    Kind.CACHE_ALLOC: (Kind.CACHE_FREE, Kind.KFREE),
    Kind.PAGE_ALLOC: (Kind.PAGE_FREE,),
    Kind.VMALLOC: (Kind.VFREE,),
    Kind.PERCPU_ALLOC: (Kind.PERCPU_FREE,),
}


def with_releases(kinds: frozenset[Kind]) -> frozenset[Kind]:
    """The kinds, and those that release what they allocate: what must be observed to know what is held."""
    return kinds.union(*(_RELEASED_BY.get(kind, ()) for kind in kinds))


def without_releases(kinds: frozenset[Kind]) -> frozenset[Kind]:
    """Those of the kinds that allocate and whose own release is not among them: what is held of them is not known."""
    return frozenset(kind for kind, (own, *_) in _RELEASED_BY.items() if kind in kinds and own not in kinds)


def of_tallies(keys: Rows, tallies: Array, meta: Meta, bits: int) -> Held:
    """What is held, from a tally (TALLY) for each key (KEY_TYPE); one object of 2^bits was looked at."""
    rows = np.zeros(len(keys), ROW)
    for name in KEY:
        rows[name] = keys[name]
    rows["count"], rows["bytes_requested"] = tallies["sampled"], tallies["requested"]
    rows = sized(rows, meta)
    held = np.zeros(len(keys), HELD)
    for name in GROUP:
        held[name] = keys[name]
    for name in ("ages", "released", "elsewhere", "unseen", "lifetimes", "sampled"):
        held[name] = tallies[name]
    held["objects"] = rows["count"] << bits
    held["ages"] <<= bits
    for name in ("bytes_requested", "bytes_allocated"):
        held[name] = rows[name] << bits
    # A cache's objects all waste the same; their events do not tell it, so that the table has none of it.
    each = (rows["bytes_allocated"] - rows["bytes_requested"]) / np.maximum(rows["count"], 1)
    held["waste_squares"] = np.where(rows["cache"] != 0, rows["count"] * each**2, tallies["waste_squares"])
    held["bytes_squares"] = rows["bytes_allocated"].astype(float) ** 2 / np.maximum(rows["count"], 1)
    return Held(Held(held).grouped(*GROUP), bits)


def bounds(total: float, squares: float, bits: int) -> tuple[int, int]:
    """Between what a sum over all objects lies, in 99 cases of 100.

    Args:
        total: the estimate.
        squares: of what each object that was looked at adds to it, summed.
        bits: one of 2^bits was looked at; 0 means that the sum is exact.

    The sample is binomial. As many objects of one size, whose sum and sum of squares are these, make a score interval,
    which holds for few objects as well.
    """
    if not bits or total <= 0 or squares <= 0:
        return round(total), round(total)
    share = 2.0**-bits
    looked_at = total * share
    like, each = looked_at**2 / squares, squares / looked_at
    spread = _SURE**2 * (1 - share)
    middle, reach = like + spread / 2, (spread * like + spread**2 / 4) ** 0.5
    low, high = ((middle + sign * reach) * each / share for sign in (-1, 1))
    return round(max(low, looked_at)), int(np.ceil(high))


def bucket_of(nanoseconds: Array) -> Array:
    """The bucket of each time, as lifetime_bucket() of bpf/held.h has it."""
    units = np.maximum(nanoseconds >> 7, 1).astype(np.float64)
    buckets: Array = np.minimum(np.frexp(units)[1] - 1, BUCKETS - 1)
    return buckets


def bucket_end(bucket: int) -> float:
    """The time at which a bucket ends, in seconds; the last one has no end, and is told to begin there."""
    return float(2.0 ** min(bucket + 1, BUCKETS - 1) * 128e-9)


def median_seconds(times: Array) -> float | None:
    """Where the bucket ends that the median of a histogram of times lies in, in seconds; None for an empty one."""
    total = int(times.sum())
    if not total:
        return None
    return bucket_end(int(np.searchsorted(np.cumsum(times), total / 2)))


_CHURN = ((1.1e-6, "sub-µs"), (1.1e-3, "µs"), (1.1, "ms"))
_PERMANENT = 0.5  # of the objects that were allocated: as many held make it so


def churn(row: Any) -> str:
    """How long the objects of a row live: sub-µs, µs, ms, s, or permanent; "" where there are none.

    Permanent is what mostly stays; of the rest the median of those released with an event tells. µs is up to a
    millisecond, ms up to a second.
    """
    allocated = int(row["objects"] + row["released"] + row["unseen"])
    if not allocated:
        return ""
    if row["objects"] >= _PERMANENT * allocated:
        return "permanent"
    median = median_seconds(row["lifetimes"])
    if median is None:
        return ""
    return next((word for most, word in _CHURN if median <= most), "s")
