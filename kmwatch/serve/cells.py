"""Sums by packed keys: a name's number and small details in one integer, so that a batch is added up by numpy."""

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from kmwatch.units import printable

Array = np.ndarray[Any, np.dtype[Any]]
Labels = tuple[str, ...]

OTHER = "other"
"""The name of the rest: whatever has no series of its own."""

_LONGEST = 200  # characters; the kernel's own limits are 512 for a symbol and 32 for a cache
_BITS = 8  # of each detail: kinds, orders, contexts, zones are bytes in the ledger too


def clean(name: str) -> str:
    """A name as a label: cut, and without characters that cannot be shown."""
    return printable(name[:_LONGEST])


class Names:
    """Numbers for names, in order of appearance. 0 is the rest, which takes in what comes when `most` are known.

    What is really called like the rest is part of it: no label can stand for two things.
    """

    def __init__(self, rest: Labels = (), most: int = 1 << 16) -> None:
        self.labels: list[Labels] = [rest]
        self._numbers, self._most = {rest: 0}, most
        self._table: Array = np.zeros(0, np.int64)

    def number(self, *name: str) -> int:
        """The number of a name, which may be in several parts."""
        labels = tuple(map(clean, name))
        known = self._numbers.get(labels)
        if known is None:
            if len(self.labels) > self._most:
                return 0
            known = self._numbers[labels] = len(self.labels)
            self.labels.append(labels)
        return known

    def of_table(self, table: list[Any], indices: Array, name: Callable[[Any], Labels]) -> Array:
        """Numbers for entries of a table that only grows, by their indices."""
        fresh = [self.number(*name(entry)) for entry in table[len(self._table) :]]
        if fresh:
            self._table = np.concatenate([self._table, np.array(fresh, np.int64)])
        return self._table[indices]

    def of_values(self, values: Array, name: Callable[[int], str]) -> Array:
        """Numbers for plain values that repeat."""
        distinct, back = np.unique(values, return_inverse=True)
        return np.array([self.number(name(value)) for value in distinct.tolist()], np.int64)[back.ravel()]

    def forget_table(self) -> None:
        """Another table begins; names keep their numbers."""
        self._table = np.zeros(0, np.int64)


def pack(names: Array, details: Iterable[Array]) -> Array:
    """One integer for a name's number and its details."""
    keys = names.astype(np.int64)
    for detail in details:
        keys = keys << _BITS | detail
    return keys


def unpack(key: int, details: int) -> tuple[int, list[int]]:
    """The name's number and its details."""
    parts = [key >> _BITS * at & (1 << _BITS) - 1 for at in range(details)]
    return key >> _BITS * details, parts[::-1]


def rest_of(keys: Array, details: int) -> Array:
    """The keys of the rest: the same details without the name."""
    return keys & ((1 << _BITS * details) - 1)


class Cells:
    """Integer sums by key, each with the time at which it began at 0."""

    def __init__(self, measures: int) -> None:
        self.keys: Array = np.zeros(0, np.int64)
        self.values: Array = np.zeros((0, measures), np.int64)
        self.created: Array = np.zeros(0)

    def add(self, keys: Array, values: Array, created: float) -> None:
        """Add to the sums; a key that is new begins now. Keys may repeat."""
        fresh = np.setdiff1d(keys, self.keys)
        if len(fresh):
            at = np.searchsorted(self.keys, fresh)
            self.keys = np.insert(self.keys, at, fresh)
            self.values = np.insert(self.values, at, 0, axis=0)
            self.created = np.insert(self.created, at, created)
        np.add.at(self.values, np.searchsorted(self.keys, keys), values)

    def take(self, keys: Array) -> Array:
        """Remove cells that are there, and give their sums."""
        at = np.searchsorted(self.keys, keys)
        taken: Array = self.values[at]
        self.keys, self.created = np.delete(self.keys, at), np.delete(self.created, at)
        self.values = np.delete(self.values, at, axis=0)
        return taken
