"""Pointers made unrecognisable: equal stays equal, nothing stays nothing, and nothing else is left."""

import numpy as np

from kmwatch.events import Array
from kmwatch.scramble import Scrambler

MANY = 200_000


def pointers() -> Array:
    """Neighbours in the direct mapping, small numbers, random ones, and the ends of the range; all different."""
    random = np.random.default_rng(1).integers(1, (1 << 64) - 1, MANY, dtype=np.uint64)
    near = np.uint64(0xFFFF888000000000) + np.arange(MANY, dtype=np.uint64) * np.uint64(8)
    small = np.arange(1, 1000, dtype=np.uint64)
    return np.unique(np.concatenate([random, near, small, np.array([(1 << 64) - 1], np.uint64)]))


def test_different_stays_different_and_equal_equal() -> None:
    scramble, given = Scrambler(), pointers()
    first = scramble(given)

    assert first.dtype == np.uint64
    assert len(np.unique(first)) == len(given)
    assert (first != 0).all()
    assert (scramble(given[::-1])[::-1] == first).all()
    assert (scramble(given[:1]) == first[:1]).all()


def unscrambled(scramble: Scrambler, scrambled: int) -> int:
    """The pointer of a scrambled one, round by round backwards: it can be found for each, so no two have the same."""
    mixed, mask = scrambled ^ int(scramble._null[0]), (1 << 64) - 1
    for add, factor in reversed(list(zip(scramble._adds.tolist(), scramble._factors.tolist(), strict=True))):
        mixed ^= mixed >> 32
        mixed = (mixed * pow(factor, -1, 1 << 64) - add) & mask
    return mixed


def test_every_number_is_of_one_pointer_only() -> None:
    """Above all the one that the rounds alone would make 0."""
    scramble = Scrambler()
    given = pointers()[::1000]

    assert [unscrambled(scramble, each) for each in scramble(given).tolist()] == given.tolist()
    would_be_null = unscrambled(scramble, int(scramble._null[0]))
    assert would_be_null != 0
    assert scramble(np.array([would_be_null, 0], np.uint64)).tolist() == [int(scramble._null[0]), 0]


def test_nothing_stays_nothing_and_what_is_given_stays_as_it_is() -> None:
    given = np.array([0, 5, 0], np.uint64)
    scrambled = Scrambler()(given)

    assert (scrambled == 0).tolist() == [True, False, True]
    assert given.tolist() == [0, 5, 0]
    assert Scrambler()(np.zeros(0, np.uint64)).tolist() == []


def test_two_captures_cannot_be_joined() -> None:
    given = pointers()

    assert not np.isin(Scrambler()(given), Scrambler()(given)).any()


def test_nothing_of_a_pointer_is_left() -> None:
    """No value survives, and each of the 64 bits changes in about half of them, also between neighbours."""
    given = pointers()
    scrambled = Scrambler()(given)

    assert not np.isin(scrambled, given).any()
    for changed in (scrambled ^ given, scrambled[1:] ^ scrambled[:-1]):
        for bit in range(64):
            share = ((changed >> np.uint64(bit)) & np.uint64(1)).mean()
            assert 0.4 < share < 0.6, bit
