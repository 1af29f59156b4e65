// SPDX-License-Identifier: GPL-2.0-only
/*
 * lock-hog: how long does a fault wait for a device page whose lock somebody
 * else takes again and again, without moving it?
 *
 * Each iteration moves a page to device 0, lets a thread hog its folio's lock
 * there, and faults it once: by hmm_range_fault() for device 1, in the same
 * address space or in a child's, or from the CPU.  The hog ends when the page
 * has gone home, or after limit_ms: a fault that took so long was let go.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "hmm_harness.h"
#include "stressor.h"

/* Waiting for the other side, which does so little: s. */
#define PATIENCE_NS	(20 * 1000000000ULL)

enum {
	FAULTER, ON_US, OFF_US, LIMIT_MS, ITERATIONS, HOG_CPU, FAULTER_CPU,
	SEED, PARAMETERS
};

enum { BY_DEVICE, IN_CHILD, BY_CPU };

static const char *const faulters[] = { "device", "child", "cpu", NULL };

static struct parameter parameters[] = {
	[FAULTER] = { "faulter", "who wants the page", 0, 0, 0, faulters },
	[ON_US] = { "on_us", "the lock is held at a time", 1000, 1,
		    HMM_HARNESS_MAX_DELAY_US, NULL },
	[OFF_US] = { "off_us", "it is left alone, at least", 100, 0,
		     HMM_HARNESS_MAX_DELAY_US, NULL },
	[LIMIT_MS] = { "limit_ms", "of a hog that nobody gets past", 1000, 10,
		       HMM_HARNESS_MAX_TIMEOUT_MS, NULL },
	[ITERATIONS] = { "iterations", "faults", 20, 1, 1000000, NULL },
	[HOG_CPU] = { "hog_cpu", "", 0, 0, CPU_SETSIZE - 1, NULL },
	[FAULTER_CPU] = { "faulter_cpu", "", 1, 0, CPU_SETSIZE - 1, NULL },
	[SEED] = { "seed", "of the data", 1, 0, ~0ULL, NULL },
	[PARAMETERS] = { NULL, NULL, 0, 0, 0, NULL },
};

#define VALUE(which)	(parameters[which].value)

enum { PHASE_START, PHASE_TO_DEVICE, PHASE_FAULTER, PHASE_HOG, PHASE_FAULT };

static const char *const phases[] = {
	"start", "to_device", "faulter", "hog", "fault"
};

enum { STARTED, READY, DONE };

/* Between this process and the faulter. */
struct shared {
	atomic_uint state;		/* STARTED.. */
	atomic_uint go;
	atomic_ullong faults;
	int ret;			/* EXIT_.. of the faulter */
	__u64 wait_ns;
};

static struct {
	int device;
	char *page;
	__u64 key;
	struct shared *shared;
	pthread_t faulter, hogger;
	struct hmm_harness_hog hog;
	int hog_error;
	atomic_ullong rounds;
	__u64 locks, locked_ns, hogged_ns;
	struct samples wait_ms;
} run;

static const struct progress_counter *counters(void)
{
	static struct progress_counter list[3];

	list[0] = (struct progress_counter){ "rounds", &run.rounds };
	list[1] = (struct progress_counter){ "faulter", &run.shared->faults };
	return list;
}

static struct progress progress = { .phases = phases };

/* --- the faulter -------------------------------------------------------- */

static int fault_by_device(int fd)
{
	struct hmm_harness_fault fault = {
		.addr = (uintptr_t)run.page,
		.length = page_size,
		.owner = HMM_HARNESS_OWNER_SELF,
		.entry = HMM_HARNESS_ENTRY_LOCKED,
		.timeout_ms = HMM_HARNESS_MAX_TIMEOUT_MS,
	};

	if (!ioctl(fd, HMM_HARNESS_FAULT, &fault))
		return EXIT_DONE;
	report_error("ioctl", errno, "FAULT");
	return EXIT_ENVIRONMENT;
}

static int fault(void)
{
	struct shared *shared = run.shared;
	int error = pin_to_cpu(VALUE(FAULTER_CPU)), ret = EXIT_DONE, fd = -1;
	__u64 start;

	if (error) {
		report_error("cpu", error, "faulter_cpu=%llu",
			     (unsigned long long)VALUE(FAULTER_CPU));
		ret = EXIT_ENVIRONMENT;
	}
	if (!ret && VALUE(FAULTER) != BY_CPU) {
		fd = attach_device(1);
		ret = fd < 0 ? EXIT_ENVIRONMENT : EXIT_DONE;
	}
	set_and_wake(&shared->state, READY);
	wait_while(&shared->go, 0, 0);

	start = device_clock_ns(run.device);
	if (!ret && fd >= 0)
		ret = fault_by_device(fd);
	else if (!ret)
		first_word(run.page);
	shared->wait_ns = device_clock_ns(run.device) - start;
	atomic_fetch_add(&shared->faults, 1);
	ret = ret ?: check_content("faulter", progress.iteration, run.page, 1,
				   run.key);
	if (fd >= 0)
		close(fd);
	shared->ret = ret;
	set_and_wake(&shared->state, DONE);
	return ret;
}

static void *faulter_thread(void *unused)
{
	(void)unused;
	fault();
	return NULL;
}

static int start_faulter(pid_t *pid)
{
	int error;

	*pid = -1;
	if (VALUE(FAULTER) != IN_CHILD) {
		error = pthread_create(&run.faulter, NULL, faulter_thread,
				       NULL);
	} else {
		*pid = fork();
		if (!*pid) {
			prctl(PR_SET_PDEATHSIG, SIGKILL);
			_exit(fault());
		}
		error = *pid < 0 ? errno : 0;
	}
	if (error) {
		report_error("faulter", error, "cannot start");
		return EXIT_ENVIRONMENT;
	}
	if (wait_while_for(&run.shared->state, STARTED, PATIENCE_NS))
		return EXIT_DONE;
	report_error("faulter", 0, "is not ready");
	return EXIT_ENVIRONMENT;
}

