/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * What an event says, as a key of the ledger: the same whether the event is added up (ledger.c) or kept (events.c).
 * compat.h turns this kernel's tracepoints into calls of the on_…() functions here. The two programs say what becomes of
 * the key, in functions that they define before they include this file:
 *
 *   keep_kmalloc(ctx, front, key, ptr, requested,      a kmalloc, and how it belongs to the first report of the same
 *		  allocated, pair, first)
 *   keep_request(ctx, front, key, ptr, requested)      another allocation whose size the event tells
 *   keep(ctx, front, key, ptr)                         anything else
 *   stack_at(ctx, key)                                 number of the stack at hand, for what is kept later
 *   keep_call(stack, key, ptr, requested)              an allocation by a function that has returned
 *
 * `front` is an enum front, NO_FRONT, or FRONT_AGAIN in a second copy of a program (again.h).
 */
#ifndef KMWATCH_OBSERVE_H
#define KMWATCH_OBSERVE_H

#include "sampling.h"

#define FRONT_OF(way, front) ((way) == WAY_AGAIN ? FRONT_AGAIN : (front))
#define NOWHERE .zone = NO_ZONE, .node = NO_ZONE, .migratetype = NO_ZONE

static __always_inline int on_kmalloc(u32 way, void *ctx, u64 site, u64 ptr, u64 requested, u64 allocated, u32 gfp)
{
	bool unseen = left_out(way, KIND_KMALLOC, allocated > LARGE ? 0 : ptr);
	int context = unseen ? -1 : observe(way, gfp & GFP_DIRECT_RECLAIM);
	struct ledger_key key = {.kind = KIND_KMALLOC, .site = site, .gfp = gfp, .context = context, NOWHERE}, first = {};
	enum pair pair = PAIR_NONE;

	if (context < 0)
		return 0;
	key.bytes_alloc = capped(allocated);
	key.failed = !ptr;
	if (requested > PAGE_SIZE)
		pair = pair_of(ctx, ptr, &key, &first, allocated > LARGE);
	if (key.failed && pair != PAIR_FIRST)
		keep_free_lists(&key, requested);
	return keep_kmalloc(ctx, FRONT_OF(way, FRONT_KMALLOC), &key, ptr, requested, allocated, pair, &first);
}

static __always_inline int on_kfree(u32 way, void *ctx, u64 site, u64 ptr)
{
	struct ledger_key key = {.kind = KIND_KFREE, .site = site, NOWHERE};

	if (ptr <= ZERO_SIZE_PTR)
		return 0;
	release(KIND_KFREE, ptr);
	if (!observe_free(way))
		return 0;
	forget(ptr);
	if (left_out(way, KIND_KFREE, 0))
		return 0;
	return keep(ctx, FRONT_OF(way, FRONT_KFREE), &key, ptr);
}

/* `cache` is 0 where the event does not carry it; then the sizes come from the event. */
static __always_inline int on_cache_alloc(u32 way, void *ctx, u64 site, u64 ptr, u64 cache, u64 requested, u64 allocated,
					  u32 gfp)
{
	bool unseen = left_out(way, KIND_CACHE_ALLOC, ptr);
	int context = unseen ? -1 : observe(way, gfp & GFP_DIRECT_RECLAIM);
	struct ledger_key key = {.kind = KIND_CACHE_ALLOC, .site = site, .gfp = gfp, .context = context, NOWHERE};

	if (context < 0)
		return 0;
	key.failed = !ptr;
	key.cache = cache;
	key.bytes_alloc = allocated;
	if (!ptr)
		keep_free_lists(&key, requested);
	return keep_request(ctx, FRONT_OF(way, FRONT_CACHE_ALLOC), &key, ptr, requested);
}

static __always_inline int on_cache_free(u32 way, void *ctx, u64 site, u64 ptr, u64 cache)
{
	struct ledger_key key = {.kind = KIND_CACHE_FREE, .site = site, .cache = cache, NOWHERE};

	release(KIND_CACHE_FREE, ptr);
	if (!observe_free(way) || left_out(way, KIND_CACHE_FREE, 0))
		return 0;
	return keep(ctx, FRONT_OF(way, FRONT_CACHE_FREE), &key, ptr);
}

