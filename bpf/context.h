/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * Where the CPU is: the real preempt_count, read without kprobes or debug kernels.
 *
 * preempt_count is a per-CPU variable. Its offset comes from BTF or kallsyms (PREEMPT_COUNT); the base of this CPU's
 * copy from the kernel's __per_cpu_offset table where kallsyms has data symbols, else from the running task:
 * current->se.cfs_rq->rq is this CPU's copy of the per-CPU variable `runqueues`, whose offset BTF has.
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

BPF_ARRAY(config, struct config, WAYS); /* by enum way */
BPF_PERCPU_ARRAY(cpu_base, u64, 1);

struct where {
	u32 preempt_count;
	s32 rcu_nesting; /* without what the locks of PREEMPT_RT add */
	u32 tgid; /* in the initial namespace */
};

/*
 * Who is running. Since Linux commit 3ca1032ab7ab ("bpf: Implement get_current_task_btf and RET_PTR_TO_BTF_ID"; in v5.11)
 * members of the task can be loaded like any memory, at offsets that BTF gives; a helper call for each costs more.
 */
#ifdef TASK_MIGRATION_DISABLED
/*
 * A spinlock of PREEMPT_RT sleeps. It begins with rcu_read_lock() and migrate_disable() (kernel/locking/spinlock_rt.c):
 * what comes with the latter is a lock, not an RCU section of its own.
 */
static __always_inline void leave_locks_out(struct where *where)
{
	u16 disabled = 0;

	bpf_probe_read_kernel(&disabled, 2, (void *)(bpf_get_current_task() + TASK_MIGRATION_DISABLED));
	where->rcu_nesting -= disabled;
}
#else
#define leave_locks_out(where)
#endif

#ifdef TASK_TGID
#define MEMBER(to, task, offset) asm volatile("%0 = *(u32 *)(%1 + %2)" : "=r"(to) : "r"(task), "i"(offset))
static __always_inline void look_at_task(struct where *where)
{
	u64 task = (u64)bpf_get_current_task_btf(), value = 0;

	MEMBER(value, task, TASK_TGID);
	where->tgid = value;
#ifdef TASK_RCU_NESTING
	MEMBER(value, task, TASK_RCU_NESTING);
	where->rcu_nesting = value;
	leave_locks_out(where);
#endif
}
#else
static __always_inline void look_at_task(struct where *where)
{
	where->tgid = bpf_get_current_pid_tgid() >> 32;
#ifdef TASK_RCU_NESTING
	bpf_probe_read_kernel(&where->rcu_nesting, 4, (void *)(bpf_get_current_task() + TASK_RCU_NESTING));
	leave_locks_out(where);
#endif
}
#endif

#ifdef PREEMPT_COUNT
static __always_inline u64 find_cpu_base(struct config *config)
{
	u64 base = 0;
	u32 cpu = bpf_get_smp_processor_id();
#ifdef TASK_CFS_RQ
	u64 cfs_rq = 0, rq = 0;
	u32 rq_cpu = ~0;

	bpf_probe_read_kernel(&cfs_rq, 8, (void *)(bpf_get_current_task() + TASK_CFS_RQ));
	bpf_probe_read_kernel(&rq, 8, (void *)(cfs_rq + CFS_RQ_RQ));
	bpf_probe_read_kernel(&rq_cpu, 4, (void *)(rq + RQ_CPU));
	if (rq_cpu == cpu)
		base = rq - RUNQUEUES;
#else
	if (config->per_cpu_offset)
		bpf_probe_read_kernel(&base, 8, (void *)(config->per_cpu_offset + 8 * (u64)cpu));
#endif
	return base;
}
#endif

/* False where the kernel does not let us see. */
static __always_inline bool look_at_cpu(struct config *config, struct where *where)
{
#ifdef PREEMPT_COUNT
	u32 first = 0;
	u64 *base = cpu_base.lookup(&first);

	if (!base)
		return false;
	if (!*base)
		*base = find_cpu_base(config);
	if (!*base)
		return false;
	bpf_probe_read_kernel(&where->preempt_count, 4, (void *)(*base + PREEMPT_COUNT));
	return true;
#else
	return false;
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
	if (bpf_get_ns_current_pid_tgid(SELF_NS_DEV, SELF_NS_INO, &ns, sizeof(ns)) || ns.tgid != SELF_TGID)
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
	bool seen;

	if (!config_now)
		return -1;
	seen = look_at_cpu(config_now, &where);
	look_at_task(&where);
	if (config_now->phase != PHASE_COUNTING) {
		if (may_sleep && config_now->phase == PHASE_CALIBRATING)
			calibrate(config_now, &where);
		return -1;
	}
	if (where.tgid == config_now->self_tgid && !(where.preempt_count & (SOFTIRQ_SERVING | HARDIRQ | NMI)))
		return -1;
	return seen && config_now->samples ? context_bits(config_now, &where) : CONTEXT_UNKNOWN;
}

/* The same for events whose context is not kept: true where they shall be counted. Looks only where it must. */
static __always_inline bool observe_free(u32 way)
{
	struct config *config_now = config.lookup(&way);
	struct where where = {};

	if (!config_now || config_now->phase != PHASE_COUNTING)
		return false;
	if (bpf_get_current_pid_tgid() >> 32 != config_now->self_tgid)
		return true;
	return look_at_cpu(config_now, &where) && where.preempt_count & (SOFTIRQ_SERVING | HARDIRQ | NMI);
}

#endif
