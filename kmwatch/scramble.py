"""Pointers made unrecognisable: equal ones stay equal, and nothing else of them is left."""

import secrets
from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]

_ROUNDS = 3


class Scrambler:
    """A bijection of 64-bit numbers under keys drawn at random, which are kept nowhere; 0 stays 0.

    Each round adds a secret number and multiplies by a secret odd one, which spreads every bit upwards; the shift after
    it brings the high bits down. In the end what became of 0 is taken off, bit by bit. A capture tells no address by
    it, and two captures cannot be joined.
    """

    def __init__(self) -> None:
        self._adds = np.array([secrets.randbits(64) for _ in range(_ROUNDS)], np.uint64)
        self._factors = np.array([secrets.randbits(64) | 1 for _ in range(_ROUNDS)], np.uint64)
        self._null = self._mixed(np.zeros(1, np.uint64))

    def __call__(self, pointers: Array) -> Array:
        """The scrambled pointers, as uint64."""
        return self._mixed(pointers) ^ self._null

    def _mixed(self, pointers: Array) -> Array:
        mixed = pointers.astype(np.uint64)
        for add, factor in zip(self._adds, self._factors, strict=True):
            mixed += add
            mixed *= factor
            mixed ^= mixed >> np.uint64(32)
        return mixed
