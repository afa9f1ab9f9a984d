"""How many objects a slab holds: what SLUB would make of a cache, before anybody makes it.

From mm/slub.c, calculate_order() and calc_slab_order() as they are since Linux 6.8 (before, the choice differs where a
sixteenth is not met), and mm/slab_common.c, calculate_alignment(). Debugging and KASAN make objects larger: not here.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from kmwatch.kernel.slab import COSTLY_ORDER

Array = np.ndarray[Any, np.dtype[Any]]

WORD = 8  # bytes; ARCH_SLAB_MINALIGN and ARCH_KMALLOC_MINALIGN of x86-64
CACHE_LINE = 64  # bytes; cache_line_size() of x86-64


@dataclass(frozen=True)
class Slab:
    """A slab of 2^order pages, `length` bytes, that holds `objects` of `object_size` bytes."""

    object_size: int
    order: int
    objects: int
    length: int

    @property
    def each(self) -> float:
        """Bytes that an object takes, what is left over at the end of the slab included."""
        return self.length / self.objects

    def room(self, align: int) -> int:
        """Bytes of the largest object of which a slab of this order holds as many; aligned to `align` bytes."""
        return self.length // self.objects // align * align


def rounded(size: int, align: int) -> int:
    """The next multiple of `align` bytes."""
    return -(-size // align) * align


def line_alignment(size: int) -> int:
    """Bytes that SLAB_HWCACHE_ALIGN aligns objects of `size` bytes to: several share a line where they fit in it."""
    align = CACHE_LINE
    while size <= align // 2 and align > WORD:
        align //= 2
    return align


class Geometry:
    """Slabs on one machine.

    Args:
        page_size: bytes.
        cpus: how many there are: with more of them SLUB wants more objects in a slab.
        max_order: the largest that SLUB tries, slab_max_order: PAGE_ALLOC_COSTLY_ORDER unless the boot line says else.
    """

    def __init__(self, page_size: int = 4096, cpus: int = 1, max_order: int = COSTLY_ORDER) -> None:
        self._page, self._max_order = page_size, max_order
        self._wanted = 4 * (max(cpus, 1).bit_length() + 1)

    @property
    def largest(self) -> int:
        """Bytes of the largest object for which there is a choice: a larger one has a slab for itself, whole pages."""
        return self._page << self._max_order

    def slab(self, size: int) -> Slab:
        """The slab that SLUB chooses for objects of `size` bytes, aligned already.

        The smallest order that wastes at most a sixteenth of it; where there is none, an eighth, and so on.
        """
        wanted = min(self._wanted, max(self.largest // size, 1))
        least = self._order(wanted * size)
        for part in (16, 8, 4, 2):
            for order in range(least, self._max_order + 1):
                length = self._page << order
                if length % size <= length // part:
                    return self._of(size, order)
        return self._of(size, self._order(size))

    def of_orders(self, size: int) -> list[Slab]:
        """The slab of each order that holds an object of `size` bytes, the smallest first; never empty."""
        least = self._order(size)
        return [self._of(size, order) for order in range(least, max(self._max_order, least) + 1)]

    def best(self, size: int) -> Slab:
        """The slab in which an object of `size` bytes takes least, of all orders that hold one; the smallest such."""
        return min(self.of_orders(size), key=lambda slab: slab.each)

    @cached_property
    def prices(self) -> Array:
        """Bytes that an object takes in SLUB's own slab, by its size in words of 8 bytes, up to `largest`."""
        each = [0.0, *(self.slab(size).each for size in range(WORD, self.largest + 1, WORD))]
        return np.array(each)

    def _of(self, size: int, order: int) -> Slab:
        length = self._page << order
        return Slab(size, order, length // size, length)

    def _order(self, size: int) -> int:
        """get_order(): of the fewest pages, in powers of two, that hold `size` bytes."""
        return ((size - 1) // self._page).bit_length()
