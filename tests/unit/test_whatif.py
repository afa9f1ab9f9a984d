"""Other size classes and caches: what is found is what trying everything finds."""

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kmwatch import demand
from kmwatch.demand import Array
from kmwatch.kernel.geometry import Geometry, line_alignment, rounded
from kmwatch.kernel.slab import AllocatorLimits
from kmwatch.whatif.caches import best_caches
from kmwatch.whatif.classes import best_extra, served, strange
from kmwatch.whatif.prices import Prices
from tests.unit.rows import LIMITS

# With such small pages all sets of classes can be tried: up to the costly order there are only 32 sizes.
TINY = AllocatorLimits(classes=(8, 16, 32, 64), page_size=32, source="a test")
MOST = 300  # bytes asked for: a bit above the costly order of TINY

Sizes = list[tuple[int, int]]
SIZES = st.lists(st.tuples(st.integers(1, MOST), st.integers(1, 1000)), min_size=1, max_size=8)


def asked(sizes: Sizes, limits: AllocatorLimits = LIMITS, site: int = 1) -> Array:
    """Requests of a site, by size and count."""
    made = np.array(sizes, np.int64).reshape(-1, 2)
    taken = np.array([limits.class_for(size) for size, _ in sizes], np.int64)
    return demand.requests(np.full(len(made), site), made[:, 0], taken, made[:, 1])


def takes(size: int, classes: Sequence[int], limits: AllocatorLimits, cpus: int) -> float:
    """What one request takes, said as simply as can be."""
    pages = limits.page_size << limits.order_for(size)
    at = bisect_left(classes, size)
    if at == len(classes) or (size > limits.largest_slab and classes[at] > pages):
        return pages
    return Geometry(limits.page_size, cpus).slab(classes[at]).each


def all_sets(most: int) -> Iterator[tuple[int, ...]]:
    """Every set of classes that TINY can have beside its own."""
    others = [size for size in range(8, TINY.costly + 1, 8) if size not in TINY.classes]
    for many in range(most + 1):
        yield from combinations(others, many)


@settings(max_examples=25, deadline=None)
@given(SIZES, st.integers(1, 64), st.integers(1, 3))
def test_no_set_of_classes_saves_more_than_the_one_that_is_found(sizes: Sizes, cpus: int, most: int) -> None:
    seen = {size for size, _ in sizes}
    step = {(size, one): takes(size, [one], TINY, cpus) for size in seen for one in range(8, TINY.costly + 1, 8)}
    pages = {size: TINY.page_size << TINY.order_for(size) for size in seen}

    def total(extra: tuple[int, ...]) -> float:
        classes, sum_ = sorted({*TINY.classes, *extra}), 0.0
        for size, count in sizes:
            at = bisect_left(classes, size)
            sum_ += count * (step[size, classes[at]] if at < len(classes) else pages[size])
        return sum_

    found = best_extra(asked(sizes, TINY), Prices(TINY, cpus), most)

    assert len(found) <= most
    assert total(found) == pytest.approx(min(map(total, all_sets(most))))
    then = served(asked(sizes, TINY), Prices(TINY, cpus), sorted({*TINY.classes, *found}))
    assert sum(each.taken for each in then) == pytest.approx(total(found))
    assert sum(each.today for each in then) == pytest.approx(total(()))


@settings(max_examples=50, deadline=None)
@given(SIZES, st.integers(1, 64))
def test_no_cache_saves_more_than_the_one_that_is_found(sizes: Sizes, cpus: int) -> None:
    geometry = Geometry(TINY.page_size, cpus)

    def saves(largest: int) -> float:
        objects = {rounded(largest, line_alignment(largest)), rounded(largest, 8)}
        each = min(geometry.slab(size).each for size in objects if size <= TINY.costly)
        held = ((takes(size, TINY.classes, TINY, cpus) - each, count) for size, count in sizes if size <= largest)
        return sum(max(gain, 0) * count for gain, count in held)

    most = max((saves(size) for size, _ in sizes if size <= TINY.costly), default=0.0)
    found = best_caches(asked(sizes, TINY), Prices(TINY, cpus))

    assert [cache.saved for cache in found] == ([pytest.approx(most)] if most else [])


def test_a_few_classes_by_hand() -> None:
    """640 bytes in 1024: 12 objects in 8 KiB in place of 8."""
    requests = asked([(640, 100), (65, 10), (64, 5)])
    prices = Prices(LIMITS, 1)

    assert best_extra(requests, prices, 1) == (640,)
    assert best_extra(requests, prices, 2) == best_extra(requests, prices, 9) == (72, 640)
    assert served(requests, prices, (64, 96, 640))[2].taken == pytest.approx(100 * 8192 / 12)
    assert best_extra(asked([(64, 5), (1024, 5)]), prices, 4) == ()
    assert best_extra(asked([]), prices, 4) == ()


def test_10176_bytes_want_a_cache_of_which_three_are_in_32_kib() -> None:
    (cache,) = best_caches(asked([(10_176, 1000)]), Prices(LIMITS, 4))

    assert (cache.slab.object_size, cache.slab.order, cache.slab.objects) == (10_176, 3, 3)
    assert (cache.align, cache.lines, cache.slab.room(cache.align)) == (64, True, 10_880)
    assert cache.saved == pytest.approx(1000 * (16_384 - 32_768 / 3))


def test_a_cache_serves_what_it_saves_for_and_nothing_else() -> None:
    """72 bytes: those of 65 to 72 in 96; what has 64 or less stays. Lines of 64 bytes would cost more than 96 do."""
    (cache,) = best_caches(asked([(10, 7), (64, 9), (65, 100), (72, 50)]), Prices(LIMITS, 1))

    assert (cache.low, cache.high, cache.count) == (65, 72, 150)
    assert (cache.align, cache.lines, cache.slab.objects) == (8, False, 56)
    assert cache.saved == pytest.approx(150 * (4096 / 42 - 4096 / 56))


def test_sites_come_by_what_they_save() -> None:
    requests = np.concatenate([asked([(65, 10)], site=2), asked([(640, 100)], site=3), asked([(64, 9)], site=4)])

    assert [cache.site for cache in best_caches(requests, Prices(LIMITS, 1))] == [3, 2]


def test_above_todays_largest_class_pages_are_taken_where_they_are_smaller() -> None:
    classes = (*LIMITS.classes, 20_000)
    then = {each.size: each.count for each in served(asked([(9000, 1), (17_000, 2)]), Prices(LIMITS, 1), classes)}

    assert (then[0], then[20_000]) == (1, 2)
    small = {each.size: each.count for each in served(asked([(100, 1), (9000, 2)]), Prices(LIMITS, 1), (64, 8192))}
    assert small == {64: 0, 8192: 1, 0: 2}


def test_sizes_of_other_classes_are_told() -> None:
    foreign = demand.requests(*(np.array([each]) for each in (1, 100, 104, 7)))

    assert strange(foreign, Prices(LIMITS, 1)) == 7
    assert strange(asked([(100, 5), (9000, 1), (1 << 22, 1)]), Prices(LIMITS, 1)) == 0
