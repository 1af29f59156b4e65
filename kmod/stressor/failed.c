// SPDX-License-Identifier: GPL-2.0-only
/*
 * failed-migration: whoever has locked a device page gives up; who waits for it
 * must get it all the same, and nothing may be lost or kept.
 *
 * Each iteration goes through six cases: the holder of the lock is a CPU fault
 * or a migration to the device, and fails when it allocates the destination,
 * because of a reference that somebody has on the folio, or when it copies.  In
 * each case pages are moved to device 0 and a child ("waiter") maps them too.
 * The module stops the holder when it has locked them, until a FAULT of the
 * child for device 1 is stuck; the holder then fails, so many times in a row.
 * Both must see every byte in the end, and the device must have as many free
 * pages as before.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "hmm_harness.h"
#include "stressor.h"

#define MAX_PAGES	2048

enum {
	PAGES, FAILURES, HOLD_MS, ITERATIONS, HOLDER_CPU, WAITER_CPU, SEED,
	PARAMETERS
};

static struct parameter parameters[] = {
	[PAGES] = { "pages", "device pages", 16, 1, MAX_PAGES, NULL },
	[FAILURES] = { "failures", "of a case, one after the other", 3, 1,
		       1000, NULL },
	[HOLD_MS] = { "hold_ms", "for which the waiter is waited for, at most",
		      2000, 1, HMM_HARNESS_MAX_TIMEOUT_MS, NULL },
	[ITERATIONS] = { "iterations", "how often all cases", 2, 1, 1000000,
			 NULL },
	[HOLDER_CPU] = { "holder_cpu", "", 0, 0, CPU_SETSIZE - 1, NULL },
	[WAITER_CPU] = { "waiter_cpu", "", 1, 0, CPU_SETSIZE - 1, NULL },
	[SEED] = { "seed", "of the data", 1, 0, ~0ULL, NULL },
	[PARAMETERS] = { NULL, NULL, 0, 0, 0, NULL },
};

#define VALUE(which)	(parameters[which].value)

enum {
	PHASE_START, PHASE_TO_DEVICE, PHASE_FORK, PHASE_FAIL, PHASE_WAITER,
	PHASE_VERIFY
};

static const char *const phases[] = {
	"start", "to_device", "fork", "fail", "waiter", "verify"
};

/* A holder that is to fail, and where. */
struct failing {
	bool to_device;			/* or a CPU fault */
	__u32 step;
};

static const struct failing cases[] = {
	{ false, HMM_HARNESS_STEP_ALLOC },
	{ false, HMM_HARNESS_STEP_REFERENCE },
	{ false, HMM_HARNESS_STEP_COPY },
	{ true, HMM_HARNESS_STEP_ALLOC },
	{ true, HMM_HARNESS_STEP_REFERENCE },
	{ true, HMM_HARNESS_STEP_COPY },
};

static const char *const holders[] = { "fault", "migration" };

/* What came of it. */
struct result {
	__u64 failures;
	__u64 tries;			/* of the holder */
	__u64 attempts;			/* of the waiter */
	bool stuck;			/* the waiter, when it failed */
};

static const char *const steps[] = {
	[HMM_HARNESS_STEP_ALLOC] = "alloc",
	[HMM_HARNESS_STEP_REFERENCE] = "reference",
	[HMM_HARNESS_STEP_COPY] = "copy",
};

enum { STARTED, READY, THROUGH };

/* Between holder and waiter. */
struct shared {
	atomic_uint waiter;		/* STARTED.. */
	atomic_uint go;			/* for the waiter */
	atomic_uint passed;		/* the holder has given up once */
	atomic_ullong attempts;		/* FAULT calls */
};

static struct {
	int device;
	char *memory;
	__u64 key;
	struct shared *shared;
	atomic_ullong cases, tries;
	__u64 windows, untested, failures;
} run;

static struct progress progress = { .phases = phases };

static const struct progress_counter *counters(void)
{
	static struct progress_counter list[4];

	list[0] = (struct progress_counter){ "cases", &run.cases };
	list[1] = (struct progress_counter){ "holder", &run.tries };
	list[2] = (struct progress_counter){ "waiter", &run.shared->attempts };
	return list;
}

