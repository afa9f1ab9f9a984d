/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * Name and sizes of each kmem_cache, read from the kernel's own struct at offsets that BTF gives, when a row of it is
 * made. A cache made at the address of one that was destroyed goes under the first one's name: caches come and go with
 * modules, and the ledger has no other way to tell the two apart.
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
