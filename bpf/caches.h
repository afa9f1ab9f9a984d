/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * Name and sizes of each kmem_cache, read from the kernel's own struct at offsets that BTF gives, when a row of it is
 * made. A cache made at the address of one that was destroyed goes under the first one's name: caches come and go with
 * modules, and the ledger has no other way to tell the two apart.
 */
#ifndef KMWATCH_CACHES_H
#define KMWATCH_CACHES_H

BPF_HASH(caches, u64, struct cache_info, CACHE_ROWS);

/*
 * The cache of an object whose event does not tell it, by the page that the object lies in: struct page, since Linux
 * commit d122019bf061 ("mm: Split slab into its own type"; in v5.17) struct slab, names it. 0 where that cannot be seen.
 */
static __always_inline u64 cache_of(u64 ptr)
{
	u64 cache = 0;
#ifdef SLAB_CACHE
	u64 direct = 0, pages = 0, page, head = 0;

	if (!ptr)
		return 0;
	bpf_probe_read_kernel(&direct, 8, (void *)PAGE_OFFSET_BASE);
	bpf_probe_read_kernel(&pages, 8, (void *)VMEMMAP_BASE);
	page = pages + (ptr - direct) / PAGE_SIZE * PAGE_STRUCT;
	bpf_probe_read_kernel(&head, 8, (void *)(page + PAGE_HEAD));
	if (head & 1) /* a further page of a larger one */
		page = head - 1;
	bpf_probe_read_kernel(&cache, 8, (void *)(page + SLAB_CACHE));
#endif
	return cache;
}

static __always_inline void learn_cache(u64 cache)
{
#ifdef CACHE_NAME
	struct cache_info info = {};
	u64 name = 0;

	if (caches.lookup(&cache))
		return;
	bpf_probe_read_kernel(&name, 8, (void *)(cache + CACHE_NAME));
	bpf_probe_read_kernel_str(info.name, sizeof(info.name), (void *)name);
	bpf_probe_read_kernel(&info.object_size, 4, (void *)(cache + CACHE_OBJECT_SIZE));
	bpf_probe_read_kernel(&info.size, 4, (void *)(cache + CACHE_SIZE));
	caches.update(&cache, &info);
#endif
}

#endif
