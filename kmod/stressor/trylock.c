// SPDX-License-Identifier: GPL-2.0-only
/*
 * trylock-starvation: a fault that spins on a locked device page starves the
 * LRU drain that the lock's holder waits for.
 *
 * Each iteration:
 *   1. the parent fills pages and moves them to device 0;
 *   2. it forks: the device pages are now mapped by parent and child;
 *   3. a thread of the parent faults in system pages, just below the device
 *      pages, on the CPU where the child will run: they wait there, off the
 *      LRU, in that CPU's batch;
 *   4. race: the parent ("holder", another CPU) migrates the whole range as
 *      one mixed batch; the child ("spinner") faults the device pages through
 *      a mirror that does not own them.  Its range begins with pages that
 *      are present: while it walks them it is inside hmm_range_fault(), and
 *      disturbs nothing, which gives the holder time to lock;
 *   5. both check every byte.
 *
 * trylock-starvation-forced: the same without the race.  The module stops the
 * holder when it has locked the batch; the child begins to fault then, and the
 * holder goes on when the child is stuck.  With window=work the batch is the
 * device pages alone, and instead of the drain the holder awaits a work item of
 * the module's on the spinner's CPU.  With window=fault the holder is stopped
 * in a CPU fault on the first device page instead, before a work item again, and
 * the spinner is a thread of its process: no fork, no batch.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "hmm_harness.h"
#include "stressor.h"

/* Longer than a busy host takes to run both virtual CPUs. */
#define SPIN_NS		(40 * 1000000ULL)
/* No LRU batch of a CPU holds so many pages (PAGEVEC_SIZE). */
#define BATCH_PAGES	32

enum {
	WINDOW, HOLD_MS, RACE,
	PAGES = RACE, SYSTEM_PAGES, APPROACH_PAGES, FAULT_PAGES, ITERATIONS,
	SEED, JITTER, HOLDER_CPU, SPINNER_CPU, ENTRY, TIMEOUT_MS, POLICY, PRIORITY,
	FAIR_SERVER, OWNER, PARAMETERS
};

enum { NOTIFIER, WORK, FAULT };

static const char *const windows[] = { "notifier", "work", "fault", NULL };
static const char *const entries[] = {
	"hmm_range_fault", "hmm_range_fault_unlocked_timeout", NULL
};

static const char *const policies[] = { "other", "fifo", "rr", "batch", NULL };
static const char *const fair_servers[] = { "keep", "off", NULL };
static const char *const owners[] = { "other", "none", NULL };

/* The race takes those from RACE on; the forced windows take all. */
static struct parameter parameters[] = {
	[WINDOW] = { "window", "what the holder is stopped in", 0, 0, 0, windows },
	[HOLD_MS] = { "hold_ms", "for which the spinner is waited for, at most",
		      5000, 1, HMM_HARNESS_MAX_TIMEOUT_MS, NULL },
	[PAGES] = { "pages", "device pages in the batch", 511, 1, 65000, NULL },
	[SYSTEM_PAGES] = { "system_pages", "off-LRU pages below them",
			   1, 1, 30, NULL },
	[APPROACH_PAGES] = { "approach_pages",
			     "present pages the spinner walks before them",
			     4096, 0, 65000, NULL },
	[FAULT_PAGES] = { "fault_pages", "device pages the spinner faults, at most",
			  64, 1, 65000, NULL },
	[ITERATIONS] = { "iterations", "how often", 20, 1, 1000000, NULL },
	[SEED] = { "seed", "of data and start offsets", 1, 0, ~0ULL, NULL },
	[JITTER] = { "jitter", "steps by which the spinner starts later, at most",
		     20000, 0, 100000000, NULL },
	[HOLDER_CPU] = { "holder_cpu", "", 0, 0, CPU_SETSIZE - 1, NULL },
	[SPINNER_CPU] = { "spinner_cpu", "", 1, 0, CPU_SETSIZE - 1, NULL },
	[ENTRY] = { "entry", "how the spinner faults", 0, 0, 0, entries },
	[TIMEOUT_MS] = { "timeout_ms", "of the fault; 0: the kernel's default",
			 0, 0, HMM_HARNESS_MAX_TIMEOUT_MS, NULL },
	[POLICY] = { "policy", "of the spinner", 0, 0, 0, policies },
	[PRIORITY] = { "priority", "of a real-time spinner", 1, 1, 99, NULL },
	[FAIR_SERVER] = { "fair_server", "deadline server for fair tasks",
			  0, 0, 0, fair_servers },
	[OWNER] = { "owner", "of device pages, in the spinner's eyes",
		    0, 0, 0, owners },
	[PARAMETERS] = { NULL, NULL, 0, 0, 0, NULL },
};

