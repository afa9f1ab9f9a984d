// SPDX-License-Identifier: GPL-2.0
/*
 * Commit allocations on request and say what was really done: the ground truth for kmwatch's tests.
 *
 * Writing one line to /sys/kernel/debug/kmwatch_lab/run does an experiment and returns when it is over; reading
 * `result` beside it gives one line of JSON.
 *
 *	op=kmalloc ctx=spin n=37 size=100 gfp=0x820 order=0 align=8 flags=hold
 *
 * op	 kmalloc kzalloc krealloc kvmalloc cache get_free_pages alloc_pages vmalloc vzalloc percpu ioremap, or release
 * ctx	 process (default) spin preempt bh rcu irqsoff softirq tasklet hardirq irqwork workqueue
 * keep N, with flags=hold: keep one object of N and free the others at once, a leak; 1 by default
 * flags hold (keep until op=release), until_failure (stop at the first failure, or at that of failures=N; free before
 *	 returning), ctor (of the cache); exhausted, fragmented: the state that memory is in meanwhile, see
 *	 lab_fill_memory(); several with commas
 *
 * Every op has a function of its own for allocating and one for freeing, so that the call site of an allocation is
 * lab_kmalloc+0x..., lab_cache+0x..., whatever the context. Without hold or until_failure each object is freed before
 * the next is allocated. A word that an op has no use for (order of a kmalloc, gfp of a vmalloc) is ignored; `result`
 * tells what was used.
 *
 * Sins are the point: GFP_KERNEL under a spinlock or in an interrupt is done as asked, since with plenty of free memory
 * nothing sleeps. What could really hang or crash the machine is refused with -EOPNOTSUPP, see lab_refuse().
 */
#include <linux/bits.h>
#include <linux/completion.h>
#include <linux/debugfs.h>
#include <linux/gfp.h>
#include <linux/hrtimer.h>
#include <linux/interrupt.h>
#include <linux/io.h>
#include <linux/irq_work.h>
#include <linux/kernel.h>
#include <linux/list.h>
#include <linux/log2.h>
#include <linux/mm.h>
#include <linux/mmzone.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/percpu.h>
#include <linux/preempt.h>
#include <linux/rcupdate.h>
#include <linux/seq_file.h>
#include <linux/slab.h>
#include <linux/spinlock.h>
#include <linux/string.h>
#include <linux/timer.h>
#include <linux/uaccess.h>
#include <linux/version.h>
#include <linux/vmalloc.h>
#include <linux/workqueue.h>

/* All that differs between kernels stands here. */

/* 9b13df3fb64e ("timers: Rename del_timer_sync() to timer_delete_sync()"; in v6.2) */
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 2, 0)
#define timer_delete_sync(timer) del_timer_sync(timer)
#endif

/*
 * 908a1d775422 ("hrtimers: Introduce hrtimer_setup() to replace hrtimer_init()"; in v6.13). Stable kernels before it
 * have been given it as well, and have kept hrtimer_init().
 */
static void lab_hrtimer_setup(struct hrtimer *timer, enum hrtimer_restart (*function)(struct hrtimer *))
{
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 13, 0)
	hrtimer_init(timer, CLOCK_MONOTONIC, HRTIMER_MODE_REL_HARD);
	timer->function = function;
#else
	hrtimer_setup(timer, function, CLOCK_MONOTONIC, HRTIMER_MODE_REL_HARD);
#endif
}

/*
 * 7a9f50a05843 ("irq_work: Cleanup"; in v5.11). What is queued without it runs in a hard interrupt as well, except on
 * PREEMPT_RT, which had to be patched in at that time.
 */
#ifndef IRQ_WORK_INIT_HARD
#define IRQ_WORK_INIT_HARD(function) { .func = (function) }
#endif

/*
 * d0bf7d5759c1 ("mm/slab: introduce kmem_cache flag SLAB_NO_MERGE"; in v6.5). Before it the region for user copies,
 * which the cache has on every kernel, keeps it from being merged.
 */
#ifndef SLAB_NO_MERGE
#define SLAB_NO_MERGE 0
#endif

/*
 * 5e0a760b4441 ("mm, treewide: rename MAX_ORDER to MAX_PAGE_ORDER"; in v6.8). Before 23baf831a32c ("mm, treewide:
 * redefine MAX_ORDER sanely"; in v6.4) MAX_ORDER itself was one too large.
 */
#ifdef MAX_PAGE_ORDER
#define LAB_MAX_ORDER MAX_PAGE_ORDER
#elif LINUX_VERSION_CODE >= KERNEL_VERSION(6, 4, 0)
#define LAB_MAX_ORDER MAX_ORDER
#else
#define LAB_MAX_ORDER (MAX_ORDER - 1)
#endif

#define LAB_MAX_LINE 256
#define LAB_MAX_N (1U << 20) /* all pages of 4 GiB */
#define LAB_FEW 64
#define LAB_MAX_SIZE (1UL << 30)
#define LAB_ATOMIC_BYTES (4ULL << 30) /* clearing them takes seconds, in which the CPU does nothing else */

/* Registers of the chipset of every PC, HPET first, local APIC behind it: never RAM. Mapped and never touched. */
#define LAB_MMIO 0xfed00000UL
#define LAB_MMIO_SIZE 0x100000UL

