"""The gauges of what is held: by cache and by site, bounded, and nothing of what is unknown."""

import time
from dataclasses import replace

import pytest

from kmwatch.batch import Cache, Meta
from kmwatch.cli.exposing import Exposed
from kmwatch.held import Held, with_releases
from kmwatch.schema import Kind
from kmwatch.serve.config import ServeConfig
from kmwatch.serve.holding import Holding
from kmwatch.serve.snapshot import Family, Own
from kmwatch.thresholds import DEFAULTS
from tests.unit import rows
from tests.unit.counted import series
from tests.unit.holding import held, of

DENTRY, FILP = Cache("dentry", 190, 192), Cache("filp", 200, 256)


def gauges(known: Meta, what: Held | None, *observed: rows.Row, top: int = 50) -> dict[str, Family]:
    holding = Holding(known, top)
    holding.add(replace(rows.batch(known, *observed), held=what))
    return holding.families()


def test_what_is_held_by_cache_and_by_site() -> None:
    """Sites by function, whatever the offset; what has no cache is told by its kind."""
    known = rows.meta()
    what = held(
        known,
        of(rows.kmalloc("f+0x1 [drv]", 60), held=2),
        of(rows.kmalloc("f+0x9 [drv]", 100), held=3),
        of(rows.kmalloc("f+0x9 [drv]", 9000), held=1),
        of(rows.object_of(DENTRY, "g+0x1"), held=5, released=7),
        of(rows.pages("h+0x1", 2), held=1),
        bits=4,
        grown={"dentry": 80, "kmalloc-64": 32, "kmalloc-128": 48},
    )
    families = gauges(known, what)

    assert series(families, "held_objects") == {
        ("kmalloc", "kmalloc-64"): 32,
        ("kmalloc", "kmalloc-128"): 48,
        ("kmalloc", ""): 16,
        ("cache_alloc", "dentry"): 80,
        ("page_alloc", ""): 16,
    }
    assert series(families, "held_bytes")["page_alloc", ""] == 16 * 4 * 4096
    assert series(families, "held_wasted_bytes")["cache_alloc", "dentry"] == 80 * 2
    assert series(families, "site_held_objects") == {
        ("f", "drv", "kmalloc"): 96,
        ("g", "", "cache_alloc"): 80,
        ("h", "", "page_alloc"): 16,
    }
    assert series(families, "site_held_wasted_bytes")["f", "drv", "kmalloc"] == 32 * 4 + 48 * 28 + 16 * (16384 - 9000)
    assert series(families, "held_grade") == {
        ("kmalloc", "kmalloc-64"): 0,
        ("kmalloc", "kmalloc-128"): 0,
        ("kmalloc", ""): 2,
        ("cache_alloc", "dentry"): 0,
        ("page_alloc", ""): 2,
    }
    assert series(families, "held_sample_ratio") == {(): 1 / 16}


def test_of_what_is_unknown_there_is_the_grade_alone() -> None:
    known = rows.meta()
    doubtful = of(rows.object_of(FILP, "f+0x1"), held=9, released=1, unseen=99)
    families = gauges(known, held(known, doubtful, of(rows.object_of(DENTRY, "f+0x1"), held=1), grown={"dentry": 1}))

    assert series(families, "held_grade") == {("cache_alloc", "filp"): 3, ("cache_alloc", "dentry"): 0}
    assert series(families, "held_objects") == {("cache_alloc", "dentry"): 1}
    assert series(families, "site_held_objects") == {("f", "", "cache_alloc"): 1}


def test_beyond_the_top_all_goes_to_other() -> None:
    """One site by kind, and eight caches; the sums stay."""
    known = rows.meta()
    caches = [Cache(f"cache_{size}", size, size) for size in range(1, 11)]
    what = held(known, *(of(rows.object_of(each, f"f{each.size}+0x1"), held=2, released=1) for each in caches))
    families = gauges(known, what, top=1)

    by_slab, by_site = series(families, "held_bytes"), series(families, "site_held_bytes")
    assert len(by_slab) == 9
    assert by_slab["cache_alloc", "other"] == 2 * (1 + 2)
    assert by_site == {("f10", "", "cache_alloc"): 20, ("other", "", "cache_alloc"): 90}
    assert sum(by_slab.values()) == 110
    assert set(series(families, "held_grade")) == set(by_slab)


def test_releases_of_older_objects_explain_what_the_kernels_count_lacks() -> None:
    """3000 new ones are held and 3000 older ones were released: the kernel's count is what it was."""
    known = rows.meta()
    new = of(rows.object_of(DENTRY, "f+0x1"), held=3000, released=1)
    older = rows.row(Kind.CACHE_FREE, "g+0x1", cache=DENTRY, count=1501)
    holding = Holding(known, 50)
    grades = []
    for _ in range(2):
        holding.add(replace(rows.batch(known, older), held=held(known, new, grown={"dentry": 0})))
        grades.append(series(holding.families(), "held_grade")["cache_alloc", "dentry"])

    assert grades == [2, 0]


def test_kinds_bring_along_what_releases_them() -> None:
    """An object of a cache may come back by kfree(), too; what is no memory has no release."""
    asked = frozenset({Kind.CACHE_ALLOC, Kind.VMALLOC, Kind.OOM_VICTIM})

    assert with_releases(asked) - asked == {Kind.CACHE_FREE, Kind.KFREE, Kind.VFREE}


def test_where_nobody_looked_there_is_nothing() -> None:
    assert gauges(rows.meta(), None) == {}


@pytest.mark.parametrize(("sample", "shown"), [(1.0, True), (0.25, False)])
def test_while_allocations_are_left_out_nothing_is_shown(sample: float, *, shown: bool) -> None:
    """They do not come into the table either, so the sums would be no estimates."""
    known = rows.meta()
    exposed = Exposed(known, ServeConfig(), DEFAULTS)
    what = held(known, of(rows.kmalloc("f+0x1", 60), held=1))
    exposed.add(replace(rows.batch(known), held=what))
    exposed.publish(time.time(), Own(sample=sample))

    assert (b"\nkmwatch_held_objects{" in exposed.render("")[0]) is shown
    assert (b"\nkmwatch_held_sample_ratio " in exposed.render("")[0]) is shown
