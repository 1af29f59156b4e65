// SPDX-License-Identifier: GPL-2.0-only
/*
 * two-devices: two devices want the same range in their own memory.
 *
 * Each, on a CPU of its own, again and again: FAULT the range, which brings home
 * what the other has; migrate it to the device; look whether all of it is there.
 * If so, that is a round.  Nothing but the drivers' patience keeps them from
 * taking the range from each other for ever.  After each iteration, which is
 * some time of that, both check every byte.
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

#define MAX_PAGES	2048
#define CONTENDERS	2

enum {
	WHO, PAGES, INTERVAL_MS, ITERATIONS, FIRST_CPU, SECOND_CPU, SEED,
	PARAMETERS
};

enum { THREADS, PROCESSES };

static const char *const whos[] = { "threads", "processes", NULL };

static struct parameter parameters[] = {
	[WHO] = { "who", "has a device", 0, 0, 0, whos },
	[PAGES] = { "pages", "of the range", 64, 1, MAX_PAGES, NULL },
	[INTERVAL_MS] = { "interval_ms", "of an iteration", 500, 10, 600000,
			  NULL },
	[ITERATIONS] = { "iterations", "how often", 6, 1, 1000000, NULL },
	[FIRST_CPU] = { "first_cpu", "of device 0", 0, 0, CPU_SETSIZE - 1, NULL },
	[SECOND_CPU] = { "second_cpu", "of device 1", 1, 0, CPU_SETSIZE - 1,
			 NULL },
	[SEED] = { "seed", "of the data", 1, 0, ~0ULL, NULL },
	[PARAMETERS] = { NULL, NULL, 0, 0, 0, NULL },
};

#define VALUE(which)	(parameters[which].value)

enum { PHASE_START, PHASE_CONTEND, PHASE_VERIFY };

static const char *const phases[] = { "start", "contend", "verify" };

/* What a contender shows of itself. */
struct contender {
	atomic_ullong rounds;		/* the range was all its own */
	atomic_ullong attempts;
	atomic_ullong refused;		/* FAULT came back with EBUSY */
	int ret;			/* EXIT_.. */
};

struct shared {
	pthread_barrier_t barrier;	/* contenders and the parent */
	atomic_uint stop;		/* the interval is over */
	atomic_uint ending;		/* there is no further one */
	__u64 iteration;
	struct contender contender[CONTENDERS];
};

static struct {
	int device;			/* the first's */
	char *memory;
	__u64 key;
	struct shared *shared;
	struct samples slowest_per_s;
} run;

static struct progress progress = { .phases = phases };

static const struct progress_counter *counters(void)
{
	static struct progress_counter list[CONTENDERS + 1];

	list[0] = (struct progress_counter){
		"first", &run.shared->contender[0].attempts
	};
	list[1] = (struct progress_counter){
		"second", &run.shared->contender[1].attempts
	};
	return list;
}

/* --- a contender -------------------------------------------------------- */

/* EXIT_DONE, and whether the device has all of it. */
static int look(int fd, unsigned char *bytes, bool *own)
{
	struct hmm_harness_snapshot snapshot = {
		.addr = (uintptr_t)run.memory,
		.length = VALUE(PAGES) * page_size,
		.pages = (uintptr_t)bytes,
		.count = VALUE(PAGES),
	};
	size_t i;

	*own = false;
	if (ioctl(fd, HMM_HARNESS_SNAPSHOT, &snapshot)) {
		/* It did not hold still, so it was not all ours. */
		if (errno == EBUSY)
			return EXIT_DONE;
		report_error("ioctl", errno, "SNAPSHOT");
		return EXIT_ENVIRONMENT;
	}
	for (i = 0; i < VALUE(PAGES); i++)
		if ((bytes[i] & HMM_HARNESS_PAGE_KIND) !=
		    HMM_HARNESS_PAGE_DEVICE)
			return EXIT_DONE;
	*own = true;
	return EXIT_DONE;
}