/* --- the waiter --------------------------------------------------------- */

static int wait_for_pages(int fd)
{
	struct hmm_harness_fault fault = {
		.addr = (uintptr_t)run.memory,
		.length = VALUE(PAGES) * page_size,
		.owner = HMM_HARNESS_OWNER_SELF,
		.entry = HMM_HARNESS_ENTRY_LOCKED,
	};
	__u64 most = VALUE(FAILURES) * VALUE(PAGES) + 1000;
	int error;

	/* migrate_to_ram failed under it; 6.12 has EFAULT for all of that. */
	do {
		error = ioctl(fd, HMM_HARNESS_FAULT, &fault) ? errno : 0;
		atomic_fetch_add(&run.shared->attempts, 1);
	} while ((error == EFAULT || error == ENOMEM || error == EBUSY) &&
		 most--);
	if (!error)
		return EXIT_DONE;
	report_error("ioctl", error, "FAULT");
	return EXIT_ENVIRONMENT;
}

static int waiter(void)
{
	int error = pin_to_cpu(VALUE(WAITER_CPU)), fd, ret;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (error) {
		report_error("cpu", error, "waiter_cpu=%llu",
			     (unsigned long long)VALUE(WAITER_CPU));
		return EXIT_ENVIRONMENT;
	}
	fd = attach_device(1);
	if (fd < 0)
		return EXIT_ENVIRONMENT;
	set_and_wake(&run.shared->waiter, READY);
	wait_while(&run.shared->go, 0, 0);
	wait_until_held(run.device, &run.shared->passed);
	ret = wait_for_pages(fd);
	set_and_wake(&run.shared->waiter, THROUGH);
	return ret ?: check_content("waiter", progress.iteration, run.memory,
				    VALUE(PAGES), run.key);
}

/* False, and reported, if it ended before. */
static bool waiter_passes(pid_t pid, __u32 step)
{
	int status;

	while (!wait_while_for(&run.shared->waiter, step, 200 * 1000000ULL)) {
		if (waitpid(pid, &status, WNOHANG) != pid)
			continue;
		report_error("waiter", 0, "ended with status 0x%x", status);
		return false;
	}
	return true;
}

static int start_waiter(pid_t *pid)
{
	atomic_store(&run.shared->waiter, STARTED);
	atomic_store(&run.shared->go, 0);
	atomic_store(&run.shared->passed, 0);
	*pid = fork();
	if (!*pid)
		_exit(waiter());
	if (*pid < 0) {
		report_error("fork", errno, "no waiter");
		return EXIT_ENVIRONMENT;
	}
	return waiter_passes(*pid, STARTED) ? EXIT_DONE : EXIT_ENVIRONMENT;
}

static int end_waiter(pid_t pid)
{
	int status;

	if (!waiter_passes(pid, READY) || waitpid(pid, &status, 0) != pid)
		return EXIT_ENVIRONMENT;
	if (WIFEXITED(status))
		return WEXITSTATUS(status);
	report_error("waiter", 0, "ended with status 0x%x", status);
	return EXIT_ENVIRONMENT;
}

/* --- the holder --------------------------------------------------------- */

/* VM_FAULT_SIGBUS: when the handler returns, the access is done again. */
static void again(int number)
{
	(void)number;
}

/* Once; what failed is told by BEHAVE. */
static int try_to_move(void)
{
	struct hmm_harness_migrate migrate = {
		.addr = (uintptr_t)run.memory,
		.length = VALUE(PAGES) * page_size,
		.flags = HMM_HARNESS_MIGRATE_MIXED,
	};
	int error;

	error = ioctl(run.device, HMM_HARNESS_MIGRATE_TO_DEVICE, &migrate) ?
		errno : 0;
	atomic_fetch_add(&run.tries, 1);
	atomic_store(&run.shared->passed, 1);
	if (!error || error == ENOMEM)
		return EXIT_DONE;
	report_error("ioctl", error, "MIGRATE_TO_DEVICE");
	return EXIT_ENVIRONMENT;
}

