/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * Calls of functions that allocate, from their entry to their return.
 *
 * A kprobe comes before the function has a result, a kretprobe when its arguments are gone: what the first sees waits for
 * the second, by thread. A vmalloc of more than 512 pages makes a second one, for its page pointers, so calls nest; each
 * knows its place on the kernel's stack. fexit sees both at once.
 */
#ifndef KMWATCH_CALLS_H
#define KMWATCH_CALLS_H

#include <uapi/linux/ptrace.h>

#define FLAGS_IF 0x200 /* interrupts are on; EFLAGS of the processor */
#define CALLS 4        /* that nest, at most: a power of two */
#define FRAME 64       /* bytes; by how much the stack pointers of entry and return differ, at most */
#define PAGES(size) (((size) + PAGE_SIZE - 1) & ~(u64)(PAGE_SIZE - 1))

struct call {
	u64 sp;
	u64 requested;
	u64 stack;
	struct ledger_key key;
};

struct calls {
	u64 depth;
	struct call call[CALLS];
};

BPF_TABLE("lru_hash", u64, struct calls, calls, 1024);
BPF_PERCPU_ARRAY(no_calls, struct calls, 1); /* stays empty */

/* Calls below `sp` on the stack are over, and nobody saw them return. */
static __always_inline void drop_lost(struct calls *own, u64 sp)
{
#pragma unroll
	for (int i = 0; i < CALLS; i++) {
		if (!own->depth || own->call[(own->depth - 1) & (CALLS - 1)].sp >= sp)
			return;
		own->depth--;
		count_loss(COUNTER_LOST);
	}
}

/* The key of a call that asks for `size`; false where it shall not be counted. */
static __always_inline bool call_key(u32 way, void *ctx, struct ledger_key *key, u8 kind, u64 size, u32 gfp)
{
	int context = observe(way, true);
	struct owner owner = {};

	if (context < 0)
		return false;
	find_owner_below(ctx, 0, way == WAY_FENTRY, &owner);
	key->kind = kind;
	key->site = owner.site;
	key->gfp = gfp;
	key->context = context;
	key->zone = key->node = key->migratetype = NO_ZONE;
	if (kind == KIND_VMALLOC && PAGES(size) < ~0U)
		key->bytes_alloc = PAGES(size);
	return true;
}

static __always_inline int begin_call(struct pt_regs *ctx, u8 kind, u64 size, u32 gfp)
{
	u64 thread = bpf_get_current_pid_tgid();
	struct ledger_key key = {};
	struct calls *own, *none;
	struct call *call;
	u32 first = 0;

	if (!call_key(WAY_KPROBE, ctx, &key, kind, size, gfp))
		return 0;
	if (!(ctx->flags & FLAGS_IF) && key.context != CONTEXT_UNKNOWN)
		key.context |= CONTEXT_IRQS_OFF;
	none = no_calls.lookup(&first);
	if (!none)
		return 0;
	own = calls.lookup_or_try_init(&thread, none);
	if (!own) {
		count_loss(COUNTER_LOST);
		return 0;
	}
	drop_lost(own, ctx->sp + 1);
	if (own->depth >= CALLS) {
		count_loss(COUNTER_LOST);
		return 0;
	}
	if (own->depth) /* the first one's page pointers: it asks for itself */
		key.site = ctx->ip;
	call = &own->call[own->depth & (CALLS - 1)];
	call->sp = ctx->sp;
	call->requested = size;
	call->stack = stack_at(ctx, &key);
	call->key = key;
	own->depth++;
	return 0;
}

static __always_inline int end_call(struct pt_regs *ctx)
{
	u64 thread = bpf_get_current_pid_tgid(), address = ctx->ax;
	struct calls *own = calls.lookup(&thread);
	struct ledger_key key;
	struct call *call;

	if (!own)
		return 0;
	drop_lost(own, ctx->sp - FRAME);
	call = &own->call[(own->depth - 1) & (CALLS - 1)];
	if (!own->depth || call->sp > ctx->sp + FRAME) /* of a caller: this call was not to be counted */
		return 0;
	own->depth--;
	key = call->key;
	key.failed = !address;
	if (key.failed)
		keep_free_lists(&key, call->requested);
	keep_call(call->stack, &key, address, call->requested);
	if (!own->depth)
		calls.delete(&thread);
	return 0;
}

static __always_inline int whole_call(u64 *ctx, u8 kind, u64 size, u32 gfp, u64 address)
{
	struct ledger_key key = {};

	if (!call_key(WAY_FENTRY, ctx, &key, kind, size, gfp))
		return 0;
	key.failed = !address;
	if (key.failed)
		keep_free_lists(&key, size);
	return keep_call(stack_at(ctx, &key), &key, address, size);
}

static __always_inline int on_release(u32 way, void *ctx, u8 kind, u64 address)
{
	struct ledger_key key = {.kind = kind, NOWHERE};
	struct owner owner = {};

	if (!address)
		return 0;
	release(kind, address);
	if (!observe_free(way))
		return 0;
	find_owner_below(ctx, 0, way == WAY_FENTRY, &owner);
	key.site = owner.site;
	return keep(ctx, NO_FRONT, &key, address);
}

#endif
