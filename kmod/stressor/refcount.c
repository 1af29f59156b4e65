// SPDX-License-Identifier: GPL-2.0-only
/*
 * refcount-livelock: threads that read one device page keep each other from
 * getting it.
 *
 * Before v6.15 do_swap_page() takes a reference on the page and calls the
 * driver's migrate_to_ram without the page's lock.  Whoever is inside counts
 * for the others as an unexpected reference, so that none may move the page,
 * and all read again.  A driver whose migrate_to_ram begins with a common mutex
 * keeps them together: each waits there with its reference.
 *
 * Each iteration moves a page to the device and lets all threads read it.  The
 * module stops the first of them in its fault for a while, so that the others
 * are there as well, however few of them a machine runs at a time.  Counted is
 * what it takes from then on until the page is home.  A livelock in user space
 * can be stopped: the read is left by a signal, when its time is over.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/resource.h>

#include "hmm_harness.h"
#include "stressor.h"

#define MAX_THREADS	16
#define STOP		SIGUSR1
/* Between two signals to those who still read. */
#define STOP_NS		(10 * 1000000ULL)

enum {
	THREADS, MUTEX, DELAY_US, GATHER_MS, ITERATIONS, LIMIT_MS, SEED, PARAMETERS
};

static const char *const switches[] = { "off", "on", NULL };

static struct parameter parameters[] = {
	[THREADS] = { "threads", "that read the page", 8, 1, MAX_THREADS, NULL },
	[MUTEX] = { "mutex", "in the driver's migrate_to_ram", 1, 0, 0, switches },
	[DELAY_US] = { "delay_us", "in there, before migrate_vma_setup()", 100, 0,
		       HMM_HARNESS_MAX_DELAY_US, NULL },
	[GATHER_MS] = { "gather_ms", "the first reader waits for the others", 20,
			0, 1000, NULL },
	[ITERATIONS] = { "iterations", "how often", 5, 1, 1000000, NULL },
	[LIMIT_MS] = { "limit_ms", "until the page is given up", 500, 10, 600000,
		       NULL },
	[SEED] = { "seed", "of the data", 1, 0, ~0ULL, NULL },
	[PARAMETERS] = { NULL, NULL, 0, 0, 0, NULL },
};

#define VALUE(which)	(parameters[which].value)

enum { PHASE_START, PHASE_TO_DEVICE, PHASE_READ, PHASE_STOP, PHASE_VERIFY };

static const char *const phases[] = {
	"start", "to_device", "read", "stop", "verify"
};

/* A round; the readers are through when it is over. */
static struct {
	atomic_uint number;		/* 0: none yet */
	atomic_uint over;
	atomic_uint ending;		/* no further round */
	atomic_uint back;		/* readers that are through */
	atomic_uint good;		/* of those, not stopped */
	atomic_ullong first_ns;		/* when the first was, or 0 */
	atomic_ullong wrong;		/* read instead of expected, or 0 */
	__u64 expected;
	__u64 page_faults;		/* by the readers */
} turn;

static struct {
	int device;
	char *page;
	unsigned int started;
	pthread_t threads[MAX_THREADS];
	atomic_ullong rounds;
	atomic_ullong calls_seen;	/* of migrate_to_ram */
	__u64 page_faults, calls, migrations, home;
	struct samples success_ms;
} run;

static __thread sigjmp_buf out;
static __thread atomic_bool reading;

static void stop_reading(int number)
{
	(void)number;
	if (atomic_load(&reading))
		siglongjmp(out, 1);
}

/* Of all threads, of which this one only waits. */
static __u64 page_faults(void)
{
	struct rusage usage;

	getrusage(RUSAGE_SELF, &usage);
	return usage.ru_minflt + usage.ru_majflt;
}

/* The first word of the page; false if the time was over before. */
static bool read_page(__u64 *value)
{
	/* SA_NODEFER: there is no mask to restore. */
	if (sigsetjmp(out, 0)) {
		atomic_store(&reading, false);
		return false;
	}
	atomic_store(&reading, true);
	*value = first_word(run.page);
	atomic_store(&reading, false);
	return true;
}

