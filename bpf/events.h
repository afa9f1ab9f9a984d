/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * Every struct and number that crosses between the BPF programs and Python stands once, here or in records.h.
 * kmwatch/schema.py reads both: keep one member a line, each with a comment "what it is; unit". All members are naturally
 * aligned and no struct has padding, so that a key compares by its bytes.
 */
#ifndef KMWATCH_EVENTS_H
#define KMWATCH_EVENTS_H

/* What was observed. The names are those of the command line, the reports and the documentation. */
enum kind {
	KIND_KMALLOC = 1,        /* kmem:kmalloc: an allocation from the size classes, or large, from the page allocator */
	KIND_KFREE = 2,          /* kmem:kfree: release of a kmalloc; kfree(NULL) is left out */
	KIND_CACHE_ALLOC = 3,    /* kmem:kmem_cache_alloc: an object of a named cache */
	KIND_CACHE_FREE = 4,     /* kmem:kmem_cache_free: release of such an object */
	KIND_PAGE_ALLOC = 5,     /* kmem:mm_page_alloc: 2^order contiguous pages */
	KIND_PAGE_FREE = 6,      /* kmem:mm_page_free: release of such pages */
	KIND_VMALLOC = 7,        /* function:vmalloc, or vmalloc:alloc_vmap_area by vmalloc: virtually contiguous memory */
	KIND_VFREE = 8,          /* function:vfree, or vmalloc:free_vmap_area_noflush: release of such memory, or of a vmap */
	KIND_PERCPU_ALLOC = 9,   /* percpu:percpu_alloc_percpu and percpu_alloc_percpu_fail: one copy for every CPU */
	KIND_PERCPU_FREE = 10,   /* percpu:percpu_free_percpu: release of such memory */
	KIND_IOREMAP = 11,       /* function:ioremap, or vmalloc:alloc_vmap_area by it: device memory mapped, none allocated */
	KIND_VMAP = 12,          /* vmalloc:alloc_vmap_area by vmap and others: existing pages mapped, none allocated */
	KIND_EXTFRAG = 13,       /* kmem:mm_page_alloc_extfrag: a page taken from another mobility's block */
	KIND_DIRECT_RECLAIM = 14,/* vmscan:mm_vmscan_direct_reclaim_begin: an allocation must free memory itself first */
	KIND_COMPACTION = 15,    /* compaction:mm_compaction_try_to_compact_pages: an allocation must move pages first */
	KIND_OOM_VICTIM = 16,    /* oom:mark_victim: the kernel kills a process for its memory */
	KIND_IOUNMAP = 17,       /* function:iounmap, or vmalloc:free_vmap_area_noflush by it: device memory mapped no more */
};

#define KINDS 18 /* a place for each kind, as programs of different kinds can interrupt each other */

/* Where the CPU was. No bit set is a process that may sleep. */
enum context {
	CONTEXT_SOFTIRQ = 1,     /* serving a soft interrupt */
	CONTEXT_HARDIRQ = 2,     /* serving a hard interrupt */
	CONTEXT_NMI = 4,         /* serving a non-maskable interrupt */
	CONTEXT_PREEMPT_OFF = 8, /* preemption off: a spinlock held, or preempt_disable() */
	CONTEXT_BH_OFF = 16,     /* bottom halves off: spin_lock_bh(), or local_bh_disable() */
	CONTEXT_IRQS_OFF = 32,   /* interrupts off: only a kprobe sees it, or an imported trace */
	CONTEXT_RCU = 64,        /* inside rcu_read_lock() */
	CONTEXT_UNKNOWN = 128,   /* the kernel does not let us see */
};

/* Allocators that a stack passed through between the function that asked and the event. */
enum via {
	VIA_PAGE = 1,            /* the page allocator itself */
	VIA_SLAB = 2,            /* kmalloc or a cache: this page memory is counted there */
	VIA_VMALLOC = 4,         /* vmalloc: this page memory is counted there */
	VIA_PERCPU = 8,          /* the per-CPU allocator: this page memory is counted there */
	VIA_IOREMAP = 16,        /* ioremap */
	VIA_VMAP = 32,           /* vmap, vm_map_ram */
	VIA_TRACING = 64,        /* the tracing machinery at the top of a stack */
	VIA_KVMALLOC = 128,      /* kvmalloc: a large kmalloc is its first try, and vmalloc its second */
};

#define NO_ZONE 255              /* no zone, node or migrate type is known */
#define LARGE 8192               /* KMALLOC_MAX_CACHE_SIZE: a larger kmalloc comes from the page allocator; bytes */
#define NAME_SIZE 32             /* bytes of a cache's name, the closing zero included */
#define FILL_BUCKETS 8           /* eighths of the size class that a request can fall in */
#define NESTING 256              /* beside enum via, in the table of kernel text: a function that allocates for itself */
#define LIFTED 512               /* the same: a function whose kmalloc tells its own place in place of its caller's */
#define TABLE_SIZE 1024          /* boundaries in a sorted table */

/* One row of the ledger: what is told apart. */
struct ledger_key {
	__u64 site;        /* return address of the call, or of the first frame outside the allocators; address */
	__u64 cache;       /* which kmem_cache, 0 where none; opaque */
	__u32 gfp;         /* GFP flags as passed; mask */
	__u32 bytes_alloc; /* what the allocator takes for one, 0 where it follows from cache, order or request; bytes */
	__u8 kind;         /* enum kind; number */
	__u8 context;      /* enum context; bits */
	__u8 failed;       /* 1 where nothing was allocated, and SEEN_AGAIN in the kernel; bits */
	__u8 via;          /* enum via, of page events and large kmallocs; bits */
	__u8 order;        /* binary logarithm of the number of pages, of page and pressure events; number */
	__u8 zone;         /* index of the zone that the page came from, in /proc/zoneinfo's order; number */
	__u8 node;         /* NUMA node that the page came from; number */
	__u8 migratetype;  /* the kernel's enum migratetype; number */
};

