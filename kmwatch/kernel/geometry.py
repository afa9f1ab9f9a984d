"""How objects of one size lie in slabs: the arithmetic of SLUB's calculate_order() (mm/slub.c)."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Slab:
    """A slab and what fits into it: `objects` of up to `stride` bytes in `1 << order` pages; `bytes` is the slab."""

    order: int
    objects: int
    stride: int
    bytes: int

    @property
    def per_object(self) -> float:
        """The bytes of the slab that one object costs, its share of the tail included."""
        return self.bytes / self.objects


def best_slab(size: int, page_size: int, line: int = 64, max_order: int = 3) -> Slab | None:
    """The slab of order 0 to `max_order` that costs least for an object; of equals the smallest. None if none fits it.

    Objects begin at multiples of `line`, as with SLAB_HWCACHE_ALIGN. max_order 3 is PAGE_ALLOC_COSTLY_ORDER, SLUB's
    limit unless slab_max_order= raises it.
    """
    slabs = slabs_of(size, page_size, line, max_order)
    return min(slabs, key=lambda each: each.per_object) if slabs else None


def slabs_of(size: int, page_size: int, line: int = 64, max_order: int = 3) -> list[Slab]:
    """The slab of each order that at least one object fits into, the smallest first.

    `stride` is the largest size, in whole lines, of which as many fit.
    """
    stride = max(-(-size // line), 1) * line
    found = []
    for order in range(max_order + 1):
        whole = page_size << order
        if objects := whole // stride:
            found.append(Slab(order, objects, whole // objects // line * line, whole))
    return found