#define VALUE(which)	(parameters[which].value)

static bool forced;		/* the module holds the batch for the spinner */

/* The child's steps, in order; it sleeps before AWAKE, GO and VERIFY. */
enum { FORKED, READY, DONE, VERIFIED };
enum { HOLD, WAKE, GO, VERIFY };

enum {
	PHASE_START, PHASE_FILL, PHASE_TO_DEVICE, PHASE_FORK, PHASE_TOUCH,
	PHASE_RACE, PHASE_SPINNER, PHASE_VERIFY
};

static const char *const phases[] = {
	"start", "fill", "to_device", "fork", "touch", "race", "spinner",
	"verify"
};

/* Shared by parent and child. */
struct shared {
	atomic_uint child;		/* FORKED.. */
	atomic_uint awake;
	atomic_uint order;		/* HOLD.. */
	atomic_uint passed;		/* the mixed batch is over */
	atomic_ullong spinner_count;
	int error;			/* of a step of the child, errno */
	const char *error_step;		/* same address in parent and child */
	int fault_error;
	__u64 fault_retries;
	__u64 fault_ns;
};

static struct {
	char *approach;			/* approach pages, then memory */
	char *memory;			/* system pages, then device pages */
	size_t pages;			/* of both kinds */
	char *scratch;			/* BATCH_PAGES pages */
	int device;			/* the holder's mirror */
	struct shared *shared;
	__u64 key;			/* of this iteration's pattern */
	atomic_ullong iteration;
	atomic_uint phase;
	atomic_ullong holder_count;
	atomic_ullong toucher_count;
	atomic_uint touch;		/* 1: asked for, 0: done, 2: end */
	struct hmm_harness_touch touched;
	int touch_error;
	pthread_t spinner;		/* if it is no child */
	atomic_uint ending;
	__u64 hits, migrated, faults;
} run;

static char *device_memory(void)
{
	return run.memory + VALUE(SYSTEM_PAGES) * page_size;
}

/* What the holder migrates while the spinner faults. */
static bool without_system_pages(void)
{
	return forced && VALUE(WINDOW) != NOTIFIER;
}

/* The spinner is a thread of this process instead of a child. */
static bool threaded(void)
{
	return forced && VALUE(WINDOW) == FAULT;
}

static char *batch_memory(void)
{
	return without_system_pages() ? device_memory() : run.memory;
}

static size_t batch_pages(void)
{
	return without_system_pages() ? VALUE(PAGES) : run.pages;
}

/* --- the child ---------------------------------------------------------- */

static int set_policy(void)
{
	static const int numbers[] = {
		SCHED_OTHER, SCHED_FIFO, SCHED_RR, SCHED_BATCH
	};
	int policy = numbers[VALUE(POLICY)];
	struct sched_param param = { 0 };

	if (policy == SCHED_OTHER)
		return 0;
	if (policy == SCHED_FIFO || policy == SCHED_RR)
		param.sched_priority = VALUE(PRIORITY);
	return sched_setscheduler(0, policy, &param) ? errno : 0;
}

static void child_fails(const char *step, int error)
{
	run.shared->error = error;
	run.shared->error_step = step;
	if (threaded())
		pthread_exit(NULL);
	_exit(EXIT_ENVIRONMENT);
}

/*
 * Counted, not timed: where the kernel has but a tick for a clock, as in an
 * emulated machine, time stands still for milliseconds.
 */
static void delay(__u64 steps)
{
	while (steps--)
		atomic_signal_fence(memory_order_seq_cst);
}

static bool all_zero(const char *memory, size_t length)
{
	return !memory[0] && !memcmp(memory, memory + 1, length - 1);
}

static int child_verify(void)
{
	struct mismatch mismatch;
	size_t i;

	/* Faulted in by the parent after the fork: never in the child. */
	for (i = 0; i < VALUE(SYSTEM_PAGES); i++) {
		if (all_zero(run.memory + i * page_size, page_size))
			continue;
		mismatch = (struct mismatch){ .page = i };
		memcpy(&mismatch.found, run.memory + i * page_size,
		       sizeof(mismatch.found));
		report_corruption("child", run.iteration, run.memory, &mismatch);
		return EXIT_CORRUPTION;
	}
	if (!pattern_verify(device_memory(), VALUE(SYSTEM_PAGES), VALUE(PAGES),
			    run.key, &mismatch)) {
		report_corruption("child", run.iteration, run.memory, &mismatch);
		return EXIT_CORRUPTION;
	}
	return EXIT_DONE;
}

