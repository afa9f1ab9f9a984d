"""Counters of one shape: some metrics with the same labels, all of them or a top with the rest."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from kmwatch.serve.cells import Array, Cells, Labels, Names, pack, rest_of, unpack
from kmwatch.serve.ranking import Ranking
from kmwatch.serve.snapshot import Family

Word = Callable[[int], str]


@dataclass(frozen=True)
class Shape:
    """What a Tally counts.

    metrics: names in kmwatch.metrics, one for each measure; measures beyond them are ranked only.
    names: numbers to the first labels; words: what the details, the labels after them, are called.
    """

    metrics: tuple[str, ...]
    names: Names
    words: tuple[Word, ...] = ()


class _Series:
    """Sums that only grow, a series for each name and details.

    Args:
        shape: what is counted.
        start: when counting began, in seconds since the epoch.
        measures: how many sums a series has.
    """

    def __init__(self, shape: Shape, start: float, measures: int) -> None:
        self._shape, self._start = shape, start
        self._cells = Cells(measures)
        self._labels: dict[int, Labels] = {}

    @property
    def totals(self) -> list[int]:
        """Each measure over all series."""
        return [int(total) for total in self._cells.values.sum(axis=0)]

    def families(self) -> dict[str, Family]:
        """The series by metric."""
        keys = self._cells.keys.tolist()
        self._labels = {key: self._labels.get(key) or self._named(key) for key in keys}
        labels, created = tuple(self._labels.values()), tuple(self._cells.created.tolist())
        columns = self._cells.values.T
        return {
            name: Family(labels, tuple(column.tolist()), created)
            for name, column in zip(self._shape.metrics, columns, strict=False)
        }

    def _named(self, key: int) -> Labels:
        name, details = unpack(key, len(self._shape.words))
        words = (word(detail) for word, detail in zip(self._shape.words, details, strict=True))
        return (*self._shape.names.labels[name], *words)


class Tally(_Series):
    """All series there are: of things that are few by their nature, or whose Names see to it."""

    def __init__(self, shape: Shape, start: float) -> None:
        super().__init__(shape, start, len(shape.metrics))

    def begin(self, *details: Iterable[int]) -> None:
        """Show a series without a name at 0 for each of these details: what grows from 0 is not missed."""
        columns = [np.array(each, np.int64) for each in zip(*details, strict=True)]
        keys = pack(np.zeros(len(details), np.int64), columns)
        self._cells.add(keys, np.zeros((len(keys), self._cells.values.shape[1]), np.int64), self._start)

    def add(self, names: Array, details: Sequence[Array], measures: Sequence[Array]) -> None:
        """Add one row for each number in `names`."""
        self._cells.add(pack(names, details), np.stack(measures, axis=1), self._start)


class TopTally(_Series):
    """Sums that only grow, of which a top have series of their own, and the others one for each of their details.

    Whatever is counted is in exactly one series. A series begins at 0; when it ends, its sums join the rest's. So the
    rest and the others add up to the total at any time, and none goes back while it is there.

    Args:
        shape: what is counted.
        start: when counting began, in seconds since the epoch.
        ranking: who is at the top.
        ranked: the measures that are ranked.
        rare: what makes a series begin is counted in it, for events of which one tells all; else it stays in the rest,
            so that the series is seen at 0 first and rates are right.
    """

    def __init__(
        self, shape: Shape, start: float, ranking: Ranking, ranked: tuple[int, ...], *, rare: bool = False
    ) -> None:
        super().__init__(shape, start, max(ranked) + 1)
        self._ranking, self._ranked, self._rare = ranking, ranked, rare

    @property
    def entries(self) -> tuple[int, int]:
        """How many have series of their own, and how many can."""
        return len(self._ranking.living), self._ranking.limit

    def add(self, names: Array, details: Sequence[Array], measures: Sequence[Array], span: tuple[float, float]) -> None:
        """Add one row for each number in `names`: all that there was in a span, which may be nothing.

        span: its start in seconds since the epoch, and its length in seconds.
        """
        start, seconds = span
        keys, back = np.unique(pack(names, details), return_inverse=True)
        gains = np.zeros((len(keys), len(measures)), np.int64)
        np.add.at(gains, back.ravel(), np.stack(measures, axis=1))
        named = keys != self._rest(keys)
        left, entered = self._ranking.update(keys[named], gains[named][:, list(self._ranked)], seconds)
        sums = self._cells.take(left)
        self._cells.add(self._rest(left), sums, self._start)
        if self._rare:
            self._enter(entered, start)
        living = np.isin(keys, self._cells.keys)
        self._cells.add(np.where(living, keys, self._rest(keys)), gains, self._start)
        if not self._rare:
            self._enter(entered, start + seconds)

    def _enter(self, keys: Array, created: float) -> None:
        self._cells.add(keys, np.zeros((len(keys), self._cells.values.shape[1]), np.int64), created)

    def _rest(self, keys: Array) -> Array:
        return rest_of(keys, len(self._shape.words))
