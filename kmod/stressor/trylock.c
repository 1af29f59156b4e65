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
 *
 * pmd-trylock-starvation and pmd-trylock-starvation-forced: the same with device
 * pages that are huge pages, each one folio that a PMD maps.
 *
 * rt-spinner: either of them with a real-time spinner, under preemption.  What
 * it starves runs when the fair server lets it: how long the holder waits for
 * that is measured.  pause_ms lets the server's period pass between iterations,
 * so that none lives on what the one before left over.
 *
 * drain-pressure: either of them while other threads drain all CPUs' batches as
 * well (drains.c).
 */
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "trylock.h"

/* No LRU batch of a CPU holds so many pages (PAGEVEC_SIZE). */
#define BATCH_PAGES	32

static const char *const windows[] = { "notifier", "work", "fault", NULL };

static const char *const all_windows[] = {
	"notifier", "work", "fault", "race", NULL
};

const char *const trylock_entries[] = {
	"hmm_range_fault", "hmm_range_fault_unlocked_timeout", NULL
};

static const char *const fair_servers[] = { "keep", "off", NULL };
static const char *const owners[] = { "other", "none", NULL };

/* The race takes those from RACE on; the forced windows those from WINDOW on. */
static struct parameter parameters[] = {
	[DRAIN] = { "drain", "who else drains", 0, 0, 0, drain_choices },
	[DRAIN_PAUSE_US] = { "drain_pause_us", "of each, between two drains",
			     10000, 0, 1000000, NULL },
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
	[ENTRY] = { "entry", "how the spinner faults", 0, 0, 0,
		    trylock_entries },
	[TIMEOUT_MS] = { "timeout_ms", "of the fault; 0: the kernel's default",
			 0, 0, HMM_HARNESS_MAX_TIMEOUT_MS, NULL },
	[POLICY] = { "policy", "of the spinner", 0, 0, 0, policies },
	[PRIORITY] = { "priority", "of a real-time spinner", 1, 1, 99, NULL },
	[FAIR_SERVER] = { "fair_server", "deadline server for fair tasks",
			  0, 0, 0, fair_servers },
	[OWNER] = { "owner", "of device pages, in the spinner's eyes",
		    0, 0, 0, owners },
	[PAUSE_MS] = { "pause_ms", "between two iterations", 0, 0, 10000, NULL },
	[PARAMETERS] = { NULL, NULL, 0, 0, 0, NULL },
};

/* The same with other defaults. */
static struct parameter rt_parameters[ARRAY_SIZE(parameters)];
static struct parameter drain_parameters[ARRAY_SIZE(parameters)];

struct parameter *trylock_parameters = parameters;
struct trylock run;

enum {
	PHASE_START, PHASE_FILL, PHASE_TO_DEVICE, PHASE_FORK, PHASE_TOUCH,
	PHASE_RACE, PHASE_SPINNER, PHASE_VERIFY, PHASE_PAUSE
};

static const char *const phases[] = {
	"start", "fill", "to_device", "fork", "touch", "race", "spinner",
	"verify", "pause"
};

char *trylock_device_memory(void)
{
	return run.memory + VALUE(SYSTEM_PAGES) * page_size;
}

/* What the holder migrates while the spinner faults. */
static bool without_system_pages(void)
{
	return run.forced && VALUE(WINDOW) != NOTIFIER;
}

bool trylock_threaded(void)
{
	return run.forced && VALUE(WINDOW) == FAULT;
}

static char *batch_memory(void)
{
	return without_system_pages() ? trylock_device_memory() : run.memory;
}

static size_t batch_pages(void)
{
	return without_system_pages() ? VALUE(PAGES) : run.pages;
}

/*
 * Counted, not timed: where the kernel has but a tick for a clock, as in an
 * emulated machine, time stands still for milliseconds.
 */
