"""The structs that cross from the BPF programs: bpf/events.h read right, and the layout that C gives them."""

import re

import numpy as np
import pytest

from kmwatch import schema
from kmwatch.batch import KEY, ROW

STRUCTS = dict(re.findall(r"^struct (\w+) \{(.*?)^\};", schema.source(), re.MULTILINE | re.DOTALL))
BODIES = {name: body for name, body in STRUCTS.items() if "struct " not in body}
ENUMS = dict(re.findall(r"^enum (\w+) \{(.*?)^\};", schema.source(), re.MULTILINE | re.DOTALL))


def natural_size(struct: str) -> int:
    """The size that C gives the struct: every member at a multiple of its own size, the whole of the largest's."""
    end, widest = 0, 1
    for member in schema.members(struct):
        item = np.dtype(member.type)
        align = 1 if item.kind == "S" else item.itemsize
        end += -end % align + item.itemsize * int(np.prod(member.shape, dtype=int))
        widest = max(widest, align)
    return end + -end % widest


@pytest.mark.parametrize("struct", BODIES)
def test_a_struct_has_the_layout_of_c(struct: str) -> None:
    """No padding: C's natural alignment comes to the sum of the members, which is what numpy packs."""
    assert schema.dtype(struct).itemsize == natural_size(struct)


def test_a_row_takes_32_and_64_bytes() -> None:
    """What the budget of the per-CPU map is reckoned with."""
    assert (schema.dtype("ledger_key").itemsize, schema.dtype("ledger_value").itemsize) == (32, 64)


def test_a_struct_of_structs_has_them_one_after_the_other() -> None:
    assert sorted(STRUCTS.keys() - BODIES.keys()) == [
        "event",
        "free_lists",
        "front_row",
        "held",
        "stacked_key",
    ]
    assert schema.dtype("front_row").itemsize == 96
    assert [schema.dtype("front_row").fields[name][1] for name in ("key", "value")] == [0, 32]


def test_an_event_is_flat_words_of_which_the_key_comes_first() -> None:
    event = schema.dtype("event")
    assert event.itemsize == 72
    assert [event.fields["key"][1], event.fields["time"][1]] == [0, 32]


def test_what_each_side_of_a_ring_writes_has_a_line_of_the_cache() -> None:
    ring = schema.dtype("ring")
    assert (ring.itemsize, ring.fields["taken"][1], ring.fields["read"][1]) == (128, 0, 64)


@pytest.mark.parametrize("struct", BODIES)
def test_every_member_is_read_and_says_what_it_is_and_its_unit(struct: str) -> None:
    """A member written in another form would be skipped by the pattern and shift all that follow."""
    found = schema.members(struct)
    assert [member.name for member in found] == re.findall(r"^\t\w+ (\w+)", BODIES[struct], re.MULTILINE)
    for member in found:
        assert len(member.doc) > 4, member
        assert re.fullmatch(r"[a-z][a-z ]*", member.unit), member


@pytest.mark.parametrize("name", ENUMS)
def test_an_enum_is_read_whole_and_documented(name: str) -> None:
    found = schema.values(name)
    assert len(found) == ENUMS[name].count(" = ") == len({number for number, _ in found.values()})
    assert all(doc for _, doc in found.values())
    assert all(re.fullmatch(r"[a-z_]+", word) for word in found)


@pytest.mark.parametrize("name", ["context", "via"])
def test_flags_are_single_bits_of_a_byte(name: str) -> None:
    numbers = sorted(number for number, _ in schema.values(name).values())
    assert numbers == [1 << bit for bit in range(len(numbers))]
    assert numbers[-1] <= 128


def test_the_enums_in_python_are_those_in_c() -> None:
    assert {kind.name.lower(): int(kind) for kind in schema.Kind} == {
        word: number for word, (number, _) in schema.values("kind").items()
    }
    assert (schema.Kind.KMALLOC, schema.Kind.OOM_VICTIM) == (1, 16)
    assert schema.Context.SOFTIRQ | schema.Context.RCU == 65
    assert schema.Via.SLAB == 2
    assert [int(counter) for counter in schema.Counter] == list(range(schema._DEFINES["COUNTERS"]))


def test_constants_are_the_lengths_that_they_name() -> None:
    assert schema.dtype("ledger_value")["fill"].shape == (schema.FILL_BUCKETS,)
    assert schema.dtype("table")["boundary"].shape == schema.dtype("table")["meaning"].shape == (schema.TABLE_SIZE,)
    assert schema.dtype("cache_info")["name"].itemsize == schema._DEFINES["NAME_SIZE"]
    assert np.iinfo(schema.dtype("ledger_key")["zone"]).max == schema.NO_ZONE


def test_a_row_is_a_key_and_a_value_without_addresses() -> None:
    """Indices in place of addresses; sums signed, because a batch can take back what an earlier one counted."""
    value = {name for name in schema.dtype("ledger_value").names or () if name not in ("fill_shift", "unused")}
    assert KEY == schema.dtype("ledger_key").names == (ROW.names or ())[: len(KEY)]
    assert set(ROW.names or ()) == {*KEY, "task", *value, "bytes_allocated"}
    assert (ROW["site"], ROW["cache"]) == (np.dtype("<u4"), np.dtype("<u4"))
    assert {ROW[name] for name in ("count", "bytes_requested", "bytes_allocated")} == {np.dtype("<i8")}


def test_what_events_h_does_not_have_is_a_key_error() -> None:
    with pytest.raises(KeyError, match="no_such"):
        schema.members("no_such")
    with pytest.raises(KeyError, match="no_such"):
        schema.values("no_such")
