"""The allocators' own functions: what lies between the function that asked for memory and the event that tells of it.

A page or vmalloc event has no call site; its site is the first frame of the stack that is not listed here. Names are
the kernel's, without the suffix `_noprof` that memory allocation profiling gave them in v6.10 (Linux commit
b951aaff5035, "mm: enable page allocation tagging") and without the compiler's `.isra.0`, `.cold` and so on, so that one
name stands for the function on old and new kernels. A name this kernel lacks does no harm.
"""

from collections.abc import Iterable

from kmwatch.schema import LIFTED, NESTING, Via

FUNCTIONS: dict[int, str] = {
    Via.PAGE: """
        __alloc_frozen_pages __alloc_frozen_pages_nolock __alloc_pages __alloc_pages_direct_compact
        __alloc_pages_nodemask __alloc_pages_slowpath __alloc_pages_bulk __folio_alloc __folio_alloc_node
        __get_free_pages __page_frag_alloc_align __page_frag_cache_refill alloc_contig_frozen_pages
        alloc_contig_frozen_range alloc_contig_pages alloc_contig_range alloc_frozen_pages alloc_frozen_pages_nolock
        alloc_page_interleave alloc_pages alloc_pages_bulk alloc_pages_bulk_array_mempolicy alloc_pages_bulk_interleave
        alloc_pages_bulk_mempolicy alloc_pages_bulk_preferred_many alloc_pages_bulk_weighted_interleave
        alloc_pages_current alloc_pages_exact alloc_pages_exact_nid alloc_pages_interleave alloc_pages_mpol
        alloc_pages_node alloc_pages_nolock alloc_pages_preferred_many alloc_pages_vma folio_alloc folio_alloc_mpol
        get_free_pages get_page_from_freelist get_zeroed_page make_alloc_exact page_frag_alloc_align try_alloc_pages
        vma_alloc_folio""",
    Via.SLAB: """
        ___kmalloc_large_node ___slab_alloc __kmalloc __kmalloc_cache __kmalloc_cache_node __kmalloc_large
        __kmalloc_large_node __kmalloc_node __kmalloc_node_track_caller __kmalloc_track_caller
        __kmem_cache_alloc_bulk __kmem_cache_alloc_node __pcs_replace_empty_main __slab_alloc alloc_empty_sheaf
        alloc_from_new_slab alloc_full_sheaf alloc_slab_obj_exts alloc_slab_page allocate_slab kcalloc
        kmalloc_array kmalloc_cache kmalloc_large kmalloc_large_node kmalloc_node_trace kmalloc_nolock
        kmalloc_order kmalloc_order_trace kmalloc_trace kmem_cache_alloc kmem_cache_alloc_bulk
        kmem_cache_alloc_from_sheaf kmem_cache_alloc_lru kmem_cache_alloc_node kmem_cache_alloc_node_trace
        kmem_cache_alloc_trace kmem_cache_prefill_sheaf kmem_cache_refill_sheaf kmemdup kmemdup_array
        kmemdup_nul krealloc krealloc_node_align kstrdup kstrdup_const kstrndup kzalloc memcg_alloc_page_obj_cgroups
        memcg_alloc_slab_cgroups new_slab refill_objects refill_sheaf slab_alloc_node""",
    Via.KVMALLOC: "__kvmalloc_node kvrealloc kvrealloc_node_align",
    # Up to 6.10, where it is no macro, its large kmallocs have a call site in it.
    Via.KVMALLOC | LIFTED: "kvmalloc_node",
    # Above 512 pages it needs a vmalloc of its own, for the array of page pointers.
    Via.VMALLOC | NESTING: "__vmalloc_node_range",
    Via.VMALLOC: """
        __vmalloc __vmalloc_area_node __vmalloc_array __vmalloc_node __vmalloc_node_flags
        alloc_large_system_hash bpf_jit_alloc_exec execmem_alloc execmem_alloc_rw execmem_vmalloc module_alloc vcalloc
        vm_area_alloc_pages vmalloc vmalloc_32 vmalloc_32_user vmalloc_array vmalloc_huge vmalloc_huge_node
        vmalloc_node vmalloc_user vrealloc vrealloc_node_align vzalloc vzalloc_node""",
    Via.PERCPU: """
        __alloc_percpu __alloc_percpu_gfp __alloc_reserved_percpu pcpu_alloc pcpu_alloc_pages pcpu_create_chunk
        pcpu_get_vm_areas pcpu_mem_zalloc pcpu_populate_chunk""",
    Via.IOREMAP: """
        __devm_ioremap __devm_ioremap_resource __ioremap_caller acpi_os_ioremap acpi_os_map_iomem acpi_os_map_memory
        arch_memremap_wb devm_ioremap devm_ioremap_resource devm_ioremap_resource_wc devm_ioremap_uc devm_ioremap_wc
        devm_iounmap devm_memremap devm_memunmap devm_of_iomap generic_ioremap_prot ioremap ioremap_cache
        ioremap_encrypted ioremap_prot ioremap_uc ioremap_wc ioremap_wt iounmap memremap memunmap of_iomap pci_iomap
        pci_iomap_range pci_iomap_wc pci_iomap_wc_range pci_ioremap_bar pci_ioremap_wc_bar pci_iounmap pcim_iomap
        pcim_iomap_range pcim_iomap_regions pcim_iounmap""",
    # Also what vmalloc and ioremap have in common: by itself it says only "an area of the vmalloc address space".
    Via.VMAP: """
        __free_vmap_area __get_vm_area __get_vm_area_caller __get_vm_area_node __vunmap alloc_vmap_area execmem_free
        free_unmap_vmap_area free_vm_area free_vmap_area free_vmap_area_noflush free_vmap_block
        get_vm_area get_vm_area_caller kvfree kvfree_sensitive new_vmap_block remove_vm_area vb_alloc vfree
        vfree_atomic vm_map_ram vm_unmap_ram vmap vmap_pfn vunmap""",
}
"""Functions by the allocator that they belong to."""

