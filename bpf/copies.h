/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * The entry points of the second copies (again.h): those of compat.h for the busy events, once more. Where only what is
 * held shall be right, they release and nothing else, which may be done twice: objects that RCU gives back come by the
 * hundred in one interrupt, and where that hits the program of these releases, it sees none of them.
 */
#ifndef KMWATCH_COPIES_H
#define KMWATCH_COPIES_H

#ifdef AGAIN
#if PROBE_KMALLOC == RAW
int kmalloc_again(raw_args *ctx)
{
	if (!was_missed(KIND_KMALLOC, ctx->args[1] + 1))
		return 0;
	return on_kmalloc(WAY_AGAIN, ctx, ctx->args[0], ctx->args[1], ctx->args[2], ctx->args[3], ctx->args[4]);
}
#endif

#if PROBE_KFREE == RAW
int kfree_again(raw_args *ctx)
{
	if (!was_missed(KIND_KFREE, ctx->args[1] + 1))
		return 0;
	return on_kfree(WAY_AGAIN, ctx, ctx->args[0], ctx->args[1]);
}
#endif

#if PROBE_KMEM_CACHE_ALLOC == RAW
int kmem_cache_alloc_again(raw_args *ctx)
{
	if (!was_missed(KIND_CACHE_ALLOC, ctx->args[1] + 1))
		return 0;
	return on_cache_alloc(WAY_AGAIN, ctx, ctx->args[0], ctx->args[1], ctx->args[2], 0, 0, ctx->args[3]);
}
#endif

#if PROBE_KMEM_CACHE_FREE == RAW
int kmem_cache_free_again(raw_args *ctx)
{
	if (!was_missed(KIND_CACHE_FREE, ctx->args[1] + 1))
		return 0;
	return on_cache_free(WAY_AGAIN, ctx, ctx->args[0], ctx->args[1], ctx->args[2]);
}
#endif

/*
 * mm_page_free(page, order). The ordinary tracepoint tells the number of the page and not its address: there its order is
 * the mark, and what goes for missed may be the event that the missed one interrupted. Neither's number is known here.
 */
#if PROBE_MM_PAGE_FREE
int mm_page_free_again(raw_args *ctx)
{
	if (!was_missed(KIND_PAGE_FREE, PROBE_MM_PAGE_FREE == RAW ? ctx->args[0] : (u32)ctx->args[1] + 1))
		return 0;
	return on_plain(WAY_AGAIN, ctx, KIND_PAGE_FREE, 0, ctx->args[1], 0, NO_ZONE);
}
#endif
#elif defined(HELD_ROWS)
#if PROBE_KFREE == RAW
int kfree_again(raw_args *ctx)
{
	release(KIND_KFREE, ctx->args[1]);
	return 0;
}
#endif

#if PROBE_KMEM_CACHE_FREE == RAW
int kmem_cache_free_again(raw_args *ctx)
{
	release(KIND_CACHE_FREE, ctx->args[1]);
	return 0;
}
#endif
#endif

#endif
