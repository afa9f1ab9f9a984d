"""Who is at the top: which few of many have series of their own, and when they lose them."""

import numpy as np

from kmwatch.serve.cells import Array

ROOM = 8
"""Times `top` entries can have series of their own at once: who was at the top stays for a while."""

_HALF_LIVES = 6  # in an idle time: a burst counts a sixty-fourth when it is over


class Ranking:
    """Entries by what they gained lately; older gains count less and less.

    Args:
        measures: how many things are ranked; each has its own top.
        top: entries at the top of each.
        idle: seconds without a gain at the top after which an entry goes.
    """

    def __init__(self, measures: int, top: int, idle: float) -> None:
        self._top, self._idle, self._half_life = top, idle, max(idle, 1e-9) / _HALF_LIVES
        self._now = 0.0
        self.limit = ROOM * top
        self.living: Array = np.zeros(0, np.int64)
        self._keys: Array = np.zeros(0, np.int64)
        self._scores: Array = np.zeros((0, measures))
        self._gained: Array = np.zeros(0)  # when an entry gained anything
        self._ranked: Array = np.zeros(0)  # when it gained anything while at the top

    def update(self, keys: Array, gains: Array, seconds: float) -> tuple[Array, Array]:
        """What was gained in a further span: each key once. Gives who leaves, then who enters; both sorted."""
        self._now += seconds
        self._score(keys, gains, seconds)
        gained = self._gained == self._now
        at_top = gained & self._at_top()
        self._ranked[at_top] = self._now
        alive = np.isin(self._keys, self.living)
        left = self._keys[alive & (self._now - self._ranked >= self._idle)]
        room = max(self.limit - len(self.living) + len(left), 0)
        newcomers = np.flatnonzero(at_top & ~alive)
        shares = self._scores[newcomers] / np.maximum(self._scores.sum(axis=0), 1e-9)
        best = newcomers[np.argsort(-shares.max(axis=1, initial=0), kind="stable")[:room]]
        entered = np.sort(self._keys[best])
        self.living = np.union1d(np.setdiff1d(self.living, left), entered)
        self._forget()
        return left, entered

    def _score(self, keys: Array, gains: Array, seconds: float) -> None:
        fresh = np.setdiff1d(keys, self._keys)
        at = np.searchsorted(self._keys, fresh)
        self._keys = np.insert(self._keys, at, fresh)
        self._scores = np.insert(self._scores, at, 0, axis=0) * 0.5 ** (seconds / self._half_life)
        self._gained, self._ranked = (np.insert(times, at, -np.inf) for times in (self._gained, self._ranked))
        places = np.searchsorted(self._keys, keys)
        self._scores[places] += gains
        self._gained[places[gains.any(axis=1)]] = self._now

    def _at_top(self) -> Array:
        """Who is among the first of any measure."""
        found = np.zeros(len(self._keys), bool)
        for scores in self._scores.T:
            first = np.argpartition(-scores, self._top)[: self._top] if len(scores) > self._top else slice(None)
            found[first] |= scores[first] > 0
        return found

    def _forget(self) -> None:
        """Remember only who has series or gained something lately: no more than the kernel's own table has room for."""
        kept = np.isin(self._keys, self.living) | (self._now - self._gained < self._idle)
        self._keys, self._scores = self._keys[kept], self._scores[kept]
        self._gained, self._ranked = self._gained[kept], self._ranked[kept]