static void *reader(void *unused)
{
	__u32 number = 0;

	(void)unused;
	for (;;) {
		unsigned long long none = 0;
		__u64 value;

		wait_while(&turn.number, number, 0);
		number = atomic_load(&turn.number);
		if (atomic_load(&turn.ending))
			return NULL;
		if (read_page(&value)) {
			atomic_compare_exchange_strong(&turn.first_ns, &none,
						       device_clock_ns(run.device));
			atomic_fetch_add(&turn.good, 1);
			if (value != turn.expected)
				atomic_store(&turn.wrong, value);
		}
		if (atomic_fetch_add(&turn.back, 1) + 1 == VALUE(THREADS))
			set_and_wake(&turn.over, 1);
	}
}

/* The readers make no progress of their own; the driver is asked. */
static void look_at_driver(struct json *json)
{
	struct hmm_harness_stats stats;

	(void)json;
	if (!device_stats(run.device, &stats))
		atomic_store(&run.calls_seen, stats.migrate_to_ram);
}

static const struct progress_counter counters[] = {
	{ "rounds", &run.rounds },
	{ "migrate_to_ram", &run.calls_seen },
	{ NULL, NULL },
};

static struct progress progress = {
	.phases = phases,
	.counters = counters,
	.more = look_at_driver,
};

static void begin_turn(void)
{
	atomic_store(&turn.over, 0);
	atomic_store(&turn.back, 0);
	atomic_store(&turn.good, 0);
	atomic_store(&turn.first_ns, 0);
	atomic_store(&turn.wrong, 0);
	set_and_wake(&turn.number, atomic_load(&turn.number) + 1);
}

/* Stops the first fault of the readers. */
static int arm_gathering(void)
{
	struct hmm_harness_window window = { .flags = HMM_HARNESS_WINDOW_RESET };
	struct hmm_harness_hold hold = {
		.addr = (uintptr_t)run.page,
		.length = page_size,
		.kind = HMM_HARNESS_HOLD_FAULT_ONLY,
		.timeout_ms = VALUE(GATHER_MS),
	};

	if (!VALUE(GATHER_MS))
		return EXIT_DONE;
	if (!ioctl(run.device, HMM_HARNESS_WINDOW, &window) &&
	    !ioctl(run.device, HMM_HARNESS_HOLD, &hold))
		return EXIT_DONE;
	report_error("ioctl", errno, "WINDOW or HOLD");
	return EXIT_ENVIRONMENT;
}

/* Calls of migrate_to_ram while the first reader was stopped. */
static int look_at_gathering(__u64 *calls)
{
	struct hmm_harness_window window = { 0 };

	if (ioctl(run.device, HMM_HARNESS_WINDOW, &window)) {
		report_error("ioctl", errno, "WINDOW");
		return EXIT_ENVIRONMENT;
	}
	*calls = VALUE(GATHER_MS) ? window.held_faults : 0;
	return EXIT_DONE;
}

/* A reader may not be in its read just then: again, until all are back. */
static void stop_readers(void)
{
	unsigned int i;

	do {
		for (i = 0; i < run.started; i++)
			pthread_kill(run.threads[i], STOP);
	} while (!wait_while_for(&turn.over, 0, STOP_NS));
}

static int check_read(__u64 number, __u64 key)
{
	struct mismatch mismatch = {
		.expected = turn.expected,
		.found = atomic_load(&turn.wrong),
	};

	if (mismatch.found) {
		report_corruption("reader", number, run.page, &mismatch);
		return EXIT_CORRUPTION;
	}
	return check_content("parent", number, run.page, 1, key);
}

/* What it took, and what it came to. */
static int account(__u64 number, const struct hmm_harness_stats *before,
		   const struct hmm_harness_stats *after)
{
	__u64 first = atomic_load(&turn.first_ns), gathered, calls, moved;
	struct json json;
	double ms;
	int ret;

	ret = look_at_gathering(&gathered);
	if (ret)
		return ret;
	/* Two CPUs' clocks are not quite the same. */
	ms = first > before->clock_ns ? (first - before->clock_ns) / 1e6 : 0;
	if (!first)
		ms = VALUE(LIMIT_MS);
	calls = after->migrate_to_ram - before->migrate_to_ram - gathered;
	moved = after->migrations_to_system - before->migrations_to_system;
	run.calls += calls;
	run.migrations += moved;
	run.home += !!moved;
	run.page_faults += turn.page_faults;
	atomic_fetch_add(&run.rounds, 1);

	json_begin(&json, "iteration");
	json_number(&json, "n", number);
	json_number(&json, "migrated", moved);
	json_number(&json, "gathered", gathered);
	json_number(&json, "migrate_to_ram", calls);
	json_number(&json, "page_faults", turn.page_faults);
	json_number(&json, "readers", atomic_load(&turn.good));
	json_metric(&json, "success_ms", ms);
	json_send(&json);
	return samples_add(&run.success_ms, ms) ? EXIT_DONE : EXIT_ENVIRONMENT;
}

