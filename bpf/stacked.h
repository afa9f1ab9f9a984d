/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * Which stacks lead to the rows of the ledger: counted for the first event of a row on each CPU, and for a share of the
 * others, so that a busy site costs little and a quiet one has a stack at all. Compiled in only where STACKS is defined.
 */
#ifndef KMWATCH_STACKED_H
#define KMWATCH_STACKED_H

#ifdef STACKS
#define STACKED_ROWS 32768

BPF_HASH(stacked, struct stacked_key, u64, STACKED_ROWS);

static __always_inline void add_stack(u32 stack, struct ledger_key *key, u64 stands_for)
{
	struct stacked_key row = {.key = *key, .stack = stack};
	u64 zero = 0, *count;

	if (!stack)
		return;
	count = stacked.lookup_or_try_init(&row, &zero);
	if (count)
		__sync_fetch_and_add(count, stands_for);
	else
		count_loss(COUNTER_STACKS_FULL);
}

/* `first`: the row is new on this CPU. */
static __always_inline void sample_stack(void *ctx, struct ledger_key *key, bool first)
{
	u64 stands_for = STACKS == STACKS_ALL ? 1 : is_sampled() ? STACK_PERIOD : key->failed || first;

	if (stands_for)
		add_stack(stack_of(ctx, key->kind), key, stands_for);
}
#else
#define add_stack(stack, key, stands_for)
#define sample_stack(ctx, key, first)
#endif

#endif
