/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a pair of system calls takes that makes one kmalloc and one kfree, message in and message out:
 *
 *     pair_cost SIZE ROUNDS
 *
 * prints the nanoseconds a pair of the best of ROUNDS short rounds, on one CPU: interrupts and neighbours only ever add.
 */
#define _GNU_SOURCE
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/msg.h>
#include <time.h>
#include <unistd.h>

#define PAIRS 2000 /* below a millisecond: many rounds are not interrupted at all */

static double nanoseconds(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1e9 + now.tv_nsec;
}

int main(int argc, char **argv)
{
	struct {
		long type;
		char body[4096];
	} message = {.type = 1};
	size_t size = argc == 3 ? strtoul(argv[1], NULL, 10) : sizeof(message.body) + 1;
	long rounds = argc == 3 ? atol(argv[2]) : 0;
	double best = 1e18;
	cpu_set_t last_cpu;
	int queue;

	if (size > sizeof(message.body) || rounds < 1) {
		fprintf(stderr, "usage: pair_cost SIZE ROUNDS, a size up to %zu bytes\n", sizeof(message.body));
		return 2;
	}
	CPU_ZERO(&last_cpu);
	CPU_SET(sysconf(_SC_NPROCESSORS_ONLN) - 1, &last_cpu);
	sched_setaffinity(0, sizeof(last_cpu), &last_cpu); /* refused: then it is less steady, and no less right */
	queue = msgget(IPC_PRIVATE, 0600);
	for (long round = 0; round < rounds; round++) {
		double took = nanoseconds();

		for (int i = 0; i < PAIRS; i++)
			if (msgsnd(queue, &message, size, 0) || msgrcv(queue, &message, size, 0, 0) < 0) {
				perror("pair_cost");
				return 1;
			}
		took = (nanoseconds() - took) / PAIRS;
		best = took < best ? took : best;
	}
	msgctl(queue, IPC_RMID, NULL);
	printf("%.1f\n", best);
	return 0;
}
