/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * Second copies of busy programs, for the events that the first miss.
 *
 * The kernel does not run a program on a CPU where it is running already, nor an ordinary tracepoint's where another of
 * these runs: an interrupt that frees memory while a free is being recorded would go unseen. A copy is another program,
 * and is called right after the first: it acts where the first was skipped. To know that, the first leaves a mark of each
 * event, and the copy takes it away; marks are kept by level (process, softirq, hardirq), so that an interrupt between
 * the two does not touch them. Preemption between the two would: where the kernel allows that in a tracepoint
 * (calibration sees it), the copies are detached again.
 */
#ifndef KMWATCH_AGAIN_H
#define KMWATCH_AGAIN_H

#ifdef AGAIN
#define LEVELS 3

struct marks {
	u64 event[LEVELS]; /* 0 where there is none */
};

BPF_PERCPU_ARRAY(marks, struct marks, KINDS);
BPF_PERCPU_ARRAY(caught, u64, KINDS); /* events that only a copy saw */

/* 0 in a process, 1 in a soft interrupt, 2 above; -1 where the CPU cannot be looked at. */
static __always_inline int level_now(void)
{
	u32 way = WAY_RAW;
	struct config *config_now = config.lookup(&way);
	u64 base = config_now ? base_of_cpu(config_now) : 0;
	u32 count;

	if (!base)
		return -1;
	count = preempt_count_at(base);
	if (count & (HARDIRQ | NMI))
		return 2;
	return count & SOFTIRQ_SERVING ? 1 : 0;
}

/*
 * `event` tells events apart that are on their way at the same time, and is not 0. Marks of higher levels are from
 * interrupts that are over, where the copy was the one that was skipped: they go.
 */
static __always_inline void starts(u32 kind, u64 event)
{
	struct marks *mark = marks.lookup(&kind);
	int level = level_now();

	if (!mark || level < 0)
		return;
	if (level < 1)
		mark->event[1] = 0;
	if (level < 2)
		mark->event[2] = 0;
	mark->event[level] = event;
}

/* Whether the first program was skipped; only then the copy acts. */
static __always_inline bool was_missed(u32 kind, u64 event)
{
	struct marks *mark = marks.lookup(&kind);
	int level = level_now();
	u64 *count;

	if (!mark || level < 0)
		return false;
	if (mark->event[level] == event) {
		mark->event[level] = 0;
		return false;
	}
	count = caught.lookup(&kind);
	if (count)
		*count += 1;
	return true;
}
#else
#define starts(kind, event)
#endif

#endif