enum { LAB_HOLD = 1, LAB_UNTIL_FAILURE = 2, LAB_CTOR = 4, LAB_EXHAUSTED = 8, LAB_FRAGMENTED = 16 };

struct lab_op;
struct lab_ctx;

struct lab_request {
	const struct lab_op *op; /* NULL: release */
	const struct lab_ctx *ctx;
	unsigned int n, order, align, flags, failures, keep;
	unsigned long size; /* of each allocation, that of 2^order pages included */
	gfp_t gfp;
};

struct lab_op {
	const char *name;
	void *(*alloc)(const struct lab_request *request);
	void (*free)(void *object, unsigned int order);
	gfp_t gfp_set; /* flags that the allocator adds */
	bool gfp_fixed; /* the allocator takes no flags, it uses gfp_set */
	bool sleeps;
	bool pages;
};

struct lab_ctx {
	const char *name;
	void (*run)(void);
	bool may_sleep; /* also holds for PREEMPT_RT, where most of the others may as well */
	bool always_atomic; /* even on PREEMPT_RT */
};

/* Objects that one run has to remember. */
struct lab_batch {
	struct list_head list;
	const struct lab_op *op;
	unsigned int order, count;
	bool sleeps; /* in freeing */
	void *objects[];
};

/* Stands in the pages that it describes: keeping account of them must not allocate. */
struct lab_block {
	struct lab_block *next;
	unsigned int order;
};

struct lab_result {
	int error;
	unsigned int done, failed;
	unsigned int vmapped; /* kvmalloc: its first try failed, vmalloc did it */
	unsigned int preempt_min, preempt_max;
	unsigned long filled; /* pages */
	unsigned long free_pages, free_blocks; /* at the first failure, in the zones that were asked */
	bool irqs_disabled, in_softirq, in_hardirq; /* at every single step */
};

static DEFINE_MUTEX(lab_mutex); /* one run at a time; guards everything below */
static LIST_HEAD(lab_held);
static struct lab_request lab_request;
static struct lab_result lab_result;
static struct lab_batch *lab_batch; /* of the current run, NULL where each object is freed at once */
static struct lab_block *lab_filling; /* what keeps memory exhausted or fragmented during a run */
static struct lab_own_cache {
	struct kmem_cache *cache;
	unsigned long size;
	unsigned int align;
	bool ctor;
} lab_caches[8];
static struct kmem_cache *lab_kmem_cache; /* one of them, that of the last run */
static struct dentry *lab_dir;

/*
 * The call sites. A barrier() behind each call keeps the compiler from jumping into the allocator, which would make the
 * caller of lab_kmalloc() the call site. Those that are called by
 * pointer only have no clones with other names; the others are told not to.
 */

static noinline void *lab_kmalloc(const struct lab_request *request)
{
	void *object = kmalloc(request->size, request->gfp);

	barrier();
	return object;
}

static noinline void *lab_kzalloc(const struct lab_request *request)
{
	void *object = kzalloc(request->size, request->gfp);

	barrier();
	return object;
}

/* What is to be grown, at a site of its own. */
static noinline __noclone void *lab_krealloc_first(unsigned long size, gfp_t gfp)
{
	void *object = kmalloc(size, gfp);

	barrier();
	return object;
}

static noinline __noclone void lab_kfree(void *object, unsigned int order)
{
	kfree(object);
	barrier();
}

/* From half the size, which lies in a smaller kmalloc cache; the smallest have none below and start from nothing. */
static noinline void *lab_krealloc(const struct lab_request *request)
{
	void *object = NULL, *grown;

	if (request->size > 8) {
		object = lab_krealloc_first(request->size / 2, request->gfp);
		if (!object)
			return NULL;
	}
	grown = krealloc(object, request->size, request->gfp);
	if (!grown)
		lab_kfree(object, 0);
	return grown;
}

static noinline void *lab_kvmalloc(const struct lab_request *request)
{
	void *object = kvmalloc(request->size, request->gfp);

	barrier();
	return object;
}

static noinline void lab_kvfree(void *object, unsigned int order)
{
	kvfree(object);
	barrier();
}

static noinline void *lab_cache(const struct lab_request *request)
{
	void *object = kmem_cache_alloc(lab_kmem_cache, request->gfp);

	barrier();
	return object;
}

static noinline void lab_cache_free(void *object, unsigned int order)
{
	kmem_cache_free(lab_kmem_cache, object);
	barrier();
}

static noinline void *lab_get_free_pages(const struct lab_request *request)
{
	unsigned long address = __get_free_pages(request->gfp, request->order);

	barrier();
	return (void *)address;
}

static noinline void lab_free_pages(void *object, unsigned int order)
{
	free_pages((unsigned long)object, order);
	barrier();
}

static noinline void *lab_alloc_pages(const struct lab_request *request)
{
	struct page *page = alloc_pages(request->gfp, request->order);

	barrier();
	return page;
}

static noinline void lab_put_pages(void *object, unsigned int order)
{
	__free_pages(object, order);
	barrier();
}

static noinline void *lab_vmalloc(const struct lab_request *request)
{
	void *object = vmalloc(request->size);

	barrier();
	return object;
}

static noinline void *lab_vzalloc(const struct lab_request *request)
{
	void *object = vzalloc(request->size);

	barrier();
	return object;
}