/* The file is the holder's; until the holder is past it at the latest. */
static void wait_for_hold(void)
{
	struct hmm_harness_window window = { 0 };
	const struct timespec pause = { .tv_nsec = 200000 };

	while (!ioctl(run.device, HMM_HARNESS_WINDOW, &window) &&
	       window.held != HMM_HARNESS_HELD_WAITING &&
	       !atomic_load(&run.shared->passed))
		nanosleep(&pause, NULL);
}

/* No page beyond those that the holder has locked. */
static size_t fault_pages(void)
{
	if (threaded())
		return 1;
	return VALUE(FAULT_PAGES) < VALUE(PAGES) ? VALUE(FAULT_PAGES) :
						   VALUE(PAGES);
}

/* In a child of its own, or a thread. */
static void spin(__u64 steps)
{
	struct shared *shared = run.shared;
	struct hmm_harness_attach attach = { 0 };
	struct hmm_harness_fault fault = {
		.addr = (uintptr_t)run.approach,
		.length = (VALUE(APPROACH_PAGES) + VALUE(SYSTEM_PAGES) +
			   fault_pages()) * page_size,
		.owner = VALUE(OWNER) ? HMM_HARNESS_OWNER_NONE :
					HMM_HARNESS_OWNER_SELF,
		.entry = VALUE(ENTRY) ? HMM_HARNESS_ENTRY_UNLOCKED :
					HMM_HARNESS_ENTRY_LOCKED,
		.timeout_ms = VALUE(TIMEOUT_MS),
	};
	__u64 start;
	int fd, error;

	error = pin_to_cpu(VALUE(SPINNER_CPU));
	if (error)
		child_fails("pin the spinner to its CPU", error);
	error = set_policy();
	if (error)
		child_fails("set the spinner's policy", error);
	fd = open_device(VALUE(OWNER) ? 0 : 1);
	if (fd < 0)
		child_fails("open the spinner's device", errno);
	if (ioctl(fd, HMM_HARNESS_ATTACH, &attach))
		child_fails("attach the spinner", errno);
	set_and_wake(&shared->child, READY);

	wait_while(&shared->order, HOLD, 0);
	/* From here to the fault on the CPU: starts must lie close together. */
	set_and_wake(&shared->awake, 1);
	wait_while(&shared->order, WAKE, SPIN_NS);
	if (forced)
		wait_for_hold();
	delay(steps);
	start = now_ns();
	shared->fault_error = ioctl(fd, HMM_HARNESS_FAULT, &fault) ? errno : 0;
	shared->fault_ns = now_ns() - start;
	shared->fault_retries = fault.retries;
	if (!shared->fault_error)
		atomic_fetch_add(&shared->spinner_count, 1);
	close(fd);
	set_and_wake(&shared->child, DONE);
}

static void child(__u64 steps)
{
	int error;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	spin(steps);
	wait_while(&run.shared->order, GO, 0);
	error = child_verify();
	set_and_wake(&run.shared->child, VERIFIED);
	_exit(error);
}

static void *spinner(void *steps)
{
	spin(*(__u64 *)steps);
	return NULL;
}

/* --- the parent's other threads ----------------------------------------- */

static int touch(char *memory, size_t pages)
{
	run.touched = (struct hmm_harness_touch){
		.addr = (uintptr_t)memory,
		.length = pages * page_size,
	};
	return ioctl(run.device, HMM_HARNESS_TOUCH, &run.touched) ? errno : 0;
}

/*
 * The page that fills a CPU's batch sends all of it to the LRU.  Where one
 * iteration must do, none of ours may be that page, nor one of the spinner's own
 * behind it: fill the batch up beforehand.
 */
static int empty_batch(void)
{
	size_t i;
	int ret = 0;

	if (madvise(run.scratch, BATCH_PAGES * page_size, MADV_DONTNEED))
		return errno;
	run.touched.off_lru = 1;
	for (i = 0; !ret && run.touched.off_lru && i < BATCH_PAGES; i++)
		ret = touch(run.scratch + i * page_size, 1);
	return ret;
}

static void *toucher(void *unused)
{
	int error = pin_to_cpu(VALUE(SPINNER_CPU));
	__u32 order;

	(void)unused;
	for (;;) {
		wait_while(&run.touch, 0, 0);
		order = atomic_load(&run.touch);
		if (order != 1)
			return NULL;
		run.touch_error = error;
		if (forced && !run.touch_error)
			run.touch_error = empty_batch();
		if (!run.touch_error)
			run.touch_error = touch(run.memory,
						VALUE(SYSTEM_PAGES));
		if (!run.touch_error)
			pattern_fill(run.memory, 0, VALUE(SYSTEM_PAGES),
				     run.key);
		atomic_fetch_add(&run.toucher_count, 1);
		set_and_wake(&run.touch, 0);
	}
}

