/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * Leaving events out, where counting all of them would cost too much: whole kinds, or all but one event of 2^n. What is
 * left out is counted by kind, so that nothing is unknown but where it happened. Failures, large requests and pressure
 * are always kept. Memory is handed out again as soon as it is given back, so the address alone would choose the same few
 * objects all the time: the number of the event is added to it. Compiled in only where SAMPLING is defined.
 */
#ifndef KMWATCH_SAMPLING_H
#define KMWATCH_SAMPLING_H

#ifdef SAMPLING
BPF_ARRAY(sampling, struct sampling, 1);
BPF_PERCPU_ARRAY(sampled, struct sampled, KINDS);

/*
 * `object` is 0 for an event that may only be left out with its whole kind. Events of kmwatch's own process, and those
 * before it counts, take the usual way: that leaves them out uncounted.
 */
static __always_inline bool left_out(u32 way, u32 kind, u64 object)
{
	struct config *config_now = config.lookup(&way);
	struct sampled *count;
	struct sampling *now;
	u32 first = 0;

	now = sampling.lookup(&first);
	if (!now || !(now->dropped >> kind & 1 || (now->mask && object)))
		return false;
	if (!config_now || config_now->phase != PHASE_COUNTING)
		return false;
	if (bpf_get_current_pid_tgid() >> 32 == config_now->self_tgid)
		return false;
	count = sampled.lookup(&kind);
	if (!count)
		return false;
	count->seen++;
	if (!(now->dropped >> kind & 1) && !((object + count->seen) * now->key & now->mask))
		return false;
	count->left_out++;
	return true;
}
#else
#define left_out(way, kind, object) false
#endif

#endif
