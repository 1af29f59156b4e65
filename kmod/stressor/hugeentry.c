// SPDX-License-Identifier: GPL-2.0-only
/*
 * What becomes of a huge folio while PMD migration entries stand for it.
 *
 * split-unmapped-folio: the folio is taken as a whole, the driver has places
 * for single pages only, and the core splits it unmapped.  By race=fork children
 * map it too, so that there are other entries than the caller's.  By zap a
 * thread drops the memory, so that there is none; by refault it writes to it
 * again as well, so that another folio is there.
 *
 * zap-migration-entry: a folio of device memory moves as a whole to another
 * place on the device, and a thread drops the memory.
 *
 * A thread that drops memory does so while the module holds the batch; what was
 * not held long enough is no window.  Who has the memory must see every byte,
 * who dropped it zeros, and in the end nobody may keep a page, of the device or
 * of the system.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "hmm_harness.h"
#include "stressor.h"

#define MAX_SHARERS	16
/* Reading and writing a huge page takes milliseconds. */
#define PATIENCE_NS	15000000000ULL

enum { HOLD_MS, ITERATIONS, SEED, COMMON };
enum { RACE = COMMON, SHARERS, PARAMETERS };

#define COMMON_PARAMETERS						\
	[HOLD_MS] = { "hold_ms", "for which a batch is held", 200, 1,	\
		      HMM_HARNESS_MAX_TIMEOUT_MS, NULL },		\
	[ITERATIONS] = { "iterations", "how often", 8, 1, 1000000,	\
			 NULL },					\
	[SEED] = { "seed", "of the data", 1, 0, ~0ULL, NULL }

enum race { FORK, ZAP, REFAULT, ZAP_DEVICE };

static const char *const races[] = { "fork", "zap", "refault", NULL };

static struct parameter split_parameters[] = {
	COMMON_PARAMETERS,
	[RACE] = { "race", "what others do", FORK, 0, 0, races },
	[SHARERS] = { "sharers", "children, with race=fork", 1, 1, MAX_SHARERS,
		      NULL },
	[PARAMETERS] = { NULL, NULL, 0, 0, 0, NULL },
};

static struct parameter zap_parameters[] = {
	COMMON_PARAMETERS,
	[COMMON] = { NULL, NULL, 0, 0, 0, NULL },
};

/* Of what both have. */
#define VALUE(which)	(run.parameters[which].value)

enum { PHASE_START, PHASE_PLACE, PHASE_FORK, PHASE_MOVE, PHASE_VERIFY };

static const char *const phases[] = {
	"start", "place", "fork", "move", "verify"
};

static struct {
	const struct parameter *parameters;
	enum race race;
	unsigned int sharers;
	int device;
	char *memory;		/* one huge page */
	char *other;		/* and one more */
	size_t pages;
	__u64 key;
	atomic_uint *go;	/* shared with the children */
	atomic_uint passed;	/* the batch that was to be held is over */
	atomic_ullong moves;
	__u64 moved, windows, freed, stuck;
} run;

static struct progress progress = { .phases = phases };

static int failed_call(const char *what)
{
	report_error("ioctl", errno, "%s", what);
	return EXIT_ENVIRONMENT;
}

static int drop(char *memory)
{
	if (!madvise(memory, HUGE_SIZE, MADV_DONTNEED))
		return EXIT_DONE;
	report_error("madvise", errno, "MADV_DONTNEED");
	return EXIT_ENVIRONMENT;
}

/* What is not mapped by a PMD would test something else. */
static int check_huge(const char *memory, __u8 kind)
{
	__u8 found;
	struct hmm_harness_snapshot snapshot = {
		.addr = (uintptr_t)memory, .length = page_size,
		.pages = (uintptr_t)&found, .count = 1,
	};

	if (ioctl(run.device, HMM_HARNESS_SNAPSHOT, &snapshot))
		return failed_call("SNAPSHOT");
	if ((found & HMM_HARNESS_PAGE_KIND) == kind &&
	    (found & HMM_HARNESS_PAGE_HUGE))
		return EXIT_DONE;
	report_error("huge_page", ENOMEM, "%s memory, iteration %llu",
		     kind == HMM_HARNESS_PAGE_DEVICE ? "device" : "system",
		     (unsigned long long)atomic_load(&progress.iteration));
	return EXIT_ENVIRONMENT;
}