static void report_progress(void)
{
	const struct {
		const char *name;
		__u64 count;
	} threads[] = {
		{ "holder", atomic_load(&run.holder_count) },
		{ "spinner", atomic_load(&run.shared->spinner_count) },
		{ "toucher", atomic_load(&run.toucher_count) },
	};
	struct hmm_harness_window window = { 0 };
	struct json json;
	size_t i;

	json_begin(&json, "progress");
	json_number(&json, "iteration", atomic_load(&run.iteration));
	json_string(&json, "phase", phases[atomic_load(&run.phase)]);
	json_open(&json, "threads", '[');
	for (i = 0; i < ARRAY_SIZE(threads); i++) {
		json_open(&json, NULL, '{');
		json_string(&json, "name", threads[i].name);
		json_number(&json, "count", threads[i].count);
		json_close(&json, '}');
	}
	json_close(&json, ']');
	/* In a hang, all that will ever be known of the last window. */
	if (!ioctl(run.device, HMM_HARNESS_WINDOW, &window)) {
		json_open(&json, "window", '{');
		json_bool(&json, "open", window.open);
		json_bool(&json, "hit", window.hit);
		json_close(&json, '}');
	}
	json_send(&json);
}

/* On the holder's CPU: the holder sleeps when the spinner's CPU is lost. */
static void *monitor(void *unused)
{
	(void)unused;
	pin_to_cpu(VALUE(HOLDER_CPU));
	while (!wait_while_for(&run.ending, 0, 100 * 1000000ULL))
		report_progress();
	return NULL;
}

/* --- the parent --------------------------------------------------------- */

static void report_window(struct json *json,
			  const struct hmm_harness_window *window)
{
	static const struct {
		__u32 condition;
		const char *name;
	} names[] = {
		{ HMM_HARNESS_COND_DEVICE_LOCKED, "device_locked" },
		{ HMM_HARNESS_COND_DEVICE_SHARED, "device_shared" },
		{ HMM_HARNESS_COND_SYSTEM_OFF_LRU, "system_off_lru" },
		{ HMM_HARNESS_COND_ORDER, "order" },
		{ HMM_HARNESS_COND_REMOTE_DRAIN, "remote_drain" },
		{ HMM_HARNESS_COND_SPINNER, "spinner_inside" },
		{ HMM_HARNESS_COND_SPINNER_DRAIN, "spinner_cpu_drain" },
		{ HMM_HARNESS_COND_SPINNER_WORK, "spinner_cpu_work" },
	};
	static const char *const helds[] = {
		[HMM_HARNESS_HELD_WAITING] = "waiting",
		[HMM_HARNESS_HELD_SPINS] = "spins",
		[HMM_HARNESS_HELD_SLEEPS] = "sleeps",
		[HMM_HARNESS_HELD_TIMEOUT] = "timeout",
		[HMM_HARNESS_HELD_KILLED] = "killed",
	};
	size_t i;

	json_open(json, "window", '{');
	json_bool(json, "hit", window->hit);
	json_open(json, "missing", '[');
	if (!window->batches)
		json_string(json, NULL, "batch");
	for (i = 0; i < ARRAY_SIZE(names); i++)
		if (window->needed & ~window->conditions & names[i].condition)
			json_string(json, NULL, names[i].name);
	json_close(json, ']');
	json_number(json, "device_locked", window->device_locked);
	json_number(json, "device_shared", window->device_shared);
	json_number(json, "system_folios", window->system_folios);
	json_number(json, "system_off_lru", window->system_off_lru);
	if (window->first_off_lru != HMM_HARNESS_NO_INDEX)
		json_number(json, "first_off_lru", window->first_off_lru);
	if (window->first_device != HMM_HARNESS_NO_INDEX)
		json_number(json, "first_device", window->first_device);
	if (window->holder_cpu != HMM_HARNESS_NO_CPU)
		json_number(json, "holder_cpu", window->holder_cpu);
	if (window->spinner_cpu != HMM_HARNESS_NO_CPU)
		json_number(json, "spinner_cpu", window->spinner_cpu);
	json_bool(json, "spinner_late", window->spinner_late);
	json_number(json, "drain_cpus", window->drain_cpus);
	json_number(json, "unmap_us", window->unmap_ns / 1000);
	if (window->held != HMM_HARNESS_HELD_NOT) {
		json_string(json, "held", window->held < ARRAY_SIZE(helds) ?
			    helds[window->held] : "unknown");
		json_number(json, "held_us", window->held_ns / 1000);
	}
	json_close(json, '}');
}

