// SPDX-License-Identifier: GPL-2.0-only
/* Time, CPUs, waiting, device nodes. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/futex.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "stressor.h"

size_t page_size;

__u64 now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000000000ULL + now.tv_nsec;
}

double now_seconds(void)
{
	return now_ns() / 1e9;
}

int pin_to_cpu(unsigned int cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	return sched_setaffinity(0, sizeof(set), &set) ? errno : 0;
}

const char *const policies[] = { "other", "fifo", "rr", "batch", NULL };

int set_policy(__u64 policy, __u64 priority)
{
	static const int numbers[] = {
		SCHED_OTHER, SCHED_FIFO, SCHED_RR, SCHED_BATCH
	};
	struct sched_param param = { 0 };
	int number = numbers[policy];

	if (number == SCHED_OTHER)
		return 0;
	if (number == SCHED_FIFO || number == SCHED_RR)
		param.sched_priority = priority;
	return sched_setscheduler(0, number, &param) ? errno : 0;
}

/* Judged by what a thread may be pinned to, which needs no sysfs. */
bool cpu_online(unsigned int cpu)
{
	cpu_set_t saved;
	bool online;

	if (sched_getaffinity(0, sizeof(saved), &saved))
		return false;
	online = !pin_to_cpu(cpu);
	sched_setaffinity(0, sizeof(saved), &saved);
	return online;
}

/* A descriptor, or -1 with errno set. */
int open_device(unsigned int index)
{
	char path[32];

	snprintf(path, sizeof(path), "/dev/hmm_harness%u", index);
	return open(path, O_RDWR | O_CLOEXEC);
}

bool write_file(const char *path, const char *text)
{
	int error, fd = open(path, O_WRONLY | O_CLOEXEC);
	ssize_t written;

	if (fd < 0)
		return false;
	written = write(fd, text, strlen(text));
	error = written < 0 ? errno : EIO;
	close(fd);
	if (written == (ssize_t)strlen(text))
		return true;
	errno = error;
	return false;
}

bool read_file(const char *path, char *text, size_t size)
{
	int error, fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t length;

	if (fd < 0)
		return false;
	length = read(fd, text, size - 1);
	error = length < 0 ? errno : EIO;
	close(fd);
	if (length > 0) {
		text[length] = '\0';
		return true;
	}
	errno = error;
	return false;
}

void relax(void)
{
#if __has_builtin(__builtin_ia32_pause)
	__builtin_ia32_pause();
#endif
}

/* Not FUTEX_PRIVATE: the words are shared between processes. */
static void futex_wait(atomic_uint *word, __u32 value,
		       const struct timespec *timeout)
{
	syscall(SYS_futex, word, FUTEX_WAIT, value, timeout, NULL, 0);
}

void set_and_wake(atomic_uint *word, __u32 value)
{
	atomic_store(word, value);
	syscall(SYS_futex, word, FUTEX_WAKE, INT_MAX, NULL, NULL, 0);
}

void wait_while(atomic_uint *word, __u32 value, __u64 spin_ns)
{
	__u64 end = now_ns() + spin_ns;

	while (atomic_load(word) == value && now_ns() < end)
		relax();
	while (atomic_load(word) == value)
		futex_wait(word, value, NULL);
}

bool wait_while_for(atomic_uint *word, __u32 value,
		    __u64 timeout_ns)
{
	__u64 now, end = now_ns() + timeout_ns;

	while (atomic_load(word) == value) {
		struct timespec left;

		now = now_ns();
		if (now >= end)
			return false;
		left.tv_sec = (end - now) / 1000000000ULL;
		left.tv_nsec = (end - now) % 1000000000ULL;
		futex_wait(word, value, &left);
	}
	return true;
}
