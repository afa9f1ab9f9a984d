/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * Large requests, which the kernel reports twice.
 *
 * A kmalloc above KMALLOC_MAX_CACHE_SIZE goes to the page allocator. Kernels since 6.11 trace it in
 * __kmalloc_large_node_noprof(), with a call site inside the allocator, and again in the function that it serves, with
 * the real caller. Only the second counts. A kvmalloc of more than a page had its place in kvmalloc_node() or
 * __kvmalloc_node_noprof() told in place of its caller, which is looked up then.
 */
#ifndef KMWATCH_LARGE_H
#define KMWATCH_LARGE_H

#define ZERO_SIZE_PTR 16 /* include/linux/slab.h: what kmalloc(0) returns */

/* Events with a call site inside the allocator, by pointer; by task where the allocation failed. */
BPF_TABLE("lru_hash", u64, struct ledger_key, pending, 4096);
/* How many there are, at most: none most of the time, and then a free need not look. */
BPF_ARRAY(pending_count, u64, 1);

static __always_inline u32 capped(u64 bytes)
{
	return bytes > ~0U ? ~0U : bytes;
}

static __always_inline void count_pending(long change)
{
	u32 first = 0;
	u64 *count = pending_count.lookup(&first);

	if (count)
		__sync_fetch_and_add(count, change);
}

/* A freed pointer tells nothing any more. Large memory starts at a page. */
static __always_inline void forget(u64 ptr)
{
	u32 first = 0;
	u64 *count = pending_count.lookup(&first);

	if (ptr & (PAGE_SIZE - 1) || !count || !*count)
		return;
	if (!pending.delete(&ptr))
		count_pending(-1);
}

/* The first report of what `key` reports again; it is forgotten. False where there is none. */
static __always_inline bool take_first(u64 handle, struct ledger_key *key, struct ledger_key *first)
{
	struct ledger_key *found = pending.lookup(&handle);

	if (!found || found->site == key->site || found->bytes_alloc != key->bytes_alloc || found->gfp != key->gfp)
		return false;
	*first = *found;
	if (!pending.delete(&handle))
		count_pending(-1);
	key->via |= first->via;
	count_loss(COUNTER_DUPLICATES);
	return true;
}

/* The caller of an allocator's function that tells its own place. */
static __always_inline void lift(void *ctx, struct ledger_key *key)
{
	struct owner owner = {};

	find_owner_below(ctx, key->site, false, &owner);
	key->site = owner.site;
}

/*
 * What a kmalloc of more than a page is of a pair, which only a `large` one can be; `first` is the other one where it is
 * the second.
 */
static __always_inline enum pair pair_of(void *ctx, u64 ptr, struct ledger_key *key, struct ledger_key *first, bool large)
{
	u64 handle = ptr ? ptr : bpf_get_current_pid_tgid();
	u32 zero = 0;
	struct table *table = text_table.lookup(&zero);
	u16 via = table ? meaning_of(table, key->site) : 0;

	key->via = via & VIA_KVMALLOC;
	if (via & LIFTED || (!large && via & VIA_KVMALLOC)) {
		lift(ctx, key);
		return PAIR_NONE;
	}
	if (!large)
		return PAIR_NONE;
	if (take_first(handle, key, first)) {
		if (via) /* kvmalloc, of kernels where it does not pass on its caller */
			lift(ctx, key);
		return PAIR_SECOND;
	}
	if (!via)
		return PAIR_NONE;
	if (!pending.insert(&handle, key))
		count_pending(1);
	else /* one from long ago, whose memory was freed without an event */
		pending.update(&handle, key);
	return PAIR_FIRST;
}

#endif
