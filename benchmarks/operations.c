/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What an operation takes that makes the kernel allocate and free:
 *
 *     operations NAME STRETCHES CPU
 *
 * runs many short stretches of it on that CPU and prints how many operations there were, the nanoseconds of one in the
 * best stretch (interrupts and neighbours only ever add), and those of one over all stretches.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <fcntl.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/msg.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static struct {
	long type;
	char body[4096];
} message = {.type = 1};
static int queue, near, far;

/* In and out of a queue: one kmalloc, one kfree. */
static bool messages(size_t size)
{
	return !msgsnd(queue, &message, size, 0) && msgrcv(queue, &message, size, 0, 0) == (ssize_t)size;
}

static bool small_message(void)
{
	return messages(64);
}

static bool large_message(void)
{
	return messages(2000);
}

static bool make_pipe(void)
{
	int ends[2];

	return !pipe(ends) && !close(ends[0]) && !close(ends[1]);
}

static bool open_file(void)
{
	return !close(open("/proc/self/exe", O_RDONLY | O_CLOEXEC));
}

static bool over_loopback(void)
{
	char text[512];

	return send(near, message.body, sizeof(text), 0) == sizeof(text) &&
	       recv(far, text, sizeof(text), MSG_WAITALL) == sizeof(text);
}

static bool run_program(void)
{
	int status;
	pid_t child = fork();

	if (child == 0) {
		execl("/proc/self/exe", "operations", "end", (char *)NULL);
		_exit(1);
	}
	return child > 0 && waitpid(child, &status, 0) == child && status == 0;
}

static const struct {
	const char *name;
	bool (*once)(void);
	int stretch; /* operations: a stretch is about a millisecond, so that many are not interrupted at all */
} operations[] = {
	{"msg64", small_message, 1000}, {"msg2000", large_message, 1000}, {"pipe", make_pipe, 300},
	{"open", open_file, 500},	{"tcp", over_loopback, 200},	  {"exec", run_program, 2},
};

static bool connect_both(void)
{
	struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t size = sizeof(address);
	int listening = socket(AF_INET, SOCK_STREAM, 0);

	if (bind(listening, (struct sockaddr *)&address, size) || listen(listening, 1) ||
	    getsockname(listening, (struct sockaddr *)&address, &size))
		return false;
	near = socket(AF_INET, SOCK_STREAM, 0);
	if (connect(near, (struct sockaddr *)&address, size))
		return false;
	far = accept(listening, NULL, NULL);
	return far >= 0;
}

static double nanoseconds(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1e9 + now.tv_nsec;
}

static bool measure(bool (*once)(void), int stretch, long stretches)
{
	double best = 1e18, began = nanoseconds(), all;

	for (long at = 0; at < stretches; at++) {
		double took = nanoseconds();

		for (int i = 0; i < stretch; i++)
			if (!once())
				return false;
		took = (nanoseconds() - took) / stretch;
		best = took < best ? took : best;
	}
	all = (nanoseconds() - began) / (stretches * stretch);
	printf("%ld %.1f %.1f\n", stretches * stretch, best, all);
	return true;
}

int main(int argc, char **argv)
{
	size_t at = 0, names = sizeof(operations) / sizeof(*operations);
	long stretches = argc == 4 ? atol(argv[2]) : 0;
	bool done;
	cpu_set_t cpu;

	if (argc == 2 && !strcmp(argv[1], "end"))
		return 0;
	while (argc == 4 && at < names && strcmp(operations[at].name, argv[1]))
		at++;
	if (stretches < 1 || at == names) {
		fprintf(stderr, "usage: operations msg64|msg2000|pipe|open|tcp|exec STRETCHES CPU\n");
		return 2;
	}
	CPU_ZERO(&cpu);
	CPU_SET(atoi(argv[3]), &cpu);
	sched_setaffinity(0, sizeof(cpu), &cpu); /* refused: then it is less steady, and no less right */
	queue = msgget(IPC_PRIVATE, 0600);
	done = queue >= 0 && connect_both() && measure(operations[at].once, operations[at].stretch, stretches);
	if (!done)
		perror("operations");
	msgctl(queue, IPC_RMID, NULL);
	return !done;
}
