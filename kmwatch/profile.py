"""Which way of calls leads to what a ledger has: its sums, split among the stacks that were taken.

Sums are those of the ledger, exactly; stacks are those of a share of the events. What a site did is split in proportion
to its stacks; where none was taken, its way begins at NO_STACK.
"""

from collections import Counter, defaultdict
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from kmwatch import schema
from kmwatch.batch import Meta
from kmwatch.kernel.allocators import via_of
from kmwatch.ledger import MEASURES, SITE, Array, Ledger
from kmwatch.schema import Kind

WEIGHT = np.dtype([("site", "<u4"), ("failed", "?"), ("path", "<u4"), ("share", "<f8")])
"""The share of a site's events, of those that failed or of the others, that came by a path; all shares make 1."""

_OF_FAILURES = ("failures", "opportunistic_failures")
_DEEPEST = int(schema.dtype("stack")["frames"].shape[0])


class Frame(NamedTuple):
    """A function on the way, and its module; in brackets what is none: the kind of allocation, what is missing."""

    name: str
    module: str = ""


NO_STACK = Frame("[no stack taken]")
CUT = Frame("[callers not seen]")
"""Above a stack that is as deep as stacks are read."""


@dataclass(frozen=True)
class Profile:
    """The ways that lead to the sites of a ledger.

    sites: Ledger.sites(). frames: each once. paths: each once, as numbers of frames, outermost first; the last is the
    kind of allocation, below it the site's function. weights: dtype WEIGHT, by site and failed; sites that allocate
    nothing of their own (counted_once is false) have none.
    """

    sites: Array
    frames: list[Frame]
    paths: list[tuple[int, ...]]
    weights: Array

    def values(self) -> Array:
        """What came by each path: (paths, MEASURES), whole numbers that add up to those of the sites, to the unit."""
        values = np.zeros((len(self.paths), len(MEASURES)), np.int64)
        np.add.at(values, self.weights["path"], self.split())
        return values

    def split(self) -> Array:
        """What each weight stands for, of its site and path: (weights, MEASURES), whole numbers that add up as well."""
        weights, values = self.weights, np.zeros((len(self.weights), len(MEASURES)), np.int64)
        if not len(weights):
            return values
        first = np.ones(len(weights), bool)
        first[1:] = (weights["site"][1:] != weights["site"][:-1]) | (weights["failed"][1:] != weights["failed"][:-1])
        # What lies below the end of each share, of its site's 1; rounded so, no unit is lost between two.
        ends = np.cumsum(weights["share"])
        ends -= np.maximum.accumulate(np.where(first, ends - weights["share"], 0.0))
        ends[np.roll(first, -1)] = 1.0
        for at, name in enumerate(MEASURES):
            total = self.sites[name][weights["site"]] * (weights["failed"] == (name in _OF_FAILURES))
            upto = np.rint(ends * total).astype(np.int64)
            below = np.where(first, 0, np.roll(upto, 1))
            values[:, at] = upto - below
        return values


def profile(ledger: Ledger, *, once: bool = True) -> Profile:
    """The ways that lead to what a ledger has; to every site, with `once` false, whatever is counted there."""
    sites, paths = ledger.sites(), _Paths(ledger.meta)
    told_here = sites["counted_once"] if once else np.ones(len(sites), bool)
    keys = [sites[name].tolist() for name in SITE]
    leaves = [*zip(*keys[:3], strict=True)]  # kind, site, cache
    numbers = {key: at for at, key in enumerate(zip(*keys, strict=True))}
    ways: defaultdict[tuple[int, bool], Counter[int]] = defaultdict(Counter)
    stacked = [ledger.stacked[name].tolist() for name in (*SITE, "failed", "stack", "count")]
    for *key, failed, stack, count in zip(*stacked, strict=True):
        at = numbers.get(tuple(key))
        if at is not None and told_here[at] and stack in ledger.meta.stacks:
            ways[at, bool(failed)][paths.number(leaves[at], stack)] += count
    for failed in (False, True):
        told = sum(sites[name] for name in MEASURES if (name in _OF_FAILURES) == failed)
        for at in np.flatnonzero(told_here & (told != 0)).tolist():
            if (at, failed) not in ways:
                ways[at, failed][paths.number(leaves[at], None)] += 1
    weights = [
        (at, failed, path, count / total)
        for (at, failed), counted in sorted(ways.items())
        for total in [counted.total()]
        for path, count in counted.items()
    ]
    return Profile(sites, paths.frames, paths.paths, np.array(weights, WEIGHT))


class _Paths:
    """Numbers for paths, and for the frames that they go by."""

    def __init__(self, meta: Meta) -> None:
        self._meta = meta
        self._numbers: dict[tuple[int, ...], int] = {}
        self._frames: dict[Frame, int] = {}
        self._known: dict[tuple[int, int, int, int | None], int] = {}

    @property
    def frames(self) -> list[Frame]:
        return list(self._frames)

    @property
    def paths(self) -> list[tuple[int, ...]]:
        return list(self._numbers)

    def number(self, of: tuple[int, int, int], stack: int | None) -> int:
        """The number of the path of what is `of` a kind, site and cache, by a stack; None where there is none."""
        key = (*of, stack)
        if key not in self._known:
            path = tuple(self._frames.setdefault(frame, len(self._frames)) for frame in self._path(*key))
            self._known[key] = self._numbers.setdefault(path, len(self._numbers))
        return self._known[key]

    def _path(self, kind: int, site: int, cache: int, stack: int | None) -> list[Frame]:
        name = Kind(kind).name.lower()
        leaf = Frame(f"[{name} {self._meta.caches[cache].name}]" if cache else f"[{name}]")
        if stack is None:
            return [NO_STACK, self._frame(site), leaf]
        frames = self._meta.stacks[stack]
        outer = [CUT] if len(frames) >= _DEEPEST else []
        return [*outer, *map(self._frame, _owned(self._meta, frames, site)[::-1]), leaf]

    def _frame(self, site: int) -> Frame:
        return Frame(self._meta.sites[site].symbol, self._meta.sites[site].module)


def _owned(meta: Meta, frames: tuple[int, ...], site: int) -> tuple[int, ...]:
    """The frames from the site outwards; above it is the allocator, and the tracing."""
    if site in frames:
        return frames[frames.index(site) :]
    # The site is one that the event tells, and the compiler made a jump of its call.
    return (site, *(each for each in frames if not via_of(meta.sites[each].symbol)))
