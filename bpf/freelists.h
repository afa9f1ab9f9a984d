/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * What was free when an allocation failed: the state of the zones at that very moment, read from the kernel's own structs
 * at offsets that BTF gives (kmwatch/sources/freelists.py). A row of the ledger keeps its last state; failures often come
 * by the thousand, so it is renewed once a second at most, and all others cost a lookup.
 *
 * The way to the zones: a task's memory cgroup has an LRU list for each node, which points to the node (pg_data_t). It is
 * gone once, while calibrating, in kmwatch's own process. That the lists do without a lock is as in the kernel's own test
 * of the watermarks: the numbers are of one moment, give or take what other CPUs do in it.
 */
#ifndef KMWATCH_FREELISTS_H
#define KMWATCH_FREELISTS_H

#ifdef ZONE_SIZE

#define FREE_LISTS_ROWS 256
#define FREE_LISTS_LAST 1000000000ULL /* nanoseconds for which a state is not renewed */
#define CGROUP_LEVELS 16

/* A program's own place. An interrupt that a second copy serves (again.h) shares it: its state is of the same moment. */
struct free_lists_scratch {
	struct free_lists made;
	u8 zone[ZONE_SIZE];
};

BPF_ARRAY(nodes, u64, NODES); /* address of each node, 0 where it is not found */
BPF_ARRAY(zone_places, struct zone_places, 1);
BPF_HASH(free_lists, struct ledger_key, struct free_lists, FREE_LISTS_ROWS);
BPF_ARRAY(free_lists_count, u64, 1);
BPF_PERCPU_ARRAY(free_lists_scratch, struct free_lists_scratch, KINDS);

static __always_inline u64 word_at(u64 address)
{
	u64 word = 0;

	bpf_probe_read_kernel(&word, 8, (void *)address);
	return word;
}

static __always_inline u64 own_cgroup(void)
{
	u64 css_set = word_at(bpf_get_current_task() + TASK_CGROUPS), css = word_at(css_set + CSS_SET_MEMORY);

	return css ? css - MEMCG_CSS : 0;
}

/*
 * A cgroup knows a node only after memory of it was charged there (mem_cgroup_lruvec() of include/linux/memcontrol.h), so
 * those above are asked as well.
 */
static __always_inline void find_nodes(void)
{
	u64 memcg = own_cgroup();

#pragma clang loop unroll(disable)
	for (int level = 0; level < CGROUP_LEVELS && memcg; level++) {
#pragma clang loop unroll(disable)
		for (u32 n = 0; n < NODES; n++) {
			u32 place = n, id = ~0; /* a loop's counter stays in a register, for verifiers before Linux 6.x */
			u64 *known = nodes.lookup(&place), of_node, node;

			if (!known || *known)
				continue;
			of_node = word_at(memcg + MEMCG_NODEINFO + 8 * n);
			node = word_at(of_node + NODEINFO_PGDAT);
			bpf_probe_read_kernel(&id, 4, (void *)(node + PGDAT_NODE_ID));
			if (of_node && node && id == n)
				*known = node;
		}
		memcg = word_at(memcg + MEMCG_CSS + CSS_PARENT);
		memcg = memcg ? memcg - MEMCG_CSS : 0;
	}
}

/*
 * Whether a memory cgroup of the running task has no room. Slab objects are charged with a pointer's size added, and in
 * whole pages (obj_cgroup_charge() of mm/memcontrol.c). Interrupts charge nobody; caches may be charged without a flag.
 */
static __always_inline bool cgroup_is_full(struct ledger_key *key, u64 requested)
{
	u64 pages = key->kind == KIND_PAGE_ALLOC ? 1ULL << (key->order & 31) : (requested + 8) / PAGE_SIZE + 1;
	u64 counter = own_cgroup();

	if (key->context & (CONTEXT_SOFTIRQ | CONTEXT_HARDIRQ | CONTEXT_NMI) || !counter)
		return false;
	if (!(key->gfp & GFP_ACCOUNT) && key->kind != KIND_CACHE_ALLOC)
		return false;
	counter += MEMCG_MEMORY;
#pragma clang loop unroll(disable)
	for (int level = 0; level < CGROUP_LEVELS && counter; level++) {
		if (word_at(counter + COUNTER_USAGE) + pages > word_at(counter + COUNTER_MAX))
			return true;
		counter = word_at(counter + COUNTER_PARENT);
	}
	return false;
}

#define MEMBER_OF(zone, offset) (*(u64 *)((zone) + (offset)))

/* `zone` is a copy of the struct at `address`: an empty list is one that points to itself, there. */
static __always_inline void look_at_zone(struct zone_state *state, u8 *zone, u64 address)
{
	state->free = MEMBER_OF(zone, ZONE_FREE);
	state->cma = MEMBER_OF(zone, ZONE_CMA);
	state->managed = MEMBER_OF(zone, ZONE_MANAGED);
	state->boost = MEMBER_OF(zone, ZONE_BOOST);
	state->highatomic = MEMBER_OF(zone, ZONE_HIGHATOMIC);
#pragma unroll
	for (int i = 0; i < 3; i++)
		state->watermark[i] = MEMBER_OF(zone, ZONE_WATERMARK + 8 * i);
#pragma unroll
	for (int i = 0; i < RESERVES; i++)
		state->reserve[i] = MEMBER_OF(zone, ZONE_RESERVE + 8 * i);
#pragma clang loop unroll(disable)
	for (u32 order = 0; order < ORDERS; order++) {
		u32 area = ZONE_AREAS + order * AREA_SIZE, owners = 0;

		state->blocks[order] = MEMBER_OF(zone, area + AREA_COUNT);
#pragma unroll
		for (u32 type = 0; type < MIGRATE_TYPES; type++) {
			u32 list = area + AREA_LISTS + 16 * type;
			u64 other = MEMBER_OF(zone, list) - (address + list), minus = -other;

			asm volatile("" : "+r"(minus)); /* or the compiler makes a branch of it, and the verifier two paths */
			owners |= (u32)((other | minus) >> 63) << type;
		}
		state->owners[order] = owners;
	}
}

static __always_inline void make_free_lists(struct free_lists_scratch *scratch, struct zone_places *places)
{
#pragma clang loop unroll(disable)
	for (u32 i = 0; i < ZONES; i++) {
		u64 address = places->address[i];

		if (!address || bpf_probe_read_kernel(scratch->zone, ZONE_SIZE, (void *)address))
			break;
		look_at_zone(&scratch->made.zones[i], scratch->zone, address);
	}
}

static __always_inline void keep_free_lists(struct ledger_key *key, u64 requested)
{
	struct free_lists *known = free_lists.lookup(key);
	u32 first = 0, kind = key->kind;
	struct free_lists_scratch *scratch = free_lists_scratch.lookup(&kind);
	struct zone_places *places = zone_places.lookup(&first);
	u64 now = bpf_ktime_get_ns(), *count = free_lists_count.lookup(&first);

	if (!scratch || !places || !count || (known ? now - known->time < FREE_LISTS_LAST : *count >= FREE_LISTS_ROWS))
		return;
	make_free_lists(scratch, places);
	scratch->made.time = now;
	scratch->made.requested = requested;
	scratch->made.pid = bpf_get_current_pid_tgid();
	scratch->made.cgroup = cgroup_is_full(key, requested);
	bpf_get_current_comm(scratch->made.comm, sizeof(scratch->made.comm));
	if (!free_lists.update(key, &scratch->made) && !known)
		__sync_fetch_and_add(count, 1);
}

#else
#define find_nodes()
#define keep_free_lists(key, requested)
#endif

#endif
