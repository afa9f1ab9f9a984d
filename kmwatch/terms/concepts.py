"""The words that findings and pages use."""

from kmwatch.terms.model import GUIDE, HEADER, Concept

ZONES_DOC = "Documentation/mm/physical_memory.rst"

CONCEPTS = (
    Concept(
        name="zones",
        summary="parts of physical memory by what can reach them",
        meaning="Each NUMA node is divided into zones: DMA, DMA32, Normal, HighMem, Movable. A GFP mask names the "
        "highest zone that will do; when it is short of memory the allocator falls back to lower ones. So the zone "
        "asked for and the zone got can differ, and kmwatch shows both.",
        aliases=("zone",),
        article="Three zones: DMA (below 16 MiB), normal, and high memory.",
        today="On x86-64: DMA, DMA32, Normal and Movable. HighMem exists on 32-bit kernels only.",
        source=ZONES_DOC,
    ),
    Concept(
        name="ZONE_DMA",
        summary="the first 16 MiB (x86-64)",
        meaning="For ISA-era devices with 24-bit addresses. Small, and guarded from ordinary requests by a reserve "
        "(vm.lowmem_reserve_ratio). Asked for by GFP_DMA.",
        source=ZONES_DOC,
    ),
    Concept(
        name="ZONE_DMA32",
        summary="memory below 4 GiB (64-bit kernels)",
        meaning="For devices with 32-bit addresses. Asked for by GFP_DMA32 with the page allocator; kmalloc cannot "
        "give it.",
        source=ZONES_DOC,
    ),
    Concept(
        name="ZONE_NORMAL",
        summary="ordinary memory, always mapped by the kernel",
        meaning="On x86-64 everything from 4 GiB up that is not Movable. GFP_KERNEL and GFP_ATOMIC ask for it.",
        source=ZONES_DOC,
    ),
    Concept(
        name="ZONE_HIGHMEM",
        summary="memory that a 32-bit kernel cannot map all the time",
        meaning="Asked for by __GFP_HIGHMEM. 64-bit kernels have none: the flag means ZONE_NORMAL there.",
        source=ZONES_DOC,
    ),
    Concept(
        name="ZONE_MOVABLE",
        summary="memory for pages that can be migrated",
        meaning="Exists where memory is to be unplugged, or with the movablecore option. Asked for by __GFP_HIGHMEM "
        "and __GFP_MOVABLE together, as in GFP_HIGHUSER_MOVABLE. Kernel objects never lie there.",
        source=ZONES_DOC,
    ),
    Concept(
        name="size-classes",
        summary="the fixed sizes to which kmalloc rounds up",
        meaning="A request takes the smallest class that holds it; the difference is lost. At 33 bytes (class 64) "
        "that is 48 %, at 257 (class 512) 50 %. Above the largest class the request is rounded up to a power-of-two "
        "number of pages: 8193 bytes take 16384. Remedies: shrink the structure to the next class below, a "
        "kmem_cache of the exact size, or kvmalloc or alloc_pages_exact for large buffers.",
        aliases=("rounding", "size-class", "waste"),
        article="Powers of two, so up to twice the memory asked for.",
        today="Also 96 and 192 bytes. Each class exists several times (ordinary, accounted, reclaimable, DMA, and "
        "hardening copies), so that the size alone does not name the cache.",
        source="mm/slab_common.c",
    ),
    Concept(
        name="costly-order",
        summary="order 3 (32 KiB): above it an allocation may simply fail",
        meaning="Up to PAGE_ALLOC_COSTLY_ORDER the page allocator keeps trying, and kills a process before it fails a "
        "sleeping request. Above it gives up early: it needs more contiguous pages than a fragmented machine has. An "
        "order is the logarithm: order 3 is 2^3 pages.",
        aliases=("PAGE_ALLOC_COSTLY_ORDER", "order"),
        today="Over 32 KiB: kvmalloc, or smaller pieces; with GFP_ATOMIC expect failure from order 1 on.",
        source=HEADER,
    ),
    Concept(
        name="atomic-context",
        summary="where sleeping is forbidden",
        meaning="In a hard or soft interrupt or NMI, under a spinlock, with preemption, bottom halves or interrupts "
        "off, or in an RCU read section. An allocation there must not have __GFP_DIRECT_RECLAIM: GFP_NOWAIT with a "
        "fallback, or GFP_ATOMIC where reserves are justified; or allocate before taking the lock.",
        aliases=("atomic", "context", "process-context"),
        article="Interrupt handlers use GFP_ATOMIC.",
        today="An ordinary kernel does not complain about GFP_KERNEL there (only CONFIG_DEBUG_ATOMIC_SLEEP does): it "
        "works until memory is short, and then deadlocks. kmwatch reads the real preempt_count and reports it. With "
        "CONFIG_PREEMPT_RT fewer places are atomic, and in those neither flag is allowed.",
        source=GUIDE + "; Documentation/core-api/real-time/differences.rst",
    ),
    Concept(
        name="opportunistic",
        summary="a failure that the caller expected",
        meaning="A mask with __GFP_NOWARN and __GFP_NORETRY, or without any reclaim, says: only if it is cheap. "
        "SLUB's first high-order try, transparent huge pages and kvmalloc's first try fail all the time and fall "
        "back. kmwatch counts those failures apart from real ones.",
        aliases=("opportunistic-failure",),
        source="mm/slub.c; mm/util.c",
    ),
)
