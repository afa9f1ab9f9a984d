/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * Probes at functions: what no tracepoint tells, or not as well. kmwatch/sources/probes.py holds the functions and the
 * arguments that BTF must show.
 */
#ifndef KMWATCH_FUNCTIONS_H
#define KMWATCH_FUNCTIONS_H

#define KPROBE 3
#define FENTRY 4
#define VM_ALLOC 2 /* include/linux/vmalloc.h: an area of vmalloc */

/* An argument of fentry or fexit, or the result behind them: the verifier lets no pointer to a qualified void be loaded. */
static __always_inline u64 argument(u64 *ctx, u32 number)
{
	u64 value = 0;

	bpf_probe_read_kernel(&value, 8, ctx + number);
	return value;
}

/* __vmalloc_node_range(size, align, start, end, gfp_mask, prot, vm_flags, node, caller), with or without _noprof. */
#if PROBE_VMALLOC == KPROBE
int vmalloc(struct pt_regs *ctx)
{
	return begin_call(ctx, KIND_VMALLOC, ctx->di, ctx->r8);
}

int vmalloc_return(struct pt_regs *ctx)
{
	return end_call(ctx);
}
#elif PROBE_VMALLOC == FENTRY
int vmalloc(u64 *ctx)
{
	return whole_call(ctx, KIND_VMALLOC, argument(ctx, 0), argument(ctx, 4), argument(ctx, 9));
}
#endif

/*
 * Where the compiler has put copies of that function into its callers, by what they all call: first __get_vm_area_node(
 * size, align, flags, start, end, node, gfp_mask, caller), then __vmalloc_area_node(area, gfp_mask, prot, node).
 */
#if PROBE_VMALLOC_AREA == KPROBE
int vmalloc_area(struct pt_regs *ctx)
{
	u64 gfp = 0;

	if (!(ctx->dx & VM_ALLOC))
		return 0;
	bpf_probe_read_kernel(&gfp, 8, (void *)(ctx->sp + 8)); /* the seventh argument */
	return begin_call(ctx, KIND_VMALLOC, ctx->di, gfp);
}

int vmalloc_area_return(struct pt_regs *ctx)
{
	return ctx->ax ? 0 : end_call(ctx);
}
#endif

#if PROBE_VMALLOC_PAGES == KPROBE
int vmalloc_pages_return(struct pt_regs *ctx)
{
	return end_call(ctx);
}
#endif

/* __ioremap_caller(phys_addr, size, pcm, caller, encrypted): every ioremap_…() ends there. */
#if PROBE_IOREMAP == KPROBE
int ioremap(struct pt_regs *ctx)
{
	return begin_call(ctx, KIND_IOREMAP, ctx->si, 0);
}

int ioremap_return(struct pt_regs *ctx)
{
	return end_call(ctx);
}
#elif PROBE_IOREMAP == FENTRY
int ioremap(u64 *ctx)
{
	return whole_call(ctx, KIND_IOREMAP, argument(ctx, 1), 0, argument(ctx, 5));
}
#endif

/* vfree(addr) and iounmap(addr). */
#if PROBE_VFREE == KPROBE
int vfree(struct pt_regs *ctx)
{
	return on_release(WAY_KPROBE, ctx, KIND_VFREE, ctx->di);
}
#elif PROBE_VFREE == FENTRY
int vfree(u64 *ctx)
{
	return on_release(WAY_FENTRY, ctx, KIND_VFREE, argument(ctx, 0));
}
#endif

#if PROBE_IOUNMAP == KPROBE
int iounmap(struct pt_regs *ctx)
{
	return on_release(WAY_KPROBE, ctx, KIND_IOUNMAP, ctx->di);
}
#elif PROBE_IOUNMAP == FENTRY
int iounmap(u64 *ctx)
{
	return on_release(WAY_FENTRY, ctx, KIND_IOUNMAP, argument(ctx, 0));
}
#endif

#endif
