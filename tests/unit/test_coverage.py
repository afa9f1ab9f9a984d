"""How far to believe what is held: the kernel's own count beside it, and releases that nobody saw."""

import numpy as np
import pytest

from kmwatch.batch import Batch, Cache
from kmwatch.coverage import LARGE_KMALLOCS, Coverage, coverage, grade_of, labels
from kmwatch.held import Held, bounds
from kmwatch.ledger import Ledger
from kmwatch.schema import Kind
from kmwatch.witness import Witness
from tests.unit import rows
from tests.unit.holding import Lives, held, looks, of

DENTRY, FILP, NODE = (Cache(name, 192, 192) for name in ("dentry", "filp", "maple_node"))
CPUS = rows.meta().host.cpus
DENTRIES = rows.object_of(DENTRY, "d_alloc+0x1")
KMALLOCS = rows.kmalloc("f+0x1", 60)
TOLERATED = CPUS * (2 * 1 + 128)
"""Objects that the kernel counts as in use though they are free: 2 slabs of one object, and 128 more, on each CPU."""


def ledger(
    *lives: Lives, seen: tuple[rows.Row, ...] = (), grown: dict[str, int] | None = None, bits: int = 0
) -> Ledger:
    """A ledger that holds these; `seen` are the rows that events told of."""
    known = rows.meta()
    return looks(known, held(known, *lives, bits=bits, grown=grown), rows=seen)


def grade(made: Ledger, name: str = "dentry") -> str:
    (found,) = [each.grade for (cache, _), each in coverage(made).items() if cache == name]
    return found


def test_a_cache_that_the_kernel_confirms() -> None:
    made = ledger(of(DENTRIES, held=1000, released=5000), grown={"dentry": 1000})

    assert coverage(made) == {
        ("dentry", Kind.CACHE_ALLOC): Coverage("dentry", Kind.CACHE_ALLOC, 6000, 5000, 0, 1000, 1000, "A")
    }


def test_all_rows_of_a_cache_are_one() -> None:
    other = rows.object_of(DENTRY, "other+0x1", gfp="GFP_ATOMIC")
    made = ledger(of(DENTRIES, held=10, released=20), of(other, held=1, released=2, unseen=4), bits=4)
    (found,) = coverage(made).values()

    assert (found.allocations, found.released, found.unseen, found.held) == (176 + 22 + 4, 22, 4, 176)


def test_where_nobody_looked_there_is_nothing() -> None:
    assert coverage(rows.ledger(KMALLOCS)) == {}


def test_a_cache_whose_releases_are_not_seen_is_unknown() -> None:
    """Nodes of maple trees are given back in bulk and into sheaves: hardly any release has an event."""
    node = rows.object_of(NODE, "mas_alloc+0x1")

    assert (
        grade(ledger(of(node, held=900, released=10, unseen=5000), grown={"maple_node": 10_000}), "maple_node") == "D"
    )
    assert grade(ledger(of(node, held=9000), grown={"maple_node": 0}), "maple_node") == "D"


@pytest.mark.parametrize(
    ("released", "unseen", "found"),
    [
        (10_000, 0, "A"),
        (9990, 10, "A"),
        (9989, 11, "B"),
        (9900, 100, "B"),
        (9899, 101, "C"),
        (9000, 1000, "C"),
        (8999, 1001, "D"),
        (0, 1, "D"),
    ],
)
def test_the_share_of_releases_without_event_grades(released: int, unseen: int, found: str) -> None:
    assert grade_of(released, unseen, 0.0, confirmed=True) == found


@pytest.mark.parametrize(
    ("excess", "found"),
    [(0.0, "A"), (0.05, "A"), (0.051, "B"), (0.2, "B"), (0.21, "C"), (0.5, "C"), (0.51, "D"), (1.0, "D")],
)
def test_the_share_that_the_kernel_does_not_have_grades(excess: float, found: str) -> None:
    assert grade_of(100, 0, excess, confirmed=True) == found


@pytest.mark.parametrize(
    ("released", "unseen", "excess", "found"),
    [(1, 0, 0.0, "B"), (0, 0, 0.0, "C"), (9899, 101, 0.0, "C"), (1, 9, 0.0, "D"), (1, 0, 0.3, "C"), (0, 0, 0.6, "D")],
)
def test_without_a_witness_it_is_b_at_best_and_c_where_nothing_was_released(
    released: int, unseen: int, excess: float, found: str
) -> None:
    assert grade_of(released, unseen, excess, confirmed=False) == found


def test_nobody_confirms_what_slabinfo_does_not_have() -> None:
    """Pages are in no cache, and neither is a cache that was merged into another."""
    made = ledger(of(rows.pages("p+0x1"), held=5, released=1), of(DENTRIES, held=1, released=1), grown={"filp": 9})

    assert [(each.grown, each.grade) for each in coverage(made).values()] == [(None, "B")] * 2


@pytest.mark.parametrize("witnesses", [(None, None), (Witness(), None), (None, Witness({"dentry": (5, 1)}))])
def test_two_looks_at_slabinfo_are_needed(witnesses: tuple[Witness | None, Witness | None]) -> None:
    known = rows.meta()
    made = held(known, of(DENTRIES, held=1, released=1), before=witnesses[0], now=witnesses[1])

    assert grade(looks(known, made)) == "B"
    assert made.grown("dentry") is None