void trylock_delay(__u64 steps)
{
	while (steps--)
		atomic_signal_fence(memory_order_seq_cst);
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
		if (run.forced && !run.touch_error)
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

/* --- the parent --------------------------------------------------------- */

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

/*
 * The range of a batch must lie in one VMA, whose flags say for all of it whether
 * a page comes up as a huge one: they do while the device pages come up.
 */
static int allow_huge(bool allowed)
{
	size_t length = (VALUE(APPROACH_PAGES) + run.pages) * page_size;

	if (!madvise(run.approach, length,
		     allowed ? MADV_HUGEPAGE : MADV_NOHUGEPAGE))
		return EXIT_DONE;
	report_error("madvise", errno, "MADV_%sHUGEPAGE", allowed ? "" : "NO");
	return EXIT_ENVIRONMENT;
}

/* What is not mapped by PMDs would test something else. */
static int check_huge(__u32 kind, const char *what)
{
	unsigned char bytes[512];
	struct hmm_harness_snapshot snapshot = {
		.pages = (uintptr_t)bytes,
	};
	char *memory = trylock_device_memory();
	char *end = memory + VALUE(PAGES) * page_size;
	__u32 i;

	for (; memory < end; memory += snapshot.length) {
		snapshot.count = sizeof(bytes) < (end - memory) / page_size ?
				 sizeof(bytes) : (end - memory) / page_size;
		snapshot.length = snapshot.count * page_size;
		snapshot.addr = (uintptr_t)memory;
		if (ioctl(run.device, HMM_HARNESS_SNAPSHOT, &snapshot)) {
			report_error("ioctl", errno, "SNAPSHOT");
			return EXIT_ENVIRONMENT;
		}
		for (i = 0; i < snapshot.count; i++) {
			if ((bytes[i] & HMM_HARNESS_PAGE_KIND) == kind &&
			    (bytes[i] & HMM_HARNESS_PAGE_HUGE))
				continue;
			report_error("huge_page", ENOMEM, "%s, iteration %llu",
				     what, (unsigned long long)
				     atomic_load(&run.progress.iteration));
			return EXIT_ENVIRONMENT;
		}
	}
	return EXIT_DONE;
}

/* The device pages, filled, in system memory. */
static int fill(void)
{
	int ret = EXIT_DONE;

	if (run.huge) {
		if (madvise(trylock_device_memory(), VALUE(PAGES) * page_size,
			    MADV_DONTNEED)) {
			report_error("madvise", errno, "MADV_DONTNEED");
			return EXIT_ENVIRONMENT;
		}
		ret = allow_huge(true);
	}
	if (ret)
		return ret;
	pattern_fill(trylock_device_memory(), VALUE(SYSTEM_PAGES), VALUE(PAGES),
		     run.key);
	if (run.huge)
		ret = allow_huge(false);
	if (run.huge && !ret)
		ret = check_huge(HMM_HARNESS_PAGE_SYSTEM,
				 "no huge page to be had for the device pages");
	return ret;
}

/* Flags that keep huge pages whole. */
static __u32 whole(void)
{
	return run.huge ? HMM_HARNESS_MIGRATE_COMPOUND : 0;
}

/* Steps 1 to 3; on success *pid is a child that is READY. */
static int prepare(pid_t *pid, const __u64 *steps,
		   struct hmm_harness_migrate *placed)
{
	struct hmm_harness_window window = { .flags = HMM_HARNESS_WINDOW_RESET };
	int ret;

	atomic_store(&run.progress.phase, PHASE_FILL);
	if (madvise(run.memory, VALUE(SYSTEM_PAGES) * page_size,
		    MADV_DONTNEED)) {
		report_error("madvise", errno, "MADV_DONTNEED");
		return EXIT_ENVIRONMENT;
	}
	ret = fill();
	if (ret)
		return ret;
	atomic_store(&run.progress.phase, PHASE_TO_DEVICE);
	ret = migrate(HMM_HARNESS_MIGRATE_TO_DEVICE, "MIGRATE_TO_DEVICE",
		      trylock_device_memory(), VALUE(PAGES), whole(), placed);
	if (!ret && run.huge)
		ret = check_huge(HMM_HARNESS_PAGE_DEVICE,
				 "the device pages are not mapped by PMDs");
	if (ret)
		return ret;

	atomic_store(&run.progress.phase, PHASE_FORK);
	atomic_store(&run.shared->child, FORKED);
	atomic_store(&run.shared->awake, 0);
	atomic_store(&run.shared->order, HOLD);
	atomic_store(&run.shared->passed, 0);
	run.shared->error_step = NULL;
	*pid = -1;
	ret = spinner_start(pid, steps);
	if (ret)
		return ret;
	if (!spinner_passes(*pid, FORKED))
		return EXIT_ENVIRONMENT;

	atomic_store(&run.progress.phase, PHASE_TOUCH);
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

	if (pattern_verify(trylock_device_memory(), VALUE(SYSTEM_PAGES), 1, run.key,
			   &mismatch))
		return EXIT_DONE;
	report_corruption("parent", run.progress.iteration, run.memory,
			  &mismatch);
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

	if (run.forced && ioctl(run.device, HMM_HARNESS_HOLD, &hold)) {
		report_error("ioctl", errno, "HOLD");
		return EXIT_ENVIRONMENT;
	}
	atomic_store(&run.progress.phase, PHASE_RACE);
	set_and_wake(&run.shared->order, WAKE);
	wait_while(&run.shared->awake, 0, SPIN_NS);
	/* Nobody sleeps on it by now, or the spinner comes too late anyway. */
	set_and_wake(&run.shared->order, GO);
	/* The spinner must see it before this CPU locks and drains all alone. */
	relax();
	trylock_delay(steps);
	if (trylock_threaded()) {
		*mixed = (struct hmm_harness_migrate){ .migrated = 1 };
		ret = read_first_page();
	} else {
		ret = migrate(HMM_HARNESS_MIGRATE_TO_DEVICE,
			      "MIGRATE_TO_DEVICE (mixed)", batch_memory(),
			      batch_pages(),
			      HMM_HARNESS_MIGRATE_MIXED | whole(), mixed);
	}
	atomic_store(&run.shared->passed, 1);
	atomic_store(&run.progress.phase, PHASE_SPINNER);
	if (!spinner_passes(pid, READY))
		ret = EXIT_ENVIRONMENT;
	return ret;
}

/* Step 5. */
static int verify(pid_t pid)
{
	struct hmm_harness_migrate back;
	struct mismatch mismatch;
	int status, ret;

	atomic_store(&run.progress.phase, PHASE_VERIFY);
	ret = migrate(HMM_HARNESS_MIGRATE_TO_SYSTEM, "MIGRATE_TO_SYSTEM",
		      run.memory, run.pages, whole(), &back);
	set_and_wake(&run.shared->order, VERIFY);
	if (!ret && !pattern_verify(run.memory, 0, run.pages, run.key,
				    &mismatch)) {
		report_corruption("parent", run.progress.iteration, run.memory,
				  &mismatch);
		ret = EXIT_CORRUPTION;
	}
	if (trylock_threaded()) {
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

	atomic_store(&run.progress.iteration, number);
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
			     trylock_entries[VALUE(ENTRY)]);
		ret = EXIT_ENVIRONMENT;
	}
	if (!ret)
		ret = verify(pid);
	if (ret) {
		if (pid > 0)
			kill(pid, SIGKILL);
		return ret;
	}

	if (window.hit && !samples_add(&run.delay_ms, window.unmap_ns / 1e6))
		return EXIT_ENVIRONMENT;
	run.hits += window.hits;
	run.migrated += mixed.migrated;
	run.faults += !run.shared->fault_error;
	atomic_fetch_add(&run.holder_count, 1);

	json_begin(&json, "iteration");
	json_number(&json, "n", number);
	json_window(&json, &window);
	json_number(&json, "placed", placed.migrated);
	json_number(&json, "collected", mixed.collected);
	json_number(&json, "migrated", mixed.migrated);
	json_number(&json, "faults", !run.shared->fault_error);
	json_signed(&json, "fault_errno", run.shared->fault_error);
	json_number(&json, "fault_retries", run.shared->fault_retries);
	json_number(&json, "fault_us", run.shared->fault_ns / 1000);
	json_number(&json, "touched_off_lru", run.touched.off_lru);
	json_signed(&json, "offset", offset);
	if (run.pressed)
		json_drains(&json);
	json_seconds(&json, "seconds", (now_ns() - began) / 1e9);
	json_send(&json);
	return EXIT_DONE;
}