/* One row of the ledger: what is counted. */
struct ledger_value {
	__u64 count;           /* events; count */
	__u64 bytes_requested; /* asked for; bytes */
	__u32 min_request;     /* smallest request, valid where count > 0; bytes */
	__u32 max_request;     /* largest request; bytes */
	__u32 fill[8];         /* requests by eighth of the power of two at or above the size class, modulo 2^32; count */
	__u32 fill_shift;      /* binary logarithm of such an eighth; number */
	__u32 unused;          /* keeps the size a multiple of eight; none */
};

/* A row in front of the ledger; one with kind 0 is free. */
struct front_row {
	struct ledger_key key;
	struct ledger_value value;
};

/* The programs that have a front. */
enum front {
	FRONT_KMALLOC = 0,     /* kmem:kmalloc */
	FRONT_KFREE = 1,       /* kmem:kfree */
	FRONT_CACHE_ALLOC = 2, /* kmem:kmem_cache_alloc */
	FRONT_CACHE_FREE = 3,  /* kmem:kmem_cache_free */
};
#define FRONTS 4 /* how many they are */
#define NO_FRONT FRONTS /* of a kind that is not busy */
#define FRONT_AGAIN (FRONTS + 1) /* of the second copy of a program, see again.h */
#define SEEN_AGAIN 2 /* in `failed`: rows of their own, since a copy can run while its first adds to its rows */

/* What a kmem_cache is, read once when it is first seen. */
struct cache_info {
	char name[32];     /* name of the cache; text */
	__u32 object_size; /* what the owner asked for; bytes */
	__u32 size;        /* what an object takes, alignment and debugging included; bytes */
};

/* What the programs do with an event. */
enum phase {
	PHASE_CALIBRATING = 0, /* learn what the probe machinery itself adds */
	PHASE_COUNTING = 1,    /* count */
	PHASE_STOPPED = 2,     /* nothing: the span is over, the programs are being detached */
};

/* How a program is attached: what the probe machinery adds to preempt_count differs. */
enum way {
	WAY_RAW = 0,        /* raw tracepoint */
	WAY_TRACEPOINT = 1, /* ordinary tracepoint */
	WAY_KPROBE = 2,     /* kprobe at a function's entry, kretprobe where its result is wanted */
	WAY_FENTRY = 3,     /* fentry, or fexit where the function's result is wanted */
	WAY_AGAIN = 4,      /* raw tracepoint, the second copy of a program */
};
#define WAYS 5 /* how many they are */

/* What the programs of one way need to know; written by Python, except what calibration finds. */
struct config {
	__u32 phase;          /* enum phase; number */
	__u32 self_tgid;      /* kmwatch's own process in the initial namespace, found by calibration; pid */
	__u32 preempt_depth;  /* preemption depth that the probe machinery itself adds; number */
	__u32 rcu_depth;      /* RCU nesting that the probe machinery itself adds; number */
	__u32 samples;        /* events that calibration saw; count */
	__u32 own_tgid;       /* kmwatch's own process in its own namespace, which may be a container's; pid */
	__u64 own_ns_dev;     /* device of that namespace; number */
	__u64 own_ns_ino;     /* inode of that namespace; number */
	__u64 per_cpu_offset; /* address of the kernel's __per_cpu_offset table, 0 where not known; address */
};

/* What is left out to keep the cost down; all 0 where nothing is. Written by Python. */
struct sampling {
	__u64 key;      /* odd factor that spreads events, so that no rhythm of a caller falls in with them; number */
	__u64 mask;     /* which bits of that product are 0 for an event that is kept: one of 2^n has n of them; mask */
	__u32 dropped;  /* kinds that are left out altogether, 1 << enum kind; bits */
	__u32 unused;   /* keeps the size a multiple of eight; none */
};

/* What came of it, by kind. */
struct sampled {
	__u64 seen;     /* events while something was left out; count */
	__u64 left_out; /* of which were left out; count */
};

/* Losses, each kept by one slot of a per-CPU array. */
enum counter {
	COUNTER_MAP_FULL = 0,       /* events whose row found no room in the ledger */
	COUNTER_LOST = 1,           /* events whose row could not be made for another reason */
	COUNTER_DUPLICATES = 2,     /* second events of one large kmalloc, counted once */
	COUNTER_STACK_FAILED = 3,   /* events whose stack could not be read: their site is unknown */
	COUNTER_STACK_DEEP = 4,     /* stacks that did not leave the allocators within the frames read */
	COUNTER_STACKS_FULL = 5,    /* recorded events without the stack wanted: the table of stacks was full */
	COUNTER_TASKS_FULL = 6,     /* recorded events without command name and cgroup: the table of tasks was full */
};
#define COUNTERS 7 /* how many they are */

/* A sorted table: boundary[i] starts a stretch that means meaning[i]. boundary[0] is 0; unused ends are 2^62. */
struct table {
	__u64 boundary[1024]; /* where the stretch begins; address or page frame number */
	__u16 meaning[1024]; /* enum via of a stretch of kernel text, or node << 8 | zone of page frames; number */
};

#endif
