/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * What is held: a table of objects from their allocation to their release, by what tells them apart: an address, or a page
 * frame number. It holds a sample, chosen by a keyed hash of that: an object is always in it or never, so its release
 * is, too. Of what was released it keeps how long it had lived. Some releases have no event: an object that is handed out
 * though nobody gave it back was released unseen. Compiled in only where HELD_ROWS is defined.
 */
#ifndef KMWATCH_HELD_H
#define KMWATCH_HELD_H

#ifdef HELD_ROWS
#define RELEASED_ROWS 16384
#define PAGE_OBJECT (1ULL << 52) /* beside a page frame number: no address of the kernel is there */
#define ELSEWHERE (VIA_SLAB | VIA_VMALLOC | VIA_PERCPU)
#define LIFETIMES 40

BPF_ARRAY(sample, struct sample, 1);
BPF_HASH(held, u64, struct held, HELD_ROWS);
BPF_HASH(released, struct ledger_key, struct released, RELEASED_ROWS);
BPF_ARRAY(nothing_released, struct released, 1); /* stays empty */

/* Two rounds: the addresses of one slab lie at even distances, which one multiplication would keep even. */
static __always_inline bool in_sample(struct sample *sample, u64 id)
{
	id *= sample->key;
	id ^= id >> 29;
	return !(id * sample->key & sample->mask);
}

/* The sample, where it is chosen, this object is in it, and kmwatch counts. */
static __always_inline struct sample *sample_of(u64 id)
{
	u32 way = WAY_RAW, first = 0;
	struct sample *now = sample.lookup(&first);
	struct config *config_now = config.lookup(&way);

	if (!now || !now->key || !in_sample(now, id) || !config_now || config_now->phase != PHASE_COUNTING)
		return NULL;
	return now;
}

static __always_inline struct released *released_row(struct held *object)
{
	struct ledger_key key = object->key;
	u32 first = 0;
	struct released *none = nothing_released.lookup(&first), *row = none ? released.lookup_or_try_init(&key, none) : NULL;

	if (!row)
		count_loss(COUNTER_MAP_FULL);
	return row;
}

/* Binary logarithm of a time in units of 128 ns, 0 below two of them. */
static __always_inline u32 lifetime_bucket(u64 nanoseconds)
{
	u64 rest = nanoseconds >> 7;
	u32 bucket = 0;

#pragma unroll
	for (int shift = 32; shift; shift /= 2) {
		if (rest >> shift) {
			rest >>= shift;
			bucket += shift;
		}
	}
	return bucket;
}

static __always_inline u64 object_id(u8 kind, u64 ptr)
{
	return kind == KIND_PAGE_ALLOC || kind == KIND_PAGE_FREE ? PAGE_OBJECT | ptr : ptr;
}

/* An object is handed out; `again` where its allocation was reported before. With HELD_STACKS, by the stack at hand if any. */
static __always_inline void hold(void *ctx, struct ledger_key *key, u64 ptr, u64 requested, u32 stack, bool again)
{
	u64 id = object_id(key->kind, ptr);
	struct sample *now = sample_of(id);
	struct held object, *known;
	struct released *row;

	if (!now || key->failed || ptr <= ZERO_SIZE_PTR || key->kind == KIND_IOREMAP || key->kind == KIND_VMAP)
		return;
	if (key->kind == KIND_PAGE_ALLOC && key->via & ELSEWHERE)
		return;
	object.key = *key;
	object.requested = capped(requested);
	object.stack = stack;
	object.unused = 0;
	known = held.lookup(&id);
	if (known && !again) {
		row = released_row(known);
		if (row)
			__sync_fetch_and_add(&row->unseen, 1ULL << now->bits);
	}
#ifdef HELD_STACKS
	if (ctx)
		object.stack = stack_of(ctx, key->kind);
#endif
	object.time = bpf_ktime_get_ns();
	object.cpu = bpf_get_smp_processor_id();
	if (held.update(&id, &object))
		__sync_fetch_and_add(&now->refused, 1);
}

/* An object is given back, whoever does it. */
static __always_inline void release(u8 kind, u64 ptr)
{
	u64 id = object_id(kind, ptr);
	struct sample *now = sample_of(id);
	struct held *object = now ? held.lookup(&id) : NULL;
	struct released *row;

	if (!object)
		return;
	row = released_row(object);
	if (row) {
		u64 stands_for = 1ULL << now->bits;

		u32 bucket = lifetime_bucket(bpf_ktime_get_ns() - object->time);

		__sync_fetch_and_add(&row->count, stands_for);
		__sync_fetch_and_add(&row->lifetime[bucket < LIFETIMES ? bucket : LIFETIMES - 1], stands_for);
		if (object->cpu != bpf_get_smp_processor_id())
			__sync_fetch_and_add(&row->elsewhere, stands_for);
	}
	held.delete(&id);
}
#else
#define hold(ctx, key, ptr, requested, stack, again)
#define release(kind, ptr)
#endif

#endif
