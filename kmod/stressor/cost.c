// SPDX-License-Identifier: GPL-2.0-only
/*
 * fault-cost: what a fault on device memory costs, in time, in drains of the
 * LRU batches and in faults; and with another one on the same page at once.  On
 * a clock that counts instructions, time is work.
 */
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>

#include "hmm_harness.h"
#include "stressor.h"
#include "count.h"

/* The last two are of two threads only. */
enum {
	ITERATIONS, PAGES, FIRST_CPU, SEED, SECOND_CPU, DELAY_US, PARAMETERS
};

#define FOR_ALL(default_pages)						\
	[ITERATIONS] = { "iterations", "rounds, half of them counted", 20, 4, \
			 1000000, NULL },				\
	[PAGES] = { "pages", "of a batch", default_pages, 1, 4096, NULL }, \
	[FIRST_CPU] = { "first_cpu", "of the thread", 0, 0, 1023, NULL }, \
	[SEED] = { "seed", "of the pages' content", 1, 0, ~0ULL, NULL }

static struct parameter of_one[] = {
	FOR_ALL(128),
	{ NULL, NULL, 0, 0, 0, NULL },
};

static struct parameter of_two[] = {
	FOR_ALL(16),
	[SECOND_CPU] = { "second_cpu", "of the other", 1, 0, 1023, NULL },
	[DELAY_US] = { "delay_us", "the driver's", 2000, 0, 100000, NULL },
	[PARAMETERS] = { NULL, NULL, 0, 0, 0, NULL },
};

#define VALUE(which)	(run.parameters[which].value)

#define STOP	(~0U)	/* of orders */

enum phase {
	TO_DEVICE, CPU_FAULT, RANGE_FAULT, TWO_CPU_FAULTS,
	RANGE_AND_CPU_FAULT, PHASES
};

static const char *const phase_names[] = {
	"to_device", "cpu_fault", "range_fault", "two_cpu_faults",
	"range_and_cpu_fault", NULL
};

/* What a phase came to over all rounds: pages and time, or else the counts. */
struct sum {
	__u64 pages;
	__u64 ticks;
	__u64 batches;
	__u64 drains;
	__u64 faults;
	__u64 migrations;
};

static struct {
	const struct parameter *parameters;
	bool two;
	char *memory;
	int fd;
	__u64 key;
	__u64 first_ns;
	__u64 first_tick;
	bool counting;
	struct count drains;
	struct sum sums[PHASES];
	/* For the other thread: the orders given and those carried out. */
	atomic_uint order;
	atomic_uint done;
	size_t page;
	bool by_range;
	/* A page of its own, and how often it was faulted. */
	char *own;
	__u64 own_faults;
	int error;
	struct progress progress;
	atomic_ullong steps;
} run;

static char *page_at(size_t page)
{
	return run.memory + page * page_size;
}

static int read_page(size_t page)
{
	/* No page's content begins with a zero. */
	return atomic_load((atomic_ullong *)page_at(page)) ? 0 : EFAULT;
}

/* As another device's fault: the pages have to come back. */
static int fault_range(size_t page, size_t pages)
{
	struct hmm_harness_fault fault = {
		.addr = (uintptr_t)page_at(page),
		.length = pages * page_size,
		.owner = HMM_HARNESS_OWNER_NONE,
		.entry = HMM_HARNESS_ENTRY_LOCKED,
	};

	return ioctl(run.fd, HMM_HARNESS_FAULT, &fault) ? errno : 0;
}

static int to_device(void)
{
	struct hmm_harness_migrate migrate = {
		.addr = (uintptr_t)run.memory,
		.length = VALUE(PAGES) * page_size,
	};

	if (ioctl(run.fd, HMM_HARNESS_MIGRATE_TO_DEVICE, &migrate))
		return errno;
	return migrate.migrated == VALUE(PAGES) ? 0 : EAGAIN;
}

static __u64 migrations(void)
{
	struct hmm_harness_stats stats = { 0 };

	return ioctl(run.fd, HMM_HARNESS_STATS, &stats) ?
		       0 : stats.migrations_to_system;
}

/* The process's, those in hmm_range_fault() included: mm_account_fault(). */
static __u64 faults_so_far(void)
{
	struct rusage usage = { 0 };

	getrusage(RUSAGE_SELF, &usage);
	return usage.ru_minflt - run.own_faults;
}

/*
 * Finer than the kernel's own time where that is counted in ticks, as on the
 * virtual clock; of a length of its own, see ns_per_tick().
 */