static int migrate(const char *memory, bool to_device, __u32 flags)
{
	struct hmm_harness_migrate migrate = {
		.addr = (uintptr_t)memory, .length = HUGE_SIZE,
		.flags = flags | HMM_HARNESS_MIGRATE_COMPOUND,
	};

	if (ioctl(run.device, to_device ? HMM_HARNESS_MIGRATE_TO_DEVICE :
					  HMM_HARNESS_MIGRATE_TO_SYSTEM,
		  &migrate))
		return failed_call(to_device ? "MIGRATE_TO_DEVICE" :
					       "MIGRATE_TO_SYSTEM");
	run.moved += migrate.migrated;
	return EXIT_DONE;
}

/* A huge folio, filled, in system memory or on the device. */
static int place(char *memory, bool on_device)
{
	int ret = drop(memory);

	if (ret)
		return ret;
	atomic_store(&progress.phase, PHASE_PLACE);
	run.key = mix64(VALUE(SEED)) ^ mix64(~atomic_fetch_add(&run.moves, 1));
	pattern_fill(memory, 0, run.pages, run.key);
	ret = check_huge(memory, HMM_HARNESS_PAGE_SYSTEM);
	if (ret || !on_device)
		return ret;
	ret = migrate(memory, true, 0);
	return ret ?: check_huge(memory, HMM_HARNESS_PAGE_DEVICE);
}

/* --- a fork shares it ----------------------------------------------------- */

static void on_signal(int number, siginfo_t *info, void *context)
{
	(void)number;
	(void)context;
	report_signal("child", atomic_load(&progress.iteration), info);
	_exit(EXIT_CORRUPTION);
}

/* Reads what it shares, then writes, which makes the pages its own. */
static int share(__u64 number)
{
	struct sigaction action = { .sa_flags = SA_SIGINFO };
	__u64 own = mix64(run.key ^ number);
	int ret;

	action.sa_sigaction = on_signal;
	sigaction(SIGSEGV, &action, NULL);
	sigaction(SIGBUS, &action, NULL);
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	wait_while(run.go, 0, 0);
	ret = check_content("child", number, run.memory, run.pages, run.key);
	if (ret)
		return ret;
	pattern_fill(run.memory, 0, run.pages, own);
	return check_content("child, its own", number, run.memory, run.pages,
			     own);
}

/* False if it is not over in time: it faults again and again, say. */
static bool ended(pid_t pid, __u64 until_ns, int *status)
{
	const struct timespec pause = { .tv_nsec = 2000000 };
	pid_t found;

	do {
		found = waitpid(pid, status, WNOHANG);
		if (found)
			break;
		nanosleep(&pause, NULL);
	} while (now_ns() < until_ns);
	if (found < 0)
		*status = 0xff;
	return found;
}

/* What the children found, if they are to find anything. */
static int end_children(const pid_t *children, unsigned int count, bool wanted)
{
	__u64 until_ns = now_ns() + (wanted ? PATIENCE_NS : 0);
	int status, ret = EXIT_DONE;
	unsigned int i;

	for (i = 0; i < count; i++) {
		if (!ended(children[i], until_ns, &status)) {
			run.stuck += wanted;
			kill(children[i], SIGKILL);
			waitpid(children[i], &status, 0);
			continue;
		}
		if (WIFEXITED(status)) {
			ret = ret ?: WEXITSTATUS(status);
			continue;
		}
		report_error("child", 0, "ended with status 0x%x", status);
		ret = ret ?: EXIT_ENVIRONMENT;
	}
	return ret;
}

static int move_shared(bool on_device, __u64 number)
{
	pid_t children[MAX_SHARERS];
	unsigned int count = 0;
	int ret, found;

	ret = place(run.memory, on_device);
	atomic_store(&progress.phase, PHASE_FORK);
	atomic_store(run.go, 0);
	while (!ret && count < run.sharers) {
		children[count] = fork();
		if (!children[count])
			_exit(share(number));
		if (children[count] < 0) {
			report_error("fork", errno, "child %u", count);
			ret = EXIT_ENVIRONMENT;
		} else {
			count++;
		}
	}
	atomic_store(&progress.phase, PHASE_MOVE);
	ret = ret ?: migrate(run.memory, !on_device, HMM_HARNESS_MIGRATE_SMALL);
	atomic_store(&progress.phase, PHASE_VERIFY);
	run.windows += !ret;
	if (!ret)
		set_and_wake(run.go, 1);
	found = end_children(children, count, !ret);
	ret = ret ?: found;
	if (ret || run.stuck)
		return ret;
	return check_content("parent", number, run.memory, run.pages, run.key);
}

/* --- a thread drops it ---------------------------------------------------- */

/* What the thread saw of a held batch. */
struct zapping {
	int status;
	bool in_time;		/* the batch was held all the while */
	__u64 freed;		/* device pages given back meanwhile */
};

