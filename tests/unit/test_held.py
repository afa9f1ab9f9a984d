"""What is held: sums of tallies, how far they may be off, and the sample that the kernel takes."""

import itertools
import random
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from kmwatch import held as tested
from kmwatch.batch import Cache
from kmwatch.events import KEY_TYPE
from kmwatch.held import BUCKETS, GROUP, HELD, SUMMED, TALLY, bounds, bucket_end, bucket_of, of_tallies
from kmwatch.kernel.witnesses import Witnesses
from kmwatch.sources import held as source
from kmwatch.sources.held import HeldTable, Hold, in_sample, mask_of
from kmwatch.witness import Witness
from tests.unit import rows
from tests.unit.holding import held, of

Array = np.ndarray[Any, np.dtype[Any]]

FILP = Cache("filp", 232, 256)
PAGE_OBJECT = 1 << 52
OBJECTS, KEYS, BITS = 1009, 100, 4


# Sums


def one(row: rows.Row, *, bits: int = 4, **columns: int) -> Any:
    """The one row of what is held of one key."""
    (found,) = held(rows.meta(), of(row, **columns), bits=bits).rows
    return found


@pytest.mark.parametrize(
    ("row", "asked", "taken"),
    [
        (rows.kmalloc("f+0x1", 60), 60, 64),
        (rows.kmalloc("f+0x1", 9000), 9000, 16_384),
        (rows.object_of(FILP, "f+0x1"), 232, 256),
        (rows.pages("f+0x1", 3), 32_768, 32_768),
        (rows.area("f+0x1", 5000, bytes_alloc=8192), 5000, 8192),
        (rows.area("f+0x1", 8192), 8192, 8192),  # the tracepoint tells whole pages alone
        (rows.percpu("f+0x1", 640, bytes_alloc=704), 640, 704),
    ],
)
def test_a_tally_stands_for_as_many_as_were_not_looked_at(row: rows.Row, asked: int, taken: int) -> None:
    found = one(row, held=10, released=50, unseen=3, elsewhere=20)

    assert (found["sampled"], found["objects"]) == (10, 160)
    assert (found["bytes_requested"], found["bytes_allocated"]) == (160 * asked, 160 * taken)
    assert found["bytes_squares"] == pytest.approx(10 * taken**2)
    assert found["waste_squares"] == pytest.approx(10 * (taken - asked) ** 2)
    assert (found["released"], found["unseen"], found["elsewhere"]) == (50, 3, 20)
    assert found["lifetimes"].sum() == 50


def test_of_a_key_all_that_is_not_grouped_is_added_up() -> None:
    """Two contexts of one site are two keys, and one row."""
    keys, tallies = np.zeros(2, KEY_TYPE), np.zeros(2, TALLY)
    keys["kind"], keys["bytes_alloc"], keys["context"] = 1, 64, (0, 8)
    tallies["sampled"], tallies["requested"], tallies["waste_squares"] = (2, 3), (100, 180), (400.0, 48.0)
    tallies["ages"][:, 5] = 2, 3
    (row,) = of_tallies(keys, tallies, rows.meta(), 2).rows

    assert [row[name] for name in GROUP] == [1, 0, 0, 0, 64, 0, 0]
    assert (row["sampled"], row["objects"], row["bytes_requested"], row["bytes_allocated"]) == (5, 20, 1120, 1280)
    assert (row["waste_squares"], row["bytes_squares"], row["ages"][5]) == (448, 5 * 64**2, 20)


def test_nothing_is_held() -> None:
    found = of_tallies(np.zeros(0, KEY_TYPE), np.zeros(0, TALLY), rows.meta(), 4)

    assert found.rows.dtype == HELD
    assert len(found.rows) == len(found.grouped("kind")) == 0


def test_rows_are_added_up_by_columns() -> None:
    known = rows.meta()
    small, large = (rows.kmalloc("f+0x1", asked) for asked in (60, 100))
    made = held(known, of(small, held=5, released=1), of(large, held=7, released=2), of(rows.pages("f+0x1"), held=1))
    by_site, by_size = made.grouped("kind", "site"), made.grouped("bytes_alloc")
    (whole,) = made.grouped()

    assert by_site["objects"].tolist() == [12, 1]
    assert by_site["bytes_allocated"].tolist() == [5 * 64 + 7 * 128, 4096]
    assert set(by_site["bytes_alloc"].tolist()) == {0}
    assert dict(zip(by_size["bytes_alloc"].tolist(), by_size["objects"].tolist(), strict=True)) == {0: 1, 64: 5, 128: 7}
    assert (whole["released"], whole["lifetimes"].sum()) == (3, 3)
    for name in SUMMED:
        assert np.array_equal(whole[name], made.rows[name].sum(axis=0))