/* Waits for the child to leave a step; reports it if it died instead. */
static bool child_passes(pid_t pid, __u32 step)
{
	int status;

	while (!wait_while_for(&run.shared->child, step, 200 * 1000000ULL)) {
		if (threaded() ? !run.shared->error_step :
				 waitpid(pid, &status, WNOHANG) != pid)
			continue;
		if (run.shared->error_step)
			report_error("spinner", run.shared->error, "cannot %s",
				     run.shared->error_step);
		else
			report_error("spinner", 0, "ended with status 0x%x",
				     status);
		return false;
	}
	return true;
}

static int migrate(unsigned long request, const char *what, char *memory,
		   size_t pages, __u32 flags,
		   struct hmm_harness_migrate *migrated)
{
	*migrated = (struct hmm_harness_migrate){
		.addr = (uintptr_t)memory,
		.length = pages * page_size,
		.flags = flags,
	};
	/* Out of memory half-way is told by the counts, and not fatal. */
	if (!ioctl(run.device, request, migrated) || errno == ENOMEM)
		return EXIT_DONE;
	report_error("ioctl", errno, "%s", what);
	return EXIT_ENVIRONMENT;
}

static int start_spinner(pid_t *pid, const __u64 *steps)
{
	int error;

	if (threaded()) {
		error = pthread_create(&run.spinner, NULL, spinner,
				       (void *)steps);
	} else {
		*pid = fork();
		if (!*pid)
			child(*steps);
		error = *pid < 0 ? errno : 0;
	}
	if (!error)
		return EXIT_DONE;
	report_error("fork", error, "no spinner");
	return EXIT_ENVIRONMENT;
}

/* Steps 1 to 3; on success *pid is a child that is READY. */
static int prepare(pid_t *pid, const __u64 *steps,
		   struct hmm_harness_migrate *placed)
{
	struct hmm_harness_window window = { .flags = HMM_HARNESS_WINDOW_RESET };
	int ret;

	atomic_store(&run.phase, PHASE_FILL);
	if (madvise(run.memory, VALUE(SYSTEM_PAGES) * page_size,
		    MADV_DONTNEED)) {
		report_error("madvise", errno, "MADV_DONTNEED");
		return EXIT_ENVIRONMENT;
	}
	pattern_fill(device_memory(), VALUE(SYSTEM_PAGES), VALUE(PAGES),
		     run.key);
	atomic_store(&run.phase, PHASE_TO_DEVICE);
	ret = migrate(HMM_HARNESS_MIGRATE_TO_DEVICE, "MIGRATE_TO_DEVICE",
		      device_memory(), VALUE(PAGES), 0, placed);
	if (ret)
		return ret;

	atomic_store(&run.phase, PHASE_FORK);
	atomic_store(&run.shared->child, FORKED);
	atomic_store(&run.shared->awake, 0);
	atomic_store(&run.shared->order, HOLD);
	atomic_store(&run.shared->passed, 0);
	run.shared->error_step = NULL;
	*pid = -1;
	ret = start_spinner(pid, steps);
	if (ret)
		return ret;
	if (!child_passes(*pid, FORKED))
		return EXIT_ENVIRONMENT;

	atomic_store(&run.phase, PHASE_TOUCH);
	set_and_wake(&run.touch, 1);
	wait_while(&run.touch, 1, 0);
	if (run.touch_error) {
		report_error("ioctl", run.touch_error, "TOUCH");
		return EXIT_ENVIRONMENT;
	}
	if (ioctl(run.device, HMM_HARNESS_WINDOW, &window)) {
		report_error("ioctl", errno, "WINDOW");
		return EXIT_ENVIRONMENT;
	}
	return EXIT_DONE;
}

/* A CPU fault on a device page. */
static int read_first_page(void)
{
	struct mismatch mismatch;

	if (pattern_verify(device_memory(), VALUE(SYSTEM_PAGES), 1, run.key,
			   &mismatch))
		return EXIT_DONE;
	report_corruption("parent", run.iteration, run.memory, &mismatch);
	return EXIT_CORRUPTION;
}

