/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * Requests in their size class, and the large ones that the kernel reports twice.
 *
 * A kmalloc above KMALLOC_MAX_CACHE_SIZE goes to the page allocator. Kernels since 6.11 trace it in
 * __kmalloc_large_node_noprof(), with a call site inside the allocator, and again in the function that it serves, with
 * the real caller. The first of the two is taken back when the second comes.
 */
#ifndef KMWATCH_LARGE_H
#define KMWATCH_LARGE_H

#define LARGE 8192 /* KMALLOC_MAX_CACHE_SIZE: two pages */

/* Events with a call site inside the allocator, by pointer; by task where the allocation failed. */
BPF_TABLE("lru_hash", u64, struct ledger_key, pending, 4096);
/* How many there are, at most: none most of the time, and then a free need not look. */
BPF_ARRAY(pending_count, u64, 1);

/* Binary logarithm of an eighth of the power of two at or above `allocated`. */
static __always_inline u32 eighth_shift(u64 allocated)
{
	u64 top = (allocated - 1) >> 2;
	u32 shift = 0;

	shift += (top >> 16 != 0) * 16;
	shift += (top >> (shift + 8) != 0) * 8;
	shift += (top >> (shift + 4) != 0) * 4;
	shift += (top >> (shift + 2) != 0) * 2;
	shift += (top >> (shift + 1) != 0);
	return shift;
}

/* In which eighth of its size class a request falls. */
static __always_inline void fill(struct ledger_value *row, u64 requested, u64 allocated)
{
	if (!row->fill_shift)
		row->fill_shift = eighth_shift(allocated);
	row->fill[(requested - 1) >> (row->fill_shift & 31) & (FILL_BUCKETS - 1)]++;
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

static __always_inline bool take_back(u64 handle, struct ledger_key *key, u64 requested)
{
	struct ledger_key *inner = pending.lookup(&handle), copy;
	struct ledger_value *row;

	if (!inner || inner->site == key->site || inner->bytes_alloc != key->bytes_alloc || inner->gfp != key->gfp)
		return false;
	copy = *inner;
	if (!pending.delete(&handle))
		count_pending(-1);
	row = front_row_of(FRONT_KMALLOC, &copy);
	if (!row)
		return false;
	/* On another CPU's row than the first event's if the task moved: the sum over CPUs is right. */
	row->count--;
	row->bytes_requested -= requested;
	row->fill[(requested - 1) >> eighth_shift(copy.bytes_alloc) & (FILL_BUCKETS - 1)]--;
	key->via |= copy.via;
	count_loss(COUNTER_DUPLICATES);
	return true;
}

static __always_inline void on_large(u64 ptr, struct ledger_key *key, u64 requested)
{
	u64 handle = ptr ? ptr : bpf_get_current_pid_tgid();
	u32 first = 0;
	struct table *table = text_table.lookup(&first);
	u16 via = table ? meaning_of(table, key->site) : 0;

	key->via = via & VIA_KVMALLOC;
	if (take_back(handle, key, requested) || !via)
		return;
	if (!pending.insert(&handle, key))
		count_pending(1);
	else /* one from long ago, whose memory was freed without an event */
		pending.update(&handle, key);
}

#endif
