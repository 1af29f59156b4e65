// SPDX-License-Identifier: GPL-2.0-only
/*
 * awaited-page-reuse: a CPU fault on a device page waits for its lock, which
 * somebody else has.  Meanwhile the page is dropped, goes back to the device
 * when the lock's holder is done with it, and is used again for other memory.
 * Does the fault still touch it?
 *
 * A fault that sleeps to take the lock is handed it by who unlocks the page,
 * once it has lost the race for it as often as vm.page_lock_unfairness says:
 * never here, unless told otherwise.  It does not run just then: a real-time
 * thread has its CPU until the page is in use again, for spin_ms at most.
 *
 * 7.x refuses a driver the migration for a page that is not locked (EINVAL of
 * migrate_vma_setup()), and the fault then ends in SIGBUS.  In the end the
 * other memory is read, and must hold what it did.  Who unlocks a page that is
 * not locked locks it (folio_unlock()), and then that read never ends.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "hmm_harness.h"
#include "stressor.h"

#define SYSCTL	"/proc/sys/vm/page_lock_unfairness"
/* What /proc/PID/pagemap says of an entry that is no page: type and offset. */
#define PAGEMAP_OFFSET(entry)	((entry) << 9 >> 14)

enum {
	ITERATIONS, UNFAIRNESS, HOLD_MS, SPIN_MS, PAUSE_MS, HOG_CPU,
	FAULTER_CPU, OWNER_CPU, SEED, PARAMETERS
};

static struct parameter parameters[] = {
	[ITERATIONS] = { "iterations", "how often", 4, 1, 1000000, NULL },
	[UNFAIRNESS] = { "unfairness", "races lost until it is handed the lock",
			 0, 0, 50, NULL },
	/* Always less than spin_ms. */
	[HOLD_MS] = { "hold_ms", "for which the page is locked", 400, 1, 500,
		      NULL },
	[SPIN_MS] = { "spin_ms", "the fault is kept from its CPU, at most", 900,
		      501, HMM_HARNESS_MAX_TIMEOUT_MS, NULL },
	[PAUSE_MS] = { "pause_ms", "between two rounds", 1100, 0, 60000, NULL },
	[HOG_CPU] = { "hog_cpu", "", 0, 0, CPU_SETSIZE - 1, NULL },
	[FAULTER_CPU] = { "faulter_cpu", "", 1, 0, CPU_SETSIZE - 1, NULL },
	[OWNER_CPU] = { "owner_cpu", "", 2, 0, CPU_SETSIZE - 1, NULL },
	[SEED] = { "seed", "of the data", 1, 0, ~0ULL, NULL },
	[PARAMETERS] = { NULL, NULL, 0, 0, 0, NULL },
};

#define VALUE(which)	(parameters[which].value)

enum {
	PHASE_START, PHASE_PLACE, PHASE_WAIT, PHASE_REUSE, PHASE_VERIFY,
	PHASE_PAUSE
};

static const char *const phases[] = {
	"start", "place", "wait", "reuse", "verify", "pause"
};

/* Each does its one thing, when it is told to. */
enum { HOG, FAULTER, SPINNER, THREADS };
enum { NOT_YET, ORDERED, BEGUN, OVER };

struct part {
	pthread_t thread;
	atomic_uint state;		/* NOT_YET.. */
	atomic_uint tid;
	int status;			/* EXIT_.. */
};

/* Of an iteration: what came in time, before the fault could go on. */
struct seen {
	bool slept, freed, reused;
	double move_ms;		/* the other memory, to the device */
	__u64 late;		/* calls of migrate_to_ram() all the same */
	__u64 sigbus;		/* the fault ended in it */
};

static struct {
	int device, pagemap;
	char *page;		/* dropped while it is awaited */
	char *other;		/* what its device page is used for then */
	struct part part[THREADS];
	atomic_ullong rounds;
	__u64 windows, late, sigbus;
	struct samples move_ms;
	struct seen seen;
	atomic_uint verifying;	/* nobody writes to it */
} run;

static struct progress progress = { .phases = phases };

/* --- the threads ---------------------------------------------------------- */