/* Step 4. */
static int race(pid_t pid, __u64 steps, struct hmm_harness_migrate *mixed)
{
	static const __u32 kinds[] = {
		[NOTIFIER] = HMM_HARNESS_HOLD_NOTIFIER,
		[WORK] = HMM_HARNESS_HOLD_WORK,
		[FAULT] = HMM_HARNESS_HOLD_FAULT,
	};
	struct hmm_harness_hold hold = {
		.addr = (uintptr_t)batch_memory(),
		.length = batch_pages() * page_size,
		.kind = kinds[VALUE(WINDOW)],
		.timeout_ms = VALUE(HOLD_MS),
	};
	int ret = EXIT_DONE;

	if (forced && ioctl(run.device, HMM_HARNESS_HOLD, &hold)) {
		report_error("ioctl", errno, "HOLD");
		return EXIT_ENVIRONMENT;
	}
	atomic_store(&run.phase, PHASE_RACE);
	set_and_wake(&run.shared->order, WAKE);
	wait_while(&run.shared->awake, 0, SPIN_NS);
	/* Nobody sleeps on it by now, or the spinner comes too late anyway. */
	set_and_wake(&run.shared->order, GO);
	/* The spinner must see it before this CPU locks and drains all alone. */
	relax();
	delay(steps);
	if (threaded()) {
		*mixed = (struct hmm_harness_migrate){ .migrated = 1 };
		ret = read_first_page();
	} else {
		ret = migrate(HMM_HARNESS_MIGRATE_TO_DEVICE,
			      "MIGRATE_TO_DEVICE (mixed)", batch_memory(),
			      batch_pages(), HMM_HARNESS_MIGRATE_MIXED, mixed);
	}
	atomic_store(&run.shared->passed, 1);
	atomic_store(&run.phase, PHASE_SPINNER);
	if (!child_passes(pid, READY))
		ret = EXIT_ENVIRONMENT;
	return ret;
}

/* Step 5. */
static int verify(pid_t pid)
{
	struct hmm_harness_migrate back;
	struct mismatch mismatch;
	int status, ret;

	atomic_store(&run.phase, PHASE_VERIFY);
	ret = migrate(HMM_HARNESS_MIGRATE_TO_SYSTEM, "MIGRATE_TO_SYSTEM",
		      run.memory, run.pages, 0, &back);
	set_and_wake(&run.shared->order, VERIFY);
	if (!ret && !pattern_verify(run.memory, 0, run.pages, run.key,
				    &mismatch)) {
		report_corruption("parent", run.iteration, run.memory,
				  &mismatch);
		ret = EXIT_CORRUPTION;
	}
	if (threaded()) {
		pthread_join(run.spinner, NULL);
		return ret;
	}
	if (waitpid(pid, &status, 0) != pid) {
		report_error("waitpid", errno, "the spinner's end");
		return ret ?: EXIT_ENVIRONMENT;
	}
	if (!WIFEXITED(status)) {
		report_error("spinner", 0, "ended with status 0x%x", status);
		return ret ?: EXIT_ENVIRONMENT;
	}
	return ret ?: WEXITSTATUS(status);
}

static int iterate(__u64 number)
{
	__u64 began = now_ns(), early, late;
	__s64 offset;
	struct hmm_harness_migrate placed, mixed;
	struct hmm_harness_window window = { 0 };
	struct json json;
	pid_t pid = -1;
	int ret;

	atomic_store(&run.iteration, number);
	run.key = mix64(VALUE(SEED)) ^ mix64(~number);
	/*
	 * Mostly the spinner starts later: one that comes too early brings
	 * pages home, and drains its CPU's batch by doing so.
	 */
	early = VALUE(JITTER) / 4;
	offset = (__s64)(mix64(run.key) % (VALUE(JITTER) + early + 1)) -
		 (__s64)early;

	late = offset > 0 ? offset : 0;
	ret = prepare(&pid, &late, &placed);
	if (!ret)
		ret = race(pid, offset < 0 ? -offset : 0, &mixed);
	if (!ret && ioctl(run.device, HMM_HARNESS_WINDOW, &window)) {
		report_error("ioctl", errno, "WINDOW");
		ret = EXIT_ENVIRONMENT;
	}
	if (!ret && run.shared->fault_error == EOPNOTSUPP) {
		report_error("ioctl", EOPNOTSUPP, "FAULT by %s",
			     entries[VALUE(ENTRY)]);
		ret = EXIT_ENVIRONMENT;
	}
	if (!ret)
		ret = verify(pid);
	if (ret) {
		if (pid > 0)
			kill(pid, SIGKILL);
		return ret;
	}

	run.hits += window.hits;
	run.migrated += mixed.migrated;
	run.faults += !run.shared->fault_error;
	atomic_fetch_add(&run.holder_count, 1);

	json_begin(&json, "iteration");
	json_number(&json, "n", number);
	report_window(&json, &window);
	json_number(&json, "placed", placed.migrated);
	json_number(&json, "collected", mixed.collected);
	json_number(&json, "migrated", mixed.migrated);
	json_number(&json, "faults", !run.shared->fault_error);
	json_signed(&json, "fault_errno", run.shared->fault_error);
	json_number(&json, "fault_retries", run.shared->fault_retries);
	json_number(&json, "fault_us", run.shared->fault_ns / 1000);
	json_number(&json, "touched_off_lru", run.touched.off_lru);
	json_signed(&json, "offset", offset);
	json_seconds(&json, "seconds", (now_ns() - began) / 1e9);
	json_send(&json);
	return EXIT_DONE;
}

