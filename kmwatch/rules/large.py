"""KM3xx: large allocations, and allocators that do not fit the size."""

from collections.abc import Iterator
from typing import Any

from kmwatch import contexts
from kmwatch.findings import Finding, rule
from kmwatch.ledger import Ledger
from kmwatch.schema import Kind, Via
from kmwatch.units import number, size

_WHERE = ("site", "bytes_alloc", "gfp", "context", "zone_asked", "via", "atomic", "may_sleep")


def _advice(group: Any) -> str:
    """What to use instead, and when not: DMA needs contiguous memory, and vmalloc may sleep."""
    if group["zone_asked"] in ("DMA", "DMA32"):
        return "for a device's memory use dma_alloc_coherent() or alloc_pages(); kvmalloc is no DMA memory"
    if group["atomic"] or not group["may_sleep"]:
        return "vmalloc may sleep, so not here: allocate ahead in process context, or chain single pages (alloc_pages)"
    return (
        "use kvmalloc(), which falls back to vmalloc, or vmalloc() where contiguity never helps; "
        "keep alloc_pages()/kmalloc where a device does DMA to it or the site may become atomic"
    )


def _large(ledger: Ledger, above: int, to: int) -> Iterator[Finding]:
    for group in ledger.groups(*_WHERE, kinds=(Kind.KMALLOC,)):
        taken, count = int(group["bytes_alloc"]), int(group["count"])
        failures = int(group["failures"] + group["opportunistic_failures"])
        has_fallback = group["via"] & Via.KVMALLOC or ledger.meta.gfp.opportunistic(int(group["gfp"]))
        if not above < taken <= to or count + failures <= 0 or has_fallback:
            continue
        order = ledger.meta.limits.order_for(taken)
        gfp = ledger.meta.gfp.decode(int(group["gfp"]))
        yield Finding(
            site=ledger.meta.sites[group["site"]].label,
            message=f"kmalloc of up to {number(int(group['max_request']))} bytes takes {1 << order} contiguous pages "
            f"(order {order}, {size(taken)}) with {gfp}: {number(count)} times, {number(failures)} failed",
            advice=_advice(group),
            evidence={
                "count": count,
                "failures": failures,
                "order": order,
                "bytes_alloc": taken,
                "min_request": int(group["min_request"]),
                "max_request": int(group["max_request"]),
                "gfp": gfp,
                "context": contexts.name(int(group["context"])),
                "zone_asked": str(group["zone_asked"]),
            },
        )


@rule("KM301", "kmalloc-beyond-the-slab", "notice", since="0.1")
def beyond_the_slab(ledger: Ledger) -> Iterator[Finding]:
    """A kmalloc is larger than its largest cache (8 KiB on x86-64), so it takes whole pages.

    What it sees: requests above the largest size class and up to the costly order (32 KiB). They go to the page
    allocator and are rounded up to a power of two of contiguous pages: 8 193 bytes take 16 384. A kvmalloc's first
    try, and others with flags that say that there is a fallback, are left out. What the rounding wastes is KM103's.

    Why it matters: contiguous pages get scarce with uptime, and up to half of them is waste.

    What to do: kvmalloc() where the memory need not be contiguous and the caller may sleep; alloc_pages_exact() where
    it must be contiguous and the size is no power of two.

    When it is fine: where a device does DMA to it, or it is allocated once, at start.

    Kernel's own words: Documentation/core-api/memory-allocation.rst: it is good practice to use kmalloc for objects
    smaller than a page; kvmalloc() where it is not sure that the size fits kmalloc.

    Needs: kmem:kmalloc; for kvmalloc also a stack that shows it.
    """
    yield from _large(ledger, ledger.meta.limits.largest_slab, ledger.meta.limits.costly)


@rule("KM302", "kmalloc-above-costly-order", "warning", since="0.1")
def above_costly_order(ledger: Ledger) -> Iterator[Finding]:
    """A kmalloc asks for more than 32 KiB of contiguous memory (above PAGE_ALLOC_COSTLY_ORDER).

    What it sees: kmalloc of order 4 and more, tries with a fallback left out.

    Why it matters: above order 3 the page allocator gives up early and no process is killed for it, so such requests
    fail on a machine that has been up for long although gigabytes are free.

    What to do: kvmalloc(); for DMA dma_alloc_coherent() or scatter-gather; where the caller may not sleep, allocate
    ahead.

    When it is fine: at boot, once, before memory is fragmented.

    Kernel's own words: include/linux/mmzone.h on PAGE_ALLOC_COSTLY_ORDER: blocks above it do not coalesce naturally
    under reasonable reclaim pressure.

    Needs: kmem:kmalloc; for kvmalloc also a stack that shows it.
    """
    yield from _large(ledger, ledger.meta.limits.costly, 1 << 62)


@rule("KM303", "vmalloc-below-a-page", "warning", since="0.1")
def vmalloc_below_a_page(ledger: Ledger) -> Iterator[Finding]:
    """A vmalloc asks for a page or less.

    What it sees: areas of one page. Without a probe at the function itself the event tells whole pages only, and a
    request of exactly a page looks the same.

    Why it matters: each takes a page, a guard page of address space, a vm_struct, page table updates and, when freed,
    a TLB flush on all CPUs; kmalloc of the same size takes none of these.

    What to do: kmalloc() up to a page; kvmalloc() where the size varies, which decides by itself.

    When it is fine: where the guard page is what is wanted, or the size grows with the machine and is large elsewhere.

    Kernel's own words: __get_vm_area_node() in mm/vmalloc.c adds the guard page, unless VM_NO_GUARD is given.

    Needs: the vmalloc function by kprobe or fentry, or vmalloc:alloc_vmap_area.
    """
    page = ledger.meta.limits.page_size
    for group in ledger.groups("site", kinds=(Kind.VMALLOC,)):
        if int(group["min_request"]) > page or group["count"] <= 0:
            continue
        yield Finding(
            site=ledger.meta.sites[group["site"]].label,
            message=f"vmalloc of one page or less, among {number(int(group['count']))} areas",
            advice="use kmalloc() up to a page, or kvmalloc() where the size varies",
            evidence={
                "count": int(group["count"]),
                "min_request": int(group["min_request"]),
                "max_request": int(group["max_request"]),
            },
        )