static int set_up_device(void)
{
	struct hmm_harness_attach attach = { 0 };
	struct hmm_harness_stats stats = { 0 };
	__u64 needed;

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
	/*
	 * A mixed batch moves device pages to new ones: twice the pages, and
	 * where they are huge a block that the system pages begin.
	 */
	needed = 2 * VALUE(PAGES) + VALUE(SYSTEM_PAGES);
	if (run.huge)
		needed += HUGE_SIZE / page_size;
	if (stats.pages_free < needed) {
		report_error("device", ENOMEM,
			     "%llu free device pages, pages=%llu needs %llu",
			     (unsigned long long)stats.pages_free,
			     (unsigned long long)VALUE(PAGES),
			     (unsigned long long)needed);
		return EXIT_ENVIRONMENT;
	}
	return EXIT_DONE;
}

static int set_up_memory(void)
{
	struct mismatch mismatch = { 0 };
	size_t length, below, spare = run.huge ? HUGE_SIZE : 0;

	run.pages = VALUE(SYSTEM_PAGES) + VALUE(PAGES);
	below = (VALUE(APPROACH_PAGES) + VALUE(SYSTEM_PAGES)) * page_size;
	length = below + VALUE(PAGES) * page_size;
	run.approach = mmap(NULL, length + spare, PROT_READ | PROT_WRITE,
			    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
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
	/* Device pages begin where a huge page can. */
	if (run.huge)
		run.approach += -((uintptr_t)run.approach + below) &
				(HUGE_SIZE - 1);
	run.memory = run.approach + VALUE(APPROACH_PAGES) * page_size;
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

/* In a hang, all that will ever be known of the last window. */
static void add_window(struct json *json)
{
	struct hmm_harness_window window = { 0 };

	if (ioctl(run.device, HMM_HARNESS_WINDOW, &window))
		return;
	json_open(json, "window", '{');
	json_bool(json, "open", window.open);
	json_bool(json, "hit", window.hit);
	json_close(json, '}');
}

static void rest(void)
{
	const struct timespec pause = {
		.tv_sec = VALUE(PAUSE_MS) / 1000,
		.tv_nsec = VALUE(PAUSE_MS) % 1000 * 1000000,
	};

	atomic_store(&run.progress.phase, PHASE_PAUSE);
	nanosleep(&pause, NULL);
}

/* Two threads and all iterations; *done tells how many were good. */
static int run_threads(__u64 *done)
{
	const struct progress_counter counters[] = {
		{ "holder", &run.holder_count },
		{ "spinner", &run.shared->spinner_count },
		{ "toucher", &run.toucher_count },
		{ NULL, NULL },
	};
	pthread_t toucher_thread;
	__u64 number;
	int ret;

	/* On the holder's CPU: it sleeps when the spinner's CPU is lost. */
	run.progress.cpu = VALUE(HOLDER_CPU);
	run.progress.pinned = true;
	run.progress.phases = phases;
	run.progress.counters = counters;
	run.progress.more = add_window;
	ret = pthread_create(&toucher_thread, NULL, toucher, NULL);
	if (ret) {
		report_error("pthread_create", ret, "no toucher");
		return EXIT_ENVIRONMENT;
	}
	ret = progress_start(&run.progress);
	if (!ret) {
		for (number = 0; !ret && number < VALUE(ITERATIONS); number++) {
			if (number)
				rest();
			ret = iterate(number);
			*done += !ret;
		}
		progress_stop(&run.progress);
	}
	set_and_wake(&run.touch, 2);
	pthread_join(toucher_thread, NULL);
	return ret;
}

/* Nothing of what no iteration has shown. */
static void report_metrics(struct json *json)
{
	json_open(json, "metrics", '{');
	if (run.delay_ms.count) {
		json_metric(json, "holder_delay_ms",
			    samples_median(&run.delay_ms));
		json_metric(json, "holder_delay_worst_ms",
			    samples_max(&run.delay_ms));
	}
	if (run.pressed)
		json_metric(json, "drain_worst_ms", drains_worst_ns() / 1e6);
	json_close(json, '}');
}

static int trylock_run(const struct scenario *scenario)
{
	__u64 began, done = 0;
	struct json json;
	int ret, restored;

	if (run.huge) {
		__u64 pages = HUGE_SIZE / page_size;

		VALUE(PAGES) = (VALUE(PAGES) + pages - 1) / pages * pages;
	}
	ret = set_up_device();
	ret = ret ?: set_up_memory();
	if (ret)
		return ret;
	if (VALUE(FAIR_SERVER) && stop_fair_servers()) {
		restore_fair_servers();
		return EXIT_ENVIRONMENT;
	}
	report_start(scenario);
	pin_to_cpu(VALUE(HOLDER_CPU));
	atomic_store(&run.progress.phase, PHASE_START);
	began = now_ns();
	ret = run.pressed ? drains_start() : EXIT_DONE;
	if (!ret) {
		ret = run_threads(&done);
		if (run.pressed) {
			int stopped = drains_stop();

			ret = ret ?: stopped;
		}
	}
	restored = restore_fair_servers();
	ret = ret ?: restored;

	json_begin_end(&json, done, ret);
	json_number(&json, "windows", run.hits);
	json_number(&json, "migrated", run.migrated);
	json_number(&json, "faults", run.faults);
	report_metrics(&json);
	json_seconds(&json, "seconds", (now_ns() - began) / 1e9);
	json_send(&json);
	return ret;
}

static int forced_run(const struct scenario *scenario)
{
	run.forced = VALUE(WINDOW) != NO_HOLD;
	return trylock_run(scenario);
}

static int huge_run(const struct scenario *scenario)
{
	run.huge = true;
	return trylock_run(scenario);
}

static int huge_forced_run(const struct scenario *scenario)
{
	run.forced = true;
	return huge_run(scenario);
}

const struct scenario pmd_trylock_starvation = {
	.name = "pmd-trylock-starvation",
	.help = "trylock-starvation on huge pages, in whole ones",
	.parameters = parameters + RACE,
	.run = huge_run,
};

const struct scenario pmd_trylock_starvation_forced = {
	.name = "pmd-trylock-starvation-forced",
	.help = "trylock-starvation-forced on huge pages, in whole ones",
	.parameters = parameters + WINDOW,
	.run = huge_forced_run,
};

static void rt_defaults(void)
{
	memcpy(rt_parameters, parameters, sizeof(parameters));
	rt_parameters[WINDOW].choices = all_windows;
	rt_parameters[APPROACH_PAGES].value = 0;
	rt_parameters[ITERATIONS].value = 5;
	rt_parameters[JITTER].value = 0;
	rt_parameters[POLICY].value = 1;
	rt_parameters[PAUSE_MS].value = 1100;
}

static int rt_run(const struct scenario *scenario)
{
	trylock_parameters = rt_parameters;
	return forced_run(scenario);
}

static void drain_defaults(void)
{
	memcpy(drain_parameters, parameters, sizeof(parameters));
	drain_parameters[WINDOW].choices = all_windows;
	drain_parameters[WINDOW].value = NO_HOLD;
	drain_parameters[ITERATIONS].value = 40;
}

static int drain_run(const struct scenario *scenario)
{
	trylock_parameters = drain_parameters;
	run.pressed = true;
	return forced_run(scenario);
}

const struct scenario trylock_starvation_forced = {
	.name = "trylock-starvation-forced",
	.help = "the same, the holder waiting for the spinner to be stuck",
	.parameters = parameters + WINDOW,
	.run = forced_run,
};

const struct scenario rt_spinner = {
	.name = "rt-spinner",
	.help = "the same with a real-time spinner: how long does the holder wait?",
	.parameters = rt_parameters + WINDOW,
	.defaults = rt_defaults,
	.run = rt_run,
};

const struct scenario drain_pressure = {
	.name = "drain-pressure",
	.help = "the same while others drain the LRU batches of all CPUs, too",
	.parameters = drain_parameters,
	.defaults = drain_defaults,
	.run = drain_run,
};

const struct scenario trylock_starvation = {
	.name = "trylock-starvation",
	.help = "fault spinning on a locked device page against an LRU drain",
	.parameters = parameters + RACE,
	.run = trylock_run,
};