static __u64 ticks(void)
{
#if __has_builtin(__builtin_ia32_rdtsc)
	return __builtin_ia32_rdtsc();
#else
	return now_ns();
#endif
}

static double ns_per_tick(void)
{
	return (double)(now_ns() - run.first_ns) / (ticks() - run.first_tick);
}

/* A new page in the LRU batch of this CPU, which a drain would have to empty. */
static int fill_batch(void)
{
	if (madvise(run.own, page_size, MADV_DONTNEED))
		return errno;
	atomic_store((atomic_char *)run.own, 1);
	run.own_faults++;
	return 0;
}

/*
 * The CPU fault is to be first, and in the driver: a quarter of its delay, or
 * less where a tick is shorter than a ns.
 */
static int late_fault_range(size_t page)
{
	__u64 begun = ticks();

	while (ticks() - begun < VALUE(DELAY_US) * 250)
		relax();
	return fault_range(page, 1);
}

static void *other(void *unused)
{
	unsigned int order = 0;

	(void)unused;
	run.error = pin_to_cpu(VALUE(SECOND_CPU));
	for (;;) {
		wait_while(&run.order, order++, 0);
		if (atomic_load(&run.order) == STOP)
			return NULL;
		if (!run.error)
			run.error = fill_batch();
		if (!run.error)
			run.error = run.by_range ?
					    late_fault_range(run.page) :
					    read_page(run.page);
		set_and_wake(&run.done, order);
	}
}

/* One page after the other, each by both threads at once. */
static int both_fault(bool by_range)
{
	unsigned int order;
	size_t page;
	int error;

	run.by_range = by_range;
	for (page = 0; page < VALUE(PAGES); page++) {
		run.page = page;
		order = atomic_load(&run.order);
		set_and_wake(&run.order, order + 1);
		error = read_page(page);
		wait_while(&run.done, order, 0);
		if (error || run.error)
			return error ? error : run.error;
		atomic_fetch_add(&run.steps, 1);
	}
	return 0;
}

static int fault_all(enum phase phase)
{
	size_t page;
	int error = 0;

	switch (phase) {
	case CPU_FAULT:
		for (page = 0; !error && page < VALUE(PAGES); page++)
			error = read_page(page);
		return error;
	case RANGE_FAULT:
		return fault_range(0, VALUE(PAGES));
	default:
		return both_fault(phase == RANGE_AND_CPU_FAULT);
	}
}

/* What differs from before to after one step goes to the phase's sum. */
static int measured(enum phase phase, bool migrate)
{
	struct sum *sum = &run.sums[migrate ? TO_DEVICE : phase];
	__u64 drains, faults, moved, begun;
	int error;

	atomic_store(&run.progress.phase, migrate ? TO_DEVICE : phase);
	drains = run.counting ? count_read(&run.drains) : 0;
	faults = faults_so_far();
	moved = migrations();
	begun = ticks();
	error = migrate ? to_device() : fault_all(phase);
	begun = ticks() - begun;
	moved = migrations() - moved;
	if (error)
		return error;
	atomic_fetch_add(&run.steps, 1);
	if (!atomic_load(&run.progress.iteration))
		return 0;	/* nothing is warm yet */
	if (run.counting) {
		sum->batches++;
		sum->drains += count_read(&run.drains) - drains;
		sum->faults += faults_so_far() - faults;
		sum->migrations += moved;
	} else {
		sum->pages += VALUE(PAGES);
		sum->ticks += begun;
	}
	return 0;
}

static enum phase first_phase(void)
{
	return run.two ? TWO_CPU_FAULTS : CPU_FAULT;
}

static enum phase last_phase(void)
{
	return run.two ? PHASES : TWO_CPU_FAULTS;
}

/* Pages to the device and back, once in each way. */
static int once_each(void)
{
	enum phase phase;
	int error;

	for (phase = first_phase(); phase < last_phase(); phase++) {
		error = measured(phase, true);
		if (!error)
			error = measured(phase, false);
		if (error) {
			report_error("step", error, "%s", phase_names[phase]);
			return EXIT_ENVIRONMENT;
		}
	}
	return EXIT_DONE;
}

static int verify(__u64 iteration)
{
	struct mismatch mismatch;

	if (pattern_verify(run.memory, 0, VALUE(PAGES), run.key, &mismatch))
		return EXIT_DONE;
	report_corruption("parent", iteration, run.memory, &mismatch);
	return EXIT_CORRUPTION;
}

static int start_counting(void)
{
	int error = count_begin(&run.drains, "lru_drain_gen");

	if (error) {
		report_error("breakpoint", error, "lru_drain_gen");
		return EXIT_ENVIRONMENT;
	}
	run.counting = true;
	return EXIT_DONE;
}

