/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * Who asked: the first frame of the stack outside the allocators' own functions, and which allocators lie before it.
 * kmwatch/kernel/allocators.py names those functions; Python fills their text ranges into a sorted table.
 */
#ifndef KMWATCH_STACK_H
#define KMWATCH_STACK_H

#define FRAMES 16

BPF_ARRAY(text_table, struct table, 1);
BPF_ARRAY(zone_table, struct table, 1);

/*
 * Meaning of the stretch that `what` lies in: a binary search with no branch on the data, so that the verifier sees one
 * path. Boundaries above 2^63 apart do not occur: kernel text, or page frame numbers.
 */
static __always_inline u16 meaning_of(struct table *table, u64 what)
{
	u64 at = 0;

#pragma clang loop unroll(disable)
	for (u64 step = TABLE_SIZE / 2; step; step /= 2) {
		u64 below = (what - table->boundary[(at + step) & (TABLE_SIZE - 1)]) >> 63;

		at += step * (1 - below);
	}
	return table->meaning[at & (TABLE_SIZE - 1)];
}

struct owner {
	u64 site;
	u8 via;
};

#define TRAMPOLINE 2 /* frames that lie above at fentry and fexit: the program itself, and what called it */

/* With `below`, a frame's address, from there on; with `trampoline` from below that. The tracing machinery may lie above. */
static __always_inline void find_owner_below(void *ctx, u64 below, bool trampoline, struct owner *owner)
{
	u32 first = 0;
	struct table *table = text_table.lookup(&first);
	u64 frames[FRAMES] = {};
	u16 met = 0;
	int above = 0;

	if (!table || bpf_get_stack(ctx, frames, sizeof(frames), 0) <= 0) {
		count_loss(COUNTER_STACK_FAILED);
		return;
	}
	if (trampoline)
		above = TRAMPOLINE + (frames[0] == frames[1]); /* seen on 5.10: the program's frame stands there twice */
#pragma clang loop unroll(disable)
	for (int i = 0; i < FRAMES; i++) {
		u16 via;

		if (!frames[i])
			return;
		if (i < above || (below && frames[i] != below))
			continue;
		below = 0;
		owner->site = frames[i];
		via = meaning_of(table, frames[i]);
		if (!via || via & met & NESTING)
			return;
		met |= via;
		owner->via = met;
	}
	count_loss(COUNTER_STACK_DEEP);
}

static __always_inline void find_owner(void *ctx, struct owner *owner)
{
	find_owner_below(ctx, 0, false, owner);
}

#endif
