"""What the outstanding view gathers, and its columns: what each site holds of a cache, and how far to believe it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from kmwatch.coverage import GRADES, coverage, labels
from kmwatch.coverage import UNKNOWN as NOT_TOLD
from kmwatch.growth import BY
from kmwatch.held import HELD, Held, bounds, churn, median_seconds
from kmwatch.ledger import Array, Ledger
from kmwatch.units import printable, short, span
from kmwatch.views.top import columns as col
from kmwatch.views.top.columns import Cell, Column, Groups, amount, words
from kmwatch.views.top.past import LOOKS, sparkline

UNKNOWN = "unknown"
_UNKNOWN = -1  # sorts below every number


@dataclass(frozen=True)
class Holdings(Groups):
    """What the columns read. total: HELD by kind, site and cache; recent, rates, seconds: nothing and 0.

    Row for row: the cache as it is called, the worst grade of what the row holds, the bytes at each look so far, and
    by how many a second they grow. bits: one object of 2^bits was looked at.
    """

    caches: Sequence[str]
    grades: Sequence[str]
    looks: Sequence[Array]
    slopes: Array
    bits: int

    @property
    def known(self) -> Array:
        """Whether the numbers of a row are to be believed at all."""
        return np.array([grade != NOT_TOLD for grade in self.grades], bool)


def gather(total: Ledger) -> Holdings:
    """What is held now, the most bytes first; nothing where nobody looked."""
    held = total.held or Held(np.zeros(0, HELD))
    rows = held.grouped(*BY)
    rows = rows[rows["objects"] > 0]
    rows = rows[np.argsort(-rows["bytes_allocated"], kind="stable")]
    keys = [tuple(key) for key in rows[list(BY)].tolist()]
    names, grades = _graded(held, total)
    slopes = {tuple(key): slope for *key, slope in total.growth.rows()[[*BY, "bytes_per_second"]].tolist()}
    return Holdings(
        total.meta,
        rows,
        np.zeros(0),
        np.zeros(0),
        0.0,
        [printable(", ".join(names[key])) for key in keys],
        [grades[key] for key in keys],
        [total.growth.series(*key) for key in keys],
        np.array([slopes.get(key, 0.0) for key in keys]),
        held.bits,
    )


def _graded(held: Held, total: Ledger) -> tuple[dict[tuple[int, ...], list[str]], dict[tuple[int, ...], str]]:
    """By kind, site and cache: the labels of what is held of it, as a kmalloc has size classes, and the worst grade."""
    known = {label: each.grade for label, each in coverage(total).items()}
    rows = held.grouped(*BY, "bytes_alloc")
    rows = rows[rows["objects"] > 0]
    names: dict[tuple[int, ...], list[str]] = {}
    grades: dict[tuple[int, ...], str] = {}
    for key, label in zip(rows[list(BY)].tolist(), labels(rows, total.meta.caches), strict=True):
        if label[0] not in names.setdefault(tuple(key), []):
            names[tuple(key)].append(label[0])
        grades[tuple(key)] = max(grades.get(tuple(key), GRADES[0]), known[label])
    return names, grades


def _number(values: Callable[[Holdings], Array]) -> Callable[[Holdings], list[Cell]]:
    """Values of a column of numbers, _UNKNOWN where they are."""
    return lambda rows: np.where(rows.known, values(rows), _UNKNOWN).tolist()


def _word(values: Callable[[Holdings], Sequence[str]]) -> Callable[[Holdings], list[Cell]]:
    """Values of a column of text, UNKNOWN where it is."""
    return lambda rows: [
        text if known else UNKNOWN for text, known in zip(values(rows), rows.known.tolist(), strict=True)
    ]


def _shown(show: Callable[[float], str]) -> Callable[[float], str]:
    return lambda value: UNKNOWN if value == _UNKNOWN else show(value)


def _waste(rows: Holdings) -> Array:
    waste: Array = rows.total["bytes_allocated"] - rows.total["bytes_requested"]
    return waste


def _error(rows: Holdings, total: Array, squares: Array) -> Array:
    """How far a sum may be off to the side where that is more, in 99 of 100 cases; 0 where it is exact."""
    found = [bounds(*each, rows.bits) for each in zip(total.tolist(), squares.tolist(), strict=True)]
    return np.array([max(high - each, each - low) for each, (low, high) in zip(total.tolist(), found, strict=True)])


def _error_of(total: str, squares: str) -> Callable[[Holdings], list[Cell]]:
    return _number(lambda rows: _error(rows, rows.total[total], rows.total[squares]))


def _off(show: Callable[[float], str]) -> Callable[[float], str]:
    return lambda value: f"±{show(value)}" if value > 0 else ""


def _median(times: Array) -> str:
    found = median_seconds(times)
    return "" if found is None else span(found)


def _medians(name: str) -> Callable[[Holdings], list[Cell]]:
    return _word(lambda rows: [_median(times) for times in rows.total[name]])


def _elsewhere(rows: Holdings) -> Array:
    share: Array = rows.total["elsewhere"] / np.maximum(rows.total["released"], 1)
    return share


def _of(name: str) -> Callable[[Holdings], Array]:
    return lambda rows: rows.total[name]


COLUMNS = (
    col.site(1), col.kind(11),
    words("cache", "the cache, or the size classes of a kmalloc", lambda rows: rows.caches, 5, 10, 24),
    Column("objects", "objects held, of those allocated since the start; estimated from a sample",
           _number(_of("objects")), 3, show=_shown(short)),
    Column("±", "how far that may be off, in 99 of 100 cases", _error_of("objects", "sampled"), 4, 6,
           show=_off(short)),
    Column("bytes", "bytes that they take", _number(_of("bytes_allocated")), 2, show=_shown(amount)),
    Column("±bytes", "how far that may be off, in 99 of 100 cases", _error_of("bytes_allocated", "bytes_squares"),
           show=_off(amount)),
    Column("waste", "of these never asked for", _number(_waste), 8, show=_shown(amount)),
    Column("±waste", "how far that may be off, in 99 of 100 cases",
           _number(lambda rows: _error(rows, _waste(rows), rows.total["waste_squares"])), show=_off(amount)),
    Column("looks", "the bytes at the last looks, the most of them a full block",
           _word(lambda rows: [sparkline(each) for each in rows.looks]), 6, 8, LOOKS, words=True, latest=True),
    Column("grows/s", "bytes a second, the median of the slopes between any two looks",
           _number(lambda rows: rows.slopes), 9, show=_shown(amount)),
    words("lives", "how long the objects live: sub-µs, µs, ms, s; permanent is what mostly stays",
          _word(lambda rows: [churn(row) for row in rows.total]), 10, 9),
    words("grade", "A: right but for the sample; B: nearly, or nobody confirms it; C: about right; D: unknown, as too "
          "many releases have no event", lambda rows: rows.grades, 7, 5),
    words("age", "where the bucket ends that the median age is in", _medians("ages")),
    Column("released", "objects released with an event", _number(_of("released")), show=_shown(short)),
    words("lived", "where the bucket ends that their median lifetime is in", _medians("lifetimes")),
    Column("elsewhere", "of these on another CPU", _number(_elsewhere), show=_shown(col.share)),
    Column("unseen", "objects released without an event: their address was handed out again",
           lambda rows: rows.total["unseen"].tolist(),
           show=lambda value: short(value) if value else ""),
    col.MODULE,
)  # fmt: skip
