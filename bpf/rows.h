/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * Rows of the ledger. A program does not interrupt itself on one CPU (the kernel skips it), so plain additions are exact.
 *
 * Hashing a key and finding it in a kernel hash map costs more than all the rest of a busy program. The four busiest
 * therefore have a front each: rows in a per-CPU array, at the place that a cheap hash of the key tells, taken by the
 * first key that comes along and kept. Keys that find their two places taken go to the hash map. A front belongs to one
 * program, so nothing can come between looking at a place and taking it; before v6.1 kmalloc_node shares kmalloc's, but
 * there both are ordinary tracepoint programs, of which a CPU runs one at a time.
 */
#ifndef KMWATCH_ROWS_H
#define KMWATCH_ROWS_H

#define FRONT_BITS 9   /* binary logarithm of a front's rows */
#define FRONT_ROWS 512 /* its rows */
#define E2BIG 7 /* include/uapi/asm-generic/errno-base.h */

BPF_PERCPU_HASH(ledger, struct ledger_key, struct ledger_value, LEDGER_ROWS);
BPF_PERCPU_ARRAY(fronts, struct front_row, FRONTS * FRONT_ROWS);

static __always_inline struct ledger_value *row_of(struct ledger_key *key)
{
	struct ledger_value *row = ledger.lookup(key), zero = {};
	int error;

	if (row)
		return row;
	error = ledger.insert(key, &zero);
	row = ledger.lookup(key);
	if (!row)
		count_loss(error == -E2BIG ? COUNTER_MAP_FULL : COUNTER_LOST);
	return row;
}

/* 2^64 divided by the golden ratio spreads the sums; their top bits tell the place. */
static __always_inline u32 front_place(u32 front, u64 *words)
{
	u64 sum = words[0] + 3 * words[1] + 5 * words[2] + 7 * words[3];

	return front * FRONT_ROWS + (u32)(sum * 0x9E3779B97F4A7C15ULL >> (64 - FRONT_BITS));
}

static __always_inline struct ledger_value *front_row_of(u32 front, struct ledger_key *key)
{
	u64 *words = (u64 *)key;
	u32 place = front_place(front, words);

	/* Two places for each key: a collision among the busiest would be costly. */
#pragma unroll
	for (int i = 0; i < 2; i++, place ^= 1) {
		struct front_row *row = fronts.lookup(&place);
		u64 *taken = (u64 *)row;

		if (!row)
			return NULL;
		if (taken[0] == words[0] && taken[1] == words[1] && taken[2] == words[2] && taken[3] == words[3])
			return &row->value;
		if (!row->key.kind) {
			row->key = *key;
			return &row->value;
		}
	}
	return row_of(key);
}

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

static __always_inline void add(struct ledger_value *row, u64 requested)
{
	u32 request = capped(requested);

	if (!row->count || request < row->min_request)
		row->min_request = request;
	if (request > row->max_request)
		row->max_request = request;
	row->count++;
	row->bytes_requested += requested;
}

#endif
