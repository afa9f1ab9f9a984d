"""Columns of single events, the numbers of their keys, and the eighths of a size class as the programs count them."""

import re

import numpy as np
import pytest

from kmwatch import events
from kmwatch.batch import Rows
from kmwatch.events import COLUMNS, KEY_TYPE, Array, Numbers, concatenated, empty_columns, fill_shifts, selected
from kmwatch.schema import BPF_DIR

PAIR = np.dtype([("a", "<u8"), ("b", "<u8")])
ROUNDS = 30


def random_words(seed: int, length: int, distinct: int, words: int = 2) -> Array:
    """Records in which many are equal, as rows of words."""
    random = np.random.default_rng(seed)
    table = random.integers(0, 1 << 63, (distinct, words), dtype=np.uint64)
    found: Array = table[random.integers(0, distinct, length)]
    return found


def plain(words: Array, known: dict[bytes, int]) -> list[int]:
    """What Numbers is to give, by a dict."""
    return [known.setdefault(record.tobytes(), len(known)) for record in words]


def small_places(monkeypatch: pytest.MonkeyPatch, bits: int) -> None:
    """Make nearly every record find its places taken."""
    monkeypatch.setattr(events, "_PLACE_BITS", bits)
    monkeypatch.setattr(events, "_PLACES", 1 << bits)


@pytest.mark.parametrize("few", [0, 300])  # all by the places, and none
@pytest.mark.parametrize("bits", [16, 4, 1])
@pytest.mark.parametrize("words", [1, 2, 4])
def test_numbers_are_those_of_a_dict(monkeypatch: pytest.MonkeyPatch, few: int, bits: int, words: int) -> None:
    small_places(monkeypatch, bits)
    monkeypatch.setattr(events, "_FEW", few)
    numbers = Numbers(np.dtype([(f"word{at}", "<u8") for at in range(words)]))
    known: dict[bytes, int] = {}

    for seed in range(ROUNDS):
        given = random_words(seed, 300, 60, words)
        given[0] = 0  # of all records this one looks most like an empty place
        assert numbers.of(given).tolist() == plain(given, known)

    assert len(numbers) == len(known)
    assert [record.tobytes() for record in numbers.records] == list(known)


@pytest.mark.parametrize("few", [0, 300])
def test_neighbours_that_are_equal_have_one_number(monkeypatch: pytest.MonkeyPatch, few: int) -> None:
    """They differ in any one word, or in none."""
    monkeypatch.setattr(events, "_FEW", few)
    random = np.random.default_rng(7)
    words = np.repeat(random.integers(0, 2, (200, 4), dtype=np.uint64), random.integers(1, 9, 200), axis=0)
    known: dict[bytes, int] = {}

    numbers = Numbers(np.dtype([(f"word{at}", "<u8") for at in range(4)]))

    assert len(np.unique(words, axis=0)) == 16
    assert numbers.of(words).tolist() == plain(words, known)
    assert numbers.of(words[:1]).tolist() == [0]


def test_records_that_share_both_places_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    """A hash of one word is a bijection: those that agree in the 32 bits of both places are computed backwards."""
    monkeypatch.setattr(events, "_FEW", 0)
    inverse = np.uint64(pow(int(events._SPREAD[0]), -1, 1 << 64))

    def unhashed(hashed: Array) -> Array:
        mixed = hashed * inverse
        mixed ^= mixed >> np.uint64(32)
        words: Array = mixed * inverse
        return words

    colliding = unhashed((np.uint64(0xABCD1234) << np.uint64(32)) + np.arange(50, dtype=np.uint64)).reshape(-1, 1)
    hashed = events._hashed(colliding)
    assert len({int(events._place(table, each)) for each in hashed for table in (0,)}) == 1
    assert len({int(events._place(table, each)) for each in hashed for table in (1,)}) == 1

    numbers, known = Numbers(np.dtype([("a", "<u8")])), dict[bytes, int]()
    for _ in range(2):
        assert numbers.of(colliding).tolist() == plain(colliding, known)
        assert numbers.of(colliding[::-1]).tolist() == plain(colliding[::-1], known)
    assert len(numbers) == 50


