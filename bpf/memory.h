/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * The kernel's memory, and in it this CPU's variables: their offsets come from BTF or kallsyms, the base of this CPU's
 * copies from the kernel's __per_cpu_offset table where kallsyms has data symbols, else from the running task:
 * current->se.cfs_rq->rq is this CPU's copy of the per-CPU variable `runqueues`, whose offset BTF has.
 */
#ifndef KMWATCH_MEMORY_H
#define KMWATCH_MEMORY_H

#define barrier() asm volatile("" ::: "memory") /* the compiler keeps memory accesses on their side of it */

BPF_ARRAY(config, struct config, WAYS); /* by enum way */
BPF_PERCPU_ARRAY(cpu_base, u64, 1);

/*
 * Memory of the kernel, read without a helper: where processors are protected against speculation a call is the dearest
 * thing that a program does. bpf_rdonly_cast() makes an address a pointer that may be read; when the verifier is done with
 * it, it is no call. Linux commit a35b9af4ec2c ("bpf: Add a kfunc for generic type cast"; in v6.2). The compiler knows no
 * kernel functions: it calls a helper that does not exist, and sources/bpf.py makes it the function.
 */
#ifdef CAST_TYPE
static u64 (*rdonly_cast)(u64 address, u32 type) = (void *)CAST_CALL;
#define READ(to, type, address) \
	asm volatile("%0 = *(" #type " *)(%1 + 0)" : "=r"(to) : "r"(rdonly_cast(address, CAST_TYPE)))
#else
#define READ(to, type, address)                                                    \
	({                                                                         \
		type value_ = 0;                                                   \
		bpf_probe_read_kernel(&value_, sizeof(value_), (void *)(address)); \
		to = value_;                                                       \
	})
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

/* Where this CPU's variables are; 0 where the kernel does not let us see. */
static __always_inline u64 base_of_cpu(struct config *config)
{
#ifdef PREEMPT_COUNT
	u32 first = 0;
	u64 *base = cpu_base.lookup(&first);

	if (!base)
		return 0;
	if (!*base)
		*base = find_cpu_base(config);
	return *base;
#else
	return 0;
#endif
}

static __always_inline u32 preempt_count_at(u64 base)
{
	u64 count = 0;

#ifdef PREEMPT_COUNT
	READ(count, u32, base + PREEMPT_COUNT);
#endif
	return count;
}

#endif