/* What comes once they are stopped is not counted: the last has no rivals. */
static int read_by_all(struct hmm_harness_stats *after)
{
	bool over;
	int ret;

	atomic_store(&progress.phase, PHASE_READ);
	turn.page_faults = page_faults();
	begin_turn();
	over = wait_while_for(&turn.over, 0, VALUE(LIMIT_MS) * 1000000);
	turn.page_faults = page_faults() - turn.page_faults;
	ret = device_stats(run.device, after);
	if (!over) {
		atomic_store(&progress.phase, PHASE_STOP);
		stop_readers();
	}
	return ret;
}

static int iterate(__u64 number)
{
	__u64 key = mix64(VALUE(SEED)) ^ mix64(~number);
	struct hmm_harness_stats before, after;
	int ret;

	atomic_store(&progress.iteration, number);
	atomic_store(&progress.phase, PHASE_TO_DEVICE);
	pattern_fill(run.page, 0, 1, key);
	turn.expected = first_word(run.page);
	ret = move_to_device(run.device, run.page, 1);
	ret = ret ?: arm_gathering();
	ret = ret ?: device_stats(run.device, &before);
	if (ret)
		return ret;
	ret = read_by_all(&after);
	ret = ret ?: account(number, &before, &after);
	atomic_store(&progress.phase, PHASE_VERIFY);
	return ret ?: check_read(number, key);
}

static int start_readers(void)
{
	struct sigaction action = {
		.sa_handler = stop_reading, .sa_flags = SA_NODEFER,
	};
	int error = 0;

	sigaction(STOP, &action, NULL);
	while (!error && run.started < VALUE(THREADS)) {
		error = pthread_create(&run.threads[run.started], NULL, reader,
				       NULL);
		run.started += !error;
	}
	if (!error)
		return EXIT_DONE;
	report_error("pthread_create", error, "no reader %u", run.started);
	return EXIT_ENVIRONMENT;
}

static void end_readers(void)
{
	atomic_store(&turn.ending, 1);
	begin_turn();
	while (run.started)
		pthread_join(run.threads[--run.started], NULL);
}

/* Of a page that never came home, the faults are those of one migration. */
static void report_end(__u64 done, int status)
{
	double migrations = run.migrations ?: 1;
	struct json json;

	json_begin_end(&json, done, status);
	json_number(&json, "migrations", run.migrations);
	if (done) {
		json_open(&json, "metrics", '{');
		json_metric(&json, "faults_per_migration",
			    run.calls / migrations);
		json_metric(&json, "page_faults_per_migration",
			    run.page_faults / migrations);
		json_metric(&json, "home_percent", 100.0 * run.home / done);
		json_metric(&json, "success_ms",
			    samples_median(&run.success_ms));
		json_metric(&json, "success_worst_ms",
			    samples_max(&run.success_ms));
		json_close(&json, '}');
	}
	json_send(&json);
}

static int refcount_run(const struct scenario *scenario)
{
	struct hmm_harness_behave behave = {
		.flags = VALUE(MUTEX) ? HMM_HARNESS_BEHAVE_MUTEX : 0,
		.delay_us = VALUE(DELAY_US),
	};
	__u64 number, done = 0;
	int ret, untold;

	run.device = attach_device(0);
	run.page = map_pages(1);
	if (run.device < 0 || !run.page)
		return EXIT_ENVIRONMENT;
	ret = device_behave(run.device, &behave);
	if (ret)
		return ret;
	report_start(scenario);
	ret = start_readers();
	untold = progress_start(&progress);
	ret = ret ?: untold;
	for (number = 0; !ret && number < VALUE(ITERATIONS); number++) {
		ret = iterate(number);
		done += !ret;
	}
	end_readers();
	if (!untold)
		progress_stop(&progress);
	report_end(done, ret);
	return ret;
}

const struct scenario refcount_livelock = {
	.name = "refcount-livelock",
	.help = "threads that read one device page and fail each other's migration",
	.parameters = parameters,
	.run = refcount_run,
};
