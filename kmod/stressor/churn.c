// SPDX-License-Identifier: GPL-2.0-only
/*
 * churn: many processes do to device memory whatever a process can, all at
 * once, and look after every page's content meanwhile.
 *
 * A process lives for some hundred operations of its threads.  Its memory is
 * churn_memory.c, devices are churn_device.c.  It ends by itself, with files
 * open or closed, threads at work or not; or it is killed.  This file keeps so
 * many of them alive, and tells at the end what they leave behind.
 *
 * What processes do is a function of the seed; which of them comes first is not.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "churn.h"

#define TURN_NS		(5 * 1000000ULL)
/* One in so many turns a process is killed. */
#define KILL_TURNS	80
/* What was freed is counted as free a little later. */
#define SETTLE_NS	(5 * 1000000000ULL)

struct parameter churn_parameters[] = {
	[OPERATIONS] = { "operations", "of all processes", 10000, 1, 1000000000,
			 NULL },
	[TIME_S] = { "seconds", "of churning, at most; 0: any number", 0, 0,
		     86400, NULL },
	[PROCESSES] = { "processes", "at a time, without those they fork", 4, 1,
			16, NULL },
	[THREADS] = { "threads", "of each process", 3, 1, 8, NULL },
	[PAGES] = { "pages", "of each process, in blocks of 512", 2048,
		    BLOCK_PAGES, MAX_BLOCKS * BLOCK_PAGES, NULL },
	[RESERVE_MB] = { "reserve_mb", "of memory that others find free", 256, 16,
			 65536, NULL },
	[PATIENCE_S] = { "patience_s", "an operation takes longer: it is stuck",
			 30, 1, 600, NULL },
	[SMALL_PERCENT] = { "small_percent", "of huge pages find small places",
			    0, 0, 100, NULL },
	[EVICT_MS] = { "evict_ms", "evicted memory waits, at most; 0: none is",
		       0, 0, 1000, NULL },
	[SEED] = { "seed", "of all choices and data", 1, 0, ~0ULL, NULL },
	[PARAMETERS] = { NULL, NULL, 0, 0, 0, NULL },
};

const char *const churn_names[] = {
	[KIND_WRITE] = "write",
	[KIND_READ] = "read",
	[KIND_DONTNEED] = "dontneed",
	[KIND_UNMAP] = "unmap",
	[KIND_PROTECT] = "protect",
	[KIND_MOVE] = "move",
	[KIND_MOVE_PART] = "move_part",
	[KIND_ADVISE] = "advise",
	[KIND_HUGE] = "huge",
	[KIND_FORK] = "fork",
	[KIND_TO_DEVICE] = "to_device",
	[KIND_MIXED] = "mixed",
	[KIND_TO_SYSTEM] = "to_system",
	[KIND_FAULT] = "fault",
	[KIND_FAULT_FOREIGN] = "fault_foreign",
	[KIND_SNAPSHOT] = "snapshot",
	[KIND_TOUCH] = "touch",
	[KIND_COLLAPSE] = "collapse",
	[KIND_SPLIT] = "split",
	[KIND_PAGEOUT] = "pageout",
	[KIND_REOPEN] = "reopen",
	[KIND_HOG] = "hog",
	[KIND_EVICT] = "evict",
	[KIND_DROP_CACHES] = "drop_caches",
	[KIND_COMPACT] = "compact",
	[KIND_BALLAST] = "ballast",
	[KIND_HOLD_OPEN] = "hold_open",
	[KIND_BEHAVE] = "behave",
};

struct churn_shared *churn;
unsigned int churn_devices;

enum { PHASE_START, PHASE_CHURN, PHASE_END, PHASE_LEFT };

static const char *const phases[] = { "start", "churn", "end", "left" };

/* A process that was begun here. */
struct life {
	pid_t pid;
	__u64 number;
	__u64 began_ns;
	bool killed;
};

static struct life lives[16];
static __u64 lives_begun, lives_ended, lives_killed;
static struct progress progress;
static struct progress_counter counters[KINDS + 1];

__u64 churn_random(struct churner *self)
{
	return mix64(++self->random);
}

void churn_fails(int status)
{
	int none = EXIT_DONE;

	atomic_compare_exchange_strong(&churn->status, &none, status);
	set_and_wake(&churn->ending, 1);
}

struct churn_lane *churn_lane_take(void)
{
	unsigned int i;

	for (i = 0; i < LANES; i++) {
		int nobody = 0;

		if (atomic_compare_exchange_strong(&churn->lanes[i].pid,
						   &nobody, getpid()))
			return &churn->lanes[i];
	}
	report_error("churn", 0, "more threads than there may be");
	churn_fails(EXIT_ENVIRONMENT);
	_exit(EXIT_ENVIRONMENT);
}

void churn_lane_leave(struct churn_lane *lane)
{
	atomic_store(&lane->began_ns, 0);
	atomic_store(&lane->pid, 0);
}

void churn_reaped(pid_t pid)
{
	unsigned int i;

	for (i = 0; i < LANES; i++)
		if (atomic_load(&churn->lanes[i].pid) == pid)
			churn_lane_leave(&churn->lanes[i]);
	atomic_fetch_sub(&churn->alive, 1);
}