static int attempt(int fd, struct contender *self, unsigned char *bytes)
{
	struct hmm_harness_fault fault = {
		.addr = (uintptr_t)run.memory,
		.length = VALUE(PAGES) * page_size,
		.owner = HMM_HARNESS_OWNER_SELF,
		.entry = HMM_HARNESS_ENTRY_LOCKED,
	};
	struct hmm_harness_migrate migrate = {
		.addr = (uintptr_t)run.memory,
		.length = VALUE(PAGES) * page_size,
	};
	bool own;
	int ret;

	atomic_fetch_add(&self->attempts, 1);
	if (ioctl(fd, HMM_HARNESS_FAULT, &fault)) {
		if (errno == EBUSY) {
			atomic_fetch_add(&self->refused, 1);
			return EXIT_DONE;
		}
		report_error("ioctl", errno, "FAULT");
		return EXIT_ENVIRONMENT;
	}
	if (ioctl(fd, HMM_HARNESS_MIGRATE_TO_DEVICE, &migrate)) {
		report_error("ioctl", errno, "MIGRATE_TO_DEVICE");
		return EXIT_ENVIRONMENT;
	}
	ret = look(fd, bytes, &own);
	if (own)
		atomic_fetch_add(&self->rounds, 1);
	return ret;
}

static void meet(void)
{
	pthread_barrier_wait(&run.shared->barrier);
}

static int contend(unsigned int index)
{
	static const char *const names[] = { "first", "second" };
	const unsigned int cpu = VALUE(index ? SECOND_CPU : FIRST_CPU);
	struct shared *shared = run.shared;
	struct contender *self = &shared->contender[index];
	int fd = index ? attach_device(index) : run.device;
	int error = pin_to_cpu(cpu);
	unsigned char bytes[MAX_PAGES];

	self->ret = fd < 0 ? EXIT_ENVIRONMENT : EXIT_DONE;
	if (error) {
		report_error("cpu", error, "%s_cpu=%u", names[index], cpu);
		self->ret = EXIT_ENVIRONMENT;
	}
	for (;;) {
		meet();
		if (atomic_load(&shared->ending))
			return self->ret;
		while (!self->ret && !atomic_load(&shared->stop))
			self->ret = attempt(fd, self, bytes);
		/* Who reads brings pages home: not before both have stopped. */
		meet();
		if (!self->ret)
			self->ret = check_content(names[index],
						  shared->iteration, run.memory,
						  VALUE(PAGES), run.key);
		meet();
	}
}

static void *first(void *unused)
{
	(void)unused;
	contend(0);
	return NULL;
}

static void *second(void *unused)
{
	(void)unused;
	contend(1);
	return NULL;
}

/* --- the parent --------------------------------------------------------- */

static int set_up(void)
{
	pthread_barrierattr_t attribute;

	run.device = attach_device(0);
	run.memory = map_pages(VALUE(PAGES));
	run.shared = map_shared(sizeof(*run.shared));
	if (run.device < 0 || !run.memory || !run.shared)
		return EXIT_ENVIRONMENT;
	pthread_barrierattr_init(&attribute);
	pthread_barrierattr_setpshared(&attribute, PTHREAD_PROCESS_SHARED);
	pthread_barrier_init(&run.shared->barrier, &attribute, CONTENDERS + 1);
	/* Before the fork: from then on the pages are both processes'. */
	run.key = mix64(VALUE(SEED));
	pattern_fill(run.memory, 0, VALUE(PAGES), run.key);
	return EXIT_DONE;
}

/* The second is a child or a thread; the child comes before any thread. */
static int start(pthread_t threads[CONTENDERS], pid_t *child)
{
	int error = 0;

	if (VALUE(WHO) == PROCESSES) {
		*child = fork();
		if (!*child) {
			prctl(PR_SET_PDEATHSIG, SIGKILL);
			_exit(contend(1));
		}
		error = *child < 0 ? errno : 0;
	} else {
		error = pthread_create(&threads[1], NULL, second, NULL);
	}
	if (!error)
		error = pthread_create(&threads[0], NULL, first, NULL);
	if (!error)
		return progress_start(&progress);
	report_error("start", error, "not both contenders");
	return EXIT_ENVIRONMENT;
}