/* Waits as long as it takes: a fault that hangs is for others to notice. */
static int end_faulter(pid_t pid)
{
	wait_while(&run.shared->state, READY, 0);
	if (VALUE(FAULTER) == IN_CHILD)
		waitpid(pid, NULL, 0);
	else
		pthread_join(run.faulter, NULL);
	return run.shared->ret;
}

/* --- the hog ------------------------------------------------------------ */

static void *hogger(void *unused)
{
	(void)unused;
	pin_to_cpu(VALUE(HOG_CPU));
	run.hog_error = ioctl(run.device, HMM_HARNESS_HOG, &run.hog) ? errno :
								       0;
	return NULL;
}

static __u64 hog_locks(void)
{
	struct hmm_harness_stats stats;

	return device_stats(run.device, &stats) ? 0 : stats.hog_locks;
}

/* On return it has the lock, or had it a moment ago. */
static int start_hog(void)
{
	__u64 before = hog_locks(), end = now_ns() + PATIENCE_NS;
	int error;

	run.hog = (struct hmm_harness_hog){
		.addr = (uintptr_t)run.page,
		.on_us = VALUE(ON_US),
		.off_us = VALUE(OFF_US),
		.duration_ms = VALUE(LIMIT_MS),
	};
	error = pthread_create(&run.hogger, NULL, hogger, NULL);
	if (error) {
		report_error("pthread_create", error, "no hog");
		return EXIT_ENVIRONMENT;
	}
	while (hog_locks() == before && now_ns() < end)
		usleep(100);
	if (hog_locks() != before)
		return EXIT_DONE;
	report_error("hog", 0, "never had the lock");
	return EXIT_ENVIRONMENT;
}

static int end_hog(void)
{
	pthread_join(run.hogger, NULL);
	if (!run.hog_error)
		return EXIT_DONE;
	report_error("ioctl", run.hog_error, "HOG");
	return EXIT_ENVIRONMENT;
}

/* --- both --------------------------------------------------------------- */

static int contend(pid_t pid)
{
	int ret, end;

	atomic_store(&progress.phase, PHASE_HOG);
	ret = start_hog();
	atomic_store(&progress.phase, PHASE_FAULT);
	set_and_wake(&run.shared->go, 1);
	end = end_faulter(pid);
	if (!ret)
		ret = end_hog();
	return ret ?: end;
}

static int iterate(__u64 number)
{
	struct json json;
	pid_t pid;
	double ms;
	int ret;

	atomic_store(&progress.iteration, number);
	atomic_store(&progress.phase, PHASE_TO_DEVICE);
	run.key = mix64(VALUE(SEED)) ^ mix64(~number);
	pattern_fill(run.page, 0, 1, run.key);
	ret = move_to_device(run.device, run.page, 1);
	if (ret)
		return ret;
	atomic_store(&progress.phase, PHASE_FAULTER);
	atomic_store(&run.shared->state, STARTED);
	atomic_store(&run.shared->go, 0);
	ret = start_faulter(&pid);
	ret = ret ?: contend(pid);
	ret = ret ?: check_content("parent", number, run.page, 1, run.key);
	if (ret)
		return ret;

	ms = run.shared->wait_ns / 1e6;
	run.locks += run.hog.locks;
	run.locked_ns += run.hog.locked_ns;
	run.hogged_ns += run.hog.elapsed_ns;
	if (!samples_add(&run.wait_ms, ms))
		return EXIT_ENVIRONMENT;
	atomic_fetch_add(&run.rounds, 1);

	json_begin(&json, "iteration");
	json_number(&json, "n", number);
	json_metric(&json, "wait_ms", ms);
	json_number(&json, "locks", run.hog.locks);
	json_number(&json, "busy", run.hog.busy);
	json_number(&json, "locked_us", run.hog.locked_ns / 1000);
	json_number(&json, "hogged_us", run.hog.elapsed_ns / 1000);
	json_send(&json);
	return EXIT_DONE;
}

static void report_end(__u64 done, int status)
{
	struct json json;

	json_begin_end(&json, done, status);
	json_number(&json, "locks", run.locks);
	if (done) {
		json_open(&json, "metrics", '{');
		json_metric(&json, "wait_ms", samples_median(&run.wait_ms));
		json_metric(&json, "wait_worst_ms", samples_max(&run.wait_ms));
		json_metric(&json, "duty_percent",
			    100.0 * run.locked_ns / run.hogged_ns);
		json_close(&json, '}');
	}
	json_send(&json);
}

static int hog_run(const struct scenario *scenario)
{
	__u64 number, done = 0;
	int ret;

	run.device = attach_device(0);
	run.page = map_pages(1);
	run.shared = map_shared(sizeof(*run.shared));
	if (run.device < 0 || !run.page || !run.shared)
		return EXIT_ENVIRONMENT;
	report_start(scenario);
	/* The faulter may keep its CPU for long. */
	pin_to_cpu(VALUE(HOG_CPU));
	progress.counters = counters();
	progress.pinned = true;
	progress.cpu = VALUE(HOG_CPU);
	ret = progress_start(&progress);
	if (ret)
		return ret;
	for (number = 0; !ret && number < VALUE(ITERATIONS); number++) {
		ret = iterate(number);
		done += !ret;
	}
	progress_stop(&progress);
	report_end(done, ret);
	return ret;
}

const struct scenario lock_hog = {
	.name = "lock-hog",
	.help = "a fault on a page whose lock somebody takes again and again",
	.parameters = parameters,
	.run = hog_run,
};