# Times


def bucket_in_the_kernel(nanoseconds: int) -> int:
    """lifetime_bucket() of bpf/held.h: how often the time can be halved until less than two units are left."""
    units, bucket = nanoseconds // 128, 0
    while units > 1:
        units, bucket = units // 2, bucket + 1
    return min(bucket, BUCKETS - 1)


def test_times_fall_into_the_buckets_of_the_kernel() -> None:
    borders = [128 << bit for bit in range(56)]
    times = sorted(
        {0, 1, (1 << 63) - 1, *(border + off for border in borders for off in (-1, 0, 1) if border < 1 << 63)}
    )
    found = bucket_of(np.array(times, np.int64)).tolist()

    assert found == [bucket_in_the_kernel(time) for time in times]
    assert (min(found), max(found)) == (0, BUCKETS - 1)


@pytest.mark.parametrize("bucket", range(BUCKETS - 1))
def test_a_bucket_ends_where_the_next_begins(bucket: int) -> None:
    end = round(bucket_end(bucket) * 1e9)

    assert bucket_of(np.array([end - 1, end], np.int64)).tolist() == [bucket, bucket + 1]


def test_the_last_bucket_has_no_end() -> None:
    assert bucket_end(BUCKETS - 1) == bucket_end(BUCKETS - 2)
    assert bucket_end(2) == pytest.approx(1.024e-6)


@pytest.mark.parametrize(
    ("counts", "bucket"),
    [({3: 1}, 3), ({3: 1, 9: 1}, 3), ({3: 1, 9: 2}, 9), ({0: 5, 39: 4}, 0), ({5: 10, 7: 1, 9: 11}, 7)],
)
def test_the_median_is_where_its_bucket_ends(counts: dict[int, int], bucket: int) -> None:
    assert tested.median_seconds(times(counts)) == bucket_end(bucket)


def times(counts: dict[int, int]) -> Array:
    made = np.zeros(BUCKETS, np.int64)
    for bucket, count in counts.items():
        made[bucket] = count
    return made


def test_an_empty_histogram_has_no_median() -> None:
    assert tested.median_seconds(times({})) is None


@pytest.mark.parametrize(
    ("columns", "lived", "word"),
    [
        ({}, 1.0, ""),
        ({"held": 1}, 1.0, "permanent"),
        ({"held": 5, "released": 5}, 1e-6, "permanent"),
        ({"held": 5, "released": 6}, 1e-6, "sub-µs"),
        ({"held": 5, "released": 5, "unseen": 1}, 1e-6, "sub-µs"),
        ({"released": 9}, 1.03e-6, "µs"),
        ({"released": 9}, 1.04e-3, "µs"),
        ({"released": 9}, 1.05e-3, "ms"),
        ({"released": 9}, 1.07, "ms"),
        ({"released": 9}, 1.08, "s"),
        ({"released": 9}, 1e6, "s"),
        ({"unseen": 9}, 1.0, ""),
    ],
)
def test_how_long_objects_live_is_one_word(columns: dict[str, int], lived: float, word: str) -> None:
    (row,) = held(rows.meta(), {**of(rows.kmalloc("f+0x1", 60), **columns), "lived": lived}).rows

    assert tested.churn(row) == word


# The sample


@pytest.mark.parametrize(
    ("total", "squares", "bits"),
    [(1000, 1000, 0), (0, 0, 4), (-5, 1, 4), (7, 0, 4)],
    ids=["all", "none", "less", "zero"],
)
def test_what_is_no_estimate_has_no_bounds(total: float, squares: float, bits: int) -> None:
    assert bounds(total, squares, bits) == (round(total), round(total))


@pytest.mark.parametrize(("looked_at", "each", "bits"), [(1, 1, 4), (3, 64, 4), (100, 8192, 1), (5000, 4096, 8)])
def test_bounds_enclose_the_estimate_and_what_was_looked_at(looked_at: int, each: int, bits: int) -> None:
    total = looked_at * each << bits
    low, high = bounds(total, looked_at * each**2, bits)

    assert looked_at * each <= low < total < high
    wider = bounds(total, looked_at * each**2 * 4, bits)
    assert wider[0] <= low < high < wider[1]


