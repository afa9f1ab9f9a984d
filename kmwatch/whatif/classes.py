"""Other size classes: what given ones would cost, and which extra ones would save most."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from kmwatch.demand import merged
from kmwatch.kernel.geometry import WORD, Slab
from kmwatch.whatif.prices import Array, Prices, whole_words

Choice = tuple[float, tuple[int, ...]]
"""Bytes saved, and the classes that save them, ascending."""

_NOISE = 1e-9  # of a sum: less than this is rounding, and no reason for one more class


@dataclass(frozen=True)
class Served:
    """What a size class would serve: requests, bytes asked for, and bytes taken, today and then.

    size: bytes of the class; 0 for whole pages. slab: None for whole pages.
    """

    size: int
    new: bool
    slab: Slab | None
    count: int
    requested: int
    today: float
    taken: float


def sizes_of(requests: Array) -> tuple[Array, Array]:
    """The distinct sizes, ascending, and how often each was asked for, by whomever."""
    every = requests.copy()
    every["site"] = every["taken"] = 0
    every = merged(every)
    return every["size"], every["count"]


def strange(requests: Array, prices: Prices) -> int:
    """How many requests were given another size than today's classes say: they are of a kernel with others."""
    sizes, back = np.unique(requests["size"], return_inverse=True)
    given = np.array([prices.limits.class_for(size) for size in sizes.tolist()], np.int64)
    return int(requests["count"][given[back.ravel()] != requests["taken"]].sum())


def served(requests: Array, prices: Prices, classes: Sequence[int]) -> list[Served]:
    """What each of these classes (bytes, ascending) would serve, and last what would take whole pages."""
    sizes, counts = sizes_of(requests)
    place = prices.places(sizes, classes)
    weights = (np.ones(len(sizes)), sizes.astype(float), prices.taken(sizes), prices.taken(sizes, classes))
    sums = (np.bincount(place, counts * each, len(classes) + 1).tolist() for each in weights)
    return [
        Served(
            size=size,
            new=size not in (0, *prices.limits.classes),
            slab=prices.slab(size) if size else None,
            count=round(count),
            requested=round(requested),
            today=today,
            taken=taken,
        )
        for size, count, requested, today, taken in zip((*classes, 0), *sums, strict=True)
    ]


def best_extra(requests: Array, prices: Prices, most: int) -> tuple[int, ...]:
    """The classes, at most `most`, that beside today's save most of all that there could be; bytes, ascending.

    Exact, by dynamic programming: what the best j classes up to a size save follows from the best j - 1 up to each
    smaller one, and gaps between today's classes do not touch each other, so each gets as many as it does most with.
    """
    best: list[Choice] = [(0.0, ())]
    for within in _gaps(*sizes_of(requests), prices, most):
        best = [_best_sum(best, within, total) for total in range(min(most, len(best) + len(within) - 2) + 1)]
    enough = max(saved for saved, _ in best) * (1 - _NOISE)
    return next(classes for saved, classes in best if saved >= enough)


def _best_sum(one: list[Choice], other: list[Choice], total: int) -> Choice:
    """The best way to divide so many classes between two; each is by number of classes."""
    ways = range(max(total - len(one) + 1, 0), min(total, len(other) - 1) + 1)
    at = max(ways, key=lambda many: one[total - many][0] + other[many][0])
    (saved, classes), (more, others) = one[total - at], other[at]
    return saved + more, classes + others


def _gaps(sizes: Array, counts: Array, prices: Prices, most: int) -> Iterator[list[Choice]]:
    """For each gap between what kmalloc gives today: what 0, 1, 2, … classes in it save at best."""
    steps, objects = prices.steps(), whole_words(sizes)
    places = np.searchsorted(np.array(steps, np.int64), sizes)
    for place in np.unique(places[places < len(steps)]).tolist():
        step = steps[place]
        inside = (places == place) & (objects < step)
        distinct, back = np.unique(objects[inside], return_inverse=True)
        if len(distinct):
            classes = _cheapest(distinct, step, prices)
            gains = prices.taken(np.array([step])) - prices.of_objects(classes)
            yield _best_within(classes, gains, np.bincount(back.ravel(), counts[inside]).cumsum(), most)


def _cheapest(objects: Array, end: int, prices: Prices) -> Array:
    """For each object size the class that holds it and takes least, below the next one (`end` after the last); bytes.

    That may be a larger one: SLUB gives some larger objects a slab of a better order.
    """
    ends = [*objects[1:].tolist(), end]
    spans = (np.arange(size, stop, WORD) for size, stop in zip(objects.tolist(), ends, strict=True))
    return np.array([span[prices.of_objects(span).argmin()] for span in spans], np.int64)


def _best_within(classes: Array, gains: Array, total: Array, most: int) -> list[Choice]:
    """What 0, 1, 2, … of these classes save at best, where without them every request takes the same.

    Args:
        classes: bytes, ascending.
        gains: what a request saves in each, in bytes.
        total: how many requests there are up to each, of it too.
        most: how many of them there may be.
    """
    saved, origins = gains * total, list[Array]()
    best: list[Choice] = [(0.0, ())]
    for used in range(1, min(most, len(classes)) + 1):
        if used > 1:
            saved, origin = _one_more(saved, gains, total, used)
            origins.append(origin)
        chosen = [int(saved.argmax())]
        top = float(saved[chosen[0]])
        for origin in reversed(origins):
            chosen.append(int(origin[chosen[-1]]))
        best.append((top, tuple(int(classes[at]) for at in reversed(chosen))))
    return best


def _one_more(before: Array, gains: Array, total: Array, used: int) -> tuple[Array, Array]:
    """What `used` classes save, by the largest of them, from what one less saves; and which that had as its largest."""
    saved, origin = np.full(len(gains), -np.inf), np.zeros(len(gains), np.int64)
    for at in range(used - 1, len(gains)):
        # The new class serves what is above the one before it.
        reached = before[:at] + gains[at] * (total[at] - total[:at])
        origin[at] = reached.argmax()
        saved[at] = reached[origin[at]]
    return saved, origin
