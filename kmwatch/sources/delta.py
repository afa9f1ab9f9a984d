"""What a growing table in the kernel gained between two readings."""

from typing import Any

import numpy as np

from kmwatch import schema
from kmwatch.events import Numbers

Array = np.ndarray[Any, np.dtype[Any]]
_VALUE = schema.dtype("ledger_value")
_STACKED = schema.dtype("stacked_key")
_WORDS = _STACKED.itemsize // 8
_SUMMED = ("count", "bytes_requested", "fill")
_NO_REQUEST = 0xFFFFFFFF


class Readings:
    """Remembers the last reading of a table whose keys never go away, and whose sums only grow."""

    def __init__(self) -> None:
        self._slots: dict[bytes, int] = {}
        self._before = np.zeros(0, _VALUE)

    def gained(self, keys: Array, values: Array) -> tuple[Array, Array]:
        """The keys that changed since the last call, each once, and what their sums gained, modulo their width.

        Keys may repeat: every CPU has values of its own. The smallest and largest request are of all time: they have no
        difference.
        """
        raw, width = keys.tobytes(), keys.dtype.itemsize
        slots = np.fromiter(
            (self._slots.setdefault(raw[at : at + width], len(self._slots)) for at in range(0, len(raw), width)),
            np.intp,
            len(keys),
        )
        now, read = _summed(slots, values, len(self._slots)), np.zeros(len(self._slots), bool)
        read[slots] = True
        known = len(self._before)
        now[:known][~read[:known]] = self._before[~read[:known]]
        gain = now.copy()
        for name in _SUMMED:
            gain[name][:known] -= self._before[name]
        self._before = now
        changed = (gain["count"] != 0) | (gain["bytes_requested"] != 0)
        first = np.zeros(len(now), np.intp)
        first[slots] = np.arange(len(slots))
        return keys[first[changed]], gain[changed]


class StackCounts:
    """Remembers the last reading of the counts of stacks, which never go away and only grow."""

    def __init__(self) -> None:
        self._numbers = Numbers(_STACKED)
        self._before = np.zeros(0, np.int64)

    def gained(self, keys: Array, counts: Array) -> tuple[Array, Array]:
        """The keys (struct stacked_key, each once) whose counts grew since the last call, and by how much."""
        numbers = self._numbers.of(np.ascontiguousarray(keys).view(np.uint64).reshape(-1, _WORDS))
        before = np.zeros(len(self._numbers), np.int64)
        before[: len(self._before)] = self._before
        gain = counts.ravel().astype(np.int64) - before[numbers]
        before[numbers] += gain
        self._before = before
        return keys[gain != 0], gain[gain != 0]


def _summed(slots: Array, values: Array, length: int) -> Array:
    total = np.zeros(length, _VALUE)
    for name in _SUMMED:
        np.add.at(total[name], slots, values[name])
    # A CPU that has not seen the key, or only took back what another counted, has no smallest request.
    seen = values["count"].astype(np.int64) > 0
    total["min_request"] = _NO_REQUEST
    np.minimum.at(total["min_request"], slots[seen], values["min_request"][seen])
    np.maximum.at(total["max_request"], slots, values["max_request"])
    return total
