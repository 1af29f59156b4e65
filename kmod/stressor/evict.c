// SPDX-License-Identifier: GPL-2.0-only
/*
 * freed-anon-vma: a driver evicts its memory, and the process that has it mapped
 * drops it or ends meanwhile.  The pages are locked and unmapped by then, so that
 * nothing is left but the way from a page to who maps it: folio->mapping, the
 * anon_vma, which goes with the last VMA.
 *
 * Every page has a VMA of its own here, so that there are many.  What they leave
 * is given back and, with reuse=pipes, filled with data of ours: pipes take pages
 * of the kind that slabs take.
 *
 * The caller has pages of its own on the device, which must come home as they
 * were; and in the end nobody may keep a page of it.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "hmm_harness.h"
#include "stressor.h"

/* Of a device, and of them the evictor's. */
#define DEVICE_PAGES	8192
#define OWN_PAGES	64
#define PIPES		32
#define PIPE_SIZE	0x100000
/* For RCU, by which a slab's pages are given back. */
#define GRACE_US	100000

enum { ITERATIONS, RACE, VMAS, DELAY_MS, REUSE, SEED, PARAMETERS };
enum race { RACE_EXIT, RACE_MUNMAP };
enum reuse { REUSE_PIPES, REUSE_NONE };

static const char *const races[] = { "exit", "munmap", NULL };
static const char *const reuses[] = { "pipes", "none", NULL };

static struct parameter parameters[] = {
	[ITERATIONS] = { "iterations", "how often", 4, 1, 1000000, NULL },
	[RACE] = { "race", "what the process does", RACE_EXIT, 0, 0, races },
	[VMAS] = { "vmas", "of the process", 4096, 2,
		   DEVICE_PAGES - OWN_PAGES, NULL },
	[DELAY_MS] = { "delay_ms", "that the evicted wait, at most", 30000, 1,
		       HMM_HARNESS_MAX_TIMEOUT_MS, NULL },
	[REUSE] = { "reuse", "what takes the freed pages", REUSE_PIPES, 0, 0,
		    reuses },
	[SEED] = { "seed", "of the data", 1, 0, ~0ULL, NULL },
	[PARAMETERS] = { NULL, NULL, 0, 0, 0, NULL },
};

#define VALUE(which)	(parameters[which].value)

enum { PHASE_START, PHASE_PLACE, PHASE_EVICT, PHASE_VERIFY };

static const char *const phases[] = { "start", "place", "evict", "verify" };

static struct {
	int device;
	int pipes[PIPES][2];
	char *filling;		/* PIPE_SIZE bytes */
	atomic_uint evicted;	/* the eviction is over */
	atomic_ullong evictions;
	__u64 windows;
} run;

static struct progress progress = { .phases = phases };

/* VMAs that may not be merged may not share an anon_vma either. */
static char *map_apart(size_t pages)
{
	char *memory = map_pages(pages);
	size_t i;

	for (i = 1; memory && i < pages; i += 2) {
		if (!madvise(memory + i * page_size, page_size, MADV_DONTDUMP))
			continue;
		report_error("madvise", errno, "MADV_DONTDUMP, page %zu", i);
		memory = NULL;
	}
	return memory;
}

/* Its pages are on the device when it says so; then it does as it is told to. */
[[gnu::noreturn]] static void be_evicted(int told, int tell)
{
	int fd = attach_device(0);
	char *memory = map_apart(VALUE(VMAS));
	size_t half = VALUE(VMAS) / 2;
	char done = EXIT_ENVIRONMENT;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (fd >= 0 && memory) {
		pattern_fill(memory, 0, VALUE(VMAS), VALUE(SEED));
		/* In the first batch are pages from the middle. */
		done = move_to_device(fd, memory + half * page_size,
				      VALUE(VMAS) - half);
		done = done ?: move_to_device(fd, memory, half);
	}
	if (write(tell, &done, 1) != 1 || done || read(told, &done, 1) != 1)
		_exit(EXIT_ENVIRONMENT);
	if (VALUE(RACE) == RACE_EXIT)
		_exit(EXIT_DONE);
	if (munmap(memory, VALUE(VMAS) * page_size) ||
	    write(tell, &done, 1) != 1 || read(told, &done, 1))
		_exit(EXIT_ENVIRONMENT);
	_exit(EXIT_DONE);
}

