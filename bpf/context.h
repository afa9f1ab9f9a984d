/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * Where the CPU is: the real preempt_count, read without kprobes or debug kernels.
 *
 * Bits (include/linux/preempt.h): 0-7 preemption depth, 8-15 softirq (0x100 serving, 0x200 and up bottom halves off),
 * 16-19 hardirq, 20-23 NMI; bit 31 is the inverted need-resched flag.
 */
#ifndef KMWATCH_CONTEXT_H
#define KMWATCH_CONTEXT_H

#define PREEMPT_DEPTH 0x0000ff
#define SOFTIRQ_SERVING 0x000100
#define BH_DISABLED 0x00fe00
#define HARDIRQ 0x0f0000
#define NMI 0xf00000

struct where {
	u32 preempt_count;
	s32 rcu_nesting; /* without what the locks of PREEMPT_RT add */
	u32 tgid; /* in the initial namespace */
};

/*
 * A spinlock of PREEMPT_RT sleeps. It begins with rcu_read_lock() and migrate_disable() (kernel/locking/spinlock_rt.c):
 * what comes with the latter is a lock, not an RCU section of its own.
 */
#ifdef TASK_MIGRATION_DISABLED
static __always_inline s32 locks_of(u64 task)
{
	u64 disabled = 0;

	READ(disabled, u16, task + TASK_MIGRATION_DISABLED);
	return disabled;
}
#else
#define locks_of(task) 0
#endif

/* Who is running, and its RCU nesting: by the CPU's variable where that can be read inline. */
static __always_inline u32 tgid_at(u64 base, u64 *task)
{
	u64 tgid = 0;

#if defined(CAST_TYPE) && defined(CURRENT_TASK) && defined(TASK_TGID)
	if (base) {
		READ(*task, u64, base + CURRENT_TASK);
		READ(tgid, u32, *task + TASK_TGID);
		return tgid;
	}
#endif
	*task = bpf_get_current_task();
	return bpf_get_current_pid_tgid() >> 32;
}

static __always_inline void look(u64 base, struct where *where)
{
	u64 task = 0, nesting = 0;

	if (base)
		where->preempt_count = preempt_count_at(base);
	where->tgid = tgid_at(base, &task);
#ifdef TASK_RCU_NESTING
	READ(nesting, u32, task + TASK_RCU_NESTING);
	where->rcu_nesting = nesting - locks_of(task);
#endif
}

static __always_inline u8 context_bits(struct config *config, struct where *where)
{
	u32 count = where->preempt_count;
	u8 bits = 0;

	if (count & SOFTIRQ_SERVING)
		bits |= CONTEXT_SOFTIRQ;
	if (count & HARDIRQ)
		bits |= CONTEXT_HARDIRQ;
	if (count & NMI)
		bits |= CONTEXT_NMI;
	if ((count & PREEMPT_DEPTH) > config->preempt_depth)
		bits |= CONTEXT_PREEMPT_OFF;
	if (count & BH_DISABLED)
		bits |= CONTEXT_BH_OFF;
	if (where->rcu_nesting > (s32)config->rcu_depth)
		bits |= CONTEXT_RCU;
	return bits;
}

/*
 * While calibrating: kmwatch makes system calls whose allocations may sleep, so all that they show of depth is what the
 * probe machinery adds (1 on 6.18, 0 on 7.x for a raw tracepoint: never assumed). The same events tell kmwatch's pid in
 * the initial namespace, and where the nodes are (freelists.h).
 */
static __always_inline void calibrate(struct config *config, struct where *where)
{
	struct bpf_pidns_info ns = {};
	u32 depth = where->preempt_count & PREEMPT_DEPTH;

	if (where->preempt_count & (SOFTIRQ_SERVING | HARDIRQ | NMI))
		return;
	if (bpf_get_ns_current_pid_tgid(config->own_ns_dev, config->own_ns_ino, &ns, sizeof(ns)))
		return;
	if (ns.tgid != config->own_tgid)
		return;
	config->self_tgid = where->tgid;
	if (!config->samples || depth < config->preempt_depth)
		config->preempt_depth = depth;
	if (!config->samples || where->rcu_nesting < (s32)config->rcu_depth)
		config->rcu_depth = where->rcu_nesting;
	config->samples++;
	find_nodes();
}

/*
 * Context bits of an event that shall be counted, or -1: still calibrating, or kmwatch's own process, whose reading of
 * the maps allocates too. An interrupt on top of kmwatch is not kmwatch.
 */
static __always_inline int observe(u32 way, bool may_sleep)
{
	struct config *config_now = config.lookup(&way);
	struct where where = {};
	u64 base;

	if (!config_now)
		return -1;
	base = base_of_cpu(config_now);
	look(base, &where);
	if (config_now->phase != PHASE_COUNTING) {
		if (may_sleep && config_now->phase == PHASE_CALIBRATING)
			calibrate(config_now, &where);
		return -1;
	}
	if (where.tgid == config_now->self_tgid && !(where.preempt_count & (SOFTIRQ_SERVING | HARDIRQ | NMI)))
		return -1;
	return base && config_now->samples ? context_bits(config_now, &where) : CONTEXT_UNKNOWN;
}

/* The same for events whose context is not kept: true where they shall be counted. Looks only where it must. */
static __always_inline bool observe_free(u32 way)
{
	struct config *config_now = config.lookup(&way);
	u64 base, task;

	if (!config_now || config_now->phase != PHASE_COUNTING)
		return false;
	base = base_of_cpu(config_now);
	if (tgid_at(base, &task) != config_now->self_tgid)
		return true;
	return base && preempt_count_at(base) & (SOFTIRQ_SERVING | HARDIRQ | NMI);
}

#endif
