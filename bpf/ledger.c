// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
/*
 * The ledger, kept in the kernel: every event is added to the row that it belongs to, and nothing else leaves.
 * compat.h, at the end, turns this kernel's tracepoints into calls of the on_…() functions here.
 */
#include "events.h"

#define ZERO_SIZE_PTR 16 /* include/linux/slab.h: what kmalloc(0) returns */

BPF_PERCPU_ARRAY(losses, u64, COUNTERS);

static __always_inline void count_loss(u32 which)
{
	u64 *count = losses.lookup(&which);

	if (count)
		*count += 1;
}

#include "context.h"
#include "stack.h"
#include "caches.h"
#include "rows.h"
#include "large.h"

#define NOWHERE .zone = NO_ZONE, .node = NO_ZONE, .migratetype = NO_ZONE

static __always_inline int on_kmalloc(u32 way, u64 site, u64 ptr, u64 requested, u64 allocated, u32 gfp)
{
	int context = observe(way, gfp & GFP_DIRECT_RECLAIM);
	struct ledger_key key = {.kind = KIND_KMALLOC, .site = site, .gfp = gfp, .context = context, NOWHERE};
	struct ledger_value *row;

	if (context < 0)
		return 0;
	key.bytes_alloc = capped(allocated);
	key.failed = !ptr;
	if (allocated > LARGE)
		on_large(ptr, &key, requested);
	row = front_row_of(FRONT_KMALLOC, &key);
	if (row) {
		add(row, requested);
		fill(row, requested, allocated);
	}
	return 0;
}

static __always_inline int on_kfree(u32 way, u64 site, u64 ptr)
{
	struct ledger_key key = {.kind = KIND_KFREE, .site = site, NOWHERE};

	if (ptr <= ZERO_SIZE_PTR || !observe_free(way))
		return 0;
	forget(ptr);
	return count(front_row_of(FRONT_KFREE, &key));
}

/* `cache` is 0 where the event does not carry it; then the sizes come from the event. */
static __always_inline int on_cache_alloc(u32 way, u64 site, u64 ptr, u64 cache, u64 requested, u64 allocated, u32 gfp)
{
	int context = observe(way, gfp & GFP_DIRECT_RECLAIM);
	struct ledger_key key = {.kind = KIND_CACHE_ALLOC, .site = site, .gfp = gfp, .context = context, NOWHERE};
	struct ledger_value *row;

	if (context < 0)
		return 0;
	key.failed = !ptr;
	key.cache = cache;
	key.bytes_alloc = allocated;
	row = front_row_of(FRONT_CACHE_ALLOC, &key);
	if (!row)
		return 0;
	if (cache && !row->count)
		learn_cache(cache);
	add(row, requested);
	return 0;
}

static __always_inline int on_cache_free(u32 way, u64 site, u64 cache)
{
	struct ledger_key key = {.kind = KIND_CACHE_FREE, .site = site, .cache = cache, NOWHERE};
	struct ledger_value *row;

	if (!observe_free(way))
		return 0;
	row = front_row_of(FRONT_CACHE_FREE, &key);
	if (row && cache && !row->count)
		learn_cache(cache);
	return count(row);
}

static __always_inline int on_page_alloc(u32 way, void *ctx, u64 pfn, u32 order, u32 gfp, int migratetype)
{
	int context = observe(way, gfp & GFP_DIRECT_RECLAIM);
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
	} else if (zones) {
		u16 where = meaning_of(zones, pfn);

		key.zone = where;
		key.node = where >> 8;
	}
	return count(row_of(&key));
}

/* An area of the vmalloc address space; `size` counts the guard page, which is address space only. */
static __always_inline int on_vmalloc(u32 way, void *ctx, u64 size, bool failed)
{
	int context = observe(way, true);
	struct ledger_key key = {.context = context, .failed = failed, NOWHERE};
	struct ledger_value *row;
	struct owner owner = {};

	if (context < 0)
		return 0;
	find_owner(ctx, &owner);
	key.site = owner.site;
	key.kind = owner.via & VIA_IOREMAP ? KIND_IOREMAP : owner.via & VIA_VMALLOC ? KIND_VMALLOC : KIND_VMAP;
	row = row_of(&key);
	if (row)
		add(row, size - PAGE_SIZE);
	return 0;
}

static __always_inline int on_vfree(u32 way, void *ctx)
{
	struct ledger_key key = {.kind = KIND_VFREE, NOWHERE};
	struct owner owner = {};

	if (!observe_free(way))
		return 0;
	find_owner(ctx, &owner);
	key.site = owner.site;
	return count(row_of(&key));
}

/* `site` is 0 where the event does not carry it. */
static __always_inline int on_percpu_alloc(u32 way, void *ctx, u64 site, u64 requested, u64 allocated, u32 gfp, bool failed)
{
	int context = observe(way, gfp & GFP_DIRECT_RECLAIM);
	struct ledger_key key = {.kind = KIND_PERCPU_ALLOC, .gfp = gfp, .context = context, .failed = failed, NOWHERE};
	struct ledger_value *row;
	struct owner owner = {.site = site};

	if (context < 0)
		return 0;
	if (!site)
		find_owner(ctx, &owner);
	key.site = owner.site;
	key.bytes_alloc = capped(allocated);
	row = row_of(&key);
	if (row)
		add(row, requested);
	return 0;
}

/* Pressure, and releases that have neither site nor size. */
static __always_inline int on_plain(u32 way, u8 kind, u8 order, u32 gfp, u8 migratetype)
{
	struct ledger_key key = {.kind = kind, .order = order, .gfp = gfp, .zone = NO_ZONE, .node = NO_ZONE};

	key.migratetype = migratetype;
	if (!observe_free(way))
		return 0;
	return count(row_of(&key));
}

#include "compat.h"
