/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Makes the kernel allocate a known number of times, and says on stdout, as JSON, what it did:
 *
 *     workload WHAT COUNT [SIZE]
 *
 * `done` calls went well, `failed` did not, and each was of `size` bytes (slots, pages…). What holds its memory until it
 * is released prints the line first and then waits for the end of stdin. Exit code 1: something failed; 2: usage;
 * 77: this kernel has no such thing.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <linux/bpf.h>
#include <linux/if_packet.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/msg.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define KEYRING -2 /* KEY_SPEC_PROCESS_KEYRING: gone with the process */

static char buffer[1 << 16];
static int queue = -1; /* of messages that are kept */

static bool is_absent(int error)
{
	return error == ENOSYS || error == EAFNOSUPPORT || error == EOPNOTSUPP || error == EPROTONOSUPPORT;
}

static void need(bool held, const char *what)
{
	if (held)
		return;
	perror(what);
	exit(is_absent(errno) ? 77 : 1);
}

/* A message in and out of a queue: a struct msg_msg, and a struct msg_msgseg for each page that it does not fit in. */
static long msgsnd_msgrcv(long count, long size)
{
	struct {
		long type;
		char body[8192];
	} message = {.type = 1};
	int queue = msgget(IPC_PRIVATE, 0600);
	long done = 0;

	need(queue >= 0, "msgget");
	if (size > (long)sizeof(message.body))
		return 0;
	for (long i = 0; i < count; i++)
		done += !msgsnd(queue, &message, size, IPC_NOWAIT) && msgrcv(queue, &message, size, 0, IPC_NOWAIT) == size;
	msgctl(queue, IPC_RMID, NULL);
	return done;
}

/* Messages that stay in a queue until stdin ends; every second one is read at once. */
static long hold_messages(long count, long size)
{
	struct {
		long type;
		char body[8192];
	} message = {.type = 1};
	long done = 0;

	queue = msgget(IPC_PRIVATE, 0600);
	need(queue >= 0, "msgget");
	if (size > (long)sizeof(message.body))
		return 0;
	for (long i = 0; i < count; i++) {
		done += !msgsnd(queue, &message, size, IPC_NOWAIT);
		if (i % 2)
			done -= msgrcv(queue, &message, size, 0, IPC_NOWAIT) != size;
	}
	return done;
}

/* The same key updated again and again: its old payload goes, so that no quota fills. */
static long add_key(long count, long size)
{
	long done = 0;

	for (long i = 0; i < count; i++)
		done += syscall(SYS_add_key, "user", "kmwatch-workload", buffer, size, KEYRING) >= 0;
	return done;
}

/* An array map whose values take `size` bytes; the kernel adds its own header. Above 32 KiB it is vmalloc'ed. */
static long bpf_map(long count, long size)
{
	union bpf_attr attr = {.map_type = BPF_MAP_TYPE_ARRAY, .key_size = 4, .value_size = 8, .max_entries = size / 8};
	long done = 0;

	for (long i = 0; i < count; i++) {
		int fd = syscall(SYS_bpf, BPF_MAP_CREATE, &attr, sizeof(attr));

		if (fd < 0)
			perror("BPF_MAP_CREATE");
		else
			done += !close(fd);
	}
	return done;
}

/* A pipe whose ring is replaced by one of `slots` entries each time; between two, by the small one that it began with. */
static long pipe_resize(long count, long slots)
{
	long page = sysconf(_SC_PAGESIZE), done = 0;
	int ends[2];

	need(!pipe(ends), "pipe");
	for (long i = 0; i < count; i++)
		done += fcntl(ends[0], F_SETPIPE_SZ, slots * page) == slots * page && fcntl(ends[0], F_SETPIPE_SZ, page) == page;
	return done;
}

/* A packet ring of `count` blocks of 2^order contiguous pages each, made at one go. */
static long packet_ring(long count, long order)
{
	long block = sysconf(_SC_PAGESIZE) << order;
	struct tpacket_req ring = {
		.tp_block_size = block, .tp_block_nr = count, .tp_frame_size = block, .tp_frame_nr = count,
	};
	int fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0);

	need(fd >= 0, "AF_PACKET");
	return setsockopt(fd, SOL_PACKET, PACKET_RX_RING, &ring, sizeof(ring)) ? 0 : count;
}

/* Byte-range locks on every second byte of a file, one struct file_lock each, held until stdin ends. */
static long hold_locks(long count, long unused)
{
	int fd = memfd_create("kmwatch-workload", MFD_CLOEXEC);
	long done = 0;

	(void)unused;
	need(fd >= 0, "memfd_create");
	for (long i = count; i > 0; i--) { /* from the end: each goes before the others, which need not be walked */
		struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 2 * i, .l_len = 1};

		done += !fcntl(fd, F_SETLK, &lock);
	}
	return done;
}