/* What became of the waiter when the latest batch was held. */
static int look_at_hold(struct result *result)
{
	struct hmm_harness_window window = { 0 };

	if (ioctl(run.device, HMM_HARNESS_WINDOW, &window)) {
		report_error("ioctl", errno, "WINDOW");
		return EXIT_ENVIRONMENT;
	}
	result->stuck = window.held == HMM_HARNESS_HELD_SPINS ||
			window.held == HMM_HARNESS_HELD_SLEEPS;
	return EXIT_DONE;
}

/* Reads on until no fault fails any more. */
static int hold_in_fault(struct result *result)
{
	int ret = check_content("holder", progress.iteration, run.memory,
				VALUE(PAGES), run.key);

	atomic_fetch_add(&run.tries, 1);
	atomic_store(&run.shared->passed, 1);
	return ret ?: look_at_hold(result);
}

/* The first try is held; one more than there are failures. */
static int hold_in_migration(struct result *result)
{
	int ret = try_to_move();
	unsigned int more;

	ret = ret ?: look_at_hold(result);
	for (more = VALUE(FAILURES); !ret && more; more--)
		ret = try_to_move();
	return ret;
}

static void plan(struct hmm_harness_behave *behave,
		 const struct failing *failing, __u32 next)
{
	*behave = (struct hmm_harness_behave){ 0 };
	if (failing->to_device)
		behave->to_device[failing->step].next = next;
	else
		behave->to_ram[failing->step].next = next;
}

static __u64 failed(const struct hmm_harness_behave *behave,
		    const struct failing *failing)
{
	return failing->to_device ? behave->to_device[failing->step].failed :
				    behave->to_ram[failing->step].failed;
}

/* The first failure finds the waiter stuck, if it comes in time. */
static int fail(const struct failing *failing, pid_t pid,
		struct result *result)
{
	struct hmm_harness_window window = { .flags = HMM_HARNESS_WINDOW_RESET };
	struct hmm_harness_hold hold_it = {
		.addr = (uintptr_t)run.memory,
		.length = VALUE(PAGES) * page_size,
		.kind = failing->to_device ? HMM_HARNESS_HOLD_NOTIFIER :
					     HMM_HARNESS_HOLD_FAULT_ONLY,
		.timeout_ms = VALUE(HOLD_MS),
	};
	struct hmm_harness_behave behave;
	__u64 before;
	int ret, end;

	plan(&behave, failing, VALUE(FAILURES));
	ret = device_behave(run.device, &behave);
	if (ret)
		return ret;
	before = failed(&behave, failing);
	if (ioctl(run.device, HMM_HARNESS_WINDOW, &window) ||
	    ioctl(run.device, HMM_HARNESS_HOLD, &hold_it)) {
		report_error("ioctl", errno, "WINDOW or HOLD");
		return EXIT_ENVIRONMENT;
	}
	set_and_wake(&run.shared->go, 1);
	ret = failing->to_device ? hold_in_migration(result) :
				   hold_in_fault(result);
	atomic_store(&progress.phase, PHASE_WAITER);
	end = end_waiter(pid);
	ret = ret ?: end;
	plan(&behave, failing, 0);
	ret = ret ?: device_behave(run.device, &behave);
	result->failures = failed(&behave, failing) - before;
	return ret;
}

static int move_home(void)
{
	struct hmm_harness_migrate migrate = {
		.addr = (uintptr_t)run.memory,
		.length = VALUE(PAGES) * page_size,
	};

	if (!ioctl(run.device, HMM_HARNESS_MIGRATE_TO_SYSTEM, &migrate))
		return EXIT_DONE;
	report_error("ioctl", errno, "MIGRATE_TO_SYSTEM");
	return EXIT_ENVIRONMENT;
}

static int run_case(__u64 number, const struct failing *failing,
		    struct result *result)
{
	__u64 tries = atomic_load(&run.tries);
	__u64 attempts = atomic_load(&run.shared->attempts);
	pid_t pid = -1;
	int ret;

