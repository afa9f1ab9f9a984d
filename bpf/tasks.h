/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * Who runs: a number for each command name and cgroup. Every event needs it, so a CPU remembers the last; only when
 * another thread runs there, or the same has another name (it executed a program), is the table asked. A thread that
 * moves to another cgroup thus stays under the former one until another runs on that CPU, or it executes a program.
 */
#ifndef KMWATCH_TASKS_H
#define KMWATCH_TASKS_H

#define TASK_ROWS 16384

/* Whom a CPU saw last, so that the same is not looked up again. */
struct last_task {
	__u64 comm[2]; /* command name, 16 bytes; text */
	__u32 pid;     /* thread; pid */
	__u32 task;    /* number of its task_name; number */
};

BPF_PERCPU_ARRAY(last_tasks, struct last_task, 1);
BPF_HASH(tasks, u32, struct task_name, TASK_ROWS);

#ifdef TASK_COMM
#define MEMBER_U64(to, task, offset) asm volatile("%0 = *(u64 *)(%1 + %2)" : "=r"(to) : "r"(task), "i"(offset))
static __always_inline void read_comm(u64 *comm)
{
	u64 task = (u64)bpf_get_current_task_btf();

	MEMBER_U64(comm[0], task, TASK_COMM);
	MEMBER_U64(comm[1], task, TASK_COMM + 8);
}
#else
static __always_inline void read_comm(u64 *comm)
{
	bpf_get_current_comm(comm, 16);
}
#endif

/* The running thread's pid and command name: by the CPU's variable where that can be read inline. */
static __always_inline u32 read_thread(u64 *comm)
{
#if defined(CURRENT_TASK) && defined(TASK_PID)
	u32 first = 0;
	u64 *base = cpu_base.lookup(&first), task, pid;

	if (base && *base) {
		READ(task, u64, *base + CURRENT_TASK);
		READ(comm[0], u64, task + TASK_COMM);
		READ(comm[1], u64, task + TASK_COMM + 8);
		READ(pid, u32, task + TASK_PID);
		return pid;
	}
#endif
	read_comm(comm);
	return bpf_get_current_pid_tgid();
}

/* A number is a hash of the name; the next ones are tried where another name has it. */
static __always_inline u32 number_of(struct task_name *name)
{
	u64 hash = (name->comm[0] * 3 + name->comm[1] * 5 + name->cgroup * 7) * 0x9E3779B97F4A7C15ULL;
	u32 number = hash >> 32;

#pragma unroll
	for (int i = 0; i < 4; i++, number++) {
		struct task_name *known;

		if (!number) /* means unknown */
			continue;
		tasks.insert(&number, name); /* fails where it is there already, or the table is full */
		known = tasks.lookup(&number);
		if (!known)
			break;
		if (known->comm[0] == name->comm[0] && known->comm[1] == name->comm[1] && known->cgroup == name->cgroup)
			return number;
	}
	count_loss(COUNTER_TASKS_FULL);
	return 0;
}

/* Number of the running thread's command name and cgroup; 0 where the table is full. Its pid comes along. */
static __always_inline u32 task_of(u32 *pid)
{
	struct task_name name = {};
	u32 first = 0, number;
	struct last_task *last = last_tasks.lookup(&first);

	*pid = read_thread(name.comm);
	if (!last)
		return 0;
	number = last->task;
	if (number && last->pid == *pid && last->comm[0] == name.comm[0] && last->comm[1] == name.comm[1])
		return number;
	name.cgroup = bpf_get_current_cgroup_id();
	number = number_of(&name);
	last->task = 0; /* an interrupt that comes now must not take the old number for the new name */
	barrier();
	last->pid = *pid;
	last->comm[0] = name.comm[0];
	last->comm[1] = name.comm[1];
	barrier();
	last->task = number;
	return number;
}

#endif