static noinline void lab_vfree(void *object, unsigned int order)
{
	vfree(object);
	barrier();
}

static noinline void *lab_percpu(const struct lab_request *request)
{
	void __percpu *object = __alloc_percpu_gfp(request->size, request->align ?: 8, request->gfp);

	barrier();
	return (__force void *)object;
}

static noinline void lab_free_percpu(void *object, unsigned int order)
{
	free_percpu((__force void __percpu *)object);
	barrier();
}

static noinline void *lab_ioremap(const struct lab_request *request)
{
	void __iomem *object = ioremap(LAB_MMIO, request->size);

	barrier();
	return (__force void *)object;
}

static noinline void lab_iounmap(void *object, unsigned int order)
{
	iounmap((__force void __iomem *)object);
	barrier();
}

static const struct lab_op lab_ops[] = {
	{ .name = "kmalloc", .alloc = lab_kmalloc, .free = lab_kfree },
	{ .name = "kzalloc", .alloc = lab_kzalloc, .free = lab_kfree, .gfp_set = __GFP_ZERO },
	{ .name = "krealloc", .alloc = lab_krealloc, .free = lab_kfree },
	{ .name = "kvmalloc", .alloc = lab_kvmalloc, .free = lab_kvfree },
	{ .name = "cache", .alloc = lab_cache, .free = lab_cache_free },
	{ .name = "get_free_pages", .alloc = lab_get_free_pages, .free = lab_free_pages, .pages = true },
	{ .name = "alloc_pages", .alloc = lab_alloc_pages, .free = lab_put_pages, .pages = true },
	{ .name = "vmalloc", .alloc = lab_vmalloc, .free = lab_vfree,
	  .gfp_set = GFP_KERNEL, .gfp_fixed = true, .sleeps = true },
	{ .name = "vzalloc", .alloc = lab_vzalloc, .free = lab_vfree,
	  .gfp_set = GFP_KERNEL | __GFP_ZERO, .gfp_fixed = true, .sleeps = true },
	{ .name = "percpu", .alloc = lab_percpu, .free = lab_free_percpu },
	{ .name = "ioremap", .alloc = lab_ioremap, .free = lab_iounmap,
	  .gfp_set = GFP_KERNEL, .gfp_fixed = true, .sleeps = true },
};

/* What is done in the context asked for. */

static void lab_note_context(void)
{
	unsigned int count = preempt_count();

	lab_result.preempt_min = min(lab_result.preempt_min, count);
	lab_result.preempt_max = max(lab_result.preempt_max, count);
	lab_result.irqs_disabled &= irqs_disabled();
	lab_result.in_softirq &= !!in_serving_softirq();
	lab_result.in_hardirq &= !!hardirq_count();
}

/*
 * What is left in the zones that a request may use; free_blocks are large enough for it. Nearly all of ZONE_DMA is
 * reserved for those that can use nothing else.
 */
static void lab_note_failure(const struct lab_request *request)
{
	int zone_index = gfp_zone(request->gfp), least = zone_index == ZONE_DMA ? ZONE_DMA : ZONE_DMA + 1;
	unsigned int order, wanted = request->op->pages ? request->order : get_order(request->size);

	for (; zone_index >= least; zone_index--) {
		const struct zone *zone = &NODE_DATA(numa_mem_id())->node_zones[zone_index];

		for (order = 0; order <= LAB_MAX_ORDER; order++) {
			unsigned long blocks = READ_ONCE(zone->free_area[order].nr_free);

			lab_result.free_pages += blocks << order;
			if (order >= wanted)
				lab_result.free_blocks += blocks;
		}
	}
}

static void lab_free_batch(struct lab_batch *batch)
{
	while (batch->count)
		batch->op->free(batch->objects[--batch->count], batch->order);
}

static void lab_release_held(void)
{
	struct lab_batch *batch;

	list_for_each_entry(batch, &lab_held, list) {
		lab_note_context();
		lab_result.done += batch->count;
		lab_free_batch(batch);
	}
}

static void lab_allocate(void)
{
	const struct lab_request *request = &lab_request;
	unsigned int i;
	void *object;

	for (i = 0; i < request->n; i++) {
		lab_note_context();
		object = request->op->alloc(request);
		if (!object) {
			if (!lab_result.failed++)
				lab_note_failure(request);
			if ((request->flags & LAB_UNTIL_FAILURE) && lab_result.failed == request->failures)
				break;
			continue;
		}
		lab_result.done++;
		if (request->op->alloc == lab_kvmalloc && is_vmalloc_addr(object))
			lab_result.vmapped++;
		if (lab_batch && i % request->keep == 0)
			lab_batch->objects[lab_batch->count++] = object;
		else
			request->op->free(object, request->order);
	}
	if (request->flags & LAB_UNTIL_FAILURE)
		lab_free_batch(lab_batch);
}

static void lab_work(void)
{
	if (lab_request.op)
		lab_allocate();
	else
		lab_release_held();
}

/* The contexts. Those that are called back complete lab_over and are waited for until their function has returned. */

static DEFINE_SPINLOCK(lab_lock);
static DECLARE_COMPLETION(lab_over);
static struct hrtimer lab_hrtimer;
static struct timer_list lab_timer;
static struct tasklet_struct lab_tasklet;