	atomic_store(&progress.phase, PHASE_TO_DEVICE);
	run.key = mix64(VALUE(SEED)) ^ mix64(~atomic_load(&run.cases));
	pattern_fill(run.memory, 0, VALUE(PAGES), run.key);
	ret = move_to_device(run.device, run.memory, VALUE(PAGES));
	atomic_store(&progress.phase, PHASE_FORK);
	ret = ret ?: start_waiter(&pid);
	atomic_store(&progress.phase, PHASE_FAIL);
	ret = ret ?: fail(failing, pid, result);
	atomic_store(&progress.phase, PHASE_VERIFY);
	ret = ret ?: move_home();
	ret = ret ?: check_content("parent", number, run.memory, VALUE(PAGES),
				   run.key);
	if (ret) {
		if (pid > 0)
			kill(pid, SIGKILL);
		return ret;
	}
	result->tries = atomic_load(&run.tries) - tries;
	result->attempts = atomic_load(&run.shared->attempts) - attempts;
	run.failures += result->failures;
	if (result->failures == VALUE(FAILURES) && result->stuck)
		run.windows++;
	else
		run.untested++;
	atomic_fetch_add(&run.cases, 1);
	return EXIT_DONE;
}

static int iterate(__u64 number)
{
	struct result results[ARRAY_SIZE(cases)] = { 0 };
	struct json json;
	size_t i;
	int ret;

	atomic_store(&progress.iteration, number);
	for (i = 0; i < ARRAY_SIZE(cases); i++) {
		ret = run_case(number, &cases[i], &results[i]);
		if (ret)
			return ret;
	}
	json_begin(&json, "iteration");
	json_number(&json, "n", number);
	json_open(&json, "cases", '[');
	for (i = 0; i < ARRAY_SIZE(cases); i++) {
		json_open(&json, NULL, '{');
		json_string(&json, "holder", holders[cases[i].to_device]);
		json_string(&json, "step", steps[cases[i].step]);
		json_number(&json, "failures", results[i].failures);
		json_bool(&json, "waiter_stuck", results[i].stuck);
		json_number(&json, "holder_tries", results[i].tries);
		json_number(&json, "waiter_faults", results[i].attempts);
		json_close(&json, '}');
	}
	json_close(&json, ']');
	json_send(&json);
	return EXIT_DONE;
}

/* Nobody but us uses the device: what is not free now is kept by nobody. */
static void report_end(__u64 done, int status, __u64 leaked)
{
	struct json json;

	json_begin_end(&json, done, status);
	json_number(&json, "windows", run.windows);
	if (done) {
		json_open(&json, "metrics", '{');
		json_metric(&json, "leaked_pages", leaked);
		json_metric(&json, "failures", run.failures);
		json_metric(&json, "untested_cases", run.untested);
		json_close(&json, '}');
	}
	json_send(&json);
}

static int run_iterations(__u64 *done)
{
	int ret = progress_start(&progress);
	__u64 number;

	if (ret)
		return ret;
	for (number = 0; !ret && number < VALUE(ITERATIONS); number++) {
		ret = iterate(number);
		*done += !ret;
	}
	progress_stop(&progress);
	return ret;
}

static int failed_run(const struct scenario *scenario)
{
	struct sigaction action = { .sa_handler = again };
	struct hmm_harness_stats before, after;
	__u64 done = 0, leaked = 0;
	int ret;

	sigaction(SIGBUS, &action, NULL);
	run.device = attach_device(0);
	run.memory = map_pages(VALUE(PAGES));
	run.shared = map_shared(sizeof(*run.shared));
	if (run.device < 0 || !run.memory || !run.shared)
		return EXIT_ENVIRONMENT;
	ret = device_stats(run.device, &before);
	if (ret)
		return ret;
	report_start(scenario);
	pin_to_cpu(VALUE(HOLDER_CPU));
	progress.counters = counters();
	progress.pinned = true;
	progress.cpu = VALUE(HOLDER_CPU);
	ret = run_iterations(&done);
	if (!ret)
		ret = device_stats(run.device, &after);
	if (!ret)
		leaked = before.pages_free - after.pages_free;
	report_end(done, ret, leaked);
	return ret;
}

const struct scenario failed_migration = {
	.name = "failed-migration",
	.help = "who holds a device page's lock fails to move it, at each step",
	.parameters = parameters,
	.run = failed_run,
};
