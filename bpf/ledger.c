// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
/* The ledger, kept in the kernel: every event is added to the row that it belongs to, and nothing else leaves. */
#include "events.h"
#include "records.h"
#include "losses.h"
#include "freelists.h"
#include "context.h"
#include "stack.h"
#include "caches.h"
#include "large.h"
#include "rows.h"

static __always_inline struct ledger_value *find_row(u32 front, struct ledger_key *key)
{
	struct ledger_value *row = front == FRONTS ? row_of(key) : front_row_of(front, key);

	if ((front == FRONT_CACHE_ALLOC || front == FRONT_CACHE_FREE) && row && !row->count && key->cache)
		learn_cache(key->cache);
	return row;
}

static __always_inline void take_back(struct ledger_key *key, u64 requested)
{
	struct ledger_value *row = front_row_of(FRONT_KMALLOC, key);

	if (!row)
		return;
	/* On another CPU's row than the first event's if the task moved: the sum over CPUs is right. */
	row->count--;
	row->bytes_requested -= requested;
	row->fill[(requested - 1) >> eighth_shift(key->bytes_alloc) & (FILL_BUCKETS - 1)]--;
}

static __always_inline int keep_kmalloc(void *ctx, struct ledger_key *key, u64 ptr, u64 requested, u64 allocated,
					enum pair pair, struct ledger_key *first)
{
	struct ledger_value *row;

	if (pair == PAIR_SECOND)
		take_back(first, requested);
	row = front_row_of(FRONT_KMALLOC, key);
	if (row) {
		add(row, requested);
		fill(row, requested, allocated);
	}
	return 0;
}

static __always_inline int keep_request(void *ctx, u32 front, struct ledger_key *key, u64 ptr, u64 requested)
{
	struct ledger_value *row = find_row(front, key);

	if (row)
		add(row, requested);
	return 0;
}

static __always_inline int keep(void *ctx, u32 front, struct ledger_key *key, u64 ptr)
{
	struct ledger_value *row = find_row(front, key);

	if (row)
		row->count++;
	return 0;
}

static __always_inline u32 stack_at(void *ctx, struct ledger_key *key)
{
	return 0;
}

static __always_inline int keep_call(u32 stack, struct ledger_key *key, u64 ptr, u64 requested)
{
	return keep_request(NULL, FRONTS, key, ptr, requested);
}

/* Nothing: the ledger has one program for each probe. */
#define starts(kind, site, ptr)
#include "observe.h"
#include "compat.h"
#include "calls.h"
#include "functions.h"
