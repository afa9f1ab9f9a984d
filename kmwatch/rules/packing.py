"""KM103 to KM105: large kmallocs that take a power of two of pages, and objects that fill their slabs badly."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from kmwatch.findings import Finding, rule
from kmwatch.kernel.geometry import CACHE_LINE, WORD, Slab, rounded
from kmwatch.ledger import Ledger
from kmwatch.rules.groups import geometry, per_second, wasteful
from kmwatch.schema import Kind, Via
from kmwatch.units import number, size


def _large(ledger: Ledger) -> Iterator[Any]:
    """Large kmallocs by site and size taken, tries with a fallback left out: what they take is theirs for a moment."""
    groups = ledger.groups("site", "bytes_alloc", "gfp", "via", "atomic", kinds=(Kind.KMALLOC,))
    for group in groups[groups["bytes_alloc"] > ledger.meta.limits.largest_slab]:
        falls_back = group["via"] & Via.KVMALLOC or ledger.meta.gfp.opportunistic(int(group["gfp"]))
        if group["count"] > 0 and not falls_back:
            yield group


def _own_cache(ledger: Ledger, group: Any) -> Slab | None:
    """The slab of a cache for these objects, where there are many of one size and it takes less than exact pages."""
    asked, limits = int(group["max_request"]), ledger.meta.limits
    if not asked or asked != group["min_request"] or group["count"] < ledger.thresholds.cache_objects:
        return None
    slab = geometry(ledger).slab(rounded(asked, CACHE_LINE))
    exact = -(-asked // limits.page_size) * limits.page_size
    return slab if slab.objects > 1 and slab.each < exact else None


@rule("KM103", "kmalloc-rounded-to-an-order", "warning", since="0.2")
def rounded_to_an_order(ledger: Ledger) -> Iterator[Finding]:
    """A large kmalloc takes a power of two of pages, and whole pages of it are never used.

    What it sees: requests above the largest size class (8 KiB on x86-64), of which at least a page and a tenth of what
    they take lies behind their largest size: 10 176 bytes take 16 384, 132 KiB take 256. Tries with a fallback, as
    kvmalloc makes them, are left out, and what KM104 has a better answer for.

    Why it matters: up to half of it is lost, and it is memory of the dearest kind, contiguous.

    What to do: alloc_pages_exact() where it must be contiguous: it gives the pages at the end back; free it with
    free_pages_exact() and the same size. kvmalloc() where it need not be: vmalloc takes single pages.

    When it is fine: where it is allocated once and the rest will be grown into (krealloc() in place).

    Kernel's own words: the description of alloc_pages_exact() in mm/page_alloc.c: it takes the least number of pages,
    where alloc_pages() takes powers of two only.

    Needs: kmem:kmalloc, which tells both sizes.
    """
    page = ledger.meta.limits.page_size
    for group in _large(ledger):
        taken, count, asked = int(group["bytes_alloc"]), int(group["count"]), int(group["max_request"])
        exact = -(-asked // page) * page
        saved = (taken - exact) * count
        if saved <= 0 or not wasteful(ledger, saved, taken * count) or _own_cache(ledger, group):
            continue
        yield Finding(
            site=ledger.meta.sites[group["site"]].label,
            message=f"asks for up to {number(asked)} bytes and takes {size(taken)}, of which {(taken - exact) // page} "
            f"page{'s' * (taken - exact != page)} are never used: {number(count)} times, {size(saved)} in all",
            advice=f"alloc_pages_exact() takes {size(exact)}, saving {size(per_second(ledger, saved))}/s"
            + ("" if group["atomic"] else "; kvmalloc() where it need not be contiguous"),
            evidence={
                "count": count,
                "min_request": int(group["min_request"]),
                "max_request": asked,
                "bytes_alloc": taken,
                "bytes_exact": exact,
                "gfp": ledger.meta.gfp.decode(int(group["gfp"])),
                "bytes_saved": saved,
            },
            saving=per_second(ledger, saved),
        )


@rule("KM104", "large-objects-without-a-cache", "warning", since="0.2")
def large_objects(ledger: Ledger) -> Iterator[Finding]:
    """Many large objects of one size are kmalloced, of which a slab would hold more than whole pages do.

    What it sees: a hundred or more requests of one size above the largest size class, of which a slab of up to order 3
    holds at least two, each for less than its pages rounded up: of 10 176 bytes three lie in 32 KiB, where kmalloc puts
    two. The finding lists what each order holds. Sizes below the largest class are KM101's.

    Why it matters: kmalloc takes a power of two of pages for each, and goes to the page allocator every time; a cache
    keeps free objects at hand for the next one.

    What to do: kmem_cache_create() with that size, and SLAB_HWCACHE_ALIGN; the object may grow to the size that the
    finding names before fewer fit.

    When it is fine: where hardly any two are alive at a time. That is not in the events, so this finding is likely, and
    not certain.

    Kernel's own words: calculate_order() in mm/slub.c chooses a slab's order by what stays free at its end;
    Documentation/core-api/memory-allocation.rst points to caches for many identical objects.

    Needs: kmem:kmalloc, which tells both sizes.
    """
    for group in _large(ledger):
        taken, count, asked = int(group["bytes_alloc"]), int(group["count"]), int(group["max_request"])
        slab = _own_cache(ledger, group)
        saved = int((taken - slab.each) * count) if slab else 0
        if slab is None or not wasteful(ledger, saved, taken * count):
            continue
        slabs, room = geometry(ledger).of_orders(slab.object_size), slab.room(CACHE_LINE)
        yield Finding(
            site=ledger.meta.sites[group["site"]].label,
            message=f"asks {number(count)} times for {number(asked)} bytes and takes {number(taken)}: in "
            f"{size(slab.length)} lie {slab.length // taken or 'none'}, where a cache of its own puts {slab.objects}",
            advice=f"kmem_cache_create() for it (up to {number(room)} bytes {slab.objects} fit a slab of "
            f"order {slab.order}), saving {size(per_second(ledger, saved))}/s",
            evidence={
                "count": count,
                "max_request": asked,
                "bytes_alloc": taken,
                "gfp": ledger.meta.gfp.decode(int(group["gfp"])),
                "slab_order": slab.order,
                "largest_object": room,
                "bytes_per_object": round(slab.each),
                "objects_by_order": {str(each.order): each.objects for each in slabs},
                "bytes_saved": saved,
            },
            saving=per_second(ledger, saved),
            confidence="likely",
        )


@rule("KM105", "cache-wastes-its-slabs", "notice", since="0.2")
def cache_wastes_slabs(ledger: Ledger) -> Iterator[Finding]:
    """A cache's objects leave a quarter or more of their slabs unused.

    What it sees: caches with traffic, whose object size is less than three quarters of what an object costs: by
    alignment and debugging (what an object takes), and by the end of a slab in which no further object fits. That end
    is computed for the order that SLUB would choose, as the events do not tell which one the cache has.

    Why it matters: it is lost for each object that is alive, and no allocation of the cache shows it.

    What to do: where alignment takes it, drop SLAB_HWCACHE_ALIGN or the align of kmem_cache_create() for what is not
    shared between CPUs; where it is the end of the slab, bring the object below the size that the finding names.

    When it is fine: on kernels with slab_debug or KASAN, where every object grows; and where objects are aligned on
    purpose, as a device or false sharing demands.

    Kernel's own words: calculate_order() in mm/slub.c; /sys/kernel/slab/NAME/ has object_size, slab_size, order and
    objs_per_slab of the running one.

    Needs: kmem:kmem_cache_alloc, and the cache's sizes: imported traces do not have them.
    """
    groups = ledger.groups("cache", kinds=(Kind.CACHE_ALLOC,))
    for group in groups[np.argsort(groups["cache"])]:
        cache, count = ledger.meta.caches[group["cache"]], int(group["count"])
        if count <= 0 or not 0 < cache.object_size <= cache.size:
            continue
        slab = geometry(ledger).slab(cache.size)
        lost = slab.each - cache.object_size
        rate = per_second(ledger, lost * count)
        if lost < ledger.thresholds.slab_share * slab.each or rate < ledger.thresholds.slab_rate:
            continue
        yield _of_cache(ledger, group, slab, lost)


def _of_cache(ledger: Ledger, group: Any, slab: Slab, lost: float) -> Finding:
    cache = ledger.meta.caches[group["cache"]]
    by_end = slab.each - cache.size > cache.size - cache.object_size
    one_more = slab.length // (slab.objects + 1) // WORD * WORD
    advice = (
        f"at ≤ {number(one_more)} bytes {slab.objects + 1} fit a slab of order {slab.order}"
        if by_end
        else "alignment or debugging takes it: drop SLAB_HWCACHE_ALIGN where the objects are not shared between CPUs"
    )
    return Finding(
        site=f"cache {cache.name}",
        message=f"its objects of {number(cache.object_size)} bytes take {number(cache.size)}, and with the end of the "
        f"slab {number(round(slab.each))}: {lost / slab.each:.0%} of its slabs is lost",
        advice=advice,
        evidence={
            "count": int(group["count"]),
            "cache": cache.name,
            "object_size": cache.object_size,
            "size": cache.size,
            "slab_order": slab.order,
            "objects_per_slab": slab.objects,
            "bytes_per_object": round(slab.each),
        },
        confidence="likely",
    )
