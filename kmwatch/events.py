"""Single events as columns: what is kept of each, how their keys are numbered, and who gives them.

A recorder (the ring buffers of the running kernel, or a text that another tool wrote) gives segments; the writer of a
capture keeps them. What many events have in common, the key of the ledger that they belong to, stands once, numbered.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

import numpy as np

from kmwatch.batch import KEY, ROW, Cost, Meta, Rows, Trust

Array = np.ndarray[Any, np.dtype[Any]]
Columns = dict[str, Array]

KEY_TYPE = np.dtype([(name, ROW[name]) for name in KEY])
"""A key of the ledger: `site` and `cache` are indices into Meta's tables."""


class Column(NamedTuple):
    """One column of the events: its numpy type, what it is, and its unit."""

    name: str
    type: str
    doc: str
    unit: str


COLUMNS = (
    Column("time", "<i8", "since the start of the capture", "nanoseconds"),
    Column("key", "<u4", "row of keys.parquet: kind, site, GFP flags, context and all else that many events share", ""),
    Column(
        "ptr",
        "<u8",
        "what was allocated or freed, scrambled: equal where it was equal; 0 where unknown, or nothing was",
        "",
    ),
    Column("requested", "<i8", "asked for; 0 where it follows from the cache or the order", "bytes"),
    Column("pid", "<u4", "thread that ran on the CPU; interrupts run on top of any", "pid"),
    Column("task", "<u4", "row of tasks.parquet: its command name and cgroup; 0 where unknown", ""),
    Column("stack", "<u4", "stack in stacks.parquet; 0 where none was taken", ""),
    Column("cpu", "<u2", "where it happened", "number"),
)


@dataclass(frozen=True)
class Segment:
    """Events of a span of time.

    columns: one array for each of COLUMNS, all of the same length.
    start, seconds: the span, in seconds since the start of the capture, and seconds.
    """

    columns: Columns
    start: float
    seconds: float
    trust: Trust = field(default_factory=Trust)
    cost: Cost = field(default_factory=Cost)

    def __len__(self) -> int:
        return len(self.columns["time"])


class Recorder(Protocol):
    """Gives segments; what their numbers refer to grows in `meta` and `keys` before a segment that uses it is given."""

    meta: Meta

    @property
    def keys(self) -> Rows:
        """The keys so far, dtype KEY_TYPE: `key` of an event is an index into them."""
        ...

    def segments(self) -> Iterator[Segment]:
        """The segments, in the order of time."""
        ...


def empty_columns(length: int) -> Columns:
    """A column for each of COLUMNS, filled with zeros."""
    return {column.name: np.zeros(length, column.type) for column in COLUMNS}


def selected(columns: Columns, rows: Array | slice) -> Columns:
    """Some rows of every column."""
    return {name: column[rows] for name, column in columns.items()}


def concatenated(parts: list[Columns]) -> Columns:
    """The rows of several, one after the other."""
    return {column.name: np.concatenate([part[column.name] for part in parts]) for column in COLUMNS}


_PLACE_BITS = 16
_PLACES = 1 << _PLACE_BITS
_FEW = 512  # records that are found sooner one by one
# Odd numbers without a pattern: a product with one spreads every bit of a word to the bits above it.
_SPREAD = np.array([pow(0x9E3779B97F4A7C15, 2 * at + 1, 1 << 64) for at in range(32)], np.uint64)


