"""What a request takes from given size classes.

All bytes are those of slabs: an object's, and its share of what is left over at the end of a slab, with the order that
SLUB would choose (kmwatch.kernel.geometry). What no class holds takes whole pages, a power of two of them; so does what
is larger than today's largest class and would take fewer bytes of pages than the next class has.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from kmwatch.kernel.geometry import WORD, Geometry, Slab, rounded
from kmwatch.kernel.slab import AllocatorLimits

Array = np.ndarray[Any, np.dtype[Any]]


class Prices:
    """Prices on one machine.

    Args:
        limits: today's size classes.
        cpus: how many the machine has; see Geometry.
    """

    def __init__(self, limits: AllocatorLimits, cpus: int) -> None:
        self.limits, self.geometry = limits, Geometry(limits.page_size, cpus)

    @property
    def largest(self) -> int:
        """Bytes of the largest object for which a class or a cache can take less than whole pages do."""
        return self.geometry.largest

    def slab(self, size: int) -> Slab:
        """The slab of a size class of `size` bytes."""
        return self.geometry.slab(rounded(size, WORD))

    def of_objects(self, sizes: Array) -> Array:
        """Bytes that objects take in slabs of their own; their sizes are whole words, `largest` at most."""
        found: Array = self.geometry.prices[sizes // WORD]
        return found

    def taken(self, sizes: Array, classes: Sequence[int] | None = None) -> Array:
        """Bytes that a request of each size takes from these classes (bytes, ascending); None for today's."""
        classes = self.limits.classes if classes is None else classes
        each = np.array([*(self.slab(size).each for size in classes), 0.0])
        place = self.places(sizes, classes)
        taken: Array = np.where(place < len(classes), each[place], self._pages(sizes))
        return taken

    def places(self, sizes: Array, classes: Sequence[int]) -> Array:
        """Which of these classes serves each size, by its place; one more than they are where whole pages do."""
        ends = np.array([*classes, 1 << 62])
        place = np.searchsorted(ends[:-1], sizes)
        paged = (sizes > self.limits.largest_slab) & (ends[place] > self._pages(sizes))
        return np.where(paged, len(classes), place)

    def _pages(self, sizes: Array) -> Array:
        """Bytes of the whole pages that hold each size."""
        pages = np.maximum(sizes - 1, 0) // self.limits.page_size
        whole: Array = self.limits.page_size << np.frexp(pages)[1].astype(np.int64)
        return whole

    def steps(self) -> list[int]:
        """All that kmalloc gives today up to `largest`: its classes, and above them whole pages; bytes, ascending."""
        orders = range((self.largest // self.limits.page_size).bit_length())
        pages = [self.limits.page_size << order for order in orders]
        classes = [size for size in self.limits.classes if size <= self.largest]
        return [*classes, *(size for size in pages if size > self.limits.largest_slab)]


def whole_words(sizes: Array) -> Array:
    """Sizes rounded up to what an object is aligned to at least."""
    up: Array = -(-sizes // WORD) * WORD
    return up