static void lab_in_spin(void)
{
	spin_lock(&lab_lock);
	lab_work();
	spin_unlock(&lab_lock);
}

static void lab_in_preempt(void)
{
	preempt_disable();
	lab_work();
	preempt_enable();
}

static void lab_in_bh(void)
{
	local_bh_disable();
	lab_work();
	local_bh_enable();
}

static void lab_in_rcu(void)
{
	rcu_read_lock();
	lab_work();
	rcu_read_unlock();
}

static void lab_in_irqsoff(void)
{
	local_irq_disable();
	lab_work();
	local_irq_enable();
}

static void lab_timer_function(struct timer_list *timer)
{
	lab_work();
	complete(&lab_over);
}

static void lab_in_softirq(void)
{
	timer_setup(&lab_timer, lab_timer_function, 0);
	mod_timer(&lab_timer, jiffies + 1);
	wait_for_completion(&lab_over);
	timer_delete_sync(&lab_timer);
}

static void lab_tasklet_function(struct tasklet_struct *tasklet)
{
	lab_work();
	complete(&lab_over);
}

static void lab_in_tasklet(void)
{
	tasklet_setup(&lab_tasklet, lab_tasklet_function);
	tasklet_schedule(&lab_tasklet);
	wait_for_completion(&lab_over);
	tasklet_kill(&lab_tasklet);
}

static enum hrtimer_restart lab_hrtimer_function(struct hrtimer *timer)
{
	lab_work();
	complete(&lab_over);
	return HRTIMER_NORESTART;
}

static void lab_in_hardirq(void)
{
	lab_hrtimer_setup(&lab_hrtimer, lab_hrtimer_function);
	hrtimer_start(&lab_hrtimer, ms_to_ktime(1), HRTIMER_MODE_REL_HARD);
	wait_for_completion(&lab_over);
	hrtimer_cancel(&lab_hrtimer);
}

static void lab_irq_work_function(struct irq_work *work)
{
	lab_work();
	complete(&lab_over);
}

static struct irq_work lab_irq_work = IRQ_WORK_INIT_HARD(lab_irq_work_function);

static void lab_in_irqwork(void)
{
	irq_work_queue(&lab_irq_work);
	wait_for_completion(&lab_over);
	irq_work_sync(&lab_irq_work);
}

static void lab_work_function(struct work_struct *work)
{
	lab_work();
}

static DECLARE_WORK(lab_work_struct, lab_work_function);

static void lab_in_workqueue(void)
{
	schedule_work(&lab_work_struct);
	flush_work(&lab_work_struct);
}

static const struct lab_ctx lab_ctxs[] = {
	{ .name = "process", .run = lab_work, .may_sleep = true },
	{ .name = "spin", .run = lab_in_spin },
	{ .name = "preempt", .run = lab_in_preempt, .always_atomic = true },
	{ .name = "bh", .run = lab_in_bh },
	{ .name = "rcu", .run = lab_in_rcu },
	{ .name = "irqsoff", .run = lab_in_irqsoff, .always_atomic = true },
	{ .name = "softirq", .run = lab_in_softirq },
	{ .name = "tasklet", .run = lab_in_tasklet },
	{ .name = "hardirq", .run = lab_in_hardirq, .always_atomic = true },
	{ .name = "irqwork", .run = lab_in_irqwork, .always_atomic = true },
	{ .name = "workqueue", .run = lab_in_workqueue, .may_sleep = true },
};

/* The request. */

static int lab_parse_flags(char *text, unsigned int *flags)
{
	char *word;

	while ((word = strsep(&text, ","))) {
		if (!strcmp(word, "hold"))
			*flags |= LAB_HOLD;
		else if (!strcmp(word, "until_failure"))
			*flags |= LAB_UNTIL_FAILURE;
		else if (!strcmp(word, "ctor"))
			*flags |= LAB_CTOR;
		else if (!strcmp(word, "exhausted"))
			*flags |= LAB_EXHAUSTED;
		else if (!strcmp(word, "fragmented"))
			*flags |= LAB_FRAGMENTED;
		else if (*word)
			return -EINVAL;
	}
	return 0;
}

static int lab_parse_op(const char *name, struct lab_request *request)
{
	size_t i;

	for (i = 0; i < ARRAY_SIZE(lab_ops); i++) {
		if (!strcmp(name, lab_ops[i].name)) {
			request->op = &lab_ops[i];
			return 0;
		}
	}
	return strcmp(name, "release") ? -EINVAL : 0;
}

static int lab_parse_ctx(const char *name, struct lab_request *request)
{
	size_t i;

	for (i = 0; i < ARRAY_SIZE(lab_ctxs); i++) {
		if (!strcmp(name, lab_ctxs[i].name)) {
			request->ctx = &lab_ctxs[i];
			return 0;
		}
	}
	return -EINVAL;
}

