/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* What leaves the kernel one by one: the other half of events.h, in the same form. */
#ifndef KMWATCH_RECORDS_H
#define KMWATCH_RECORDS_H

/* How an event belongs to another of the same allocation: a large kmalloc that the kernel reports twice. */
enum pair {
	PAIR_NONE = 0,  /* by itself */
	PAIR_FIRST = 1, /* with a call site inside the allocator: to be left out where a second follows */
	PAIR_SECOND = 2,/* with the caller's own call site: the first of the same pointer, or task where it failed, is not counted */
};

/* One event, as it leaves the kernel while recording. */
struct event {
	struct ledger_key key;
	__u64 time;      /* CLOCK_MONOTONIC; nanoseconds */
	__u64 ptr;       /* what was allocated or freed, a page frame number for pages, 0 where unknown; opaque */
	__u64 requested; /* asked for, 0 where it follows from cache or order; bytes */
	__u32 pid;       /* thread that runs on the CPU, in the initial namespace; pid */
	__u32 task;      /* number of its command name and cgroup, 0 where unknown; number */
	__u32 stack;     /* number of its stack, 0 where none was taken; number */
	__u16 cpu;       /* where it happened; number */
	__u8 pair;       /* enum pair; number */
	__u8 unused;     /* keeps the size a multiple of eight; none */
};

/* A record of the ring buffer: the kernel's header, then the event. */
struct ring_record {
	__u32 length; /* of the event, with bit 31 set until it is complete and bit 30 where it is void; bytes */
	__u32 page;   /* the kernel's own; none */
	struct event event;
};

/* Who an event is attributed to: several threads may share it. */
struct task_name {
	__u64 comm[2]; /* command name, 16 bytes; text */
	__u64 cgroup;  /* its cgroup's id in the unified hierarchy; number */
};

/* Return addresses of kernel code, innermost first, 0 after the last. */
struct stack {
	__u64 frames[32]; /* return address; address */
	__u64 hash;       /* of the frames; number */
};

/* Which events take their stack along. */
enum stacks {
	STACKS_NONE = 0,    /* none does */
	STACKS_PAGES = 1,   /* page, vmalloc and per-CPU allocations, and every failure */
	STACKS_SAMPLED = 2, /* the same, and of all other allocations one in STACK_PERIOD on each CPU */
	STACKS_ALL = 3,     /* every allocation */
};

#endif