static int zap(struct zapping *zapping)
{
	struct hmm_harness_window window = { 0 };
	struct hmm_harness_stats before, after;
	int ret;

	wait_until_held(run.device, &run.passed);
	ret = device_stats(run.device, &before);
	ret = ret ?: drop(run.memory);
	ret = ret ?: device_stats(run.device, &after);
	if (ret)
		return ret;
	zapping->freed = before.pages_in_use - after.pages_in_use;
	if (run.race == REFAULT)
		pattern_fill(run.memory, 0, run.pages, ~run.key);
	if (ioctl(run.device, HMM_HARNESS_WINDOW, &window))
		return failed_call("WINDOW");
	zapping->in_time = window.held == HMM_HARNESS_HELD_WAITING;
	return EXIT_DONE;
}

static void *zapper(void *zapping)
{
	((struct zapping *)zapping)->status = zap(zapping);
	return NULL;
}

/* Nothing is left of what was there. */
static int check_empty(void)
{
	size_t word, words = HUGE_SIZE / sizeof(__u64);
	const __u64 *found = (const __u64 *)run.memory;
	struct mismatch mismatch = { 0 };

	for (word = 0; word < words; word++) {
		if (!found[word])
			continue;
		mismatch.page = word * sizeof(__u64) / page_size;
		mismatch.offset = word * sizeof(__u64) % page_size;
		mismatch.found = found[word];
		report_corruption("dropped", atomic_load(&progress.iteration),
				  run.memory, &mismatch);
		return EXIT_CORRUPTION;
	}
	return EXIT_DONE;
}

static void *checker(void *status)
{
	*(int *)status = run.race == REFAULT ?
		check_content("refault", atomic_load(&progress.iteration),
			      run.memory, run.pages, ~run.key) :
		check_empty();
	return NULL;
}

/* By a thread, as whoever reads it may fault again and again. */
static int check_dropped(void)
{
	static int status;
	struct timespec until;
	pthread_t thread;
	int error;

	atomic_store(&progress.phase, PHASE_VERIFY);
	error = pthread_create(&thread, NULL, checker, &status);
	if (error) {
		report_error("pthread_create", error, "no thread");
		return EXIT_ENVIRONMENT;
	}
	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += PATIENCE_NS / 1000000000ULL;
	if (!pthread_timedjoin_np(thread, NULL, &until))
		return status;
	run.stuck++;
	return EXIT_DONE;
}

/*
 * Device memory goes to a place that was free before: not to its own, which is
 * the first to be free if it is given back meanwhile.
 */
static int place_to_be_held(bool on_device)
{
	int ret;

	if (!on_device)
		return place(run.memory, false);
	ret = place(run.other, true);
	ret = ret ?: place(run.memory, true);
	return ret ?: migrate(run.other, false, 0);
}

static int move_held(bool on_device)
{
	struct hmm_harness_window window = { .flags = HMM_HARNESS_WINDOW_RESET };
	struct hmm_harness_hold hold = {
		.addr = (uintptr_t)run.memory, .length = HUGE_SIZE,
		.kind = HMM_HARNESS_HOLD_NOTIFIER, .timeout_ms = VALUE(HOLD_MS),
	};
	struct zapping zapping = { 0 };
	pthread_t thread;
	int error, ret = place_to_be_held(on_device);

	if (ret)
		return ret;
	if (ioctl(run.device, HMM_HARNESS_WINDOW, &window))
		return failed_call("WINDOW");
	if (ioctl(run.device, HMM_HARNESS_HOLD, &hold))
		return failed_call("HOLD");
	atomic_store(&run.passed, 0);
	error = pthread_create(&thread, NULL, zapper, &zapping);
	if (error) {
		report_error("pthread_create", error, "no thread");
		return EXIT_ENVIRONMENT;
	}
	atomic_store(&progress.phase, PHASE_MOVE);
	ret = migrate(run.memory, true, HMM_HARNESS_MIGRATE_MIXED |
		      (on_device ? 0 : HMM_HARNESS_MIGRATE_SMALL));
	atomic_store(&run.passed, 1);
	pthread_join(thread, NULL);
	if (zapping.in_time) {
		run.windows++;
		run.freed += zapping.freed;
	}
	return ret ?: zapping.status ?: check_dropped();
}

static int iterate(__u64 number)
{
	struct json json;
	int ret;

	atomic_store(&progress.iteration, number);
	run.moved = 0;
	if (run.race == FORK) {
		ret = move_shared(false, number);
		if (!ret && !run.stuck)
			ret = move_shared(true, number);
	} else {
		ret = move_held(run.race == ZAP_DEVICE);
	}
	if (ret || run.stuck)
		return ret;
	json_begin(&json, "iteration");
	json_number(&json, "n", number);
	json_number(&json, "moved_pages", run.moved);
	json_send(&json);
	return EXIT_DONE;
}

