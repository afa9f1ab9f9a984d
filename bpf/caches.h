/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * Name and sizes of each kmem_cache, read from the kernel's own struct at offsets that BTF gives, when a cache is first
 * seen. A cache destroyed and another made at its address is noticed where the name or size differs: the newest wins.
 */
#ifndef KMWATCH_CACHES_H
#define KMWATCH_CACHES_H

BPF_HASH(caches, u64, struct cache_info, CACHE_ROWS);

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
