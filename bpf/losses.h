/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* What is missing from the numbers, by reason. */
#ifndef KMWATCH_LOSSES_H
#define KMWATCH_LOSSES_H

BPF_PERCPU_ARRAY(losses, u64, COUNTERS);

static __always_inline void count_loss(u32 which)
{
	u64 *count = losses.lookup(&which);

	if (count)
		__sync_fetch_and_add(count, 1); /* a program that counts can be interrupted by one that does */
}

#endif
