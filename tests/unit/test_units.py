"""Numbers in words, at the places where they change their form."""

import pytest

from kmwatch import units


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (0, "0 B"),
        (640, "640 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (1536, "1.5 KiB"),
        (1 << 20, "1.0 MiB"),
        (-2 << 20, "-2.0 MiB"),
        (3 << 30, "3.0 GiB"),
        (1 << 40, "1.0 TiB"),
        (1 << 50, "1.0 PiB"),
        (5000 << 50, "5000.0 PiB"),
    ],
)
def test_sizes(value: float, words: str) -> None:
    assert units.size(value) == words


@pytest.mark.parametrize(
    ("value", "words"),
    [(0, "0"), (9999, "9999"), (12_345, "12.3k"), (99_949, "99.9k"), (-9999, "-9999")],
)
def test_short_counts(value: float, words: str) -> None:
    assert units.short(value) == words


def test_short_counts_have_at_most_six_characters() -> None:
    """As the docstring promises: columns of a narrow screen are made for it."""
    values = [10**power * digits // 100 for power in range(14) for digits in (100, 456, 999)]
    assert [words for words in map(units.short, values) if len(words) > 6] == []


def test_whole_numbers_are_grouped_alike_in_every_locale() -> None:
    assert [units.number(value) for value in (0, 999, 10_007, 1_234_567, -1_000)] == [
        "0", "999", "10 007", "1 234 567", "-1 000",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (0.5, "0.5 s"),
        (9.94, "9.9 s"),
        (10, "10 s"),
        (42.4, "42 s"),
        (119.4, "119 s"),
        (119.6, "2 min 00 s"),
        (185, "3 min 05 s"),
    ],
)
def test_durations(value: float, words: str) -> None:
    assert units.seconds(value) == words