static int lab_parse_word(char *key, char *value, struct lab_request *request, bool *has_op)
{
	unsigned int gfp;
	int error;

	if (!strcmp(key, "op")) {
		*has_op = true;
		return lab_parse_op(value, request);
	}
	if (!strcmp(key, "ctx"))
		return lab_parse_ctx(value, request);
	if (!strcmp(key, "n"))
		return kstrtouint(value, 0, &request->n);
	if (!strcmp(key, "size"))
		return kstrtoul(value, 0, &request->size);
	if (!strcmp(key, "order"))
		return kstrtouint(value, 0, &request->order);
	if (!strcmp(key, "align"))
		return kstrtouint(value, 0, &request->align);
	if (!strcmp(key, "failures"))
		return kstrtouint(value, 0, &request->failures);
	if (!strcmp(key, "keep"))
		return kstrtouint(value, 0, &request->keep);
	if (!strcmp(key, "flags"))
		return lab_parse_flags(value, &request->flags);
	if (strcmp(key, "gfp"))
		return -EINVAL;
	error = kstrtouint(value, 0, &gfp);
	request->gfp = (__force gfp_t)gfp;
	return error;
}

static int lab_parse(char *line, struct lab_request *request)
{
	bool has_op = false;
	char *word;
	int error;

	*request = (struct lab_request){ .ctx = &lab_ctxs[0], .n = 1, .failures = 1, .keep = 1, .size = 64,
					 .gfp = GFP_KERNEL };
	while ((word = strsep(&line, " \t\n"))) {
		char *value = strchr(word, '=');

		if (!*word)
			continue;
		if (!value)
			return -EINVAL;
		*value++ = '\0';
		error = lab_parse_word(word, value, request, &has_op);
		if (error)
			return -EINVAL;
	}
	if (!has_op || !request->n || request->n > LAB_MAX_N || !request->size || request->size > LAB_MAX_SIZE ||
	    !request->failures || !request->keep ||
	    (request->align && !is_power_of_2(request->align)) || (request->gfp & ~__GFP_BITS_MASK) ||
	    ((request->flags & LAB_HOLD) && (request->flags & LAB_UNTIL_FAILURE)))
		return -EINVAL;
	return 0;
}

/* Replace what this op does not read by what it uses. */
static void lab_settle(struct lab_request *request)
{
	const struct lab_op *op = request->op;

	if (!op) {
		request->n = 0;
		request->size = 0;
		request->gfp = 0;
	} else {
		if (op->gfp_fixed)
			request->gfp = 0;
		request->gfp |= op->gfp_set;
	}
	if (op && op->pages)
		request->size = PAGE_SIZE << min_t(unsigned int, request->order, LAB_MAX_ORDER + 1);
	else
		request->order = 0;
	if (!op || (op->alloc != lab_cache && op->alloc != lab_percpu))
		request->align = 0;
	if (!op || op->alloc != lab_cache)
		request->flags &= ~LAB_CTOR;
	if (!op)
		request->flags &= ~(LAB_EXHAUSTED | LAB_FRAGMENTED);
}

/* Would allocating or freeing have to sleep, however much memory is free? */
static bool lab_op_sleeps(const struct lab_op *op, unsigned long size, gfp_t gfp)
{
	if (op->alloc == lab_kvmalloc) /* falls back to vmalloc */
		return size > PAGE_SIZE;
	if (op->alloc == lab_percpu) /* takes a mutex */
		return gfp & __GFP_DIRECT_RECLAIM;
	return op->sleeps;
}

/* Is there so much memory that no allocation of this run will wait for more? */
static bool lab_plenty(const struct lab_request *request)
{
	unsigned long long bytes = request->size;
	struct sysinfo info;

	if (request->flags & LAB_HOLD)
		bytes *= request->n;
	si_meminfo(&info);
	return bytes < (unsigned long long)info.freeram * info.mem_unit / 2;
}

static bool lab_release_sleeps(void)
{
	struct lab_batch *batch;

	list_for_each_entry(batch, &lab_held, list)
		if (batch->sleeps)
			return true;
	return false;
}

static bool lab_refuse_atomic(const struct lab_request *request)
{
	const struct lab_op *op = request->op;

	/* The locks of the allocators sleep there, and a hard interrupt could wait for what it interrupted. */
	if (IS_ENABLED(CONFIG_PREEMPT_RT) && request->ctx->always_atomic)
		return true;
	if (!op)
		return lab_release_sleeps();
	/* With interrupts merely off a mapping is a bug that goes well: nothing is flushed as long as they are few. */
	if (op->sleeps && request->ctx->run == lab_in_irqsoff && request->n <= LAB_FEW)
		return false;
	if (lab_op_sleeps(op, request->size, request->gfp))
		return true;
	if (request->gfp & __GFP_NOFAIL)
		return true;
	if ((request->gfp & __GFP_DIRECT_RECLAIM) && !lab_plenty(request))
		return true;
	return !(request->flags & LAB_UNTIL_FAILURE) &&
	       (unsigned long long)request->n * request->size > LAB_ATOMIC_BYTES;
}

/*
 * Would it wait for memory that this run itself holds, and have others killed for it? Requests above the costly order,
 * which a kvmalloc's vmalloc is not, give up; where memory is merely fragmented the latter finds its pages.
 */
static bool lab_kills(const struct lab_request *request)
{
	if (!(request->flags & (LAB_EXHAUSTED | LAB_FRAGMENTED)))
		return false;
	if (request->op->alloc == lab_kvmalloc)
		return request->flags & LAB_EXHAUSTED;
	if (request->op->sleeps || (request->gfp & __GFP_NOFAIL))
		return true;
	if (!(request->gfp & __GFP_DIRECT_RECLAIM) || (request->gfp & (__GFP_NORETRY | __GFP_RETRY_MAYFAIL)))
		return false;
	return get_order(request->size) <= PAGE_ALLOC_COSTLY_ORDER;
}

