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
	__u8 lap;        /* in a ring: which time around it was written, from 1 on, modulo 256; written last; number */
};

/* How far a ring is written and read; each of the two has a cache line, for another CPU writes it. */
struct ring {
	__u64 taken;         /* events that were given a place; count */
	__u64 taken_line[7]; /* the rest of the line; none */
	__u64 read;          /* events that were read, so that their places are free again; written by Python; count */
	__u64 read_line[7];  /* the rest of the line; none */
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

/* A row of the ledger and one of the stacks that led to it. */
struct stacked_key {
	struct ledger_key key;
	__u32 stack;  /* number of the stack; number */
	__u32 unused; /* keeps the size a multiple of eight; none */
};

/* Which events take their stack along. */
enum stacks {
	STACKS_NONE = 0,    /* none does */
	STACKS_PAGES = 1,   /* page, vmalloc and per-CPU allocations, and every failure */
	STACKS_SAMPLED = 2, /* the same, and of all other allocations one in STACK_PERIOD on each CPU */
	STACKS_ALL = 3,     /* every allocation */
};

/* An object that is held and in the sample. */
struct held {
	struct ledger_key key;
	__u64 time;      /* of its allocation, CLOCK_MONOTONIC; nanoseconds */
	__u32 requested; /* asked for, 0 where it follows from cache or order; bytes */
	__u32 stack;     /* number of the stack of its allocation, 0 where none was taken; number */
	__u32 cpu;       /* where it was allocated; number */
	__u32 unused;    /* keeps the size a multiple of eight; none */
};

/* What became of the objects of one key. Each counts for as many as it stood for in the sample when it went. */
struct released {
	__u64 count;        /* given back, with an event; count */
	__u64 elsewhere;    /* of which on another CPU than where they were allocated; count */
	__u64 unseen;       /* handed out again though no event had given them back; count */
	__u64 lifetime[40]; /* of those given back, by binary logarithm of the time in 128 ns; count */
};

/* Which objects are in the sample; written by Python, except `refused`. */
struct sample {
	__u64 key;     /* odd factor of the hash; number */
	__u64 mask;    /* bits of the hash that are 0 for those in it; mask */
	__u64 refused; /* objects of the sample that found no room; count */
	__u32 bits;    /* one object of 2^bits is in it; number */
	__u32 unused;  /* keeps the size a multiple of eight; none */
};

/* A zone of memory, as struct zone has it: what is free in it, and what must stay free. */
struct zone_state {
	__u64 free;         /* free, as the kernel counts it, per-CPU differences left out; pages */
	__u64 cma;          /* free in CMA areas; pages */
	__u64 watermark[3]; /* min, low and high; pages */
	__u64 boost;        /* what the watermarks are raised by; pages */
	__u64 managed;      /* owned by the page allocator; pages */
	__u64 highatomic;   /* set aside for atomic requests, the free ones where the kernel counts them; pages */
	__u64 reserve[8];   /* lowmem_reserve, by zone that a request may use at most; pages */
	__u32 blocks[16];   /* free blocks by order; count */
	__u8 owners[16];    /* by order: bit n where migrate type n has a free block; bits */
};

/* What was free when an allocation failed, seen by the program of its event. */
struct free_lists {
	__u64 time;      /* CLOCK_MONOTONIC; nanoseconds */
	__u64 requested; /* asked for, 0 where it follows from cache or order; bytes */
	char comm[16];   /* command name of the thread that ran; text */
	__u32 pid;       /* that thread, in the initial namespace; pid */
	__u32 cgroup;    /* 1 where its memory cgroup or one above had no room for the request; flag */
	struct zone_state zones[16]; /* in the order of zone_places */
};

/* Where the populated zones are; written by Python. */
struct zone_places {
	__u64 address[16]; /* of a zone, 0 after the last; address */
};

#endif
