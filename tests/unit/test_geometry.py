"""How objects lie in slabs, against SLUB's own numbers."""

import pytest

from kmwatch.kernel.geometry import Slab, best_slab, slabs_of


@pytest.mark.parametrize(
    ("size", "slab"),
    [
        (10_176, Slab(3, 3, 10_880, 32_768)),
        (4096, Slab(0, 1, 4096, 4096)),
        (64, Slab(0, 64, 64, 4096)),
        (1, Slab(0, 64, 64, 4096)),
        (2049, Slab(3, 15, 2176, 32_768)),
        (32_768, Slab(3, 1, 32_768, 32_768)),
    ],
)
def test_the_best_slab_costs_least_for_an_object_and_is_the_smallest_of_equals(size: int, slab: Slab) -> None:
    assert best_slab(size, 4096) == slab


def test_what_no_slab_holds_has_none() -> None:
    assert best_slab(32_769, 4096) is None
    assert best_slab(32_769, 4096, max_order=4) == Slab(4, 1, 65_536, 65_536)
    assert best_slab(32_769, 65_536) is not None


def test_each_order_holds_what_fits() -> None:
    assert [(each.order, each.objects) for each in slabs_of(10_176, 4096)] == [(2, 1), (3, 3)]
    assert [each.objects for each in slabs_of(640, 4096, line=8)] == [6, 12, 25, 51]


@pytest.mark.parametrize("line", [1, 8, 64])
@pytest.mark.parametrize("size", [8, 65, 700, 1025, 5000, 12_289])
def test_an_object_of_the_stride_still_fits_and_a_larger_one_does_not(size: int, line: int) -> None:
    for slab in slabs_of(size, 4096, line):
        assert slab.stride * slab.objects <= slab.bytes < (slab.stride + line) * slab.objects
        assert slab.stride >= size
        assert slab.per_object * slab.objects == slab.bytes