/* What would hang or crash the machine, or take it from those who use it. */
static bool lab_refuse(const struct lab_request *request)
{
	const struct lab_op *op = request->op;

	if (!request->ctx->may_sleep && lab_refuse_atomic(request))
		return true;
	if (!op)
		return false;
	if (op->alloc == lab_cache && request->size > KMALLOC_MAX_SIZE)
		return true;
	if (op->pages && request->order > LAB_MAX_ORDER + 1) /* one above is refused by the kernel */
		return true;
	if (op->alloc == lab_ioremap && request->size > LAB_MMIO_SIZE)
		return true;
	if (request->align > PAGE_SIZE || lab_kills(request))
		return true;
	if (!(request->flags & LAB_UNTIL_FAILURE))
		return false;
	/* Never ends; or ends when the OOM killer has found nobody more. */
	if (op->gfp_fixed || (request->gfp & __GFP_NOFAIL))
		return true;
	if (!(request->gfp & __GFP_DIRECT_RECLAIM))
		return false;
	if (!request->ctx->may_sleep)
		return true;
	/* Above the costly order nobody is killed. */
	return !(request->gfp & (__GFP_NORETRY | __GFP_RETRY_MAYFAIL)) &&
	       get_order(request->size) <= PAGE_ALLOC_COSTLY_ORDER;
}

/* The run. */

static void lab_cache_init(void *object)
{
	*(char *)object = 1;
}

/*
 * Caches live as long as the module, so that those who look can find their names, and so that no two are ever at one
 * address.
 */
static noinline __noclone struct lab_own_cache *lab_find_cache(const struct lab_request *request)
{
	bool ctor = request->flags & LAB_CTOR;
	struct lab_own_cache *own;
	char name[32];

	for (own = lab_caches; own < lab_caches + ARRAY_SIZE(lab_caches) && own->cache; own++)
		if (own->size == request->size && own->align == request->align && own->ctor == ctor)
			return own;
	if (own == lab_caches + ARRAY_SIZE(lab_caches))
		return NULL;
	snprintf(name, sizeof(name), "kmwatch_lab_%lu_%u%s", request->size, request->align, ctor ? "_ctor" : "");
	*own = (struct lab_own_cache){ .size = request->size, .align = request->align, .ctor = ctor };
	own->cache = kmem_cache_create_usercopy(name, request->size, request->align, SLAB_NO_MERGE, 0, request->size,
						ctor ? lab_cache_init : NULL);
	return own->cache ? own : NULL;
}

static int lab_prepare_cache(const struct lab_request *request)
{
	struct lab_own_cache *own = lab_find_cache(request);
	struct lab_batch *batch;

	if (!own)
		return -ENOMEM;
	if (own->cache == lab_kmem_cache)
		return 0;
	list_for_each_entry(batch, &lab_held, list)
		if (batch->op->alloc == lab_cache)
			return -EBUSY;
	lab_kmem_cache = own->cache;
	return 0;
}

/* Not inlined: the allocations of the bookkeeping have a call site of their own. */
static noinline __noclone int lab_prepare(const struct lab_request *request)
{
	int error = 0;

	lab_batch = NULL;
	if (!request->op)
		return 0;
	if (request->op->alloc == lab_cache)
		error = lab_prepare_cache(request);
	if (error || !(request->flags & (LAB_HOLD | LAB_UNTIL_FAILURE)))
		return error;
	lab_batch = kvmalloc(struct_size(lab_batch, objects, DIV_ROUND_UP(request->n, request->keep)), GFP_KERNEL);
	if (!lab_batch)
		return -ENOMEM;
	lab_batch->op = request->op;
	lab_batch->order = request->order;
	lab_batch->count = 0;
	/* Without flags, since freeing sleeps for the sake of mappings only. */
	lab_batch->sleeps = lab_op_sleeps(request->op, request->size, 0);
	return 0;
}

/* Not inlined: a call site of its own. Takes what GFP_ATOMIC may take, and leaves kswapd asleep. */
static noinline __noclone struct page *lab_fill_block(unsigned int order)
{
	struct page *page = alloc_pages((GFP_ATOMIC & ~__GFP_KSWAPD_RECLAIM) | __GFP_NOWARN, order);

	barrier();
	return page;
}

static noinline __noclone void lab_free_block(struct page *page, unsigned int order)
{
	__free_pages(page, order);
	barrier();
}

static void lab_keep_block(struct page *page, unsigned int order)
{
	struct lab_block *block = page_address(page);

	block->order = order;
	block->next = lab_filling;
	lab_filling = block;
	lab_result.filled += 1UL << order;
}

static void lab_fill(int least)
{
	struct page *page;
	int order;

	for (order = LAB_MAX_ORDER; order >= least; order--) {
		while ((page = lab_fill_block(order))) {
			lab_keep_block(page, order);
			cond_resched();
		}
	}
}

