/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * Kernel drift, once: the entry points. A probe NAME is compiled where PROBE_NAME is defined: as TRACEPOINT, whose fields
 * BCC takes from this kernel's events/.../format, or as RAW where BTF showed exactly the prototype written here
 * (kmwatch/sources/probes.py holds the prototypes; an unknown one means TRACEPOINT). Probes at functions: functions.h.
 */
#ifndef KMWATCH_COMPAT_H
#define KMWATCH_COMPAT_H

#define RAW 1
#define TRACEPOINT 2

typedef struct bpf_raw_tracepoint_args raw_args;

/*
 * Since Linux commit 2c1d697fb8ba ("mm/slab_common: drop kmem_alloc & avoid dereferencing fields when not using"; in
 * v6.1): kmalloc(call_site, ptr, bytes_req, bytes_alloc, gfp_flags, node).
 */
#if PROBE_KMALLOC == RAW
int kmalloc(raw_args *ctx)
{
	starts(KIND_KMALLOC, ctx->args[1] + 1);
	return on_kmalloc(WAY_RAW, ctx, ctx->args[0], ctx->args[1], ctx->args[2], ctx->args[3], ctx->args[4]);
}
#elif PROBE_KMALLOC == TRACEPOINT
int kmalloc(struct tracepoint__kmem__kmalloc *args)
{
	return on_kmalloc(WAY_TRACEPOINT, args, args->call_site, (u64)args->ptr, args->bytes_req, args->bytes_alloc,
			  args->gfp_flags);
}
#endif

/* Before Linux commit 11e9734bcb6a ("mm/slab_common: unify NUMA and UMA version of tracepoints"; in v6.1). */
#if PROBE_KMALLOC_NODE == TRACEPOINT
int kmalloc_node(struct tracepoint__kmem__kmalloc_node *args)
{
	return on_kmalloc(WAY_TRACEPOINT, args, args->call_site, (u64)args->ptr, args->bytes_req, args->bytes_alloc,
			  args->gfp_flags);
}
#endif

#if PROBE_KFREE == RAW
int kfree(raw_args *ctx)
{
	starts(KIND_KFREE, ctx->args[1] + 1);
	return on_kfree(WAY_RAW, ctx, ctx->args[0], ctx->args[1]);
}
#elif PROBE_KFREE == TRACEPOINT
int kfree(struct tracepoint__kmem__kfree *args)
{
	return on_kfree(WAY_TRACEPOINT, args, args->call_site, (u64)args->ptr);
}
#endif

/* kmem_cache_alloc(call_site, ptr, s, gfp_flags, node), since the same commit as kmalloc. */
#if PROBE_KMEM_CACHE_ALLOC == RAW
int kmem_cache_alloc(raw_args *ctx)
{
	starts(KIND_CACHE_ALLOC, ctx->args[1] + 1);
	return on_cache_alloc(WAY_RAW, ctx, ctx->args[0], ctx->args[1], ctx->args[2], 0, 0, ctx->args[3]);
}
#elif PROBE_KMEM_CACHE_ALLOC == TRACEPOINT
int kmem_cache_alloc(struct tracepoint__kmem__kmem_cache_alloc *args)
{
	return on_cache_alloc(WAY_TRACEPOINT, args, args->call_site, (u64)args->ptr, cache_of((u64)args->ptr),
			      args->bytes_req, args->bytes_alloc, args->gfp_flags);
}
#endif

#if PROBE_KMEM_CACHE_ALLOC_NODE == TRACEPOINT
int kmem_cache_alloc_node(struct tracepoint__kmem__kmem_cache_alloc_node *args)
{
	return on_cache_alloc(WAY_TRACEPOINT, args, args->call_site, (u64)args->ptr, cache_of((u64)args->ptr),
			      args->bytes_req, args->bytes_alloc, args->gfp_flags);
}
#endif

/* kmem_cache_free(call_site, ptr, s): `s` since v6.1 as well; a name before it. */
#if PROBE_KMEM_CACHE_FREE == RAW
int kmem_cache_free(raw_args *ctx)
{
	starts(KIND_CACHE_FREE, ctx->args[1] + 1);
	return on_cache_free(WAY_RAW, ctx, ctx->args[0], ctx->args[1], ctx->args[2]);
}
#elif PROBE_KMEM_CACHE_FREE == TRACEPOINT
int kmem_cache_free(struct tracepoint__kmem__kmem_cache_free *args)
{
	return on_cache_free(WAY_TRACEPOINT, args, args->call_site, (u64)args->ptr, 0);
}
#endif

/* Always the tracepoint: the raw event carries a struct page, the tracepoint its page frame number. */
#if PROBE_MM_PAGE_ALLOC == TRACEPOINT
int mm_page_alloc(struct tracepoint__kmem__mm_page_alloc *args)
{
	return on_page_alloc(WAY_TRACEPOINT, args, args->pfn, args->order, args->gfp_flags, args->migratetype);
}
#endif

