"""The switch in the programs that leaves events out (bpf/sampling.h), and numbers made whole by what it left out."""

import secrets
from collections.abc import Collection

import numpy as np

from kmwatch import schema
from kmwatch.batch import Rows
from kmwatch.schema import KINDS, LARGE, Kind
from kmwatch.sources.bpf import Array, Programs

_SAMPLING, _SAMPLED = schema.dtype("sampling"), schema.dtype("sampled")
_WORD = 64

SAMPLED = (Kind.KMALLOC, Kind.CACHE_ALLOC, Kind.PAGE_ALLOC)
"""Kinds of which one event of many can be kept."""


class Sampling:
    """The switch of one source's programs, which were compiled with SAMPLING."""

    def __init__(self, programs: Programs, cpus: int) -> None:
        self._programs, self._cpus = programs, cpus
        self._before = np.zeros(KINDS, np.int64)
        self._owed = np.zeros(KINDS, np.int64)
        self.is_on = False
        """Whether anything is left out."""

    def choose(self, dropped: Collection[Kind], bits: int) -> None:
        """From now on leave out these kinds, and of SAMPLED keep one event of 2^bits."""
        now = np.zeros(1, _SAMPLING)
        now["key"] = secrets.randbits(_WORD) | 1
        now["mask"] = (1 << _WORD) - (1 << (_WORD - bits)) if bits else 0
        now["dropped"] = sum(1 << kind for kind in set(dropped))
        self._programs.write_array("sampling", now)
        self.is_on = bool(dropped) or bits > 0

    def gained(self) -> Array:
        """Events left out since the last call, by kind."""
        counted = self._programs.read_arrays("sampled", _SAMPLED, self._cpus)["left_out"]
        total = np.asarray(counted.sum(axis=1), np.int64)
        gain: Array = total - self._before
        self._before = total
        return gain

    def whole(self, rows: Rows, left_out: Array) -> Rows:
        """The rows of an interval, those of sampled kinds scaled so that they count all of their kind's events.

        Nothing left out means nothing changed. What has no row to be added to waits for one.
        """
        self._owed[list(SAMPLED)] += left_out[list(SAMPLED)]
        for kind in SAMPLED:
            own = np.flatnonzero((rows["kind"] == kind) & _chosen(rows))
            if self._owed[kind] and rows["count"][own].sum() > 0:
                rows[own] = _scaled(rows[own], int(self._owed[kind]))
                self._owed[kind] = 0
        return rows


def _chosen(rows: Rows) -> Array:
    """Rows whose events may have been left out, as bpf/observe.h has it: no failures, and nothing large."""
    chosen: Array = (rows["failed"] == 0) & (rows["order"] == 0) & (rows["bytes_alloc"] <= LARGE) & (rows["count"] > 0)
    return chosen


def _scaled(rows: Rows, more: int) -> Rows:
    """The rows with `more` events given out in proportion; their counts add up exactly, the largest remainders rise."""
    exact = rows["count"] * (more / int(rows["count"].sum()))
    given = np.floor(exact).astype(np.int64)
    given[np.argsort(given - exact, kind="stable")[: more - int(given.sum())]] += 1
    share = 1 + given / rows["count"]
    rows["count"] += given
    rows["bytes_requested"] = np.rint(rows["bytes_requested"] * share)
    rows["fill"] = np.rint(rows["fill"] * share[:, None])
    return rows
