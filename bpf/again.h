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

/* Where the mark of an event at this level belongs: in a process, in a soft interrupt, above. */
static __always_inline u64 *mark_of(u32 kind)
{
	u32 way = WAY_RAW;
	struct config *config_now = config.lookup(&way);
	struct marks *mark = marks.lookup(&kind);
	struct where where = {};

	if (!mark || !config_now || !look_at_cpu(config_now, &where))
		return NULL;
	if (where.preempt_count & (HARDIRQ | NMI))
		return &mark->event[2];
	return where.preempt_count & SOFTIRQ_SERVING ? &mark->event[1] : &mark->event[0];
}

/* `event` tells events apart that are on their way at the same time, and is not 0. */
static __always_inline void starts(u32 kind, u64 event)
{
	u64 *mark = mark_of(kind);

	if (mark)
		*mark = event;
}

/* Whether the first program was skipped; only then the copy acts. */
static __always_inline bool was_missed(u32 kind, u64 event)
{
	u64 *mark = mark_of(kind), *count;

	if (!mark)
		return false;
	if (*mark == event) {
		*mark = 0;
		return false;
	}
	count = caught.lookup(&kind);
	if (!count)
		return false;
	*count += 1;
	return true;
}
#else
#define starts(kind, event)
#endif

#endif