/* Reads or writes a small file by one call; errno tells why not. */
static bool small_file(const char *path, int flags, char *text, size_t size)
{
	int fd = open(path, flags | O_CLOEXEC);
	ssize_t length;
	int error;

	if (fd < 0)
		return false;
	if (flags == O_RDONLY)
		length = read(fd, text, size);
	else
		length = write(fd, text, size);
	error = errno;
	close(fd);
	errno = error;
	return length > 0;
}

/* The runtime of each CPU's fair server before the run; "" if left alone. */
static char fair_runtimes[CPU_SETSIZE][32];

/* Only the CPUs there are have such a file. */
static void fair_path(unsigned int cpu, char *path, size_t size)
{
	snprintf(path, size,
		 "/sys/kernel/debug/sched/fair_server/cpu%u/runtime", cpu);
}

/* All that can be, even if one file refuses. */
static int restore_fair_servers(void)
{
	int ret = EXIT_DONE;
	unsigned int cpu;
	char path[80];

	for (cpu = 0; cpu < CPU_SETSIZE; cpu++) {
		char *old = fair_runtimes[cpu];

		fair_path(cpu, path, sizeof(path));
		if (!old[0] || small_file(path, O_WRONLY, old, strlen(old)))
			continue;
		report_error("fair_server", errno, "%s", path);
		ret = EXIT_ENVIRONMENT;
	}
	return ret;
}

/* On failure some may be stopped: restore them. */
static int stop_fair_servers(void)
{
	char path[80], zero[] = "0";
	unsigned int cpu, found = 0;

	for (cpu = 0; cpu < CPU_SETSIZE; cpu++) {
		char *old = fair_runtimes[cpu];

		fair_path(cpu, path, sizeof(path));
		if (access(path, F_OK))
			continue;
		if (!small_file(path, O_RDONLY, old,
				sizeof(fair_runtimes[cpu]) - 1) ||
		    !small_file(path, O_WRONLY, zero, 1)) {
			report_error("fair_server", errno, "%s", path);
			old[0] = '\0';
			return EXIT_ENVIRONMENT;
		}
		found++;
	}
	if (!found) {
		report_error("fair_server", ENOENT,
			     "/sys/kernel/debug/sched/fair_server");
		return EXIT_ENVIRONMENT;
	}
	return EXIT_DONE;
}

static int check_parameters(void)
{
	if (VALUE(HOLDER_CPU) == VALUE(SPINNER_CPU)) {
		report_error("parameter", 0,
			     "spinner_cpu=%llu: must differ from holder_cpu",
			     (unsigned long long)VALUE(SPINNER_CPU));
		return EXIT_PARAMETER;
	}
	if (!cpu_online(VALUE(HOLDER_CPU)) || !cpu_online(VALUE(SPINNER_CPU))) {
		report_error("cpu", 0, "holder_cpu=%llu spinner_cpu=%llu: not both online",
			     (unsigned long long)VALUE(HOLDER_CPU),
			     (unsigned long long)VALUE(SPINNER_CPU));
		return EXIT_ENVIRONMENT;
	}
	return EXIT_DONE;
}

static int set_up_device(void)
{
	struct hmm_harness_attach attach = { 0 };
	struct hmm_harness_stats stats = { 0 };

	run.device = open_device(0);
	if (run.device < 0) {
		report_error("device", errno, "/dev/hmm_harness0");
		return EXIT_ENVIRONMENT;
	}
	if (ioctl(run.device, HMM_HARNESS_ATTACH, &attach) ||
	    ioctl(run.device, HMM_HARNESS_STATS, &stats)) {
		report_error("device", errno, "ATTACH or STATS");
		return EXIT_ENVIRONMENT;
	}
	/* A mixed batch moves device pages to new ones: twice the pages. */
	if (stats.pages_free < 2 * VALUE(PAGES) + VALUE(SYSTEM_PAGES)) {
		report_error("device", ENOMEM,
			     "%llu free device pages, pages=%llu needs %llu",
			     (unsigned long long)stats.pages_free,
			     (unsigned long long)VALUE(PAGES),
			     (unsigned long long)(2 * VALUE(PAGES) +
						  VALUE(SYSTEM_PAGES)));
		return EXIT_ENVIRONMENT;
	}
	return EXIT_DONE;
}

