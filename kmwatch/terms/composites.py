"""The combinations that callers use."""

from kmwatch.terms.model import GUIDE, HEADER, SCOPES, Flag

COMPOSITES = (
    Flag(
        "GFP_KERNEL",
        "the ordinary allocation; may sleep",
        "Direct reclaim with I/O and file systems, kswapd woken. The right flag wherever sleeping is allowed.",
        may_sleep=True,
        zone="Normal",
        article="Ordinary kernel memory; may sleep.",
        today="Unchanged. Up to order 3 (32 KiB) it hardly ever fails, but the result must be checked. Never in "
        "interrupts, under a spinlock, in an RCU read section or with preemption off.",
        source=GUIDE,
    ),
    Flag(
        "GFP_KERNEL_ACCOUNT",
        "GFP_KERNEL, charged to the memory cgroup",
        "GFP_KERNEL|__GFP_ACCOUNT: for memory that a user can make the kernel allocate.",
        may_sleep=True,
        zone="Normal",
        since="4.5",
        today="The right choice for allocations that untrusted users trigger.",
        source="commit a9bb7e620efd; " + GUIDE,
    ),
    Flag(
        "GFP_ATOMIC",
        "cannot sleep, may use reserves",
        "Takes what is free, part of the emergency reserves included, and wakes kswapd. For interrupts, timers, "
        "spinlocks.",
        may_sleep=False,
        zone="Normal",
        article="For interrupt handlers: does not sleep, and may draw on the emergency pools.",
        today="It can fail, and more so above order 0: have a fallback. Documentation advises GFP_NOWAIT first, and "
        "GFP_ATOMIC only where the reserves are justified. Not for NMI, nor under a raw spinlock on PREEMPT_RT. "
        "__GFP_HIGH|__GFP_KSWAPD_RECLAIM since Linux 6.3; before, __GFP_ATOMIC was part of it.",
        source="commit 2973d8229b78; " + GUIDE,
    ),
    Flag(
        "GFP_NOWAIT",
        "cannot sleep, no reserves",
        "Takes what is free without touching the reserves, and wakes kswapd. Failure is likely under pressure.",
        may_sleep=False,
        zone="Normal",
        since="2.6 series",
        article="Does not sleep.",
        today="The first choice in atomic context when the caller has a fallback. Includes __GFP_NOWARN since Linux "
        "6.7.",
        source="commit 16f5dfbc851b; " + GUIDE,
    ),
    Flag(
        "GFP_NOIO",
        "may sleep, but starts no I/O",
        "Direct reclaim of clean pages and slab only. For block drivers, whose own I/O must not wait for itself.",
        may_sleep=True,
        zone="Normal",
        article="Looks for memory without any I/O.",
        today="Since Linux 4.12 prefer memalloc_noio_save() around the scope: then all allocations inside obey.",
        source=SCOPES,
    ),
    Flag(
        "GFP_NOFS",
        "may sleep, but does not enter file systems",
        "Direct reclaim with I/O but without file-system calls. For file systems that hold their own locks.",
        may_sleep=True,
        zone="Normal",
        article="Looks for memory without calling file systems.",
        today="Since Linux 4.12 prefer memalloc_nofs_save() around the scope. 'Just in case' it only makes reclaim "
        "worse.",
        source="commit 7dea19f9ee63; " + SCOPES,
    ),
    Flag(
        "GFP_USER",
        "for user space, addressable by the kernel",
        "GFP_KERNEL|__GFP_HARDWALL: obeys the cpuset of the task. For buffers that are mapped to user space and used "
        "by hardware.",
        may_sleep=True,
        zone="Normal",
        article="Memory on behalf of a user process; may sleep.",
        today="Unchanged.",
        source=GUIDE,
    ),
    Flag(
        "GFP_HIGHUSER",
        "for user space, need not be addressable",
        "GFP_USER|__GFP_HIGHMEM: page allocations for user space that cannot be moved.",
        may_sleep=True,
        zone="Normal",
        article="Like GFP_USER, from high memory.",
        today="Pages only, never kmalloc. On x86-64, which has no HighMem, the pages come from Normal.",
        source=GUIDE,
    ),
    Flag(
        "GFP_HIGHUSER_MOVABLE",
        "ordinary user memory",
        "GFP_HIGHUSER|__GFP_MOVABLE: anonymous memory and page cache, which can be migrated or reclaimed.",
        may_sleep=True,
        zone="Movable",
        since="2.6.23",
        today="Pages only, never kmalloc. With hardware tag-based KASAN it includes __GFP_SKIP_KASAN.",
        source=GUIDE,
    ),
    Flag(
        "GFP_DMA",
        "memory in the first 16 MiB (x86-64)",
        "The same bit as __GFP_DMA; combine it with GFP_KERNEL or GFP_ATOMIC. Alone it neither sleeps nor wakes "
        "kswapd.",
        may_sleep=False,
        zone="DMA",
        article="Memory that devices can reach by DMA.",
        today="Kept for historical reasons, to be avoided: ISA-era devices only. Ordinary DMA memory is GFP_KERNEL "
        "plus the DMA API, or dma_alloc_coherent.",
        source=GUIDE,
    ),
    Flag(
        "GFP_DMA32",
        "memory below 4 GiB",
        "The same bit as __GFP_DMA32; combine it with GFP_KERNEL or GFP_ATOMIC. For page allocations.",
        may_sleep=False,
        zone="DMA32",
        since="2.6.15",
        today="kmalloc(…, GFP_DMA32) does not return such memory: there are no DMA32 caches. Use the DMA API.",
        source=HEADER,
    ),
    Flag(
        "GFP_TRANSHUGE",
        "a transparent huge page, with direct reclaim",
        "Movable user memory as one compound page; compacts on the spot, does not wake kswapd. Used by khugepaged.",
        may_sleep=True,
        zone="Movable",
        since="2.6.38",
        today="Failure is normal: smaller pages are used then. kmwatch does not count it as a problem.",
    ),
    Flag(
        "GFP_TRANSHUGE_LIGHT",
        "a transparent huge page only if one is free",
        "GFP_TRANSHUGE without any reclaim; the page-fault path's default.",
        may_sleep=False,
        zone="Movable",
        since="4.x series",
        today="Failure is normal and opportunistic.",
    ),
)