/* --- what is left --------------------------------------------------------- */

struct left {
	__s64 device;		/* pages in use */
	__s64 system;		/* anonymous pages on the LRU that nobody maps */
};

static __s64 meminfo_pages(const char *text, const char *name)
{
	const char *at = strstr(text, name);
	long long kb = 0;

	if (at)
		sscanf(at + strlen(name), "%lld", &kb);
	return kb * 1024 / (__s64)page_size;
}

static int look_at_left(struct left *left)
{
	struct hmm_harness_stats stats;
	char text[4096];
	int ret = device_stats(run.device, &stats);

	if (ret)
		return ret;
	/* Each CPU has pages that are not on the lists yet, and counts not told. */
	if (!write_file("/proc/sys/vm/drop_caches", "1") ||
	    !write_file("/proc/sys/vm/stat_refresh", "1")) {
		report_error("meminfo", errno, "not what each CPU keeps");
		return EXIT_ENVIRONMENT;
	}
	if (!read_file("/proc/meminfo", text, sizeof(text))) {
		report_error("meminfo", errno, "/proc/meminfo");
		return EXIT_ENVIRONMENT;
	}
	left->device = stats.pages_in_use;
	left->system = meminfo_pages(text, "\nActive(anon):") +
		       meminfo_pages(text, "\nInactive(anon):") -
		       meminfo_pages(text, "\nAnonPages:") -
		       meminfo_pages(text, "\nShmem:");
	return ret;
}

static void report_end(__u64 done, int status, const struct left *kept)
{
	struct json json;

	json_begin_end(&json, done, status);
	json_number(&json, "windows", run.windows);
	if (!status) {
		json_open(&json, "metrics", '{');
		json_metric(&json, "freed_pages", run.freed);
		json_metric(&json, "stuck", run.stuck);
		json_metric(&json, "leaked_pages", kept->device);
		json_metric(&json, "leaked_system_pages", kept->system);
		json_close(&json, '}');
	}
	json_send(&json);
}

static int run_iterations(__u64 *done)
{
	static struct progress_counter counters[] = {
		{ "moves", &run.moves }, { NULL, NULL },
	};
	__u64 number;
	int ret;

	progress.counters = counters;
	ret = progress_start(&progress);
	if (ret)
		return ret;
	for (number = 0; !ret && !run.stuck && number < VALUE(ITERATIONS);
	     number++) {
		ret = iterate(number);
		*done += !ret && !run.stuck;
	}
	progress_stop(&progress);
	/* Who is stuck on it cannot be helped by that. */
	return ret || run.stuck ? ret : drop(run.memory);
}

static bool map_memory(void)
{
	run.pages = HUGE_SIZE / page_size;
	run.memory = map_huge(2);
	if (!run.memory)
		return false;
	run.other = run.memory + HUGE_SIZE;
	if (!madvise(run.memory, 2 * HUGE_SIZE, MADV_HUGEPAGE))
		return true;
	report_error("madvise", errno, "MADV_HUGEPAGE");
	return false;
}

static int huge_entry_run(const struct scenario *scenario)
{
	struct left before, after, kept = { 0 };
	__u64 done = 0;
	int ret;

	run.parameters = scenario->parameters;
	run.device = attach_device(0);
	run.go = map_shared(sizeof(*run.go));
	if (run.device < 0 || !run.go || !map_memory())
		return EXIT_ENVIRONMENT;
	ret = look_at_left(&before);
	if (ret)
		return ret;
	report_start(scenario);
	ret = run_iterations(&done);
	if (!ret)
		ret = look_at_left(&after);
	if (!ret) {
		kept.device = after.device - before.device;
		kept.system = after.system - before.system;
	}
	report_end(done, ret, &kept);
	return ret;
}

static int split_run(const struct scenario *scenario)
{
	run.race = split_parameters[RACE].value;
	run.sharers = split_parameters[SHARERS].value;
	return huge_entry_run(scenario);
}

static int zap_run(const struct scenario *scenario)
{
	run.race = ZAP_DEVICE;
	return huge_entry_run(scenario);
}

const struct scenario split_unmapped_folio = {
	.name = "split-unmapped-folio",
	.help = "a huge folio that is being moved finds small places only",
	.parameters = split_parameters,
	.run = split_run,
};

const struct scenario zap_migration_entry = {
	.name = "zap-migration-entry",
	.help = "memory is dropped while its huge device folio is being moved",
	.parameters = zap_parameters,
	.run = zap_run,
};
