"""KM206 to KM208: atomic requests that succeed, and what they cost."""

from collections.abc import Iterator

from kmwatch.findings import Finding, rule
from kmwatch.kernel.slab import COSTLY_ORDER
from kmwatch.ledger import Ledger
from kmwatch.rules.groups import evidence, groups, per_second, site
from kmwatch.schema import Context, Kind
from kmwatch.units import number, size

_PLACES = Context.SOFTIRQ | Context.HARDIRQ | Context.NMI | Context.UNKNOWN


@rule("KM206", "atomic-high-order-pages", "notice", since="0.2")
def atomic_high_order(ledger: Ledger) -> Iterator[Finding]:
    """Contiguous pages are asked for where nothing can be done to make room for them.

    What it sees: page allocations of order 1 and more without direct reclaim and without a fallback, which succeeded,
    ten or more; above the costly order one is enough, and a warning. Large kmallocs are KM301's and KM302's, and pages
    of the slab allocator its own.

    Why it matters: they take what is contiguous by chance. On a machine that has been up for long there may be none,
    with gigabytes free, and KM202 is what follows.

    What to do: ask for order 0 and chain the pages (fragments, a scatter list); allocate ahead in process context; or
    try the order with __GFP_NORETRY | __GFP_NOWARN first and fall back to order 0.

    When it is fine: order 1 to 3 in a driver that survives NULL.

    Kernel's own words: include/linux/mmzone.h on PAGE_ALLOC_COSTLY_ORDER: up to it blocks should coalesce naturally
    under reasonable reclaim pressure, above it they do not.

    Needs: kmem:mm_page_alloc, with a stack that tells the caller.
    """
    for group in groups(ledger, (Kind.PAGE_ALLOC,)):
        order, count = int(group["order"]), int(group["count"])
        least = ledger.thresholds.atomic_pages_count if order <= COSTLY_ORDER else 1
        if not order or group["may_sleep"] or count < least or ledger.meta.gfp.opportunistic(int(group["gfp"])):
            continue
        told = evidence(ledger, group)
        pages = size(ledger.meta.limits.page_size << order)
        yield Finding(
            site=site(ledger, group),
            message=f"takes {pages} contiguous (order {order}) with {told['gfp']}, which cannot wait: "
            f"{number(count)} times",
            advice="chain pages of order 0, allocate ahead in process context, or try it with __GFP_NORETRY|"
            "__GFP_NOWARN and fall back to order 0",
            evidence=told,
            severity="warning" if order > COSTLY_ORDER else "",
        )


@rule("KM207", "atomic-allocation-where-it-may-sleep", "notice", since="0.2")
def atomic_idle(ledger: Ledger) -> Iterator[Finding]:
    """A site takes from the emergency reserves although it seems to be allowed to sleep.

    What it sees: allocations with GFP_ATOMIC's flags (the reserves, no direct reclaim) from a process that holds no
    spinlock, is in no RCU section and has bottom halves on, all of its calls with that mask, a hundred or more.

    Why it matters: GFP_ATOMIC takes what interrupts live on, and fails where GFP_KERNEL would wait a moment.

    What to do: GFP_KERNEL, or GFP_NOWAIT where waiting is merely unwelcome.

    When it is fine: with interrupts off, as under spin_lock_irqsave() of a raw lock or local_irq_save(); on PREEMPT_RT,
    whose spinlocks sleep, for code that other kernels run as well; in a function that interrupts call, too.

    Kernel's own words: Documentation/core-api/memory-allocation.rst: most of the time GFP_KERNEL is what you need;
    GFP_ATOMIC is for those who may not sleep and justify the reserves.

    Needs: the context, on a kernel that counts preemption: where no event at all shows a spinlock, nothing is found.
    Interrupts that are merely off do not show at these events, so that the finding is a candidate.
    """
    contexts = ledger.rows["context"]
    if not ((contexts & Context.PREEMPT_OFF != 0) & (contexts & _PLACES == 0)).any():
        return
    high, limits = ledger.meta.gfp.bit("__GFP_HIGH"), ledger.thresholds
    atomic = {(int(each["site"]), int(each["gfp"])) for each in groups(ledger) if each["context"]}
    for group in groups(ledger):
        count, mask = int(group["count"]), int(group["gfp"])
        if (
            group["may_sleep"]
            or group["context"]
            or not high
            or not mask & high
            or (int(group["site"]), mask) in atomic
        ):
            continue
        if count < limits.atomic_idle_count or per_second(ledger, count) < limits.atomic_idle_rate:
            continue
        told = evidence(ledger, group)
        yield Finding(
            site=site(ledger, group),
            message=f"{told['kind']} with {told['gfp']} in a process that holds no spinlock: {number(count)} times",
            advice="GFP_KERNEL, unless interrupts are off there, which these events do not show; else GFP_NOWAIT",
            evidence=told,
            confidence="candidate",
        )


@rule("KM208", "reserves-under-pressure", "warning", since="0.2")
def reserves(ledger: Ledger) -> Iterator[Finding]:
    """Pages flow to requests that may use the emergency reserves, while memory is short.

    What it sees: 4 MiB/s or more of pages at one site whose mask opens the reserves (__GFP_HIGH, as in GFP_ATOMIC, or
    __GFP_MEMALLOC), slabs among them, in a span in which others had to reclaim directly.

    Why it matters: direct reclaim begins at the watermark (min) below which the reserves lie. What goes out there is
    what swapping, interrupts and those who are being killed live on; once it is gone the machine stands still.

    What to do: for __GFP_MEMALLOC a mempool; for GFP_ATOMIC allocate ahead, or limit the rate (a smaller receive ring,
    fewer packets at a time); meanwhile `sysctl vm.min_free_kbytes`.

    When it is fine: in a burst that ends by itself.

    Kernel's own words: include/linux/gfp_types.h on __GFP_MEMALLOC: users have to be extremely careful not to deplete
    the reserve, and to throttle.

    Needs: kmem:mm_page_alloc and vmscan:mm_vmscan_direct_reclaim_begin. From which side of the watermark a page came is
    in no event: the finding is a candidate.
    """
    reclaims = ledger.events(Kind.DIRECT_RECLAIM)
    gfp = ledger.meta.gfp
    opens = gfp.bit("__GFP_HIGH") | gfp.bit("__GFP_MEMALLOC")
    if not reclaims or not opens:
        return
    for group in ledger.groups("site", "gfp", kinds=(Kind.PAGE_ALLOC,)):
        mask, taken = int(group["gfp"]), int(group["bytes_allocated"])
        rate = per_second(ledger, taken)
        if not mask & opens or mask & gfp.bit("__GFP_NOMEMALLOC") or rate < ledger.thresholds.reserve_rate:
            continue
        yield Finding(
            site=site(ledger, group),
            message=f"takes {size(rate)}/s of pages with {gfp.decode(mask)}, which opens the emergency reserves, while "
            f"others reclaimed directly {number(reclaims)} times",
            advice="allocate ahead or from a mempool, limit the rate, and raise vm.min_free_kbytes meanwhile",
            evidence={
                "count": int(group["count"]),
                "gfp": gfp.decode(mask),
                "gfp_mask": f"{mask:#x}",
                "bytes_allocated": taken,
                "bytes_per_second": round(rate, 1),
                "direct_reclaims": reclaims,
            },
            confidence="candidate",
        )