class Numbers:
    """Numbers for distinct records of one dtype (a multiple of eight bytes, no padding), in order of first sight.

    Neighbours are mostly equal, and looked up once. Where many are left, that is vectorised: a hash tells two places,
    and the record that has the place is compared. A record that found both places taken when it came is found one by
    one, once a call.
    """

    def __init__(self, dtype: "np.dtype[Any]") -> None:
        self._dtype, self._words = dtype, dtype.itemsize // 8
        self._numbers: dict[bytes, int] = {}
        self._known = np.zeros((1, self._words), np.uint64)
        self._places = np.full((2, _PLACES), -1, np.int32)

    def __len__(self) -> int:
        return len(self._numbers)

    @property
    def records(self) -> Array:
        """The records so far, by number."""
        return self._known[: len(self)].copy().view(self._dtype).ravel()

    def of(self, words: Array) -> Array:
        """The number of each record, given as rows of eight-byte words, (n, words) of uint64."""
        firsts = _firsts(words)
        if len(firsts) > _FEW:
            numbers = self._looked_up(words[firsts])
        else:
            raws = self._raw(words[firsts]).tolist()
            found = list(map(self._numbers.get, raws))
            numbers = np.array([*map(self._number, raws)] if None in found else found, np.uint32)
        return np.repeat(numbers, np.diff(firsts, append=len(words)))

    def _raw(self, words: Array) -> Array:
        return np.ascontiguousarray(words).view(f"V{8 * self._words}").ravel()

    def _looked_up(self, words: Array) -> Array:
        hashed = _hashed(words)
        numbers, right = self._at(0, hashed, words)
        if not right.all():
            rest = np.flatnonzero(~right)
            numbers[rest], right = self._at(1, hashed[rest], words[rest])
            rest = rest[~right]
            if len(rest):
                numbers[rest] = self._slowly(words[rest])
        return numbers.astype(np.uint32)

    def _at(self, table: int, hashed: Array, words: Array) -> tuple[Array, Array]:
        numbers = self._places[table][_place(table, hashed)]
        right = numbers >= 0
        for at in range(self._words):
            right &= self._known[numbers, at] == words[:, at]
        return numbers, right

    def _slowly(self, words: Array) -> Array:
        distinct, first, back = np.unique(self._raw(words), return_index=True, return_inverse=True)
        numbers = np.zeros(len(distinct), np.int32)
        for which in np.argsort(first).tolist():
            numbers[which] = self._number(distinct[which].tobytes())
        return numbers[back.ravel()]

    def _number(self, raw: bytes) -> int:
        number = self._numbers.get(raw)
        return self._new(raw) if number is None else number

    def _new(self, raw: bytes) -> int:
        number = self._numbers[raw] = len(self._numbers)
        if number >= len(self._known):
            self._known = np.concatenate([self._known, np.zeros_like(self._known)])
        self._known[number] = np.frombuffer(raw, np.uint64)
        hashed = _hashed(self._known[number : number + 1])[0]
        for table in range(2):
            place = int(_place(table, hashed))
            if self._places[table, place] < 0:
                self._places[table, place] = number
                break
        return number


def _firsts(words: Array) -> Array:
    """The rows that differ from the row before, the first among them."""
    differs = np.ones(len(words), bool)
    np.not_equal(words[1:, 0], words[:-1, 0], out=differs[1:])
    for at in range(1, words.shape[1]):
        differs[1:] |= words[1:, at] != words[:-1, at]
    return np.flatnonzero(differs)


def _hashed(words: Array) -> Array:
    hashed = words[:, 0] * _SPREAD[0]
    for at in range(1, words.shape[1]):
        hashed = (hashed ^ (hashed >> np.uint64(29))) + words[:, at] * _SPREAD[at]
    spread: Array = (hashed ^ (hashed >> np.uint64(32))) * _SPREAD[0]
    return spread


def _place(table: int, hashed: Array) -> Array:
    """Each of the two places has bits of its own."""
    places: Array = (hashed >> np.uint64(64 - _PLACE_BITS * (table + 1))) & np.uint64(_PLACES - 1)
    return places


def fill_shifts(keys: Rows) -> Array:
    """Binary logarithm of an eighth of the power of two at or above each key's bytes_alloc, as bpf/rows.h has it."""
    tops = (keys["bytes_alloc"].astype(np.int64) - 1) >> 2
    # There 0 - 1 is the largest number of all, which has the largest shift.
    return np.where(tops < 0, 31, np.log2(np.maximum(tops, 1)).astype(np.int64))