static void took(__u64 ns)
{
	unsigned long long most = atomic_load(&churn->slowest_ns);

	while (most < ns &&
	       !atomic_compare_exchange_weak(&churn->slowest_ns, &most, ns))
		;
}

enum churn_result churn_do(struct churner *self, enum churn_kind kind,
			   churn_operation *operation)
{
	__u64 began = now_ns();
	enum churn_result result;

	self->kind = kind;
	atomic_store(&self->lane->kind, kind);
	atomic_store(&self->lane->began_ns, began);
	result = operation(self);
	atomic_store(&self->lane->began_ns, 0);
	took(now_ns() - began);
	if (result == RESULT_DONE)
		atomic_fetch_add(&churn->done[kind], 1);
	else if (result == RESULT_REFUSED)
		atomic_fetch_add(&churn->refused[kind], 1);
	if (atomic_fetch_add(&churn->operations, 1) + 1 >= VALUE(OPERATIONS))
		set_and_wake(&churn->ending, 1);
	return result;
}

/* Whoever is at one thing for too long; everybody else is to stop then. */
static bool somebody_is_stuck(void)
{
	__u64 now = now_ns(), limit = VALUE(PATIENCE_S) * 1000000000ULL;
	unsigned int i;

	for (i = 0; i < LANES; i++) {
		__u64 began = atomic_load(&churn->lanes[i].began_ns);

		if (!began || now < began + limit)
			continue;
		took(now - began);
		return true;
	}
	return false;
}

/* True once nobody is left. */
static bool reap(void)
{
	struct json json;
	size_t i;
	int status;
	pid_t pid;

	while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
		churn_reaped(pid);
		for (i = 0; i < VALUE(PROCESSES); i++) {
			struct life *life = &lives[i];

			if (life->pid != pid)
				continue;
			json_begin(&json, "iteration");
			json_number(&json, "n", lives_ended++);
			json_number(&json, "life", life->number);
			json_bool(&json, "killed", life->killed);
			json_seconds(&json, "seconds",
				     (now_ns() - life->began_ns) / 1e9);
			json_send(&json);
			atomic_store(&progress.iteration, lives_ended);
			life->pid = 0;
		}
	}
	return pid < 0;
}

static void begin(struct life *life)
{
	__u64 number = lives_begun++;

	life->number = number;
	life->began_ns = now_ns();
	life->killed = false;
	atomic_fetch_add(&churn->alive, 1);
	life->pid = fork();
	if (!life->pid)
		churn_life(number, mix64(VALUE(SEED)) ^ mix64(~number));
	if (life->pid > 0)
		return;
	report_error("fork", errno, "process %llu", (unsigned long long)number);
	life->pid = 0;
	atomic_fetch_sub(&churn->alive, 1);
	churn_fails(EXIT_ENVIRONMENT);
}

static void kill_one(struct churner *self)
{
	struct life *life;

	if (churn_random(self) % KILL_TURNS)
		return;
	life = &lives[churn_random(self) % VALUE(PROCESSES)];
	if (!life->pid || life->killed)
		return;
	life->killed = true;
	lives_killed++;
	kill(life->pid, SIGKILL);
}

static void keep_alive(__u64 end_ns)
{
	struct churner self = { .random = mix64(VALUE(SEED)) };
	size_t i;

	while (!atomic_load(&churn->ending)) {
		for (i = 0; i < VALUE(PROCESSES); i++)
			if (!lives[i].pid)
				begin(&lives[i]);
		wait_while_for(&churn->ending, 0, TURN_NS);
		reap();
		kill_one(&self);
		if (now_ns() >= end_ns || somebody_is_stuck())
			set_and_wake(&churn->ending, 1);
	}
}

/*
 * All processes end by themselves; those of them that are stuck are killed.
 * One that does not even die of that is waited for: nothing moves any more then,
 * which is for others to see.
 */
static void wait_for_all(void)
{
	static atomic_uint never;
	unsigned int i;

	while (!reap()) {
		wait_while_for(&never, 0, TURN_NS);
		if (!somebody_is_stuck())
			continue;
		for (i = 0; i < LANES; i++) {
			int pid = atomic_load(&churn->lanes[i].pid);

			if (pid && pid != getpid())
				kill(pid, SIGKILL);
		}
	}
}

static int add_up(const int *devices, struct hmm_harness_stats *all)
{
	struct hmm_harness_stats one;
	unsigned int i;

	*all = (struct hmm_harness_stats){ 0 };
	for (i = 0; i < churn_devices; i++) {
		one = (struct hmm_harness_stats){ 0 };
		if (ioctl(devices[i], HMM_HARNESS_STATS, &one)) {
			report_error("ioctl", errno, "STATS");
			return EXIT_ENVIRONMENT;
		}
		all->faults += one.faults;
		all->fault_retries += one.fault_retries;
		all->migrations_to_device += one.migrations_to_device;
		all->migrations_to_system += one.migrations_to_system;
		all->migrate_to_ram += one.migrate_to_ram;
		all->aborts += one.aborts;
		all->pages_in_use += one.pages_in_use;
	}
	return EXIT_DONE;
}

