"""The places where the lines of an even chunk are cut: found for all lines at once, by columns of letters."""

from typing import NamedTuple

import numpy as np

from kmwatch.events import Array

WIDEST = 192
"""Bytes: no piece that `cells` gives may be longer."""
_LONGEST = 9  # digits of the seconds, and of their fraction: what 64 bits hold in nanoseconds
_DIGITS = 16  # of a pointer
_NEWLINE, _EQUALS, _COLON, _POINT, _BLANK, _OPEN, _ZERO, _X = b"\n=:. (0x"
_NIL, _NULL = b"(nil)", b"(null)"
_NO_NIBBLE = 255
_NIBBLES = np.full(256, _NO_NIBBLE, np.uint8)
_NIBBLES[np.frombuffer(b"0123456789abcdef", np.uint8)] = range(16)
_MASKS = (np.tri(WIDEST + 1, WIDEST, -1, np.uint8) * np.uint8(255)).view(np.uint64)  # by length, as many bytes are kept


class UnevenError(Exception):
    """The lines of a chunk are not all plain slab events: it must be read line by line."""


class Cuts(NamedTuple):
    """Where each line begins and ends, and in it the time, the colon after it, and the pointer.

    letters: the bytes of the chunk, and some zeros. times: nanoseconds. null: the pointer is NULL, and 0 in `pointers`.
    """

    letters: Array
    starts: Array
    ends: Array
    times_at: Array
    colons: Array
    pointers_at: Array
    pointers_end: Array
    times: Array
    pointers: Array
    null: Array


def cuts_of(text: str, colons: int) -> Cuts:
    """Cut each line at its time and at what its second equals sign is followed by.

    Args:
        text: whole lines.
        colons: how many stand between the time and the first equals sign, the one after the time included.

    Raises UnevenError where a line has no such places, or the times are not equally wide.
    """
    if not text.isascii() or "\0" in text:
        raise UnevenError
    raw = text.encode() + b"\n"[: not text.endswith("\n")]
    letters = np.frombuffer(raw + bytes(WIDEST), np.uint8)
    ends = np.flatnonzero(letters == _NEWLINE)
    starts = np.append(0, ends[:-1] + 1)
    equals = np.flatnonzero(letters == _EQUALS)
    first = np.searchsorted(equals, starts)
    if first[-1] + 1 >= len(equals):
        raise UnevenError
    every = np.flatnonzero(letters == _COLON)
    before = np.searchsorted(every, equals[first]) - colons
    _must(before >= 0)
    ours, marks = every[before], equals[first + 1]
    _must((starts < ours) & (marks < ends))
    point = raw[starts[0] : ours[0]].rpartition(b" ")[2].partition(b".")
    times_at, times = _times(letters, starts, ours, (len(point[0]), len(point[2])))
    pointers, null, pointers_end = _pointers(letters, marks + 1)
    return Cuts(letters, starts, ends, times_at, ours, marks + 1, pointers_end, times, pointers, null)


def cells(letters: Array, starts: Array, ends: Array, width: int) -> Array:
    """Pieces of the letters, filled up with zeros: rows of eight-byte words, `width` bytes each; none is longer."""
    words = _rows(letters, starts, width).view(np.uint64).reshape(-1, width // 8)
    words &= _MASKS[:, : width // 8][ends - starts]
    return words


def _must(holds: Array) -> None:
    if not holds.all():
        raise UnevenError


def _rows(letters: Array, starts: Array, width: int) -> Array:
    """As many letters from each start, as one array."""
    return np.ndarray(len(letters) - width + 1, f"V{width}", letters, strides=(1,))[starts]


def _times(letters: Array, starts: Array, ends: Array, digits: tuple[int, int]) -> tuple[Array, Array]:
    """Where the times begin, and nanoseconds."""
    whole, fraction = digits
    if not 0 < whole <= _LONGEST or not 0 < fraction <= _LONGEST:
        raise UnevenError
    width = whole + 1 + fraction
    begin = ends - width
    _must(starts < begin)
    values = _rows(letters, begin, width).view(np.uint8).reshape(-1, width) - np.uint8(_ZERO)
    _must(values[:, whole] == np.uint8(256 + _POINT - _ZERO))
    values[:, whole] = 0
    _must(values <= 9)
    # Nine digits are exact in a float, and such a product is the fastest.
    scale = np.zeros((width, 2))
    scale[:whole, 0] = 10.0 ** np.arange(whole - 1, -1, -1)
    scale[whole + 1 :, 1] = 10.0 ** np.arange(_LONGEST - 1, _LONGEST - 1 - fraction, -1)
    seconds, rest = (values.astype(np.float64) @ scale).astype(np.int64).T
    return begin, seconds * 1_000_000_000 + rest


def _pointers(letters: Array, begin: Array) -> tuple[Array, Array, Array]:
    """The pointers, which of them are NULL, and where they end."""
    first, ends = letters[begin], begin.copy()
    pointers = np.zeros(len(begin), np.uint64)
    null = first == _OPEN
    there, nulls = np.flatnonzero(~null), np.flatnonzero(null)
    if len(there):
        at = begin[there]
        prefixed = letters[at + 1] == _X
        _must(prefixed == prefixed[0])
        if prefixed[0]:
            _must(first[there] == _ZERO)
            at = at + 2
        nibbles = _NIBBLES[_rows(letters, at, _DIGITS).view(np.uint8)]
        _must(nibbles != _NO_NIBBLE)
        pointers[there] = (nibbles[0::2] << 4 | nibbles[1::2]).view(">u8")
        ends[there] = at + _DIGITS
    if len(nulls):
        words = _rows(letters, begin[nulls], 8).view("<u8")
        short, long = (
            words & np.uint64((1 << 8 * len(text)) - 1) == np.uint64(int.from_bytes(text, "little"))
            for text in (_NIL, _NULL)
        )
        _must(short | long)
        ends[nulls] += np.where(short, len(_NIL), len(_NULL))
    after = letters[ends]
    _must((after == _BLANK) | (after == _NEWLINE))
    return pointers, null, ends