def test_bounds_are_those_of_wilson() -> None:
    """Of objects alike, the score interval: 2.576 deviations of what is true lie between it and what was looked at."""
    low, high = bounds(160, 10, 4)

    for true in (low, high):
        deviation = (true / 16 * (1 - 1 / 16)) ** 0.5
        assert abs(10 - true / 16) / deviation == pytest.approx(2.576, rel=0.02)


LAYOUTS = {
    "slabs of 128": 0xFFFF_8881_0234_0000 + 128 * np.arange(OBJECTS, dtype=np.uint64),
    "pages of 4096": 0xFFFF_8881_0234_0000 + 4096 * np.arange(OBJECTS, dtype=np.uint64),
    "areas of 64 KiB": 0xFFFF_C900_0000_0000 + 65536 * np.arange(OBJECTS, dtype=np.uint64),
    "page frames": np.uint64(PAGE_OBJECT) | (0x12_3400 + np.arange(OBJECTS, dtype=np.uint64)),
    "page frames of order 3": np.uint64(PAGE_OBJECT) | (0x12_3400 + 8 * np.arange(OBJECTS, dtype=np.uint64)),
}


def keys() -> Iterator[np.uint64]:
    draw = random.Random(601)  # noqa: S311 - repeatable, not secret
    yield from (np.uint64(draw.getrandbits(64) | 1) for _ in range(KEYS))


def chosen(ids: Array, key: np.uint64, bits: int) -> Array:
    return in_sample(ids, key, np.uint64(mask_of(bits)))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_what_is_true_lies_within_the_bounds(layout: str) -> None:
    """Objects of mixed sizes, of which the sample is taken with a hundred keys: 95 are to be right, 99 are meant to."""
    asked = np.resize([40, 60, 64, 100, 129, 600, 2049, 4096], OBJECTS)
    taken = 1 << np.ceil(np.log2(asked)).astype(np.int64)
    waste = taken - asked
    right, looked_at = np.zeros(3, int), 0
    for key in keys():
        sample = chosen(LAYOUTS[layout], key, BITS)
        looked_at += int(sample.sum())
        for at, values in enumerate((np.ones(OBJECTS, np.int64), taken, waste)):
            mine = values[sample].astype(float)
            low, high = bounds(mine.sum() * 2**BITS, float((mine**2).sum()), BITS)
            right[at] += low <= values.sum() <= high

    assert right.tolist() == [number for number in right.tolist() if number >= 95]
    assert looked_at / KEYS / OBJECTS == pytest.approx(2**-BITS, rel=0.1)


def test_the_sample_is_found_as_the_kernel_finds_it() -> None:
    """in_sample() of bpf/held.h, in numbers of 64 bits."""
    for key in keys():
        some = LAYOUTS["slabs of 128"][:50].tolist()
        mixed = [each * int(key) % 2**64 for each in some]
        mixed = [(each ^ (each >> 29)) * int(key) % 2**64 for each in mixed]
        expected = [each >> (64 - BITS) == 0 for each in mixed]
        assert chosen(LAYOUTS["slabs of 128"][:50], key, BITS).tolist() == expected


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_sample_shrinks_to_a_part_of_itself(layout: str) -> None:
    ids = LAYOUTS[layout]
    for key in list(keys())[:10]:
        samples = [chosen(ids, key, bits) for bits in range(8)]
        assert samples[0].all()
        for wider, narrower in itertools.pairwise(samples):
            assert not (narrower & ~wider).any()
            assert narrower.sum() < wider.sum()


def test_the_mask_is_of_the_uppermost_bits() -> None:
    assert [mask_of(bits) for bits in (0, 1, 4, 64)] == [0, 1 << 63, 0xF << 60, (1 << 64) - 1]


@pytest.mark.parametrize(
    ("memory", "number"),
    [
        (64 << 20, 1 << 16),
        (1 << 30, 1 << 16),
        ((2 << 30) - 1, 1 << 16),
        (2 << 30, 1 << 17),
        (3 << 30, 1 << 17),
        (8 << 30, 1 << 19),
        (1 << 42, 1 << 19),
    ],
)
def test_the_table_has_a_row_for_16_kib_of_memory(memory: int, number: int) -> None:
    assert source.rows(memory) == number


