"""Flags that say where the memory lies: zone, mobility, node, accounting."""

from kmwatch.terms.model import GUIDE, Flag

PLACEMENT = (
    Flag(
        "__GFP_DMA",
        "memory in the DMA zone: the first 16 MiB on x86-64",
        "Restricts the allocation to ZONE_DMA. With kmalloc it selects the dma-kmalloc caches.",
        zone="DMA",
        article="Asks for memory that DMA can reach.",
        today="Exists for very old devices. Most devices address far more than 16 MiB: use the DMA API "
        "(dma_alloc_coherent, dma_map_single), which knows the device's limits.",
        source=GUIDE,
    ),
    Flag(
        "__GFP_HIGHMEM",
        "the memory may come from HighMem",
        "For page allocations that the kernel need not address directly. On 64-bit kernels there is no HighMem: alone "
        "the flag then means ZONE_NORMAL, and with __GFP_MOVABLE it means ZONE_MOVABLE.",
        zone="Normal",
        article="Lets the memory come from the high zone.",
        today="Only for the page allocator. In kmalloc it is a bug: the slab allocator removes it and logs 'Unexpected "
        "gfp'. vmalloc adds it by itself.",
    ),
    Flag(
        "__GFP_DMA32",
        "memory below 4 GiB",
        "Restricts a page allocation to ZONE_DMA32 and below, for devices with 32-bit addresses.",
        zone="DMA32",
        since="2.6.15",
        today="Not for kmalloc: there are no DMA32 kmalloc caches, so the slab allocator removes the flag and logs "
        "'Unexpected gfp'. Use the DMA API with a 32-bit mask.",
        source=GUIDE,
    ),
    Flag(
        "__GFP_MOVABLE",
        "the page can be moved or reclaimed",
        "Puts the page among movable ones, so that compaction can migrate it and memory can be taken offline. With "
        "__GFP_HIGHMEM it allows ZONE_MOVABLE.",
        since="2.6.23",
        today="For page cache and user memory. Never for memory whose address somebody keeps.",
    ),
    Flag(
        "__GFP_RECLAIMABLE",
        "slab memory that a shrinker can free",
        "Groups the page with others that can be freed under pressure. With kmalloc it selects the kmalloc-rcl caches.",
        since="2.6.24",
        today="Set by caches with SLAB_RECLAIM_ACCOUNT (dentries, inodes). It took over the useful part of "
        "GFP_TEMPORARY.",
    ),
    Flag(
        "__GFP_WRITE",
        "the caller will make the page dirty",
        "Spreads such pages over the zones and nodes, so that no single one fills with dirty pages.",
        since="3.3",
        today="Used by the page cache for writes. Drivers do not need it.",
    ),
    Flag(
        "__GFP_HARDWALL",
        "obey the cpuset of the task",
        "Enforces the memory nodes of the current task's cpuset. Part of GFP_USER and all above it.",
        today="Comes with GFP_USER, GFP_HIGHUSER and GFP_HIGHUSER_MOVABLE: use those.",
    ),
    Flag(
        "__GFP_THISNODE",
        "this NUMA node or none",
        "The allocation fails when the wanted node has no memory, in place of falling back to another one.",
        since="2.6.19",
        today="The caller needs a fallback of its own. Without one, ask for a node by kmalloc_node and let it fall "
        "back.",
    ),
    Flag(
        "__GFP_ACCOUNT",
        "charge the memory to the memory cgroup",
        "The allocation counts against the cgroup of the task, and fails when the cgroup is over its limit. With "
        "kmalloc it selects the kmalloc-cg caches (Linux 5.14).",
        since="4.5",
        today="Needed for whatever a user can cause without bound. GFP_KERNEL_ACCOUNT has it.",
        source="commit a9bb7e620efd; " + GUIDE,
    ),
    Flag(
        "__GFP_NO_OBJ_EXT",
        "no extension record for the slab object",
        "Keeps the slab allocator from attaching accounting and profiling records to these objects; for the "
        "allocator's own records.",
        since="6.10",
        today="Internal to memory management. Its bit depends on the kernel's configuration.",
        source="commit 768c33be1b31",
    ),
)