static __always_inline int on_page_alloc(u32 way, void *ctx, u64 pfn, u32 order, u32 gfp, int migratetype)
{
	bool unseen = left_out(way, KIND_PAGE_ALLOC, order ? 0 : pfn + 1);
	int context = unseen ? -1 : observe(way, gfp & GFP_DIRECT_RECLAIM);
	struct ledger_key key = {.kind = KIND_PAGE_ALLOC, .gfp = gfp, .context = context, .order = order, NOWHERE};
	struct owner owner = {};
	u32 first = 0;
	struct table *zones = zone_table.lookup(&first);

	if (context < 0)
		return 0;
	find_owner(ctx, &owner);
	key.site = owner.site;
	key.via = owner.via & ~(VIA_PAGE | VIA_TRACING);
	key.migratetype = migratetype;
	if (pfn == ~0ULL) {
		key.failed = 1;
		pfn = 0;
		keep_free_lists(&key, 0);
	} else if (zones) {
		u16 where = meaning_of(zones, pfn);

		key.zone = where;
		key.node = where >> 8;
	}
	return keep(ctx, NO_FRONT, &key, pfn);
}

/* Whose area it is: what a probe at the function itself tells better is left to that. */
static __always_inline bool told_by_function(u8 kind)
{
#if defined(PROBE_VMALLOC) || defined(PROBE_VMALLOC_AREA)
	if (kind == KIND_VMALLOC)
		return true;
#endif
#ifdef PROBE_IOREMAP
	if (kind == KIND_IOREMAP)
		return true;
#endif
#ifdef PROBE_IOUNMAP
	if (kind == KIND_IOUNMAP)
		return true;
#endif
	return false;
}

/* An area of the vmalloc address space; `size` counts the guard page, which is address space only. */
static __always_inline int on_area(u32 way, void *ctx, u64 address, u64 size, bool failed)
{
	int context = observe(way, true);
	struct ledger_key key = {.context = context, .failed = failed, NOWHERE};
	struct owner owner = {};

	if (context < 0)
		return 0;
	find_owner(ctx, &owner);
	key.site = owner.site;
	key.kind = owner.via & VIA_IOREMAP ? KIND_IOREMAP : owner.via & VIA_VMALLOC ? KIND_VMALLOC : KIND_VMAP;
	if (told_by_function(key.kind))
		return 0;
	if (failed)
		keep_free_lists(&key, size - PAGE_SIZE);
	return keep_request(ctx, NO_FRONT, &key, failed ? 0 : address, size - PAGE_SIZE);
}

static __always_inline int on_area_free(u32 way, void *ctx, u64 address)
{
	struct ledger_key key = {NOWHERE};
	struct owner owner = {};

	release(KIND_VFREE, address);
	if (!observe_free(way))
		return 0;
	find_owner(ctx, &owner);
	key.site = owner.site;
	key.kind = owner.via & VIA_IOREMAP ? KIND_IOUNMAP : KIND_VFREE;
	return told_by_function(key.kind) ? 0 : keep(ctx, NO_FRONT, &key, address);
}

/* `site` is 0 where the event does not carry it. */
static __always_inline int on_percpu_alloc(u32 way, void *ctx, u64 site, u64 ptr, u64 requested, u64 allocated, u32 gfp)
{
	int context = observe(way, gfp & GFP_DIRECT_RECLAIM);
	struct ledger_key key = {.kind = KIND_PERCPU_ALLOC, .gfp = gfp, .context = context, .failed = !ptr, NOWHERE};
	struct owner owner = {.site = site};

	if (context < 0)
		return 0;
	if (!site)
		find_owner(ctx, &owner);
	key.site = owner.site;
	key.bytes_alloc = capped(allocated);
	if (!ptr)
		keep_free_lists(&key, requested);
	return keep_request(ctx, NO_FRONT, &key, ptr, requested);
}

/* Releases without a call site, and pressure, which has no pointer either. */
static __always_inline int on_plain(u32 way, void *ctx, u8 kind, u64 ptr, u8 order, u32 gfp, u8 migratetype)
{
	struct ledger_key key = {.kind = kind, .order = order, .gfp = gfp, .zone = NO_ZONE, .node = NO_ZONE};

	key.migratetype = migratetype;
	if (kind == KIND_PAGE_FREE || kind == KIND_PERCPU_FREE)
		release(kind, ptr);
	if (!observe_free(way) || left_out(way, kind, 0))
		return 0;
	return keep(ctx, FRONT_OF(way, NO_FRONT), &key, ptr);
}

#endif