static void json_contender(struct json *json, const char *name, __u64 rounds,
			   const struct contender *contender)
{
	json_open(json, name, '{');
	json_number(json, "rounds", rounds);
	json_number(json, "attempts", atomic_load(&contender->attempts));
	json_number(json, "refused", atomic_load(&contender->refused));
	json_close(json, '}');
}

static int iterate(__u64 number)
{
	struct shared *shared = run.shared;
	__u64 rounds[CONTENDERS], slowest, began;
	struct json json;
	double seconds;
	size_t i;

	atomic_store(&progress.iteration, number);
	atomic_store(&progress.phase, PHASE_CONTEND);
	shared->iteration = number;
	atomic_store(&shared->stop, 0);
	for (i = 0; i < CONTENDERS; i++)
		rounds[i] = atomic_load(&shared->contender[i].rounds);
	meet();
	began = now_ns();
	usleep(VALUE(INTERVAL_MS) * 1000);
	atomic_store(&shared->stop, 1);
	seconds = (now_ns() - began) / 1e9;
	meet();
	for (i = 0; i < CONTENDERS; i++)
		rounds[i] = atomic_load(&shared->contender[i].rounds) -
			    rounds[i];
	atomic_store(&progress.phase, PHASE_VERIFY);
	meet();
	for (i = 0; i < CONTENDERS; i++)
		if (shared->contender[i].ret)
			return shared->contender[i].ret;

	slowest = rounds[0] < rounds[1] ? rounds[0] : rounds[1];
	if (!samples_add(&run.slowest_per_s, slowest / seconds))
		return EXIT_ENVIRONMENT;
	json_begin(&json, "iteration");
	json_number(&json, "n", number);
	json_contender(&json, "first", rounds[0], &shared->contender[0]);
	json_contender(&json, "second", rounds[1], &shared->contender[1]);
	json_seconds(&json, "seconds", seconds);
	json_send(&json);
	return EXIT_DONE;
}

static void end(pthread_t threads[CONTENDERS], pid_t child)
{
	atomic_store(&run.shared->ending, 1);
	meet();
	progress_stop(&progress);
	pthread_join(threads[0], NULL);
	if (child > 0)
		waitpid(child, NULL, 0);
	else
		pthread_join(threads[1], NULL);
}

static void report_end(__u64 done, int status)
{
	__u64 rounds = 0, attempts = 0;
	struct json json;
	size_t i;

	for (i = 0; i < CONTENDERS; i++) {
		rounds += atomic_load(&run.shared->contender[i].rounds);
		attempts += atomic_load(&run.shared->contender[i].attempts);
	}
	json_begin_end(&json, done, status);
	json_number(&json, "rounds", rounds);
	if (done) {
		json_open(&json, "metrics", '{');
		json_metric(&json, "rounds_per_s",
			    samples_median(&run.slowest_per_s));
		json_metric(&json, "attempts_per_round",
			    (double)attempts / (rounds ?: 1));
		json_close(&json, '}');
	}
	json_send(&json);
}

static int two_run(const struct scenario *scenario)
{
	pthread_t threads[CONTENDERS];
	__u64 number, done = 0;
	pid_t child = -1;
	int ret;

	ret = set_up();
	if (ret)
		return ret;
	report_start(scenario);
	progress.counters = counters();
	ret = start(threads, &child);
	if (ret)
		return ret;	/* and all that was started with us */
	for (number = 0; !ret && number < VALUE(ITERATIONS); number++) {
		ret = iterate(number);
		done += !ret;
	}
	end(threads, child);
	report_end(done, ret);
	return ret;
}

const struct scenario two_devices = {
	.name = "two-devices",
	.help = "two devices take one range from each other",
	.parameters = parameters,
	.run = two_run,
};