static void hog(struct part *part)
{
	struct hmm_harness_hog hog = {
		.addr = (uintptr_t)run.page,
		.on_us = VALUE(HOLD_MS) * 1000,
		/* Begun so often, the last time before that is over. */
		.duration_ms = VALUE(HOLD_MS) * VALUE(UNFAIRNESS) +
			       (VALUE(HOLD_MS) + 1) / 2,
	};

	if (!ioctl(run.device, HMM_HARNESS_HOG, &hog))
		return;
	report_error("ioctl", errno, "HOG");
	part->status = EXIT_ENVIRONMENT;
}

static __thread sigjmp_buf out;
static __thread atomic_bool faulting;

/* Any other read of its own is somebody else's mistake. */
static void on_bus_error(int number, siginfo_t *info, void *unused)
{
	(void)number;
	(void)unused;
	if (atomic_load(&faulting))
		siglongjmp(out, 1);
	report_signal("owner", atomic_load(&progress.iteration), info);
	_exit(EXIT_CORRUPTION);
}

static void fault(void)
{
	if (sigsetjmp(out, 1)) {
		run.seen.sigbus++;
	} else {
		atomic_store(&faulting, true);
		first_word(run.page);
	}
	atomic_store(&faulting, false);
}

static void spin(struct part *part)
{
	__u64 until = now_ns() + VALUE(SPIN_MS) * 1000000;

	/* As when something failed before it was ordered. */
	if (atomic_load(&part->state) == OVER)
		return;
	set_and_wake(&part->state, BEGUN);
	while (atomic_load(&part->state) == BEGUN && now_ns() < until)
		relax();
}

static void *thread(void *argument)
{
	struct part *part = argument;
	size_t which = part - run.part;
	int error;

	error = pin_to_cpu(which == HOG ? VALUE(HOG_CPU) : VALUE(FAULTER_CPU));
	if (!error && which == SPINNER)
		error = set_policy(POLICY_FIFO, 1);
	if (error) {
		report_error("thread", error, "number %zu", which);
		part->status = EXIT_ENVIRONMENT;
	}
	set_and_wake(&part->tid, gettid());
	wait_while(&part->state, NOT_YET, 0);
	if (which == HOG)
		hog(part);
	else if (which == FAULTER)
		fault();
	else
		spin(part);
	set_and_wake(&part->state, OVER);
	return NULL;
}

/*
 * All are there before the fault, which keeps mmap_lock from writers.  On
 * failure they are left to the end of the process.
 */
static int start(void)
{
	size_t i;

	for (i = 0; i < THREADS; i++) {
		struct part *part = &run.part[i];
		int error;

		atomic_store(&part->state, NOT_YET);
		atomic_store(&part->tid, 0);
		part->status = EXIT_DONE;
		error = pthread_create(&part->thread, NULL, thread, part);
		if (error) {
			report_error("pthread_create", error, "number %zu", i);
			return EXIT_ENVIRONMENT;
		}
		wait_while(&part->tid, 0, 0);
		if (part->status)
			return part->status;
	}
	return EXIT_DONE;
}

/* Waits as long as it takes: a fault that hangs is for others to notice. */
static int finish(void)
{
	int ret = EXIT_DONE;
	size_t i;

	set_and_wake(&run.part[SPINNER].state, OVER);
	for (i = 0; i < THREADS; i++) {
		pthread_join(run.part[i].thread, NULL);
		ret = ret ?: run.part[i].status;
	}
	return ret;
}

static bool is(size_t which, unsigned int state)
{
	return atomic_load(&run.part[which].state) == state;
}

/* --- an iteration --------------------------------------------------------- */

/* State D in /proc; a kernel whose faults do not wait never shows it. */
static bool faulter_sleeps(void)
{
	char path[64], text[256], *state;

	snprintf(path, sizeof(path), "/proc/self/task/%u/stat",
		 atomic_load(&run.part[FAULTER].tid));
	if (!read_file(path, text, sizeof(text)))
		return false;
	state = strrchr(text, ')');
	return state && !strncmp(state, ") D", 3);
}

/* Until the hog has taken the lock so often, or ends. */
static int await_locks(__u64 count)
{
	struct hmm_harness_stats stats;
	int ret;

	for (;;) {
		ret = device_stats(run.device, &stats);
		if (ret || stats.hog_locks >= count || is(HOG, OVER))
			return ret;
		usleep(1000);
	}
}