def test_a_cache_that_is_new_grew_by_all_that_it_has() -> None:
    made = Held(held(rows.meta()).rows, before=Witness(), now=Witness({"filp": (70, 16)}))

    assert (made.grown("filp"), made.grown("dentry")) == ((70, 16), None)


@pytest.mark.parametrize(("more", "found"), [(0, "A"), (28, "B"), (131, "C"), (521, "D")])
def test_free_objects_in_the_slabs_of_cpus_are_tolerated(more: int, found: str) -> None:
    """Each CPU may keep 130 in all: shares of what seems held above that are 0, 0.051, 0.201 and 0.5005."""
    made = ledger(of(DENTRIES, held=TOLERATED + more, released=1), grown={"dentry": 0})

    assert TOLERATED == 520
    assert grade(made) == found


def test_larger_slabs_hide_more() -> None:
    known = rows.meta()
    before, now = Witness({"dentry": (0, 21)}), Witness({"dentry": (0, 21)})
    lives = [of(DENTRIES, held=CPUS * (2 * 21 + 128) + more, released=1) for more in (0, 1000)]

    made = [looks(known, held(known, each, before=before, now=now)) for each in lives]
    assert [grade(each) for each in made] == ["A", "D"]


def test_an_estimate_is_doubted_from_its_lower_bound_on() -> None:
    low, high = bounds(160 * 16, 160, 4)
    made = [ledger(of(DENTRIES, held=160, released=1), bits=4, grown={"dentry": grown}) for grown in (low - 520, 0)]

    assert low < 160 * 16 < high
    assert [grade(each) for each in made] == ["A", "D"]


def test_releases_of_older_objects_explain_that_a_cache_did_not_grow() -> None:
    older = rows.row(Kind.CACHE_FREE, "g+0x1", cache=DENTRY, count=5000)
    others = rows.row(Kind.CACHE_FREE, "g+0x1", cache=FILP, count=5000)
    new = of(DENTRIES, held=3000, released=2000)

    assert grade(ledger(new, seen=(older,), grown={"dentry": 0})) == "A"
    assert grade(ledger(new, seen=(others,), grown={"dentry": 0})) == "D"
    assert grade(ledger(new, seen=(older,), grown={"dentry": -3000})) == "A"
    assert grade(ledger(of(DENTRIES, held=3000, released=5000), seen=(older,), grown={"dentry": 0})) == "D"


def test_releases_of_older_kmallocs_explain_that_their_classes_did_not_grow() -> None:
    """Their events tell no size: of all sizes together it is known."""
    large = rows.kmalloc("f+0x1", 500)
    frees = rows.row(Kind.KFREE, "g+0x1", count=4000)
    lives = (of(KMALLOCS, held=3000, released=500), of(large, held=1000, released=500))
    still = {"kmalloc-64": 0, "kmalloc-512": 0}

    assert {grade(ledger(*lives, seen=(frees,), grown=still), f"kmalloc-{size}") for size in (64, 512)} == {"A"}
    own = rows.row(Kind.KFREE, "g+0x1", count=1000)  # of those that were released no more is held
    assert [grade(ledger(*lives, seen=seen, grown=still), "kmalloc-64") for seen in ((), (own,))] == ["D", "D"]


def test_a_class_that_grew_is_not_doubted_for_another() -> None:
    lives = (of(KMALLOCS, held=3000, released=1), of(rows.kmalloc("f+0x1", 500), held=3000, released=1))
    made = ledger(*lives, grown={"kmalloc-64": 3000, "kmalloc-512": 0})

    assert (grade(made, "kmalloc-64"), grade(made, "kmalloc-512")) == ("A", "C")


def test_the_looks_of_the_ledger_do_not_add_up() -> None:
    """Each tells all that is held."""
    known = rows.meta()
    made = looks(known, *(held(known, of(DENTRIES, held=number, released=number)) for number in (5, 9)))

    assert [(each.held, each.released) for each in coverage(made).values()] == [(9, 9)]


def test_labels_are_caches_classes_and_kinds() -> None:
    known = rows.meta()
    nameless = rows.object_of(Cache("", 192, 192), "f+0x1")
    given = rows.rows_of(
        known,
        KMALLOCS,
        rows.kmalloc("f+0x1", 8192),
        rows.kmalloc("f+0x1", 8193),
        DENTRIES,
        nameless,
        rows.pages("f+0x1"),
        rows.area("f+0x1", 4096),
        rows.percpu("f+0x1", 64),
    )

    assert labels(given, known.caches) == [
        ("kmalloc-64", Kind.KMALLOC),
        ("kmalloc-8k", Kind.KMALLOC),
        (LARGE_KMALLOCS, Kind.KMALLOC),
        ("dentry", Kind.CACHE_ALLOC),
        ("unknown", Kind.CACHE_ALLOC),
        ("page_alloc", Kind.PAGE_ALLOC),
        ("vmalloc", Kind.VMALLOC),
        ("percpu_alloc", Kind.PERCPU_ALLOC),
    ]


def test_an_empty_look_has_no_cache() -> None:
    known = rows.meta()
    made = Ledger(known)
    made.add(Batch(np.zeros(0, made.rows.dtype), 0.0, 1.0, held=held(known)))

    assert coverage(made) == {}
