/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * The ring buffers. One has a lock that all its writers take: with several, CPUs wait less for each other. Python looks
 * at them all the time anyway, so nobody is woken up.
 */
#ifndef KMWATCH_RING_H
#define KMWATCH_RING_H

BPF_PERCPU_ARRAY(unrecorded, u64, KINDS); /* events that found no room, by kind */

BPF_RINGBUF_OUTPUT(ring0, RING_PAGES);
#if RINGS > 1
BPF_RINGBUF_OUTPUT(ring1, RING_PAGES);
#endif
#if RINGS > 2
BPF_RINGBUF_OUTPUT(ring2, RING_PAGES);
BPF_RINGBUF_OUTPUT(ring3, RING_PAGES);
#endif
#if RINGS > 4
BPF_RINGBUF_OUTPUT(ring4, RING_PAGES);
BPF_RINGBUF_OUTPUT(ring5, RING_PAGES);
BPF_RINGBUF_OUTPUT(ring6, RING_PAGES);
BPF_RINGBUF_OUTPUT(ring7, RING_PAGES);
#endif

static __always_inline struct event *reserve(u32 cpu)
{
	switch (cpu & (RINGS - 1)) {
#if RINGS > 1
	case 1:
		return ring1.ringbuf_reserve(sizeof(struct event));
#endif
#if RINGS > 2
	case 2:
		return ring2.ringbuf_reserve(sizeof(struct event));
	case 3:
		return ring3.ringbuf_reserve(sizeof(struct event));
#endif
#if RINGS > 4
	case 4:
		return ring4.ringbuf_reserve(sizeof(struct event));
	case 5:
		return ring5.ringbuf_reserve(sizeof(struct event));
	case 6:
		return ring6.ringbuf_reserve(sizeof(struct event));
	case 7:
		return ring7.ringbuf_reserve(sizeof(struct event));
#endif
	default:
		return ring0.ringbuf_reserve(sizeof(struct event));
	}
}

/* Whichever ring it is from: the record itself knows. */
static __always_inline void submit(struct event *event)
{
	ring0.ringbuf_submit(event, BPF_RB_NO_WAKEUP);
}

static __always_inline void count_unrecorded(u32 kind)
{
	u64 *count = unrecorded.lookup(&kind);

	if (count)
		*count += 1;
}

#endif
