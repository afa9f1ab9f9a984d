// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
/* Every event by itself, in a ring that Python maps. */
#include "events.h"
#include "records.h"
#include "losses.h"
#include "memory.h"
#include "freelists.h"
#include "context.h"
#include "stack.h"
#include "caches.h"
#include "large.h"
#include "tasks.h"
#include "stacks.h"
#include "ring.h"
#include "again.h"
#include "held.h"

/* STACKS is an enum stacks, the same for the whole recording. */
static __always_inline bool wants_stack(struct ledger_key *key)
{
	if (STACKS == STACKS_NONE)
		return false;
	switch (key->kind) {
	case KIND_PAGE_ALLOC:
	case KIND_VMALLOC:
	case KIND_IOREMAP:
	case KIND_VMAP:
	case KIND_PERCPU_ALLOC:
		return true;
	case KIND_KMALLOC:
	case KIND_CACHE_ALLOC:
		return STACKS == STACKS_ALL || key->failed || (STACKS == STACKS_SAMPLED && is_sampled());
	default:
		return false;
	}
}

static __always_inline u32 stack_at(void *ctx, struct ledger_key *key)
{
	return wants_stack(key) ? stack_of(ctx, key->kind) : 0;
}

static __always_inline int keep_as(u32 stack, struct ledger_key *key, u64 ptr, u64 requested, enum pair pair)
{
	u32 cpu = bpf_get_smp_processor_id();
	u32 pid, task = task_of(&pid);
	struct event *event;
	u8 lap;

	if (key->cache)
		learn_cache(key->cache);
	event = reserve(cpu, &lap);
	if (!event) {
		count_unrecorded(key->kind);
		return 0;
	}
	event->key = *key;
	event->time = bpf_ktime_get_ns();
	event->ptr = ptr;
	event->requested = requested;
	event->pid = pid;
	event->task = task;
	event->stack = stack;
	event->cpu = cpu;
	event->pair = pair;
	submit(event, lap);
	return 0;
}

static __always_inline int keep_kmalloc(void *ctx, u32 front, struct ledger_key *key, u64 ptr, u64 requested,
					u64 allocated, enum pair pair, struct ledger_key *first)
{
	return keep_as(stack_at(ctx, key), key, ptr, requested, pair);
}

static __always_inline int keep_request(void *ctx, u32 front, struct ledger_key *key, u64 ptr, u64 requested)
{
	return keep_as(stack_at(ctx, key), key, ptr, requested, PAIR_NONE);
}

static __always_inline int keep(void *ctx, u32 front, struct ledger_key *key, u64 ptr)
{
	return keep_as(stack_at(ctx, key), key, ptr, 0, PAIR_NONE);
}

static __always_inline int keep_call(u32 stack, struct ledger_key *key, u64 ptr, u64 requested)
{
	return keep_as(stack, key, ptr, requested, PAIR_NONE);
}

#include "observe.h"
#include "compat.h"
#include "calls.h"
#include "functions.h"
#include "copies.h"
