// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
/* The ledger, kept in the kernel: every event is added to the row that it belongs to, and nothing else leaves. */
#include "events.h"
#include "records.h"
#include "losses.h"
#include "memory.h"
#include "freelists.h"
#include "context.h"
#include "stack.h"
#include "caches.h"
#include "large.h"
#include "rows.h"
#include "again.h"
#if defined(STACKS) || defined(HELD_STACKS)
#include "stacks.h"
#endif
#include "stacked.h"
#include "held.h"

static __always_inline u32 stack_at(void *ctx, struct ledger_key *key)
{
#if defined(STACKS) || defined(HELD_STACKS)
	return stack_of(ctx, key->kind);
#else
	return 0;
#endif
}

static __always_inline struct ledger_value *find_row(u32 front, struct ledger_key *key)
{
	struct ledger_value *row;

	if (front == FRONT_AGAIN)
		key->failed |= SEEN_AGAIN;
	row = front >= FRONTS ? row_of(key) : front_row_of(front, key);
	if (row && !row->count && key->cache)
		learn_cache(key->cache);
	return row;
}

static __always_inline void take_back(u32 front, struct ledger_key *key, u64 requested)
{
	struct ledger_value *row = find_row(front, key);

	if (!row)
		return;
	/* On another CPU's row than the first event's if the task moved: the sum over CPUs is right. */
	row->count--;
	row->bytes_requested -= requested;
	row->fill[(requested - 1) >> eighth_shift(key->bytes_alloc) & (FILL_BUCKETS - 1)]--;
}

static __always_inline int keep_kmalloc(void *ctx, u32 front, struct ledger_key *key, u64 ptr, u64 requested,
					u64 allocated, enum pair pair, struct ledger_key *first)
{
	struct ledger_value *row;

	hold(ctx, key, ptr, requested, 0, pair == PAIR_SECOND);
	if (pair == PAIR_SECOND)
		take_back(front, first, requested);
	row = find_row(front, key);
	if (row) {
		bool is_new = !row->count;

		add(row, requested);
		fill(row, requested, allocated);
		sample_stack(ctx, key, is_new);
	}
	return 0;
}

static __always_inline int keep_request(void *ctx, u32 front, struct ledger_key *key, u64 ptr, u64 requested)
{
	struct ledger_value *row;

	hold(ctx, key, ptr, requested, 0, false);
	row = find_row(front, key);
	if (row) {
		bool is_new = !row->count;

		add(row, requested);
		sample_stack(ctx, key, is_new);
	}
	return 0;
}

static __always_inline int keep(void *ctx, u32 front, struct ledger_key *key, u64 ptr)
{
	struct ledger_value *row;

	if (key->kind == KIND_PAGE_ALLOC)
		hold(ctx, key, ptr, 0, 0, false);
	row = find_row(front, key);
	if (!row)
		return 0;
	row->count++;
	if (key->kind == KIND_PAGE_ALLOC)
		sample_stack(ctx, key, row->count == 1);
	return 0;
}

static __always_inline int keep_call(u32 stack, struct ledger_key *key, u64 ptr, u64 requested)
{
	struct ledger_value *row;

	hold(NULL, key, ptr, requested, stack, false);
	row = find_row(NO_FRONT, key);
	if (row)
		add(row, requested);
	add_stack(stack, key, 1);
	return 0;
}

#include "observe.h"
#include "compat.h"
#include "calls.h"
#include "functions.h"
#include "copies.h"
