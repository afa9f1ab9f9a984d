"""GFP flags by name, from kernels that named them otherwise."""

import pytest

from kmwatch.kernel.gfp import GfpTable, built_in
from kmwatch.sources.text.masks import Masks


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("GFP_KERNEL|__GFP_ZERO", "GFP_KERNEL|__GFP_ZERO"),
        ("GFP_ATOMIC", "GFP_ATOMIC"),
        ("none", "none"),
        ("", "none"),
        ("0", "none"),
        ("GFP_KERNEL|GFP_NOWARN|GFP_NORETRY", "GFP_KERNEL|__GFP_NOWARN|__GFP_NORETRY"),
        ("GFP_WAIT|GFP_ZERO", "__GFP_WAIT|__GFP_ZERO"),
        ("GFP_TEMPORARY", "GFP_TEMPORARY"),
        ("GFP_KERNEL|__GFP_REPEAT", "GFP_KERNEL|__GFP_REPEAT"),
        ("__GFP_COLD|__GFP_ATOMIC", "__GFP_COLD|__GFP_ATOMIC"),
        ("GFP_IOFS", "GFP_IOFS"),
        ("GFP_KERNEL|0x4000000", "GFP_KERNEL|0x4000000"),
        ("GFP_KERNEL|0x400000", "GFP_KERNEL|__GFP_BIT22"),
        ("0x140cca", "GFP_HIGHUSER_MOVABLE|__GFP_COMP"),
        ("3264", "GFP_KERNEL"),
    ],
)
def test_a_mask_reads_as_the_text_had_it(text: str, shown: str) -> None:
    masks = Masks()
    mask = masks(text)

    assert "|".join(sorted(masks.table.decode(mask).split("|"))) == "|".join(sorted(shown.split("|")))
    assert mask < 1 << 32


@pytest.mark.parametrize(
    ("text", "sleeps"),
    [
        ("__GFP_WAIT", True),
        ("GFP_WAIT", True),
        ("GFP_TEMPORARY", True),
        ("GFP_KERNEL|__GFP_NOTRACK", True),
        ("GFP_ATOMIC", False),
        ("GFP_ATOMIC|__GFP_COLD", False),
        ("GFP_IOFS", False),
        ("GFP_NOWAIT", False),
        ("__GFP_HIGH|__GFP_ATOMIC|__GFP_KSWAPD_RECLAIM", False),
    ],
)
def test_old_names_keep_whether_the_allocation_may_sleep(text: str, sleeps: bool) -> None:
    masks = Masks()

    assert masks.table.may_sleep(masks(text)) is sleeps


def test_a_renamed_flag_still_means_what_the_new_name_does() -> None:
    masks = Masks()
    mask = masks("__GFP_REPEAT")

    assert mask == masks.table.bit("__GFP_RETRY_MAYFAIL") == built_in().bit("__GFP_RETRY_MAYFAIL")


def test_a_name_gets_a_bit_of_its_own_and_keeps_it() -> None:
    masks = Masks()
    names = ["__GFP_COLD", "__GFP_NOTRACK", "__GFP_OTHER_NODE", "__GFP_NO_OBJ_EXT", "__GFP_ATOMIC"]
    bits = [masks(name) for name in names]

    assert all(bit.bit_count() == 1 for bit in bits)
    assert len(set(bits)) == len(names)
    assert [masks(name) for name in names] == bits
    assert not any(bit & value for bit in bits for _, value in built_in().flags)


@pytest.mark.parametrize(("silent", "expected"), [(True, True), (False, False)])
def test_a_nowait_of_before_linux_6_7_is_not_silent(silent: bool, expected: bool) -> None:
    masks = Masks(silent_nowait=silent)
    mask = masks("GFP_NOWAIT")

    assert masks.table.opportunistic(mask) is expected
    assert masks.table.decode(mask) == "GFP_NOWAIT"
    assert masks.table.opportunistic(masks("GFP_NOWAIT|__GFP_NOWARN"))


def test_the_table_can_be_stored() -> None:
    masks = Masks()
    masks("GFP_TEMPORARY|__GFP_COLD|0x400000|0x1000000")

    assert GfpTable.from_json(masks.table.to_json()) == masks.table


def test_more_names_than_bits_are_left_out_and_that_is_said() -> None:
    masks = Masks()
    bits = [masks(f"__GFP_MADE_UP_{at}") for at in range(400)]

    assert sum(bit != 0 for bit in bits) == 8  # bits 24 to 31
    assert any("more kinds of GFP flags" in note for note in masks.notes)
    assert len(masks.table.flags) < 100


def test_what_is_no_flag_is_left_out_and_that_is_said() -> None:
    masks = Masks()

    assert masks("GFP_KERNEL|rm -rf|0x812a3c6000000000") == masks("GFP_KERNEL")
    assert len(masks.notes) == 2