/*
 * The fault waits, if it is of that kind, and has lost its races: the hog has
 * the lock for the last time.
 */
static int await(struct seen *seen)
{
	struct hmm_harness_stats before;
	__u64 until;
	int ret;

	atomic_store(&progress.phase, PHASE_WAIT);
	ret = device_stats(run.device, &before);
	set_and_wake(&run.part[HOG].state, ORDERED);
	ret = ret ?: await_locks(before.hog_locks + 1);
	until = now_ns() + VALUE(HOLD_MS) * 1000000 / 4;
	set_and_wake(&run.part[FAULTER].state, ORDERED);
	while (!ret && !seen->slept && now_ns() < until) {
		usleep(1000);
		seen->slept = faulter_sleeps();
	}
	return ret ?: await_locks(before.hog_locks + 1 + VALUE(UNFAIRNESS));
}

/* Where the memory is on the device; 0 if it is not. */
static __u64 device_offset(const char *memory)
{
	__u64 entry = 0;
	off_t at = (uintptr_t)memory / page_size * sizeof(entry);

	if (pread(run.pagemap, &entry, sizeof(entry), at) != sizeof(entry))
		report_error("pagemap", errno, "cannot be read");
	return entry >> 62 == 1 ? PAGEMAP_OFFSET(entry) : 0;
}

/*
 * The page is dropped while it is locked, so that the device has it back when
 * it is not; what moves there then takes the lowest page that is free.  It was
 * brought home by this CPU: nobody waits for a batch of the spinner's.
 */
static int reuse(struct seen *seen)
{
	__u64 began, offset = device_offset(run.page);
	int ret;

	atomic_store(&progress.phase, PHASE_REUSE);
	set_and_wake(&run.part[SPINNER].state, ORDERED);
	wait_while(&run.part[SPINNER].state, ORDERED, 0);
	if (madvise(run.page, page_size, MADV_DONTNEED)) {
		report_error("madvise", errno, "MADV_DONTNEED");
		return EXIT_ENVIRONMENT;
	}
	seen->freed = !is(HOG, OVER);
	wait_while(&run.part[HOG].state, ORDERED, 0);
	seen->freed &= is(SPINNER, BEGUN) && !is(FAULTER, OVER);
	began = now_ns();
	ret = move_to_device(run.device, run.other, 1);
	seen->move_ms = (now_ns() - began) / 1e6;
	seen->reused = offset && device_offset(run.other) == offset;
	return ret;
}

static int race(struct seen *seen)
{
	struct hmm_harness_stats before, after;
	int ret, ended;

	ret = move_to_device(run.device, run.page, 1);
	ret = ret ?: device_stats(run.device, &before);
	ret = ret ?: start();
	if (ret)
		return ret;
	ret = await(seen);
	ret = ret ?: reuse(seen);
	ended = finish();
	ret = ret ?: ended;
	ret = ret ?: device_stats(run.device, &after);
	if (!ret)
		seen->late = after.migrate_to_ram - before.migrate_to_ram;
	return ret;
}

static void json_seen(struct json *json)
{
	json_open(json, "window", '{');
	json_bool(json, "open", true);
	json_bool(json, "hit", run.seen.freed);
	json_bool(json, "slept", run.seen.slept);
	json_bool(json, "reused", run.seen.reused);
	json_metric(json, "move_ms", run.seen.move_ms);
	json_number(json, "late_faults", run.seen.late);
	json_number(json, "sigbus", run.seen.sigbus);
	json_close(json, '}');
}

/* By another thread, while nobody writes what was seen. */
static void add_seen(struct json *json)
{
	if (atomic_load(&run.verifying))
		json_seen(json);
}

/* A page that is locked for ever is told of by the messages of progress. */
static int verify(__u64 number, __u64 key)
{
	struct json json;
	int ret;

	atomic_store(&progress.phase, PHASE_VERIFY);
	ret = check_content("owner", number, run.other, 1, key);
	if (ret)
		return ret;
	json_begin(&json, "iteration");
	json_number(&json, "n", number);
	json_seen(&json);
	json_send(&json);
	run.windows += run.seen.freed;
	run.late += run.seen.late;
	run.sigbus += run.seen.sigbus;
	atomic_fetch_add(&run.rounds, 1);
	if (run.seen.freed && !samples_add(&run.move_ms, run.seen.move_ms))
		return EXIT_ENVIRONMENT;
	return EXIT_DONE;
}

