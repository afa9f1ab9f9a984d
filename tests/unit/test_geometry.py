"""Slabs: as many objects as SLUB really has in them, by the slabinfo of a real kernel and by figures done by hand."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kmwatch.kernel.geometry import CACHE_LINE, WORD, Geometry, Slab, line_alignment, rounded
from kmwatch.kernel.slab import parse_slabinfo

SLABINFO = Path(__file__).parent.parent / "data" / "linux-6.18" / "slabinfo"
CPUS = 2  # of the machine whose slabinfo that is
MACHINES = {cpus: Geometry(cpus=cpus) for cpus in (1, 4, 64)}
SIZES = st.integers(1, (32 << 10) // WORD).map(lambda words: words * WORD)


def test_every_cache_of_a_real_kernel_has_the_slab_that_is_foretold() -> None:
    caches = parse_slabinfo(SLABINFO.read_text())
    slabs = {cache.name: Geometry(cpus=CPUS).slab(cache.objsize) for cache in caches}

    assert len(caches) == 87
    assert {name: (slab.objects, 1 << slab.order) for name, slab in slabs.items()} == {
        cache.name: (cache.objperslab, cache.pagesperslab) for cache in caches
    }


@pytest.mark.parametrize("cpus", [1, 2, 4, 64, 1024])
def test_three_objects_of_10176_bytes_share_32_kib_and_may_grow_to_10880(cpus: int) -> None:
    """A kmalloc takes 16384 each, which is two in 32 KiB."""
    slab = Geometry(cpus=cpus).slab(10_176)

    assert slab == Slab(10_176, 3, 3, 32 << 10) == Geometry(cpus=cpus).best(10_176)
    assert slab.each == pytest.approx(10_922.67, abs=0.01)
    assert (slab.room(CACHE_LINE), slab.room(WORD)) == (10_880, 10_920)
    assert Geometry(cpus=cpus).slab(10_880).objects == 3
    assert Geometry(cpus=cpus).slab(10_944).objects == 2


@pytest.mark.parametrize(
    ("cpus", "order", "objects"),
    [(1, 0, 13), (3, 0, 13), (4, 1, 26), (15, 1, 26), (16, 1, 26)],
)
def test_more_cpus_want_more_objects_in_a_slab(cpus: int, order: int, objects: int) -> None:
    """312 bytes: 12 objects are wanted of 2 CPUs, which a page holds; 16 of 4, which it does not."""
    slab = Geometry(cpus=cpus).slab(312)

    assert (slab.order, slab.objects) == (order, objects)


@pytest.mark.parametrize(("size", "order"), [(32 << 10, 3), ((32 << 10) + 8, 4), (100_000, 5)])
def test_what_fits_no_slab_has_one_for_itself(size: int, order: int) -> None:
    for slab in (Geometry().slab(size), Geometry().best(size)):
        assert (slab.order, slab.objects, slab.each) == (order, 1, 4096 << order)


@pytest.mark.parametrize(
    ("size", "align"), [(1, 8), (8, 8), (9, 16), (16, 16), (17, 32), (32, 32), (33, 64), (64, 64), (700, 64)]
)
def test_small_objects_share_a_cache_line(size: int, align: int) -> None:
    assert line_alignment(size) == align
    assert rounded(size, align) % align == 0 <= rounded(size, align) - size < align


@settings(deadline=None)  # the first example makes the table of all prices
@given(SIZES, st.sampled_from([*MACHINES]))
def test_no_slab_is_better_than_the_best(size: int, cpus: int) -> None:
    geometry = MACHINES[cpus]
    chosen, best = geometry.slab(size), geometry.best(size)
    every = [(4096 << order) / ((4096 << order) // size) for order in range(4) if size <= 4096 << order]

    assert best.each == min(every) <= chosen.each
    assert geometry.prices[size // WORD] == chosen.each
    assert chosen.objects == chosen.length // size
    assert best.length == 4096 << best.order


@settings(deadline=None)
@given(SIZES, st.sampled_from([WORD, CACHE_LINE]))
def test_room_is_the_last_size_of_which_as_many_fit(size: int, align: int) -> None:
    size = rounded(size, align)
    slab = Geometry().slab(size)
    room = slab.room(align)

    assert size <= room
    assert room % align == 0
    assert slab.length // room == slab.objects > slab.length // (room + align)
