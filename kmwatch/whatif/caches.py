"""A kmem_cache of its own for a call site: which one would save most."""

from dataclasses import dataclass

import numpy as np

from kmwatch.kernel.geometry import WORD, Slab, line_alignment, rounded
from kmwatch.whatif.prices import Array, Prices, whole_words


@dataclass(frozen=True)
class OwnCache:
    """A kmem_cache for one site: it would serve `count` requests of `low` to `high` bytes and save `saved` bytes.

    align: of its objects, in bytes; lines: whether SLAB_HWCACHE_ALIGN makes it so.
    slab: what SLUB would choose; best: what wastes least, with slab_min_order= on the boot line.
    """

    site: int
    low: int
    high: int
    count: int
    align: int
    lines: bool
    slab: Slab
    best: Slab
    saved: float


def best_caches(requests: Array, prices: Prices) -> list[OwnCache]:
    """The best cache of each site that would save with one; by what they save, descending."""
    asked = requests[requests["size"] <= prices.largest]
    sites, starts = np.unique(asked["site"], return_index=True)
    parts = np.split(asked, starts[1:])  # they are in the order of sites
    caches = [_best(site, part, prices) for site, part in zip(sites.tolist(), parts, strict=False)]
    return sorted((cache for cache in caches if cache), key=lambda cache: (-cache.saved, cache.site))


def _best(site: int, asked: Array, prices: Prices) -> OwnCache | None:
    """All requests that it holds and that take more today would use it. `asked`: of one site, sizes ascending."""
    sizes = np.unique(asked["size"])
    counts = np.bincount(np.searchsorted(sizes, asked["size"]), asked["count"])
    lines = np.array([rounded(size, line_alignment(size)) for size in sizes.tolist()], np.int64)
    packed = prices.of_objects(whole_words(sizes)) < prices.of_objects(lines)
    objects = np.where(packed, whole_words(sizes), lines)
    each, today = prices.of_objects(objects), prices.taken(sizes)
    # How often what takes so much today is asked for up to each size: kmalloc has few prices, however many sizes.
    steps, step = np.unique(today, return_inverse=True)
    asked_for = np.zeros((len(steps), len(sizes)))
    asked_for[step.ravel(), np.arange(len(sizes))] = counts
    saved = (np.maximum(steps[:, None] - each, 0) * asked_for.cumsum(axis=1)).sum(axis=0)
    at = int(saved.argmax())
    if saved[at] <= 0:
        return None
    users = np.flatnonzero(today[: at + 1] > each[at])
    size, high = int(objects[at]), int(sizes[at])
    return OwnCache(
        site=site,
        low=int(sizes[users[0]]),
        high=high,
        count=round(counts[users].sum()),
        align=WORD if packed[at] else line_alignment(high),
        lines=not packed[at],
        slab=prices.geometry.slab(size),
        best=prices.geometry.best(size),
        saved=float(saved[at]),
    )
