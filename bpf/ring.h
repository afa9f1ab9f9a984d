/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * The rings: arrays that Python maps, each written by one CPU, or by several where more CPUs came online than there are
 * rings. The kernel's own ring buffer takes two calls of helpers and a lock for an event. Here a place is taken by one
 * instruction and belongs to the event until Python has read it; that it is complete shows by its lap. Python looks at
 * them all the time anyway, so nobody is woken up.
 */
#ifndef KMWATCH_RING_H
#define KMWATCH_RING_H

#define TRIES 64 /* for a place: one more for each interrupt or CPU that takes one at the same moment */

BPF_PERCPU_ARRAY(unrecorded, u64, KINDS); /* events that found no room, by kind */
BPF_F_TABLE("array", u32, struct ring, rings, RINGS, BPF_F_MMAPABLE);
BPF_F_TABLE("array", u32, struct event, recorded, RINGS * RING_EVENTS, BPF_F_MMAPABLE);

/* Whether the place after the first `taken` is ours. */
static __always_inline bool take_place(struct ring *ring, u64 taken)
{
#if COMPARE_AND_SWAP
	return __sync_val_compare_and_swap(&ring->taken, taken, taken + 1) == taken;
#else
	/* Before Linux 5.12: programs of ordinary tracepoints and kprobes do not nest, and each CPU has a ring. */
	ring->taken = taken + 1;
	return true;
#endif
}

/* A place in this CPU's ring, and the lap to submit it with; NULL where there is none. */
static __always_inline struct event *reserve(u32 cpu, u8 *lap)
{
	u32 number = cpu & (RINGS - 1);
	struct ring *ring = rings.lookup(&number);

	if (!ring)
		return NULL;
#pragma clang loop unroll(disable)
	for (int i = 0; i < TRIES; i++) {
		u64 taken = *(volatile u64 *)&ring->taken;
		u32 place = number * RING_EVENTS + (taken & (RING_EVENTS - 1));

		/* Signed: by now others may have taken places that were read since. */
		if ((s64)(taken - *(volatile u64 *)&ring->read) >= RING_EVENTS)
			return NULL;
		if (!take_place(ring, taken))
			continue;
		*lap = taken / RING_EVENTS + 1;
		return recorded.lookup(&place);
	}
	return NULL;
}

/* It is complete: x86 keeps stores in order, and the compiler has to. */
static __always_inline void submit(struct event *event, u8 lap)
{
	barrier();
	*(volatile u8 *)&event->lap = lap;
}

static __always_inline void count_unrecorded(u32 kind)
{
	u64 *count = unrecorded.lookup(&kind);

	if (count)
		*count += 1;
}

#endif