struct victim {
	pid_t pid;
	int tell;
	int told;
};

static int victim_start(struct victim *victim)
{
	char done = EXIT_ENVIRONMENT;
	int down[2], up[2];

	victim->tell = -1;
	victim->told = -1;
	if (pipe2(down, O_CLOEXEC) || pipe2(up, O_CLOEXEC)) {
		report_error("pipe", errno, "to a child");
		return EXIT_ENVIRONMENT;
	}
	victim->tell = down[1];
	victim->told = up[0];
	victim->pid = fork();
	if (!victim->pid) {
		close(down[1]);
		close(up[0]);
		be_evicted(down[0], up[1]);
	}
	close(down[0]);
	close(up[1]);
	if (victim->pid < 0 || read(up[0], &done, 1) != 1)
		report_error("fork", errno, "no child");
	return done;
}

/* Its memory is gone when it answers, or has closed its files at its end. */
static int victim_drop(struct victim *victim)
{
	char byte = 0;

	if (write(victim->tell, &byte, 1) == 1 &&
	    read(victim->told, &byte, 1) == (VALUE(RACE) == RACE_MUNMAP))
		return EXIT_DONE;
	report_error("child", errno, "has not dropped its memory");
	return EXIT_ENVIRONMENT;
}

static int victim_end(struct victim *victim)
{
	int status;

	close(victim->tell);
	close(victim->told);
	if (victim->pid > 0 && waitpid(victim->pid, &status, 0) == victim->pid &&
	    WIFEXITED(status))
		return WEXITSTATUS(status);
	report_error("child", errno, "did not end by itself");
	return EXIT_ENVIRONMENT;
}

/* From every CPU in turn, as each keeps freed pages to itself. */
static int fill_pipes(void)
{
	unsigned int cpu = 0;
	size_t i;

	for (i = 0; i < PIPES; i++) {
		cpu = cpu_online(cpu) ? cpu : 0;
		pin_to_cpu(cpu++);
		if (pipe2(run.pipes[i], O_CLOEXEC | O_NONBLOCK) ||
		    fcntl(run.pipes[i][1], F_SETPIPE_SZ, PIPE_SIZE) < 0 ||
		    write(run.pipes[i][1], run.filling, PIPE_SIZE) < 0) {
			report_error("pipe", errno, "number %zu", i);
			return EXIT_ENVIRONMENT;
		}
	}
	return EXIT_DONE;
}

static void empty_pipes(void)
{
	size_t i;

	for (i = 0; i < PIPES; i++) {
		if (run.pipes[i][0] <= 0)
			continue;
		close(run.pipes[i][0]);
		close(run.pipes[i][1]);
		run.pipes[i][0] = 0;
	}
}

/* Whether the eviction waits, which a page of the victim's is part of. */
static int is_evicting(bool *evicting)
{
	struct hmm_harness_stats stats;
	int ret = device_stats(run.device, &stats);

	*evicting = !ret && stats.evicting;
	return ret;
}

static int go_on(void)
{
	struct hmm_harness_evict evict = { .flags = HMM_HARNESS_EVICT_GO_ON };

	if (!ioctl(run.device, HMM_HARNESS_EVICT, &evict))
		return EXIT_DONE;
	report_error("ioctl", errno, "EVICT_GO_ON");
	return EXIT_ENVIRONMENT;
}

struct dropping {
	struct victim victim;
	bool in_time;		/* the eviction waited all the while */
	int status;
};

static int drop_meanwhile(struct dropping *dropping)
{
	bool evicting = false;
	int ret = EXIT_DONE, on;

	while (!ret && !evicting && !atomic_load(&run.evicted)) {
		usleep(1000);
		ret = is_evicting(&evicting);
	}
	ret = ret ?: victim_drop(&dropping->victim);
	usleep(GRACE_US);
	if (!ret && VALUE(REUSE) == REUSE_PIPES)
		ret = fill_pipes();
	ret = ret ?: is_evicting(&dropping->in_time);
	on = go_on();
	return ret ?: on;
}