/* The raw event has no page frame number: where pointers are wanted, it is not used. */
#if PROBE_MM_PAGE_FREE == RAW
int mm_page_free(raw_args *ctx)
{
	starts(KIND_PAGE_FREE, ctx->args[0]);
	return on_plain(WAY_RAW, ctx, KIND_PAGE_FREE, 0, ctx->args[1], 0, NO_ZONE);
}
#elif PROBE_MM_PAGE_FREE == TRACEPOINT
int mm_page_free(struct tracepoint__kmem__mm_page_free *args)
{
	starts(KIND_PAGE_FREE, args->order + 1);
	return on_plain(WAY_TRACEPOINT, args, KIND_PAGE_FREE, args->pfn, args->order, 0, NO_ZONE);
}
#endif

/* The vmalloc events came with v6.2. */
#if PROBE_ALLOC_VMAP_AREA == TRACEPOINT
int alloc_vmap_area(struct tracepoint__vmalloc__alloc_vmap_area *args)
{
	return on_area(WAY_TRACEPOINT, args, args->addr, args->size, args->failed);
}
#endif

#if PROBE_FREE_VMAP_AREA_NOFLUSH == TRACEPOINT
int free_vmap_area_noflush(struct tracepoint__vmalloc__free_vmap_area_noflush *args)
{
	return on_area_free(WAY_TRACEPOINT, args, args->va_start);
}
#endif

/*
 * Since Linux commit f67bed134a05 ("percpu: improve percpu_alloc_percpu event trace"; in v5.19) the event has call_site,
 * bytes_alloc and gfp_flags. `size` is of one CPU's copy. `ptr` is in an address space that clang does not have for BPF,
 * but it is always the sum of these two.
 */
#define PERCPU_POINTER(args) ((u64)(args)->base_addr + (args)->off)

#if PROBE_PERCPU_ALLOC_PERCPU == TRACEPOINT
int percpu_alloc_percpu(struct tracepoint__percpu__percpu_alloc_percpu *args)
{
#ifdef PERCPU_HAS_CALL_SITE
	return on_percpu_alloc(WAY_TRACEPOINT, args, args->call_site, PERCPU_POINTER(args), args->size * CPUS, args->bytes_alloc,
			       args->gfp_flags);
#else
	return on_percpu_alloc(WAY_TRACEPOINT, args, 0, PERCPU_POINTER(args), args->size * CPUS, args->size * CPUS, 0);
#endif
}
#endif

#if PROBE_PERCPU_ALLOC_PERCPU_FAIL == TRACEPOINT
int percpu_alloc_percpu_fail(struct tracepoint__percpu__percpu_alloc_percpu_fail *args)
{
	/* The kernel warns of such a failure unless is_atomic: then its caller expects it. */
	u32 gfp = args->is_atomic ? GFP_NOWARN : GFP_DIRECT_RECLAIM;

	return on_percpu_alloc(WAY_TRACEPOINT, args, 0, 0, args->size * CPUS, 0, gfp);
}
#endif

#if PROBE_PERCPU_FREE_PERCPU == TRACEPOINT
int percpu_free_percpu(struct tracepoint__percpu__percpu_free_percpu *args)
{
	return on_plain(WAY_TRACEPOINT, args, KIND_PERCPU_FREE, PERCPU_POINTER(args), 0, 0, NO_ZONE);
}
#endif

#if PROBE_MM_PAGE_ALLOC_EXTFRAG == TRACEPOINT
int mm_page_alloc_extfrag(struct tracepoint__kmem__mm_page_alloc_extfrag *args)
{
	return on_plain(WAY_TRACEPOINT, args, KIND_EXTFRAG, 0, args->alloc_order, 0, args->alloc_migratetype);
}
#endif

#if PROBE_MM_VMSCAN_DIRECT_RECLAIM_BEGIN == TRACEPOINT
int mm_vmscan_direct_reclaim_begin(struct tracepoint__vmscan__mm_vmscan_direct_reclaim_begin *args)
{
	return on_plain(WAY_TRACEPOINT, args, KIND_DIRECT_RECLAIM, 0, args->order, args->gfp_flags, NO_ZONE);
}
#endif

#if PROBE_MM_COMPACTION_TRY_TO_COMPACT_PAGES == TRACEPOINT
int mm_compaction_try_to_compact_pages(struct tracepoint__compaction__mm_compaction_try_to_compact_pages *args)
{
	return on_plain(WAY_TRACEPOINT, args, KIND_COMPACTION, 0, args->order, args->gfp_mask, NO_ZONE);
}
#endif

#if PROBE_MARK_VICTIM == TRACEPOINT
int mark_victim(struct tracepoint__oom__mark_victim *args)
{
	return on_plain(WAY_TRACEPOINT, args, KIND_OOM_VICTIM, 0, 0, 0, NO_ZONE);
}
#endif

#endif
