"""Ways of calls: sums are the ledger's to the unit, however few stacks there are and whatever they look like."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kmwatch.batch import KEY, STACKED, Batch, Cache
from kmwatch.ledger import MEASURES, Ledger
from kmwatch.profile import CUT, NO_STACK, Frame, Profile, profile
from kmwatch.schema import Via
from tests.unit import rows

DENTRY = Cache("dentry", 190, 192)
ENTRY = ("do_syscall_64+0x5d", "entry_SYSCALL_64+0x71")


def made(*given_rows: rows.Row, stacks: dict[int, list[tuple[tuple[str, ...], int]]] | None = None) -> Ledger:
    """A ledger of these rows; `stacks` has, by the number of a row, its stacks (innermost first) and their counts."""
    known = rows.meta()
    found = rows.rows_of(known, *given_rows)
    stacked = []
    for at, counted in (stacks or {}).items():
        for frames, count in counted:
            number = len(known.stacks) + 1
            sites = rows.rows_of(known, *(rows.kmalloc(frame, 8) for frame in frames))["site"]
            known.stacks[number] = tuple(sites.tolist())
            stacked.append((*(found[name][at] for name in KEY), number, count))
    ledger = Ledger(known)
    ledger.add(Batch(found, 1000.0, 1.0, stacked=np.array(stacked, STACKED)))
    return ledger


def told(found: Profile, measure: str = "count") -> dict[tuple[str, ...], int]:
    """What came by each path, by the names of its frames."""
    values = found.values()[:, MEASURES.index(measure)]
    paths = [tuple(found.frames[at].name for at in path) for path in found.paths]
    return {path: int(value) for path, value in zip(paths, values, strict=True) if value}


def test_what_a_site_did_is_split_in_proportion_to_its_stacks() -> None:
    ledger = made(
        rows.kmalloc("f+0x1 [drv]", 60, count=100),
        stacks={0: [(("f+0x1 [drv]", "open+0x2", *ENTRY), 3), (("f+0x1 [drv]", "read+0x3", *ENTRY), 1)]},
    )

    found = profile(ledger)

    assert told(found) == {
        ("entry_SYSCALL_64", "do_syscall_64", "open", "f", "[kmalloc]"): 75,
        ("entry_SYSCALL_64", "do_syscall_64", "read", "f", "[kmalloc]"): 25,
    }
    assert sum(told(found, "bytes_wasted").values()) == 400
    assert Frame("f", "drv") in found.frames


def test_what_is_above_the_site_belongs_to_the_allocator() -> None:
    stack = ("__kmalloc_noprof+0x9", "f+0x1", *ENTRY)
    assert list(told(profile(made(rows.kmalloc("f+0x1", 60), stacks={0: [(stack, 1)]})))) == [
        ("entry_SYSCALL_64", "do_syscall_64", "f", "[kmalloc]")
    ]


def test_a_stack_without_the_site_leads_to_it() -> None:
    """The event tells the site; where the compiler made a jump of the call, it is not in the stack."""
    stack = ("__kmalloc_noprof+0x9", "g+0x7", *ENTRY)
    assert list(told(profile(made(rows.kmalloc("f+0x1", 60), stacks={0: [(stack, 1)]})))) == [
        ("entry_SYSCALL_64", "do_syscall_64", "g", "f", "[kmalloc]")
    ]


def test_without_a_stack_that_is_said() -> None:
    ledger = made(rows.object_of(DENTRY, "d_alloc+0x1", count=3))
    assert told(profile(ledger)) == {(NO_STACK.name, "d_alloc", "[cache_alloc dentry]"): 3}


def test_a_stack_that_goes_on_says_so() -> None:
    deep = ("f+0x1", *(f"g{at}+0x1" for at in range(31)))
    (path,) = told(profile(made(rows.kmalloc("f+0x1", 60), stacks={0: [(deep, 1)]})))
    assert (path[0], path[1], path[-2:], len(path)) == (CUT.name, "g30", ("f", "[kmalloc]"), 34)


def test_failures_have_stacks_of_their_own() -> None:
    ledger = made(
        rows.kmalloc("f+0x1", 60, count=10),
        rows.kmalloc("f+0x1", 60, count=4, failed=1),
        stacks={0: [(("f+0x1", "a+0x1"), 1)], 1: [(("f+0x1", "b+0x1"), 1)]},
    )

    assert told(profile(ledger), "failures") == {("b", "f", "[kmalloc]"): 4}
    assert told(profile(ledger)) == {("a", "f", "[kmalloc]"): 10}


def test_failures_without_a_stack_are_not_given_those_of_others() -> None:
    ledger = made(
        rows.kmalloc("f+0x1", 60, count=10),
        rows.kmalloc("f+0x1", 60, count=4, failed=1),
        stacks={0: [(("f+0x1", "a+0x1"), 1)]},
    )
    assert told(profile(ledger), "failures") == {(NO_STACK.name, "f", "[kmalloc]"): 4}


def test_each_piece_of_memory_is_there_once() -> None:
    ledger = made(
        rows.kmalloc("f+0x1", 60, count=5), rows.pages("f+0x1", 1, count=3, via=Via.SLAB), rows.pages("g+0x1", 2)
    )
    found = profile(ledger)

    assert sum(told(found, "bytes_allocated").values()) == ledger.totals().bytes_allocated == 5 * 64 + (4096 << 2)


def test_two_sites_with_one_way_share_it() -> None:
    """Another context or other flags are another row, not another way."""
    stack = ("f+0x1", *ENTRY)
    ledger = made(
        rows.kmalloc("f+0x1", 60, count=5),
        rows.kmalloc("f+0x1", 60, count=7, gfp="GFP_ATOMIC", context=1),
        stacks={0: [(stack, 1)], 1: [(stack, 1)]},
    )
    found = profile(ledger)

    assert told(found) == {("entry_SYSCALL_64", "do_syscall_64", "f", "[kmalloc]"): 12}
    assert len(found.weights) == 2


def test_stacks_of_what_was_taken_back_are_left_out() -> None:
    """The first report of a large kmalloc had a stack, and its row is gone."""
    ledger = made(rows.kmalloc("f+0x1", 60), stacks={0: [(("f+0x1", "a+0x1"), 1)]})
    ledger.rows = ledger.rows[:0]

    assert profile(ledger).paths == []
    assert profile(ledger).values().shape == (0, len(MEASURES))


@pytest.mark.parametrize("number", [7, 0])
def test_a_stack_that_is_not_known_is_none(number: int) -> None:
    ledger = made(rows.kmalloc("f+0x1", 60), stacks={0: [(("f+0x1", "a+0x1"), 1)]})
    ledger.stacked["stack"] = number

    assert told(profile(ledger)) == {(NO_STACK.name, "f", "[kmalloc]"): 1}


@given(
    st.lists(st.tuples(st.integers(1, 1 << 40), st.lists(st.integers(1, 1 << 40), max_size=5)), min_size=1, max_size=5)
)
def test_sums_are_the_ledgers_to_the_unit(sites: list[tuple[int, list[int]]]) -> None:
    """However the shares divide."""
    ledger = made(
        *(rows.kmalloc(f"f{at}+0x1", 61 + at, count=count) for at, (count, _) in enumerate(sites)),
        stacks={
            at: [((f"f{at}+0x1", f"g{which}+0x1"), count) for which, count in enumerate(counts)]
            for at, (_, counts) in enumerate(sites)
        },
    )
    totals, values = ledger.totals(), profile(ledger).values()

    assert (values >= 0).all()
    names = ("allocations", "failures", "opportunistic_failures", "bytes_requested", "bytes_allocated", "bytes_wasted")
    assert values.sum(axis=0).tolist() == [getattr(totals, name) for name in names]
