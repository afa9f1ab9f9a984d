"""Protocol buffers as bytes: the five shapes of field that pprof's and Perfetto's messages are made of.

The encoding is fixed for ever. Tests read what is written with the library and the published descriptions.
"""

import struct
from collections.abc import Iterable

_VARINT, _DOUBLE, _LENGTH = 0, 1, 2


def integer(field: int, value: int) -> bytes:
    """An integer, a boolean or an enum; a negative one as int64."""
    return _varint(field << 3 | _VARINT) + _varint(value)


def double(field: int, value: float) -> bytes:
    """A double."""
    return _varint(field << 3 | _DOUBLE) + struct.pack("<d", value)


def text(field: int, value: str) -> bytes:
    """A string; it must be one that UTF-8 can say."""
    return message(field, value.encode())


def message(field: int, *parts: bytes) -> bytes:
    """A message made of fields."""
    body = b"".join(parts)
    return _varint(field << 3 | _LENGTH) + _varint(len(body)) + body


def packed(field: int, values: Iterable[int]) -> bytes:
    """Repeated integers in one field."""
    return message(field, *map(_varint, values))


def _varint(value: int) -> bytes:
    left, made = value & (1 << 64) - 1, bytearray()
    while left > 0x7F:
        made.append(left & 0x7F | 0x80)
        left >>= 7
    made.append(left)
    return bytes(made)