/* What is in use is of nobody: nobody is left. */
static int count_left(const int *devices, struct hmm_harness_stats *all)
{
	static atomic_uint never;
	__u64 end = now_ns() + SETTLE_NS;
	int ret;

	do {
		ret = add_up(devices, all);
	} while (!ret && all->pages_in_use && now_ns() < end &&
		 !wait_while_for(&never, 0, TURN_NS));
	return ret;
}

static int open_all(int *devices)
{
	unsigned int i;

	for (i = 0; i < HMM_HARNESS_MAX_DEVICES; i++) {
		devices[i] = open_device(i);
		if (devices[i] < 0 && (!i || errno != ENOENT)) {
			report_error("device", errno, "/dev/hmm_harness%u", i);
			churn_devices = i;
			return EXIT_ENVIRONMENT;
		}
		if (devices[i] < 0)
			break;
	}
	churn_devices = i;
	return EXIT_DONE;
}

static void close_all(const int *devices)
{
	unsigned int i;

	for (i = 0; i < churn_devices; i++)
		close(devices[i]);
}

static int set_up(void)
{
	int devices[HMM_HARNESS_MAX_DEVICES], ret = open_all(devices);
	unsigned int i;

	if (ret)
		return ret;
	close_all(devices);
	churn = mmap(NULL, sizeof(*churn), PROT_READ | PROT_WRITE,
		     MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (churn == MAP_FAILED) {
		report_error("mmap", errno, "shared memory");
		return EXIT_ENVIRONMENT;
	}
	for (i = 0; i < KINDS; i++)
		counters[i] = (struct progress_counter){ churn_names[i],
							 &churn->done[i] };
	progress.phases = phases;
	progress.counters = counters;
	/* Of children whose parents are gone as well. */
	prctl(PR_SET_CHILD_SUBREAPER, 1);
	return EXIT_DONE;
}

static int churn_all(struct hmm_harness_stats *left)
{
	__u64 limit = VALUE(TIME_S) * 1000000000ULL;
	int devices[HMM_HARNESS_MAX_DEVICES], error, ret;

	ret = progress_start(&progress);
	if (ret)
		return ret;
	error = churn_pressure_start(mix64(~VALUE(SEED)));
	if (error) {
		report_error("pthread_create", error, "no pressure");
		progress_stop(&progress);
		return EXIT_ENVIRONMENT;
	}
	atomic_store(&progress.phase, PHASE_CHURN);
	keep_alive(limit ? now_ns() + limit : ~0ULL);
	atomic_store(&progress.phase, PHASE_END);
	/* While processes are alive: no last close evicts anything any more. */
	ret = open_all(devices);
	churn_pressure_stop();
	wait_for_all();
	atomic_store(&progress.phase, PHASE_LEFT);
	ret = ret ?: count_left(devices, left);
	close_all(devices);
	progress_stop(&progress);
	return ret;
}

static void report_counts(struct json *json, const char *key,
			  atomic_ullong *counts)
{
	unsigned int i;

	json_open(json, key, '{');
	for (i = 0; i < KINDS; i++)
		json_number(json, churn_names[i], atomic_load(&counts[i]));
	json_close(json, '}');
}

static int churn_run(const struct scenario *scenario)
{
	struct hmm_harness_stats left = { 0 };
	double slowest_s;
	__u64 began;
	struct json json;
	int ret;

	ret = set_up();
	if (ret)
		return ret;
	report_start(scenario);
	began = now_ns();
	ret = churn_all(&left);
	ret = atomic_load(&churn->status) ?: ret;

	json_begin_end(&json, lives_ended, ret);
	json_number(&json, "killed", lives_killed);
	report_counts(&json, "done", churn->done);
	report_counts(&json, "refused", churn->refused);
	json_open(&json, "devices", '{');
	json_number(&json, "faults", left.faults);
	json_number(&json, "fault_retries", left.fault_retries);
	json_number(&json, "to_device", left.migrations_to_device);
	json_number(&json, "to_system", left.migrations_to_system);
	json_number(&json, "migrate_to_ram", left.migrate_to_ram);
	json_number(&json, "aborts", left.aborts);
	json_number(&json, "huge_snapshots", atomic_load(&churn->huge));
	json_close(&json, '}');
	json_open(&json, "metrics", '{');
	json_number(&json, "leaked_pages", left.pages_in_use);
	slowest_s = atomic_load(&churn->slowest_ns) / 1e9;
	json_seconds(&json, "slowest_s", slowest_s);
	json_seconds(&json, "overdue_s", slowest_s > VALUE(PATIENCE_S) ?
		     slowest_s - VALUE(PATIENCE_S) : 0);
	json_close(&json, '}');
	json_seconds(&json, "seconds", (now_ns() - began) / 1e9);
	json_send(&json);
	return ret;
}

const struct scenario churn_scenario = {
	.name = "churn",
	.help = "everything a process can do to device memory, by many at once",
	.parameters = churn_parameters,
	.run = churn_run,
};