static int iterate(__u64 number)
{
	__u64 key = mix64(VALUE(SEED)) ^ mix64(~number);
	int ret;

	atomic_store(&progress.iteration, number);
	atomic_store(&progress.phase, PHASE_PLACE);
	pattern_fill(run.page, 0, 1, ~key);
	pattern_fill(run.other, 0, 1, key);
	run.seen = (struct seen){ 0 };
	ret = race(&run.seen);
	if (ret)
		return ret;
	atomic_store(&run.verifying, 1);
	ret = verify(number, key);
	atomic_store(&run.verifying, 0);
	return ret;
}

/* So that the fair server owes the faulter's CPU nothing. */
static void rest(void)
{
	atomic_store(&progress.phase, PHASE_PAUSE);
	usleep(VALUE(PAUSE_MS) * 1000);
}

/* --- all of them ---------------------------------------------------------- */

static void report_end(__u64 done, int status, __s64 kept)
{
	struct json json;

	json_begin_end(&json, done, status);
	json_number(&json, "windows", run.windows);
	if (done) {
		json_open(&json, "metrics", '{');
		json_metric(&json, "move_ms", samples_median(&run.move_ms));
		json_metric(&json, "late_faults", run.late);
		json_metric(&json, "sigbus", run.sigbus);
		json_metric(&json, "leaked_pages", kept);
		json_close(&json, '}');
	}
	json_send(&json);
}

static int iterate_all(__u64 *done)
{
	int ret = progress_start(&progress);
	__u64 number;

	if (ret)
		return ret;
	for (number = 0; !ret && number < VALUE(ITERATIONS); number++) {
		if (number)
			rest();
		ret = iterate(number);
		*done += !ret;
	}
	progress_stop(&progress);
	return ret;
}

static bool set_unfairness(const char *text)
{
	if (write_file(SYSCTL, text))
		return true;
	report_error("sysctl", errno, SYSCTL);
	return false;
}

static int awaited_run(const struct scenario *scenario)
{
	static const struct progress_counter counters[] = {
		{ "rounds", &run.rounds }, { NULL, NULL },
	};
	struct sigaction action = {
		.sa_sigaction = on_bus_error, .sa_flags = SA_SIGINFO,
	};
	struct hmm_harness_stats before, after;
	char unfairness[32], wanted[32];
	__u64 done = 0;
	int ret;

	run.device = attach_device(0);
	run.page = map_pages(1);
	run.other = map_pages(1);
	if (run.device < 0 || !run.page || !run.other)
		return EXIT_ENVIRONMENT;
	ret = device_stats(run.device, &before);
	if (ret)
		return ret;
	run.pagemap = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	if (run.pagemap < 0) {
		report_error("pagemap", errno, "/proc/self/pagemap");
		return EXIT_ENVIRONMENT;
	}
	if (!read_file(SYSCTL, unfairness, sizeof(unfairness))) {
		report_error("sysctl", errno, SYSCTL);
		return EXIT_ENVIRONMENT;
	}
	snprintf(wanted, sizeof(wanted), "%llu",
		 (unsigned long long)VALUE(UNFAIRNESS));
	if (!set_unfairness(wanted))
		return EXIT_ENVIRONMENT;
	sigaction(SIGBUS, &action, NULL);
	report_start(scenario);
	pin_to_cpu(VALUE(OWNER_CPU));
	progress.counters = counters;
	progress.more = add_seen;
	progress.pinned = true;
	progress.cpu = VALUE(OWNER_CPU);
	ret = iterate_all(&done);
	if (!set_unfairness(unfairness))
		ret = ret ?: EXIT_ENVIRONMENT;
	ret = ret ?: device_stats(run.device, &after);
	report_end(done, ret, ret ? 0 : (__s64)(after.pages_in_use -
						before.pages_in_use));
	return ret;
}

const struct scenario awaited_page_reuse = {
	.name = "awaited-page-reuse",
	.help = "a page is dropped and used again while a fault waits for its lock",
	.parameters = parameters,
	.run = awaited_run,
};
