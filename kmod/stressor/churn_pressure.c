// SPDX-License-Identifier: GPL-2.0-only
/*
 * What the whole machine does while processes churn: it wants memory, and its
 * drivers fail.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "churn.h"

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE	23
#endif

#define PAUSE_NS	(10 * 1000000ULL)
#define CHUNK_KB	(16 * 1024ULL)
#define CHUNK		(CHUNK_KB * 1024)

static struct churner self;
static pthread_t pressure_thread;
static atomic_uint stopping;
/* As long as one is open, its device's pages outlive the other mirrors. */
static atomic_int held[HMM_HARNESS_MAX_DEVICES];

void churn_close_held(void)
{
	unsigned int i;

	for (i = 0; i < churn_devices; i++) {
		int fd = atomic_exchange(&held[i], -1);

		if (fd >= 0)
			close(fd);
	}
}

static enum churn_result write_one(const char *path)
{
	return write_file(path, "1") ? RESULT_DONE : RESULT_REFUSED;
}

static enum churn_result drop_everything(struct churner *unused)
{
	(void)unused;
	return write_one("/proc/sys/vm/drop_caches");
}

static enum churn_result compact(struct churner *unused)
{
	(void)unused;
	return write_one("/proc/sys/vm/compact_memory");
}

/* 0 if the kernel does not say. */
static __u64 available_kb(void)
{
	char text[1024], *line;

	if (!read_file("/proc/meminfo", text, sizeof(text)))
		return 0;
	line = strstr(text, "MemAvailable:");
	return line ? strtoull(line + strlen("MemAvailable:"), NULL, 10) : 0;
}

static bool rest(void)
{
	return wait_while_for(&stopping, 0, PAUSE_NS);
}

/* Memory that nobody else has. */
static struct {
	char *memory;
	__u64 chunks;
	__u64 taken;
} ballast;

static void ballast_drop(void)
{
	madvise(ballast.memory, ballast.taken * CHUNK, MADV_DONTNEED);
	ballast.taken = 0;
}

/* A chunk more, as long as reserve_mb are left; now and then all of it goes. */
static enum churn_result ballast_take(struct churner *unused)
{
	char *chunk = ballast.memory + ballast.taken * CHUNK;

	(void)unused;
	if (ballast.taken == ballast.chunks ||
	    available_kb() < VALUE(RESERVE_MB) * 1024 + CHUNK_KB) {
		ballast_drop();
		return RESULT_REFUSED;
	}
	/* Half of it in small pages, which compaction can move. */
	madvise(chunk, CHUNK, ballast.taken & 1 ? MADV_HUGEPAGE :
						  MADV_NOHUGEPAGE);
	if (madvise(chunk, CHUNK, MADV_POPULATE_WRITE))
		return RESULT_REFUSED;
	ballast.taken++;
	return RESULT_DONE;
}

static int ballast_set_up(void)
{
	ballast.chunks = available_kb() / CHUNK_KB;
	ballast.memory = mmap(NULL, ballast.chunks * CHUNK + 1,
			      PROT_READ | PROT_WRITE, MAP_PRIVATE |
			      MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (ballast.memory == MAP_FAILED)
		return errno;
	/* No child's business. */
	return madvise(ballast.memory, ballast.chunks * CHUNK + 1,
		       MADV_DONTFORK) ? errno : 0;
}

static enum churn_result hold_open(struct churner *unused)
{
	unsigned int i;

	(void)unused;
	for (i = 0; i < churn_devices; i++) {
		int fd = open_device(i);

		if (fd < 0)
			return RESULT_REFUSED;
		atomic_store(&held[i], fd);
	}
	rest();
	churn_close_held();
	return RESULT_DONE;
}

/* Of migrations to the device each may fail, and those home that can be retried. */
static enum churn_result misbehave(struct churner *unused)
{
	enum churn_result result = RESULT_DONE;
	unsigned int i, step;

	(void)unused;
	for (i = 0; i < churn_devices; i++) {
		struct hmm_harness_behave behave = { 0 };
		int fd = open_device(i);

		if (fd < 0)
			return RESULT_REFUSED;
		/* A third of the time it behaves. */
		for (step = 0; churn_random(&self) % 3 &&
		     step < HMM_HARNESS_STEPS; step++) {
			behave.to_device[step].every =
				2 + churn_random(&self) % 30;
			if (step != HMM_HARNESS_STEP_COPY)
				behave.to_ram[step].every =
					2 + churn_random(&self) % 30;
		}
		if (!(churn_random(&self) % 4))
			behave.flags = HMM_HARNESS_BEHAVE_MUTEX;
		behave.delay_us = churn_random(&self) % 20;
		if (ioctl(fd, HMM_HARNESS_BEHAVE, &behave))
			result = RESULT_REFUSED;
		close(fd);
	}
	return result;
}

static void *pressure(void *unused)
{
	/* It takes many a chunk until memory is short. */
	static const struct {
		enum churn_kind kind;
		churn_operation *operation;
	} operations[] = {
		{ KIND_BALLAST, ballast_take },
		{ KIND_BALLAST, ballast_take },
		{ KIND_BALLAST, ballast_take },
		{ KIND_DROP_CACHES, drop_everything },
		{ KIND_COMPACT, compact },
		{ KIND_HOLD_OPEN, hold_open },
		{ KIND_BEHAVE, misbehave },
	};

	(void)unused;
	while (!atomic_load(&stopping)) {
		size_t i = churn_random(&self) % ARRAY_SIZE(operations);

		churn_do(&self, operations[i].kind, operations[i].operation);
		rest();
	}
	return NULL;
}

int churn_pressure_start(__u64 random)
{
	unsigned int i;
	int error;

	for (i = 0; i < ARRAY_SIZE(held); i++)
		atomic_store(&held[i], -1);
	error = ballast_set_up();
	if (error)
		return error;
	self.random = random;
	self.lane = churn_lane_take();
	return pthread_create(&pressure_thread, NULL, pressure, NULL);
}

void churn_pressure_stop(void)
{
	set_and_wake(&stopping, 1);
	pthread_join(pressure_thread, NULL);
	munmap(ballast.memory, ballast.chunks * CHUNK + 1);
	churn_lane_leave(self.lane);
}