static void metric(struct json *json, const char *phase, const char *what,
		   double sum, __u64 number)
{
	char name[64];

	snprintf(name, sizeof(name), "%s_%s", phase, what);
	json_seconds(json, name, number ? sum / number : 0);
}

static void report_end(__u64 iterations, int status)
{
	double ns = ns_per_tick();
	enum phase phase;
	struct json json;

	json_begin_end(&json, iterations, status);
	json_number(&json, "windows", 0);
	json_open(&json, "metrics", '{');
	for (phase = 0; phase < PHASES; phase++) {
		const struct sum *sum = &run.sums[phase];
		const char *name = phase_names[phase];

		if (!sum->pages)
			continue;
		metric(&json, name, "ns", sum->ticks * ns, sum->pages);
		/* A migration to the device is a batch; back, a page. */
		metric(&json, name, "drains", sum->drains,
		       phase == TO_DEVICE ? sum->batches : sum->migrations);
		if (phase != TO_DEVICE)
			metric(&json, name, "faults", sum->faults,
			       sum->migrations);
	}
	json_close(&json, '}');
	json_send(&json);
}

static int rounds(__u64 *number)
{
	struct json json;
	int ret = EXIT_DONE;

	while (!ret && *number < VALUE(ITERATIONS)) {
		atomic_store(&run.progress.iteration, *number);
		if (*number == VALUE(ITERATIONS) / 2)
			ret = start_counting();
		if (!ret)
			ret = once_each();
		if (!ret)
			ret = verify(*number);
		if (ret)
			break;
		json_begin(&json, "iteration");
		json_number(&json, "n", (*number)++);
		json_send(&json);
	}
	return ret;
}

static int set_up(void)
{
	struct hmm_harness_attach attach = { 0 };
	struct hmm_harness_behave behave = { 0 };
	size_t length = VALUE(PAGES) * page_size;

	pin_to_cpu(VALUE(FIRST_CPU));
	run.memory = mmap(NULL, length, PROT_READ | PROT_WRITE,
			  MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	run.own = mmap(NULL, page_size, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (run.memory == MAP_FAILED || run.own == MAP_FAILED ||
	    madvise(run.memory, length, MADV_NOHUGEPAGE)) {
		report_error("mmap", errno, "%llu pages",
			     (unsigned long long)VALUE(PAGES));
		return EXIT_ENVIRONMENT;
	}
	run.key = mix64(VALUE(SEED));
	pattern_fill(run.memory, 0, VALUE(PAGES), run.key);
	run.fd = open_device(0);
	behave.delay_us = run.two ? VALUE(DELAY_US) : 0;
	if (run.fd < 0 || ioctl(run.fd, HMM_HARNESS_ATTACH, &attach) ||
	    ioctl(run.fd, HMM_HARNESS_BEHAVE, &behave)) {
		report_error("device", errno, "/dev/hmm_harness0");
		return EXIT_ENVIRONMENT;
	}
	return EXIT_DONE;
}

static int cost_run(const struct scenario *scenario)
{
	static const struct progress_counter counters[] = {
		{ "steps", &run.steps }, { NULL, NULL }
	};
	__u64 number = 0;
	pthread_t thread;
	int ret, error = 0;

	run.parameters = scenario->parameters;
	run.two = scenario == &fault_cost_shared;
	ret = set_up();
	if (ret)
		return ret;
	run.progress.phases = phase_names;
	run.progress.counters = counters;
	if (run.two)
		error = pthread_create(&thread, NULL, other, NULL);
	if (error) {
		report_error("pthread_create", error, "no other thread");
		return EXIT_ENVIRONMENT;
	}
	ret = progress_start(&run.progress);
	if (ret)
		return ret;
	report_start(scenario);
	run.first_ns = now_ns();
	run.first_tick = ticks();
	ret = rounds(&number);
	if (run.two) {
		set_and_wake(&run.order, STOP);
		pthread_join(thread, NULL);
	}
	progress_stop(&run.progress);
	if (run.counting)
		count_end(&run.drains);
	report_end(number, ret);
	return ret;
}

const struct scenario fault_cost = {
	.name = "fault-cost",
	.help = "what faults on device memory cost",
	.parameters = of_one,
	.run = cost_run,
};

const struct scenario fault_cost_shared = {
	.name = "fault-cost-shared",
	.help = "what two faults on the same page of device memory cost",
	.parameters = of_two,
	.run = cost_run,
};
