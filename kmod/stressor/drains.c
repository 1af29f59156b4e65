// SPDX-License-Identifier: GPL-2.0-only
/*
 * Others that empty the LRU batches of all CPUs: one thread for each way that
 * user space has.  lru_add_drain_all() holds a mutex of the whole machine, so that
 * they wait for each other, and whoever migrates for them.
 *
 * Left out is fadvise(): it drains for files only whose pages can be dropped,
 * which no file system in memory has (mm/fadvise.c).
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "trylock.h"

#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE	25
#endif

#define HUGE_PAGE	(2UL << 20)

static bool write_one(const char *path)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	bool done;

	if (fd < 0)
		return false;
	done = write(fd, "1", 1) == 1;
	close(fd);
	return done;
}

static bool drop(void)
{
	return write_one("/proc/sys/vm/drop_caches");
}

static bool compact(void)
{
	return write_one("/proc/sys/vm/compact_memory");
}

/* Drains even if it is one huge page already. */
static bool collapse(void)
{
	static char *memory;

	if (!memory) {
		memory = mmap(NULL, 2 * HUGE_PAGE, PROT_READ | PROT_WRITE,
			      MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		if (memory == MAP_FAILED)
			return false;
		memory += (HUGE_PAGE - (uintptr_t)memory % HUGE_PAGE) %
			  HUGE_PAGE;
	}
	memory[0] = 1;
	return !madvise(memory, HUGE_PAGE, MADV_COLLAPSE);
}

/* A page in some batch looks pinned: it is drained before it is waited for. */
static bool seal(void)
{
	int fd = memfd_create("drains", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	bool done;

	if (fd < 0)
		return false;
	done = write(fd, "1", 1) == 1 &&
	       !fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE);
	close(fd);
	return done;
}

/* Only its own CPU, but makes batches that others drain. */
static bool lock_memory(void)
{
	size_t length = 16 * page_size;
	char *memory = mmap(NULL, length, PROT_READ | PROT_WRITE,
			    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	bool done;

	if (memory == MAP_FAILED)
		return false;
	done = !mlock(memory, length) && !munlock(memory, length);
	munmap(memory, length);
	return done;
}

const char *const drain_choices[] = {
	"all", "drop_caches", "compact_memory", "collapse", "seal", "mlock",
	NULL
};

static struct drainer {
	bool (*drain)(void);
	pthread_t thread;
	bool started;
	atomic_ullong done;
	atomic_ullong worst_ns;
	__u64 reported;
} drainers[] = {
	{ .drain = drop }, { .drain = compact }, { .drain = collapse },
	{ .drain = seal }, { .drain = lock_memory },
};

static atomic_uint stopping;

static const char *name_of(const struct drainer *drainer)
{
	return drain_choices[1 + (drainer - drainers)];
}

static void *drain(void *argument)
{
	const struct timespec pause = {
		.tv_sec = VALUE(DRAIN_PAUSE_US) / 1000000,
		.tv_nsec = VALUE(DRAIN_PAUSE_US) % 1000000 * 1000,
	};
	struct drainer *drainer = argument;

	/* On the spinner's CPU it would be starved itself, and drain nothing. */
	pin_to_cpu(VALUE(HOLDER_CPU));
	while (!atomic_load(&stopping)) {
		__u64 began = now_ns(), took;
		bool good = drainer->drain();

		took = now_ns() - began;
		if (took > atomic_load(&drainer->worst_ns))
			atomic_store(&drainer->worst_ns, took);
		atomic_fetch_add(&drainer->done, good);
		nanosleep(&pause, NULL);
	}
	return NULL;
}

int drains_start(void)
{
	size_t i;

	for (i = 0; i < ARRAY_SIZE(drainers); i++) {
		struct drainer *drainer = &drainers[i];
		int error;

		if (VALUE(DRAIN) && VALUE(DRAIN) != i + 1)
			continue;
		/* Once, to see whether this kernel can. */
		error = drainer->drain() ? 0 : errno;
		if (!error)
			error = pthread_create(&drainer->thread, NULL, drain,
					       drainer);
		if (error) {
			report_error("drain", error, "%s",
				     name_of(drainer));
			drains_stop();
			return EXIT_ENVIRONMENT;
		}
		drainer->started = true;
	}
	return EXIT_DONE;
}

void drains_stop(void)
{
	size_t i;

	atomic_store(&stopping, 1);
	for (i = 0; i < ARRAY_SIZE(drainers); i++)
		if (drainers[i].started)
			pthread_join(drainers[i].thread, NULL);
}

void json_drains(struct json *json)
{
	size_t i;

	json_open(json, "drains", '{');
	for (i = 0; i < ARRAY_SIZE(drainers); i++) {
		struct drainer *drainer = &drainers[i];
		__u64 done = atomic_load(&drainer->done);

		if (!drainer->started)
			continue;
		json_number(json, name_of(drainer), done - drainer->reported);
		drainer->reported = done;
	}
	json_close(json, '}');
}

__u64 drains_worst_ns(void)
{
	__u64 worst = 0;
	size_t i;

	for (i = 0; i < ARRAY_SIZE(drainers); i++)
		if (atomic_load(&drainers[i].worst_ns) > worst)
			worst = atomic_load(&drainers[i].worst_ns);
	return worst;
}