/* Free every second page of what was taken: all of it is free then, and no two pages of it lie together. */
static void lab_fragment(void)
{
	struct lab_block *block = lab_filling;
	unsigned long i;

	lab_filling = NULL;
	lab_result.filled = 0;
	while (block) {
		struct page *page = virt_to_page(block);
		unsigned int order = block->order;

		block = block->next;
		split_page(page, order);
		for (i = 0; i < 1UL << order; i++) {
			if (page_to_pfn(page + i) & 1)
				lab_free_block(page + i, 0);
			else
				lab_keep_block(page + i, 0);
		}
		cond_resched();
	}
}

/*
 * Exhausted: no free page is left that GFP_ATOMIC could have. Fragmented: nearly half of memory is free, in single
 * pages that nothing can move together, since what lies between them is not movable. The run undoes it before it returns:
 * user space cannot live with it.
 */
static void lab_fill_memory(const struct lab_request *request)
{
	if (!(request->flags & (LAB_EXHAUSTED | LAB_FRAGMENTED)))
		return;
	lab_fill(0);
	if (!(request->flags & LAB_FRAGMENTED))
		return;
	lab_fragment();
	lab_fill(1); /* what the watermarks had kept from us */
}

static void lab_drain(void)
{
	while (lab_filling) {
		struct page *page = virt_to_page(lab_filling);
		unsigned int order = lab_filling->order;

		lab_filling = lab_filling->next;
		lab_free_block(page, order);
		cond_resched();
	}
}

static void lab_finish(void)
{
	struct lab_batch *batch, *next;

	lab_drain();
	if (lab_batch)
		list_add(&lab_batch->list, &lab_held);
	lab_batch = NULL;
	list_for_each_entry_safe(batch, next, &lab_held, list) {
		if (batch->count)
			continue;
		list_del(&batch->list);
		kvfree(batch);
	}
	/* Without it /proc/slabinfo goes on to call objects active that are merely kept for one CPU. */
	if (!lab_request.op && lab_kmem_cache)
		kmem_cache_shrink(lab_kmem_cache);
}

static int lab_run(char *line)
{
	int error;

	lab_result = (struct lab_result){ 0 };
	error = lab_parse(line, &lab_request);
	if (error)
		goto out;
	lab_settle(&lab_request);
	error = -EOPNOTSUPP;
	if (lab_refuse(&lab_request))
		goto out;
	error = lab_prepare(&lab_request);
	if (error)
		goto out;
	lab_result.preempt_min = UINT_MAX;
	lab_result.irqs_disabled = true;
	lab_result.in_softirq = true;
	lab_result.in_hardirq = true;
	reinit_completion(&lab_over);
	lab_fill_memory(&lab_request);
	lab_request.ctx->run();
	lab_finish();
	if (lab_result.preempt_min > lab_result.preempt_max) /* nothing to release */
		lab_result = (struct lab_result){ 0 };
out:
	lab_result.error = error;
	return error;
}

static ssize_t lab_run_write(struct file *file, const char __user *buffer, size_t count, loff_t *position)
{
	char line[LAB_MAX_LINE];
	int error;

	if (count >= sizeof(line))
		return -EINVAL;
	if (copy_from_user(line, buffer, count))
		return -EFAULT;
	line[count] = '\0';
	error = mutex_lock_interruptible(&lab_mutex);
	if (error)
		return error;
	error = lab_run(line);
	mutex_unlock(&lab_mutex);
	return error ?: count;
}

static const struct file_operations lab_run_fops = {
	.owner = THIS_MODULE,
	.open = simple_open,
	.write = lab_run_write,
};

/* This kernel's own values, so that tests need no table. */
#define LAB_GFP(name, value) { name, (__force unsigned int)(value) }
static const struct {
	const char *name;
	unsigned int value;
} lab_gfps[] = {
	LAB_GFP("gfp_atomic", GFP_ATOMIC),
	LAB_GFP("gfp_kernel", GFP_KERNEL),
	LAB_GFP("gfp_kernel_account", GFP_KERNEL_ACCOUNT),
	LAB_GFP("gfp_nowait", GFP_NOWAIT),
	LAB_GFP("gfp_noio", GFP_NOIO),
	LAB_GFP("gfp_nofs", GFP_NOFS),
	LAB_GFP("gfp_user", GFP_USER),
	LAB_GFP("gfp_dma", GFP_DMA),
	LAB_GFP("gfp_dma32", GFP_DMA32),
	LAB_GFP("gfp_highuser", GFP_HIGHUSER),
	LAB_GFP("gfp_highuser_movable", GFP_HIGHUSER_MOVABLE),
	LAB_GFP("gfp_transhuge_light", GFP_TRANSHUGE_LIGHT),
	LAB_GFP("gfp_transhuge", GFP_TRANSHUGE),
	LAB_GFP("__gfp_dma", __GFP_DMA),
	LAB_GFP("__gfp_highmem", __GFP_HIGHMEM),
	LAB_GFP("__gfp_dma32", __GFP_DMA32),
	LAB_GFP("__gfp_movable", __GFP_MOVABLE),
	LAB_GFP("__gfp_reclaimable", __GFP_RECLAIMABLE),
	LAB_GFP("__gfp_write", __GFP_WRITE),
	LAB_GFP("__gfp_hardwall", __GFP_HARDWALL),
	LAB_GFP("__gfp_thisnode", __GFP_THISNODE),
	LAB_GFP("__gfp_account", __GFP_ACCOUNT),
	LAB_GFP("__gfp_high", __GFP_HIGH),
#ifdef __GFP_ATOMIC /* until 2973d8229b78 ("mm: discard __GFP_ATOMIC"; in v6.3) */
	LAB_GFP("__gfp_atomic", __GFP_ATOMIC),
#endif
	LAB_GFP("__gfp_memalloc", __GFP_MEMALLOC),
	LAB_GFP("__gfp_nomemalloc", __GFP_NOMEMALLOC),
	LAB_GFP("__gfp_io", __GFP_IO),
	LAB_GFP("__gfp_fs", __GFP_FS),
	LAB_GFP("__gfp_direct_reclaim", __GFP_DIRECT_RECLAIM),
	LAB_GFP("__gfp_kswapd_reclaim", __GFP_KSWAPD_RECLAIM),
	LAB_GFP("__gfp_reclaim", __GFP_RECLAIM),
	LAB_GFP("__gfp_retry_mayfail", __GFP_RETRY_MAYFAIL),
	LAB_GFP("__gfp_nofail", __GFP_NOFAIL),
	LAB_GFP("__gfp_noretry", __GFP_NORETRY),
	LAB_GFP("__gfp_nowarn", __GFP_NOWARN),
	LAB_GFP("__gfp_comp", __GFP_COMP),
	LAB_GFP("__gfp_zero", __GFP_ZERO),
};

