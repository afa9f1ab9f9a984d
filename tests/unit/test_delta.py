"""What a table in the kernel gained between two readings, CPU by CPU and in all."""

import numpy as np
import pytest

from kmwatch import schema
from kmwatch.sources.delta import Array, Readings, StackCounts

KEY, VALUE = schema.dtype("ledger_key"), schema.dtype("ledger_value")


def keys(*sites: int) -> Array:
    made = np.zeros(len(sites), KEY)
    made["site"] = sites
    return made


def values(*counts: int, each: int = 100) -> Array:
    """One value a row: so many requests of `each` bytes, all in the first eighth."""
    made = np.zeros(len(counts), VALUE)
    for name, sums in (("count", counts), ("bytes_requested", [count * each for count in counts])):
        made[name] = np.array([number & (1 << 64) - 1 for number in sums], np.uint64)
    made["fill"][:, 0] = np.array([count & (1 << 32) - 1 for count in counts], np.uint32)
    return made


def first(sites: tuple[int, ...], found: Array) -> Array:
    """What a first reading gains, by ascending site."""
    gained_keys, gained = Readings().gained(keys(*sites), found)
    assert gained_keys["site"].tolist() == sorted(set(sites))
    return gained


def test_sums_go_over_all_cpus() -> None:
    """Each CPU has a value of its own for a key."""
    found = values(1, 2, 4, 0, 0, 8, each=10)
    found["fill"][:3, 7] = [1, 2, 4]

    total = first((7, 7, 7, 8, 8, 8), found)

    assert total["count"].tolist() == [7, 8]
    assert total["bytes_requested"].tolist() == [70, 80]
    assert total["fill"].tolist() == [[7] + [0] * 6 + [7], [8] + [0] * 7]


def test_the_smallest_request_is_of_cpus_that_saw_the_row() -> None:
    """The others have 0 there, which is no request."""
    found = values(0, 2, 1)
    found["min_request"], found["max_request"] = [0, 300, 200], [0, 400, 200]

    total = first((7, 7, 7), found)

    assert (total["min_request"].tolist(), total["max_request"].tolist()) == ([200], [400])


def test_a_cpu_that_only_took_back_does_not_tell_the_smallest_request() -> None:
    """The task moved between the two events of a large kmalloc: the other CPU's row has the count -1 and no request."""
    found = values(3, -1)
    found["min_request"] = found["max_request"] = [9000, 0]

    total = first((7, 7), found)

    assert (total["count"].tolist(), total["min_request"].tolist()) == ([2], [9000])


def test_eighths_wrap_at_32_bits() -> None:
    found = values(1, 1)
    found["fill"][:, 3] = [0xFFFFFFFF, 3]

    assert first((7, 7), found)["fill"][0, 3] == 2


def test_no_row_is_no_row() -> None:
    assert len(first((), values())) == 0


def test_the_first_reading_is_all_gain() -> None:
    gained_keys, gained = Readings().gained(keys(7, 8), values(3, 5))

    assert gained_keys["site"].tolist() == [7, 8]
    assert gained["count"].tolist() == [3, 5]
    assert gained["bytes_requested"].tolist() == [300, 500]


def test_nothing_changed_is_nothing_gained() -> None:
    readings = Readings()
    readings.gained(keys(7, 8), values(3, 5))

    gained_keys, gained = readings.gained(keys(7, 8), values(3, 5))

    assert (len(gained_keys), len(gained)) == (0, 0)


def test_rows_may_come_in_another_order_with_new_ones_between() -> None:
    """A hash table is read in whatever order its buckets are in."""
    readings = Readings()
    readings.gained(keys(7, 8, 9), values(3, 5, 1))

    gained_keys, gained = readings.gained(keys(6, 9, 8, 7), values(2, 1, 9, 4))
    assert dict(zip(gained_keys["site"].tolist(), gained["count"].tolist(), strict=True)) == {6: 2, 8: 4, 7: 1}

    gained_keys, gained = readings.gained(keys(7, 6, 8, 9), values(4, 3, 9, 1))
    assert dict(zip(gained_keys["site"].tolist(), gained["count"].tolist(), strict=True)) == {6: 1}