def test_numbers_come_in_the_order_of_first_sight() -> None:
    numbers = Numbers(PAIR)
    words = np.array([[9, 1], [3, 1], [9, 1], [5, 1], [3, 1], [1, 1]], np.uint64)

    assert numbers.of(words).tolist() == [0, 1, 0, 2, 1, 3]
    assert numbers.of(words[::-1]).tolist() == [3, 1, 2, 0, 1, 0]
    assert numbers.records["a"].tolist() == [9, 3, 5, 1]


def test_the_table_grows_as_far_as_needed() -> None:
    numbers = Numbers(PAIR)
    words = np.column_stack([np.arange(5000), np.arange(5000) * 7]).astype(np.uint64)

    for first in range(0, 5000, 700):
        numbers.of(words[first : first + 700])

    assert len(numbers) == 5000
    assert numbers.of(words).tolist() == list(range(5000))
    assert numbers.records["b"].tolist() == words[:, 1].tolist()


def test_no_records_have_no_numbers() -> None:
    numbers = Numbers(PAIR)

    assert numbers.of(np.zeros((0, 2), np.uint64)).tolist() == []
    assert len(numbers.records) == 0


def eighth_shift(allocated: int) -> int:
    """bpf/rows.h, word for word."""
    top, shift = ((allocated - 1) & (1 << 64) - 1) >> 2, 0
    shift += (top >> 16 != 0) * 16
    shift += (top >> (shift + 8) != 0) * 8
    shift += (top >> (shift + 4) != 0) * 4
    shift += (top >> (shift + 2) != 0) * 2
    shift += top >> (shift + 1) != 0
    return shift


def test_the_transcription_is_of_the_function_that_is_there() -> None:
    source = (BPF_DIR / "rows.h").read_text()
    steps = re.findall(r"shift \+= \(?(top >> .*?) != 0\)?(?: \* (\d+))?;", source)

    assert "u64 top = (allocated - 1) >> 2;" in source
    assert steps == [
        ("top >> 16", "16"),
        ("top >> (shift + 8)", "8"),
        ("top >> (shift + 4)", "4"),
        ("top >> (shift + 2)", "2"),
        ("top >> (shift + 1)", ""),
    ]


def keys_of(sizes: list[int]) -> Rows:
    keys = np.zeros(len(sizes), KEY_TYPE)
    keys["bytes_alloc"] = sizes
    return keys


def test_fill_shifts_are_those_of_the_programs() -> None:
    powers = [(1 << bit) + by for bit in range(2, 33) for by in (-1, 0, 1)]
    sizes = [0, 1, 2, 3, 96, 192, *range(20_000), *powers[:-2]]
    assert max(sizes) == 0xFFFFFFFF

    assert fill_shifts(keys_of(sizes)).tolist() == [eighth_shift(size) for size in sizes]


@pytest.mark.parametrize(("size", "shift"), [(8, 0), (64, 3), (96, 4), (192, 5), (8192, 10), (4 << 20, 19)])
def test_an_eighth_of_a_class_is_what_its_name_says(size: int, shift: int) -> None:
    assert fill_shifts(keys_of([size])).tolist() == [shift]


def numbered(first: int, length: int) -> events.Columns:
    return {column.name: np.arange(first, first + length).astype(column.type) for column in COLUMNS}


def test_rows_are_chosen_and_joined_in_every_column() -> None:
    both = concatenated([numbered(0, 3), numbered(10, 2), empty_columns(0)])
    some = selected(both, np.array([4, 0]))

    for column in COLUMNS:
        assert both[column.name].tolist() == [0, 1, 2, 10, 11]
        assert some[column.name].tolist() == [11, 0]
        assert some[column.name].dtype == column.type
        assert selected(both, slice(1, 2))[column.name].tolist() == [1]


def test_a_segment_is_as_long_as_its_columns() -> None:
    assert len(events.Segment(numbered(0, 3), 0.0, 1.0)) == 3