static const char *lab_json_bool(bool value)
{
	return value ? "true" : "false";
}

static void lab_show_result(struct seq_file *out)
{
	const struct lab_request *request = &lab_request;
	const struct lab_result *result = &lab_result;
	const char *op = "none"; /* before the first run, or the line was not understood */
	unsigned int held = 0;
	struct lab_batch *batch;

	list_for_each_entry(batch, &lab_held, list)
		held += batch->count;
	if (request->op)
		op = request->op->name;
	else if (request->ctx && result->error != -EINVAL)
		op = "release";
	seq_printf(out, "{\"op\": \"%s\", \"ctx\": \"%s\", \"error\": %d", op,
		   request->ctx ? request->ctx->name : "none", result->error);
	seq_printf(out, ", \"n\": %u, \"done\": %u, \"failed\": %u, \"held\": %u", request->n, result->done,
		   result->failed, held);
	seq_printf(out, ", \"size\": %lu, \"order\": %u, \"align\": %u, \"gfp\": \"%#x\", \"bytes_requested\": %llu",
		   request->size, request->order, request->align, (__force unsigned int)request->gfp,
		   (unsigned long long)result->done * request->size);
	seq_printf(out, ", \"vmapped\": %u, \"filled\": %lu, \"free_pages\": %lu, \"free_blocks\": %lu", result->vmapped,
		   result->filled, result->free_pages, result->free_blocks);
	seq_printf(out, ", \"preempt_count_min\": %u, \"preempt_count_max\": %u", result->preempt_min,
		   result->preempt_max);
	seq_printf(out, ", \"irqs_disabled\": %s, \"in_softirq\": %s, \"in_hardirq\": %s",
		   lab_json_bool(result->irqs_disabled), lab_json_bool(result->in_softirq),
		   lab_json_bool(result->in_hardirq));
}

static int lab_result_show(struct seq_file *out, void *unused)
{
	size_t i;

	mutex_lock(&lab_mutex);
	lab_show_result(out);
	mutex_unlock(&lab_mutex);
	/* Without a count, a spinlock or preempt_disable() leaves no trace. */
	seq_printf(out, ", \"max_order\": %u", LAB_MAX_ORDER);
	seq_printf(out, ", \"page_size\": %lu, \"preempt_counted\": %s, \"preempt_rt\": %s", PAGE_SIZE,
		   lab_json_bool(IS_ENABLED(CONFIG_PREEMPT_COUNT)), lab_json_bool(IS_ENABLED(CONFIG_PREEMPT_RT)));
	for (i = 0; i < ARRAY_SIZE(lab_gfps); i++)
		seq_printf(out, ", \"%s\": \"%#x\"", lab_gfps[i].name, lab_gfps[i].value);
	seq_puts(out, "}\n");
	return 0;
}
DEFINE_SHOW_ATTRIBUTE(lab_result);

static int __init lab_init(void)
{
	lab_dir = debugfs_create_dir("kmwatch_lab", NULL);
	if (IS_ERR(lab_dir))
		return PTR_ERR(lab_dir);
	debugfs_create_file("run", 0200, lab_dir, NULL, &lab_run_fops);
	debugfs_create_file("result", 0400, lab_dir, NULL, &lab_result_fops);
	return 0;
}

static void __exit lab_exit(void)
{
	struct lab_own_cache *own;

	debugfs_remove_recursive(lab_dir); /* waits for who is still inside */
	lab_request = (struct lab_request){ 0 };
	lab_release_held();
	lab_finish();
	for (own = lab_caches; own < lab_caches + ARRAY_SIZE(lab_caches); own++)
		kmem_cache_destroy(own->cache);
}

module_init(lab_init);
module_exit(lab_exit);

MODULE_DESCRIPTION("Allocations on request, for the tests of kmwatch");
MODULE_LICENSE("GPL");