# What may lie above them when several programs share a tracepoint; only events whose stack is read matter.
_TRACED = ("mm_page_alloc", "alloc_vmap_area", "free_vmap_area_noflush", "percpu_alloc_percpu_fail")
_TRACERS = ("__traceiter_", "perf_trace_", "trace_event_raw_event_", "__bpf_trace_")
_BY_NAME = {name: via for via, names in FUNCTIONS.items() for name in names.split()}
# Where old kernels have a kretprobe, the return address that it took the place of is not in the stack.
_BY_NAME |= dict.fromkeys(("kretprobe_trampoline", "__kretprobe_trampoline", "arch_rethook_trampoline"), Via.TRACING)
_BY_NAME |= {tracer + event: Via.TRACING for tracer in _TRACERS for event in _TRACED}

BEGINNINGS = {
    4: frozenset(name[:4].encode() for name in _BY_NAME if len(name) < 8),
    8: frozenset(name[:8].encode() for name in _BY_NAME if len(name) >= 8),
}
"""The first four or eight letters of all of them: what begins otherwise is outside, whatever the rest of it is."""


def via_of(symbol: str) -> int:
    """Which allocator a function belongs to, as a bit of schema.Via; 0 where it is outside of them all.

    With schema.NESTING: met a second time in a stack, the function is itself the owner. With schema.LIFTED: as the call
    site of a kmalloc, it stands for its caller.
    """
    return _BY_NAME.get(symbol.partition(".")[0].removesuffix("_noprof"), 0)


def text_ranges(functions: Iterable[tuple[str, int]]) -> list[tuple[int, int]]:
    """Sorted stretches of kernel text as (first address, Via bit or 0), neighbours with one meaning joined.

    Args:
        functions: name and first address of each function, sorted by address.
    """
    stretches: list[tuple[int, int]] = [(0, 0)]
    for name, start in functions:
        via = via_of(name)
        if stretches[-1][1] != via:
            stretches.append((start, via))
    return stretches