static void *dropper(void *dropping)
{
	((struct dropping *)dropping)->status = drop_meanwhile(dropping);
	return NULL;
}

static int evict(void)
{
	struct hmm_harness_evict evict = { .delay_ms = VALUE(DELAY_MS) };

	atomic_store(&progress.phase, PHASE_EVICT);
	if (ioctl(run.device, HMM_HARNESS_EVICT, &evict)) {
		report_error("ioctl", errno, "EVICT");
		return EXIT_ENVIRONMENT;
	}
	atomic_fetch_add(&run.evictions, 1);
	return EXIT_DONE;
}

static int evict_meanwhile(struct dropping *dropping)
{
	pthread_t thread;
	int error, ret;

	atomic_store(&run.evicted, 0);
	error = pthread_create(&thread, NULL, dropper, dropping);
	if (error) {
		report_error("pthread_create", error, "no thread");
		return EXIT_ENVIRONMENT;
	}
	ret = evict();
	atomic_store(&run.evicted, 1);
	pthread_join(thread, NULL);
	run.windows += dropping->in_time;
	return ret ?: dropping->status;
}

static int iterate(__u64 number)
{
	char *memory = map_pages(OWN_PAGES);
	__u64 key = mix64(VALUE(SEED) + number);
	struct dropping dropping = { 0 };
	struct json json;
	int ret, ended;

	if (!memory)
		return EXIT_ENVIRONMENT;
	atomic_store(&progress.phase, PHASE_PLACE);
	pattern_fill(memory, 0, OWN_PAGES, key);
	/* The lowest pages of the device: of the first batch, with the victim's. */
	ret = move_to_device(run.device, memory, OWN_PAGES);
	if (ret)
		return ret;
	ret = victim_start(&dropping.victim);
	ret = ret ?: evict_meanwhile(&dropping);
	ended = victim_end(&dropping.victim);
	ret = ret ?: ended;
	empty_pipes();
	atomic_store(&progress.phase, PHASE_VERIFY);
	ret = ret ?: check_content("evictor", number, memory, OWN_PAGES, key);
	munmap(memory, OWN_PAGES * page_size);
	if (ret)
		return ret;
	json_begin(&json, "iteration");
	json_number(&json, "n", number);
	json_number(&json, "in_time", dropping.in_time);
	json_send(&json);
	return EXIT_DONE;
}

static void report_end(__u64 done, int status, __s64 kept)
{
	struct json json;

	json_begin_end(&json, done, status);
	json_number(&json, "windows", run.windows);
	if (!status) {
		json_open(&json, "metrics", '{');
		json_metric(&json, "leaked_pages", kept);
		json_close(&json, '}');
	}
	json_send(&json);
}

static int evict_run(const struct scenario *scenario)
{
	static struct progress_counter counters[] = {
		{ "evictions", &run.evictions }, { NULL, NULL },
	};
	struct hmm_harness_stats before, after;
	__u64 number, done = 0;
	int ret;

	/* A child that has died is told nothing, and answers nothing. */
	signal(SIGPIPE, SIG_IGN);
	run.device = attach_device(0);
	run.filling = malloc(PIPE_SIZE);
	if (run.device < 0 || !run.filling)
		return EXIT_ENVIRONMENT;
	memset(run.filling, 'A', PIPE_SIZE);
	ret = device_stats(run.device, &before);
	if (ret)
		return ret;
	report_start(scenario);
	progress.counters = counters;
	ret = progress_start(&progress);
	if (ret)
		return ret;
	for (number = 0; !ret && number < VALUE(ITERATIONS); number++) {
		atomic_store(&progress.iteration, number);
		ret = iterate(number);
		done += !ret;
	}
	progress_stop(&progress);
	ret = ret ?: device_stats(run.device, &after);
	report_end(done, ret, ret ? 0 : (__s64)(after.pages_in_use -
						before.pages_in_use));
	return ret;
}

const struct scenario freed_anon_vma = {
	.name = "freed-anon-vma",
	.help = "memory is dropped while a driver evicts it",
	.parameters = parameters,
	.run = evict_run,
};