static int set_up_memory(void)
{
	struct mismatch mismatch = { 0 };
	size_t length;

	run.pages = VALUE(SYSTEM_PAGES) + VALUE(PAGES);
	length = (VALUE(APPROACH_PAGES) + run.pages) * page_size;
	run.approach = mmap(NULL, length, PROT_READ | PROT_WRITE,
			    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	run.memory = run.approach + VALUE(APPROACH_PAGES) * page_size;
	run.scratch = mmap(NULL, BATCH_PAGES * page_size,
			   PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
			   -1, 0);
	run.shared = mmap(NULL, sizeof(*run.shared), PROT_READ | PROT_WRITE,
			  MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (run.approach == MAP_FAILED || run.scratch == MAP_FAILED ||
	    run.shared == MAP_FAILED) {
		report_error("mmap", errno, "%zu pages", run.pages);
		return EXIT_ENVIRONMENT;
	}
	/* Large folios go to the LRU at once; EINVAL: a kernel without them. */
	if ((madvise(run.approach, length, MADV_NOHUGEPAGE) ||
	     madvise(run.scratch, BATCH_PAGES * page_size, MADV_NOHUGEPAGE)) &&
	    errno != EINVAL) {
		report_error("madvise", errno, "MADV_NOHUGEPAGE");
		return EXIT_ENVIRONMENT;
	}
	/* Reading maps the zero page, which the child inherits. */
	for (; mismatch.page < VALUE(APPROACH_PAGES); mismatch.page++) {
		memcpy(&mismatch.found,
		       run.approach + mismatch.page * page_size,
		       sizeof(mismatch.found));
		if (mismatch.found) {
			report_corruption("parent", 0, run.approach, &mismatch);
			return EXIT_CORRUPTION;
		}
	}
	return EXIT_DONE;
}

/* Two threads and all iterations; *done tells how many were good. */
static int run_threads(__u64 *done)
{
	pthread_t monitor_thread, toucher_thread;
	int error, ret = EXIT_DONE;
	__u64 number;

	error = pthread_create(&toucher_thread, NULL, toucher, NULL);
	if (!error) {
		error = pthread_create(&monitor_thread, NULL, monitor, NULL);
		for (number = 0; !error && !ret && number < VALUE(ITERATIONS);
		     number++) {
			ret = iterate(number);
			*done += !ret;
		}
		set_and_wake(&run.ending, 1);
		set_and_wake(&run.touch, 2);
		if (!error)
			pthread_join(monitor_thread, NULL);
		pthread_join(toucher_thread, NULL);
	}
	if (error) {
		report_error("pthread_create", error, "no thread");
		ret = EXIT_ENVIRONMENT;
	}
	return ret;
}

static int trylock_run(const struct scenario *scenario)
{
	__u64 began, done = 0;
	struct json json;
	int ret, restored;

	ret = check_parameters();
	ret = ret ?: set_up_device();
	ret = ret ?: set_up_memory();
	if (ret)
		return ret;
	if (VALUE(FAIR_SERVER) && stop_fair_servers()) {
		restore_fair_servers();
		return EXIT_ENVIRONMENT;
	}
	report_start(scenario);
	pin_to_cpu(VALUE(HOLDER_CPU));
	atomic_store(&run.phase, PHASE_START);
	began = now_ns();
	ret = run_threads(&done);
	restored = restore_fair_servers();
	ret = ret ?: restored;

	json_begin(&json, "end");
	json_number(&json, "iterations", done);
	json_number(&json, "windows", run.hits);
	json_number(&json, "migrated", run.migrated);
	json_number(&json, "faults", run.faults);
	json_seconds(&json, "seconds", (now_ns() - began) / 1e9);
	json_number(&json, "status", ret);
	json_send(&json);
	return ret;
}

static int forced_run(const struct scenario *scenario)
{
	forced = true;
	return trylock_run(scenario);
}

const struct scenario trylock_starvation_forced = {
	.name = "trylock-starvation-forced",
	.help = "the same, the holder waiting for the spinner to be stuck",
	.parameters = parameters,
	.run = forced_run,
};

const struct scenario trylock_starvation = {
	.name = "trylock-starvation",
	.help = "fault spinning on a locked device page against an LRU drain",
	.parameters = parameters + RACE,
	.run = trylock_run,
};
