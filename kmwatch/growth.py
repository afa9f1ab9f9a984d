"""What grows: how much of each site is held, looked at again and again, and a slope that outliers do not bend."""

from typing import Any

import numpy as np

from kmwatch.held import Held

Array = np.ndarray[Any, np.dtype[Any]]

BY = ("kind", "site", "cache")
GROWN = np.dtype(
    [
        *((name, "<u4") for name in BY),
        ("objects", "<i8"),
        ("bytes", "<i8"),
        ("objects_per_second", "<f8"),
        ("bytes_per_second", "<f8"),
        ("rising", "<f8"),
    ]
)
"""One site: what it holds now, the median of the slopes between any two looks (Theil and Sen), and the share of any two
looks of which the later one has more."""

_LOOKS = 64  # at most, an even number, and the last one; then every other one is forgotten


class Growth:
    """The looks so far: a column for each site, a row for each look."""

    def __init__(self) -> None:
        self._numbers: dict[tuple[int, ...], int] = {}
        self._times: list[float] = []
        self._looks: list[Array] = []
        self._every, self._turn, self._passing = 1, 0, False

    def __len__(self) -> int:
        return len(self._times)

    def copy(self) -> "Growth":
        """The looks so far, to which none is added."""
        made = Growth()
        made._numbers, made._times, made._looks = dict(self._numbers), list(self._times), list(self._looks)
        made._every, made._turn, made._passing = self._every, self._turn, self._passing
        return made

    def add(self, at: float, held: Held) -> None:
        """What is held at a time, in seconds of any clock. Where there are many looks, only the last is always kept."""
        self._turn += 1
        if self._passing:
            self._times.pop()
            self._looks.pop()
        self._passing = bool(self._turn % self._every)
        rows = held.grouped(*BY)
        keys = zip(*(rows[name].tolist() for name in BY), strict=True)
        numbers = [self._numbers.setdefault(key, len(self._numbers)) for key in keys]
        look = np.zeros((len(self._numbers), 2), np.int64)
        look[numbers, 0], look[numbers, 1] = rows["objects"], rows["bytes_allocated"]
        self._times.append(at)
        self._looks.append(look)
        if len(self._times) > _LOOKS and not self._passing:
            # The turn begins anew, so that those to come are as far apart: both the first and the last are kept.
            self._times, self._looks, self._every = self._times[::2], self._looks[::2], 2 * self._every
            self._turn = 0

    def series(self, kind: int, site: int, cache: int) -> Array:
        """The bytes that a site held at each look; nothing where it never held anything."""
        number = self._numbers.get((kind, site, cache))
        if number is None:
            return np.zeros(0, np.int64)
        return np.array([look[number, 1] if number < len(look) else 0 for look in self._looks], np.int64)

    def rows(self) -> Array:
        """All sites (GROWN), in no particular order; slopes are 0 until there are two looks."""
        found = np.zeros(len(self._numbers), GROWN)
        if not len(found):
            return found
        for name, column in zip(BY, zip(*self._numbers, strict=True), strict=True):
            found[name] = column
        looks = self._matrix()
        found["objects"], found["bytes"] = looks[-1, :, 0], looks[-1, :, 1]
        # What does not hold more than at first has no slope that anybody asks for.
        more = np.flatnonzero(looks[-1, :, 1] > looks[0, :, 1])
        for at in more.tolist():
            found["objects_per_second"][at] = np.median(_slopes(self._times, looks[:, at, 0]))
            slopes = _slopes(self._times, looks[:, at, 1])
            found["bytes_per_second"][at], found["rising"][at] = np.median(slopes), (slopes > 0).mean()
        return found

    def late(self, kind: int, site: int, cache: int) -> float:
        """The slope of a site's bytes over the later half of the looks, per second; 0 until there are four looks."""
        half = len(self._times) // 2
        bytes_held = self.series(kind, site, cache)[half:]
        return float(np.median(_slopes(self._times[half:], bytes_held))) if half > 1 and len(bytes_held) else 0.0

    def _matrix(self) -> Array:
        """(looks, sites, 2): objects and bytes; a site held nothing before it was first seen."""
        matrix = np.zeros((len(self._looks), len(self._numbers), 2), np.int64)
        for at, look in enumerate(self._looks):
            matrix[at, : len(look)] = look
        return matrix


def _slopes(times: list[float], values: Array) -> Array:
    """The slopes between any two points, per second."""
    first, second = np.triu_indices(len(times), 1)
    moments = np.array(times)
    slopes: Array = (values[second] - values[first]) / (moments[second] - moments[first])
    return slopes
