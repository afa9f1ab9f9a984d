"""What happened in the last refreshes, as lines of blocks: one block a refresh, in bounded memory."""

from typing import Any

import numpy as np

from kmwatch.ledger import ALLOCATIONS, MAPPINGS, Array, Ledger
from kmwatch.runs import runs

LOOKS = 16
"""Refreshes that are remembered."""

BY = ("kind", "site", "cache", "gfp", "context", "order", "counted_once")
"""What tells apart what is remembered; the rest of a row of the sites view follows from it."""

_BLOCKS = np.array(list("▁▂▃▄▅▆▇█"))


class Past:
    """The rates of the last refreshes, the latest last; it never changes.

    events, bytes_allocated, failures: a second, of everything; failures are the unexpected ones.
    """

    def __init__(self) -> None:
        self.events = self.bytes_allocated = self.failures = np.zeros(0)
        self._rates: Array = np.zeros(0, [("rates", "<f8", (LOOKS,))])

    def after(self, recent: Ledger) -> "Past":
        """What is remembered after one more refresh; one of no length is none."""
        if recent.seconds <= 0:
            return self
        now, totals, latest = Past(), recent.totals(), recent.seconds
        now.events = _then(self.events, recent.events() / latest)
        now.bytes_allocated = _then(self.bytes_allocated, totals.bytes_allocated / latest)
        now.failures = _then(self.failures, totals.failures / latest)
        now._rates = self._rates_after(recent)
        return now

    def of(self, groups: Array) -> Array:
        """Bytes allocated a second by each of the groups: (groups, refreshes). They must have the columns of BY."""
        found = np.zeros((len(groups), LOOKS))
        if len(self._rates):
            at = places(groups, self._rates, BY)
            found[at >= 0] = self._rates["rates"][at[at >= 0]]
        return found[:, LOOKS - len(self.events) :]

    def _rates_after(self, recent: Ledger) -> Array:
        """The rates with those of one more refresh; what did nothing in all of them is forgotten."""
        groups = recent.groups(*BY, kinds=(*ALLOCATIONS, *MAPPINGS))
        known = self._rates if len(self._rates) else np.zeros(0, [*_types(groups), ("rates", "<f8", (LOOKS,))])
        at = places(groups, known, BY)
        added = np.zeros(int((at < 0).sum()), known.dtype)
        for name in BY:
            added[name] = groups[name][at < 0]
        rates: Array = np.concatenate([known, added])
        at[at < 0] = np.arange(len(known), len(rates))
        rates["rates"][:, :-1] = rates["rates"][:, 1:]
        rates["rates"][:, -1] = 0.0
        rates["rates"][at, -1] = groups["bytes_allocated"] / recent.seconds
        return rates[rates["rates"].any(axis=1)]


def _then(values: Array, latest: float) -> Array:
    return np.append(values, latest)[-LOOKS:]


def _types(groups: Array) -> list[tuple[str, Any]]:
    return [(name, groups.dtype[name]) for name in BY]


def places(groups: Array, others: Array, by: tuple[str, ...]) -> Array:
    """Where among others each group is that has the same key, -1 where none has; keys are distinct in each."""
    order, starts = runs([np.concatenate([groups[name], others[name]]) for name in by], len(groups) + len(others))
    found = np.full(len(groups), -1, np.intp)
    # Equal keys keep their order: of two the first is a group.
    twice = starts[np.diff(starts, append=len(order)) == 2]
    found[order[twice]] = order[twice + 1] - len(groups)
    return found


def sparklines(values: Array) -> list[str]:
    """A line of blocks for each row, the largest value of the row a full one, nothing the lowest."""
    many = values.shape[1]
    if not values.size:
        return [""] * len(values)
    most = values.max(axis=1, keepdims=True, initial=0.0)
    steps = np.rint(np.maximum(values, 0.0) / np.where(most > 0, most, 1.0) * (len(_BLOCKS) - 1)).astype(np.intp)
    lines: list[str] = np.ascontiguousarray(_BLOCKS[steps]).view(f"U{many}").ravel().tolist()
    return lines


def sparkline(values: Array) -> str:
    """The latest values as one such line."""
    return sparklines(values[-LOOKS:].astype(float)[None, :])[0]