/* A timer made and deleted: a struct k_itimer. */
static long timer(long count, long unused)
{
	struct sigevent nothing = {.sigev_notify = SIGEV_NONE};
	long done = 0;

	(void)unused;
	for (long i = 0; i < count; i++) {
		timer_t made;

		done += !timer_create(CLOCK_MONOTONIC, &nothing, &made) && !timer_delete(made);
	}
	return done;
}

/* Connections over loopback, `size` bytes sent through each. */
static long tcp(long count, long size)
{
	struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t length = sizeof(address);
	int listener = socket(AF_INET, SOCK_STREAM, 0);
	long done = 0;

	need(listener >= 0 && !bind(listener, (void *)&address, length) && !listen(listener, 8), "listen");
	getsockname(listener, (void *)&address, &length);
	for (long i = 0; i < count; i++) {
		int client = socket(AF_INET, SOCK_STREAM, 0), server = -1;
		/* Reset at the end: no port is left in TIME_WAIT. */
		struct linger reset = {.l_onoff = 1};

		setsockopt(client, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
		if (!connect(client, (void *)&address, length))
			server = accept(listener, NULL, NULL);
		if (server >= 0 && write(client, buffer, size) == size)
			done += recv(server, buffer, size, MSG_WAITALL) == size;
		close(client);
		close(server);
	}
	return done;
}

/* Processes that start another program, which ends at once. */
static long spawn(long count, long unused)
{
	long done = 0;

	(void)unused;
	for (long i = 0; i < count; i++) {
		pid_t child = fork();
		int status;

		if (!child) {
			execlp("true", "true", NULL);
			_exit(127);
		}
		done += child > 0 && waitpid(child, &status, 0) == child && !status;
	}
	return done;
}

static long files_left;

static int visit(const char *path, const struct stat *about, int type, struct FTW *where)
{
	int fd = type == FTW_F && S_ISREG(about->st_mode) ? open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC) : -1;

	(void)where;
	if (fd >= 0) {
		if (read(fd, buffer, 4096) < 0) {
			/* unreadable files are part of any tree */
		}
		close(fd);
	}
	return --files_left <= 0;
}

/* Files of this machine: found, looked at, opened, their first page read. */
static long walk(long count, long unused)
{
	(void)unused;
	files_left = count;
	while (files_left > 0)
		if (nftw("/usr", visit, 16, FTW_PHYS) < 0 || nftw("/proc/self", visit, 16, FTW_PHYS) < 0)
			break;
	return count - (files_left > 0 ? files_left : 0);
}

/* Files, connections and processes at the same time, for `seconds`; counts rounds. */
static long busy(long seconds, long unused)
{
	time_t end = time(NULL) + seconds;
	int kind = 0;
	long rounds = 0;

	(void)unused;
	while (kind < 2 && fork())
		kind++;
	do {
		if (kind == 0)
			walk(2000, 0);
		else if (kind == 1)
			tcp(100, 20000);
		else
			spawn(20, 0);
		rounds++;
	} while (time(NULL) < end);
	if (kind < 2)
		_exit(0);
	while (wait(NULL) > 0)
		;
	return rounds ? seconds : 0;
}

static const struct {
	const char *name;
	long (*run)(long count, long size);
	bool holds;
} workloads[] = {
	{"msgsnd", msgsnd_msgrcv, false},
	{"add_key", add_key, false},
	{"bpf_map", bpf_map, false},
	{"pipe", pipe_resize, false},
	{"packet", packet_ring, false},
	{"timer", timer, false},
	{"tcp", tcp, false},
	{"spawn", spawn, false},
	{"walk", walk, false},
	{"busy", busy, false},
	{"locks", hold_locks, true},
	{"messages", hold_messages, true},
};

int main(int argc, char **argv)
{
	long count = argc > 2 ? atol(argv[2]) : 0, size = argc > 3 ? atol(argv[3]) : 0;

	for (size_t i = 0; count > 0 && size <= (long)(sizeof(buffer) * 64) && i < sizeof(workloads) / sizeof(*workloads); i++) {
		long done;

		if (strcmp(argv[1], workloads[i].name))
			continue;
		done = workloads[i].run(count, size);
		printf("{\"what\": \"%s\", \"done\": %ld, \"failed\": %ld, \"size\": %ld}\n", argv[1], done, count - done, size);
		fflush(stdout);
		while (workloads[i].holds && read(0, buffer, sizeof(buffer)) > 0)
			;
		if (queue >= 0)
			msgctl(queue, IPC_RMID, NULL);
		return done == count ? 0 : 1;
	}
	fprintf(stderr, "usage: workload WHAT COUNT [SIZE]\n");
	return 2;
}