def test_a_row_that_one_reading_missed_keeps_its_last_sums() -> None:
    readings = Readings()
    readings.gained(keys(7, 8), values(3, 5))
    readings.gained(keys(7), values(4))

    gained_keys, gained = readings.gained(keys(7, 8), values(4, 6))

    assert (gained_keys["site"].tolist(), gained["count"].tolist()) == ([8], [1])


def test_rows_differ_by_any_byte_of_their_key() -> None:
    readings, both = Readings(), keys(7, 7)
    both["migratetype"] = [0, 1]
    readings.gained(both, values(3, 5))

    _, gained = readings.gained(both, values(3, 6))

    assert gained["count"].tolist() == [1]


def test_what_was_taken_back_is_a_negative_gain() -> None:
    """Unsigned in the kernel, signed in a batch: the same bits."""
    readings = Readings()
    readings.gained(keys(7), values(3))

    _, gained = readings.gained(keys(7), values(1))

    assert gained["count"].astype(np.int64).tolist() == [-2]
    assert gained["bytes_requested"].astype(np.int64).tolist() == [-200]
    assert gained["fill"][0, 0] == (1 << 32) - 2


def test_one_taken_back_and_another_added_is_a_gain_of_bytes() -> None:
    readings, before, after = Readings(), values(3), values(3)
    after["bytes_requested"] += 500
    readings.gained(keys(7), before)

    _, gained = readings.gained(keys(7), after)

    assert (gained["count"].tolist(), gained["bytes_requested"].tolist()) == ([0], [500])


def test_a_gain_keeps_the_bounds_of_all_time() -> None:
    readings, first, second = Readings(), values(1), values(2)
    first["min_request"], first["max_request"] = 50, 60
    second["min_request"], second["max_request"] = 40, 60
    readings.gained(keys(7), first)

    _, gained = readings.gained(keys(7), second)

    assert (gained["min_request"].tolist(), gained["max_request"].tolist()) == ([40], [60])


@pytest.mark.parametrize("seed", range(3))
def test_gains_add_up_to_the_last_reading(seed: int) -> None:
    """Whatever the order, the number of rows and the gains: nothing is counted twice and nothing is missed."""
    random = np.random.default_rng(seed)
    readings, truth, seen = Readings(), np.zeros(50, np.int64), np.zeros(50, np.int64)
    for step in range(1, 11):
        truth[: 5 * step] += random.integers(0, 4, 5 * step)
        order = random.permutation(np.flatnonzero(truth))
        gained_keys, gained = readings.gained(keys(*(order + 1)), values(*truth[order].tolist()))
        seen[gained_keys["site"].astype(np.int64) - 1] += gained["count"].astype(np.int64)
        assert (gained["count"] > 0).all()
    assert seen.tolist() == truth.tolist()


def stack_keys(*stacks: int) -> Array:
    made = np.zeros(len(stacks), schema.dtype("stacked_key"))
    made["stack"] = stacks
    return made


def test_counts_of_stacks_gain_what_they_grew_by() -> None:
    """The kernel gives them in any order."""
    counts = StackCounts()
    gained = []
    for stacks, values_now in (((), ()), ((5, 9), (1, 127)), ((9, 7, 5), (254, 1, 1)), ((5, 7, 9), (1, 1, 254))):
        keys_now, gain = counts.gained(stack_keys(*stacks), np.array(values_now, "<u8").reshape(-1, 1))
        gained.append(dict(zip(keys_now["stack"].tolist(), gain.tolist(), strict=True)))

    assert gained == [{}, {5: 1, 9: 127}, {9: 127, 7: 1}, {}]
