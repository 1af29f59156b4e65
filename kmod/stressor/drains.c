// SPDX-License-Identifier: GPL-2.0-only
/*
 * Others that empty the LRU batches of all CPUs: a process of its own, and in it
 * one thread for each way that user space has.  lru_add_drain_all() holds a mutex
 * of the whole machine, so that they wait for each other, and whoever migrates
 * for them.
 *
 * Left out are fadvise(), which drains for files only whose pages can be dropped,
 * and no file system in memory has such (mm/fadvise.c); and sealing a memfd, which
 * drains its own CPU first, and all only for what that leaves (mm/memfd.c).
 */
#define _GNU_SOURCE
#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "trylock.h"

#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE	25
#endif

#define HUGE_PAGE	(2UL << 20)

static bool drop(void)
{
	return write_file("/proc/sys/vm/drop_caches", "1");
}

static bool compact(void)
{
	return write_file("/proc/sys/vm/compact_memory", "1");
}

/*
 * Drains before it looks: also if it is one huge page already, and if it finds
 * a page busy, as another's reference to it makes it (mm/khugepaged.c).
 */
static bool collapse(void)
{
	static char *memory;

	if (!memory) {
		memory = mmap(NULL, 2 * HUGE_PAGE, PROT_READ | PROT_WRITE,
			      MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		if (memory == MAP_FAILED) {
			memory = NULL;
			return false;
		}
		memory += (HUGE_PAGE - (uintptr_t)memory % HUGE_PAGE) %
			  HUGE_PAGE;
	}
	memory[0] = 1;
	return !madvise(memory, HUGE_PAGE, MADV_COLLAPSE) || errno == EAGAIN;
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
	"all", "drop_caches", "compact_memory", "collapse", "mlock", NULL
};

static bool (*const ways[])(void) = { drop, compact, collapse, lock_memory };

/* Shared with that process. */
static struct drains {
	atomic_uint stopping;
	struct drainer {
		atomic_ullong done;
		atomic_ullong worst_ns;
	} drainer[ARRAY_SIZE(ways)];
} *drains;

static __u64 reported[ARRAY_SIZE(ways)];
static pid_t process;

static const char *name_of(size_t way)
{
	return drain_choices[1 + way];
}

static bool is_chosen(size_t way)
{
	return !VALUE(DRAIN) || VALUE(DRAIN) == way + 1;
}

static void *drain(void *argument)
{
	const struct timespec pause = {
		.tv_sec = VALUE(DRAIN_PAUSE_US) / 1000000,
		.tv_nsec = VALUE(DRAIN_PAUSE_US) % 1000000 * 1000,
	};
	struct drainer *drainer = argument;
	size_t way = drainer - drains->drainer;

	while (!atomic_load(&drains->stopping)) {
		__u64 began = now_ns(), took;
		bool good = ways[way]();

		took = now_ns() - began;
		if (took > atomic_load(&drainer->worst_ns))
			atomic_store(&drainer->worst_ns, took);
		atomic_fetch_add(&drainer->done, good);
		nanosleep(&pause, NULL);
	}
	return NULL;
}

/*
 * Whether this kernel can.  Once is not enough to say that it cannot: memory that
 * is just being moved, as by kcompactd, cannot be collapsed (EINVAL, as for memory
 * that never can be).
 */
static bool can(size_t way)
{
	const struct timespec pause = { .tv_nsec = 10000000 };
	int tries;

	for (tries = 1; !ways[way](); tries++) {
		if (tries == 10)
			return false;
		nanosleep(&pause, NULL);
	}
	return true;
}

/* Until they are to stop. */
static int drain_all_ways(void)
{
	pthread_t threads[ARRAY_SIZE(ways)];
	size_t i;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	/* On the spinner's CPU it would be starved itself, and drain nothing. */
	pin_to_cpu(VALUE(HOLDER_CPU));
	/* Before any of them is under way: compaction moves what others look at. */
	for (i = 0; i < ARRAY_SIZE(ways); i++) {
		if (is_chosen(i) && !can(i)) {
			report_error("drain", errno, "%s", name_of(i));
			return EXIT_ENVIRONMENT;
		}
	}
	for (i = 0; i < ARRAY_SIZE(ways); i++) {
		int error;

		if (!is_chosen(i))
			continue;
		error = pthread_create(&threads[i], NULL, drain,
				       &drains->drainer[i]);
		if (error) {
			report_error("drain", error, "%s", name_of(i));
			return EXIT_ENVIRONMENT;
		}
	}
	for (i = 0; i < ARRAY_SIZE(ways); i++)
		if (is_chosen(i))
			pthread_join(threads[i], NULL);
	return EXIT_DONE;
}

int drains_start(void)
{
	drains = mmap(NULL, sizeof(*drains), PROT_READ | PROT_WRITE,
		      MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	process = drains == MAP_FAILED ? -1 : fork();
	if (process < 0) {
		report_error("fork", errno, "no drains");
		return EXIT_ENVIRONMENT;
	}
	if (!process)
		_exit(drain_all_ways());
	return EXIT_DONE;
}

int drains_stop(void)
{
	int status;

	atomic_store(&drains->stopping, 1);
	if (waitpid(process, &status, 0) != process || !WIFEXITED(status))
		return EXIT_ENVIRONMENT;
	return WEXITSTATUS(status);
}

void json_drains(struct json *json)
{
	size_t i;

	json_open(json, "drains", '{');
	for (i = 0; i < ARRAY_SIZE(ways); i++) {
		__u64 done = atomic_load(&drains->drainer[i].done);

		if (!is_chosen(i))
			continue;
		json_number(json, name_of(i), done - reported[i]);
		reported[i] = done;
	}
	json_close(json, '}');
}

__u64 drains_worst_ns(void)
{
	__u64 worst = 0;
	size_t i;

	for (i = 0; i < ARRAY_SIZE(ways); i++)
		if (atomic_load(&drains->drainer[i].worst_ns) > worst)
			worst = atomic_load(&drains->drainer[i].worst_ns);
	return worst;
}
