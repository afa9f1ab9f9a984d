/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * Whole stacks, each kept once under a number. The kernel's own stack map drops a stack whose hash falls where another
 * lies, so this is a hash map of our own.
 */
#ifndef KMWATCH_STACKS_H
#define KMWATCH_STACKS_H

#define STACK_ROWS 16384
#define STACK_DEPTH 32
#define STACK_PERIOD 127 /* a prime, so that it does not fall in step with a workload */

BPF_PERCPU_ARRAY(stack_scratch, struct stack, KINDS);
BPF_PERCPU_ARRAY(stack_turn, u32, 1);
BPF_HASH(stacks, u32, struct stack, STACK_ROWS);

static __always_inline bool is_sampled(void)
{
	u32 first = 0, *turn = stack_turn.lookup(&first);

	if (!turn)
		return false;
	*turn = *turn + 1 < STACK_PERIOD ? *turn + 1 : 0;
	return !*turn;
}

/* Number of the stack at hand, 0 where it cannot be had. A number is a hash, tried again where another stack has it. */
static __always_inline u32 stack_of(void *ctx, u32 kind)
{
	struct stack *scratch = stack_scratch.lookup(&kind), *known;
	u64 hash = 1;
	long taken;

	if (!scratch)
		return 0;
	taken = bpf_get_stack(ctx, scratch->frames, sizeof(scratch->frames), 0);
#pragma clang loop unroll(disable)
	for (int i = 0; i < STACK_DEPTH; i++) {
		if (8 * i >= taken)
			scratch->frames[i] = 0;
		hash = (hash ^ scratch->frames[i]) * 0x9E3779B97F4A7C15ULL;
		hash ^= hash >> 32;
	}
	scratch->hash = hash;
#pragma unroll
	for (int i = 0; i < 2; i++) {
		u32 number = i ? hash >> 32 : hash;

		if (!number) /* means none */
			continue;
		known = stacks.lookup(&number);
		if (!known) {
			stacks.insert(&number, scratch); /* fails where another CPU was faster, or the table is full */
			known = stacks.lookup(&number);
		}
		if (known && known->hash == hash)
			return number;
	}
	count_loss(COUNTER_STACKS_FULL);
	return 0;
}

#endif