def test_stacks_are_compiled_in_where_they_are_wanted() -> None:
    without, with_stacks = Hold().defines(), Hold(stacks=True).defines()

    assert set(with_stacks) - set(without) == {"HELD_STACKS"}
    assert without["HELD_ROWS"] >= 1 << 16


class FakePrograms:
    """The maps of programs that hold one object for each address."""

    def __init__(self, ids: Array, room: int) -> None:
        self.ids, self._room = ids, room
        self.sample = np.zeros(1, source._SAMPLE)

    def read_array(self, name: str, *_: object) -> Array:
        """Its one element."""
        assert name == "sample"
        return self.sample.copy()

    def write_array(self, name: str, value: Array) -> None:
        """Set it."""
        assert name == "sample"
        self.sample = value.copy()

    def read_hash(self, name: str, key: Any, value: Any) -> tuple[Array, Array]:
        """Every object is of one kmalloc of 60 bytes, every other one with a stack."""
        if name == "released":
            return np.zeros(0, key), np.zeros((0, 1), value)
        objects = np.zeros((len(self.ids), 1), value)
        objects["requested"], objects["key"]["bytes_alloc"], objects["key"]["kind"] = 60, 64, 1
        objects["stack"][1::2] = 7
        return self.ids.copy(), objects

    def delete(self, name: str, ids: Array) -> None:
        """Forget these objects."""
        assert name == "held"
        self.ids = np.setdiff1d(self.ids, ids)

    def room(self, _: str) -> int:
        """Of the table, in objects."""
        return self._room


def table(ids: Array, room: int, monkeypatch: pytest.MonkeyPatch, bits: int = 0) -> tuple[HeldTable, FakePrograms]:
    monkeypatch.setattr(Witnesses, "look", lambda _: Witness())
    programs = FakePrograms(ids, room)
    return HeldTable(programs, Hold(bits)), programs  # type: ignore[arg-type]


def named(keys: Array) -> Array:
    """The kernel's keys as KEY_TYPE, without a site."""
    made = np.zeros(len(keys), KEY_TYPE)
    made["kind"], made["bytes_alloc"] = keys["kind"], keys["bytes_alloc"]
    return made


def test_a_table_with_room_keeps_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three quarters may be full."""
    ids = LAYOUTS["slabs of 128"][:768]
    made, programs = table(ids, 1024, monkeypatch)
    found = made.read(rows.meta(), named)

    assert (made.bits, found.bits, made.used, len(programs.ids)) == (0, 0, 768, 768)
    assert (found.rows["objects"].tolist(), found.rows["bytes_allocated"].tolist()) == ([768], [768 * 64])
    assert (found.rows["waste_squares"].tolist(), found.rows["ages"].sum()) == ([768 * 16], 768)
    assert found.stacks.tolist() == [[1, 0, 7]] * 384


def test_a_full_table_halves_its_sample_until_there_is_room_for_as_many(monkeypatch: pytest.MonkeyPatch) -> None:
    ids = LAYOUTS["slabs of 128"][:1000]
    made, programs = table(ids, 1024, monkeypatch)
    programs.sample["refused"] = 5  # counted by the kernel meanwhile
    found = made.read(rows.meta(), named)
    kept = chosen(ids, programs.sample["key"][0], made.bits)

    assert made.bits >= 2
    assert kept.sum() <= 384 < chosen(ids, programs.sample["key"][0], made.bits - 1).sum()
    assert programs.ids.tolist() == ids[kept].tolist()
    assert (programs.sample["bits"][0], programs.sample["mask"][0]) == (made.bits, mask_of(made.bits))
    assert programs.sample["key"][0] % 2 == 1
    assert found.rows["sampled"].tolist() == [kept.sum()]
    assert found.rows["objects"].tolist() == [kept.sum() << made.bits]
    assert (found.bits, found.refused) == (made.bits, 5)


def test_what_came_while_the_sample_was_halved_is_judged_like_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    ids = LAYOUTS["slabs of 128"]
    made, programs = table(ids[:900], 1024, monkeypatch)
    before = programs.read_hash("held", np.dtype("<u8"), source._HELD)
    programs.ids = ids.copy()
    kept, _ = made._halve(before[0], before[1][:, 0])
    mine = chosen(ids, programs.sample["key"][0], made.bits)

    assert kept.tolist() == ids[:900][mine[:900]].tolist()
    assert programs.ids.tolist() == ids[mine].tolist()
