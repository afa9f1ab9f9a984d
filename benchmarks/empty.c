// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
/*
 * Programs that do nothing, on the events of kmwatch's default set: the least that watching them can cost. All are raw
 * tracepoints, the cheaper way of attaching, also where kmwatch needs the ordinary one.
 */
#define EMPTY(event)                                 \
	int event(struct bpf_raw_tracepoint_args *ctx) \
	{                                              \
		return 0;                              \
	}

#ifdef PROBE_KMALLOC
EMPTY(kmalloc)
#endif
#ifdef PROBE_KMALLOC_NODE
EMPTY(kmalloc_node)
#endif
#ifdef PROBE_KFREE
EMPTY(kfree)
#endif
#ifdef PROBE_KMEM_CACHE_ALLOC
EMPTY(kmem_cache_alloc)
#endif
#ifdef PROBE_KMEM_CACHE_ALLOC_NODE
EMPTY(kmem_cache_alloc_node)
#endif
#ifdef PROBE_KMEM_CACHE_FREE
EMPTY(kmem_cache_free)
#endif
#ifdef PROBE_MM_PAGE_ALLOC
EMPTY(mm_page_alloc)
#endif
#ifdef PROBE_MM_PAGE_FREE
EMPTY(mm_page_free)
#endif
#ifdef PROBE_ALLOC_VMAP_AREA
EMPTY(alloc_vmap_area)
#endif
#ifdef PROBE_FREE_VMAP_AREA_NOFLUSH
EMPTY(free_vmap_area_noflush)
#endif
#ifdef PROBE_PERCPU_ALLOC_PERCPU
EMPTY(percpu_alloc_percpu)
#endif
#ifdef PROBE_PERCPU_ALLOC_PERCPU_FAIL
EMPTY(percpu_alloc_percpu_fail)
#endif
#ifdef PROBE_PERCPU_FREE_PERCPU
EMPTY(percpu_free_percpu)
#endif
#ifdef PROBE_MM_PAGE_ALLOC_EXTFRAG
EMPTY(mm_page_alloc_extfrag)
#endif
#ifdef PROBE_MM_VMSCAN_DIRECT_RECLAIM_BEGIN
EMPTY(mm_vmscan_direct_reclaim_begin)
#endif
#ifdef PROBE_MM_COMPACTION_TRY_TO_COMPACT_PAGES
EMPTY(mm_compaction_try_to_compact_pages)
#endif
#ifdef PROBE_MARK_VICTIM
EMPTY(mark_victim)
#endif
