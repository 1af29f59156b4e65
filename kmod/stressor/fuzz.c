// SPDX-License-Identifier: GPL-2.0-only
/*
 * ioctl-fuzz: random ioctls from several processes and threads, while the
 * memory they are about is unmapped, moved, protected and forked, files are
 * closed and processes killed.  What the right answer to a call would be it does
 * not know; but an error must be one that hmm_harness.h promises, no process may
 * come to harm by itself, and in the end no device page may be left in use.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "fuzz.h"

#define MAX_PROCESSES	8
#define MAX_THREADS	8
/* Calls of a process before another one takes its place, by dice. */
#define SHORTEST	40
#define LONGEST		700
/* So long may the last process take to die, and the last page to come home. */
#define END_MS		60000
#define HOME_MS		5000
/* Wrong answers after which it is no use going on. */
#define ENOUGH		20

enum { CALLS, PROCESSES, THREADS, HUGE_PAGES, FAIL_PERCENT, SEED, PARAMETERS };

static const char *const huge_pages[] = { "split", "move", NULL };

static struct parameter parameters[] = {
	[CALLS] = { "calls", "ioctls", 5000, 1, 100000000, NULL },
	[PROCESSES] = { "processes", "at a time", 3, 1, MAX_PROCESSES, NULL },
	[THREADS] = { "threads", "in each", 2, 1, MAX_THREADS, NULL },
	[HUGE_PAGES] = { "huge_pages", "in a migration", 0, 0, 0, huge_pages },
	[FAIL_PERCENT] = {
		"fail_percent", "calls in which an allocation fails", 0, 0, 100,
		NULL
	},
	[SEED] = { "seed", "of everything", 1, 0, ~0ULL, NULL },
	[PARAMETERS] = { NULL, NULL, 0, 0, 0, NULL },
};

#define VALUE(which)	(parameters[which].value)

static const char *const phases[] = { "fuzz" };

static struct fuzz_process self;
static struct fuzz_thread threads[MAX_THREADS];
static pid_t pids[MAX_PROCESSES];
static pthread_t ids[MAX_THREADS];

__u64 fuzz_next(struct fuzz_random *random)
{
	return mix64(random->state++);
}

__u64 fuzz_below(struct fuzz_random *random, __u64 limit)
{
	return fuzz_next(random) % limit;
}

bool fuzz_percent(struct fuzz_random *random, unsigned int percent)
{
	return fuzz_below(random, 100) < percent;
}

static bool goes_on(__u64 limit)
{
	return atomic_load(&self.shared->wrong) < ENOUGH &&
	       atomic_load(&self.shared->tickets) < limit;
}

/* One more call, if the run and this process have one left. */
static bool take_ticket(__u64 limit)
{
	return goes_on(limit) &&
	       atomic_fetch_add(&self.shared->tickets, 1) < self.budget;
}

/* A child of one thread: it has the files of the parent, not its memory. */
static void fork_and_call(struct fuzz_thread *thread)
{
	unsigned int calls = fuzz_below(&thread->random, 6);
	bool wait = fuzz_percent(&thread->random, 60);
	pid_t pid = fork();
	int status;

	if (!pid) {
		thread->fail = -1;	/* was the parent thread's */
		thread->random.state = ~thread->random.state;
		while (calls-- && take_ticket(self.budget)) {
			fuzz_touch(&thread->random);
			fuzz_call(thread);
		}
		_exit(EXIT_DONE);
	}
	if (pid > 0 && wait)
		while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
			;
}

static void step(struct fuzz_thread *thread)
{
	struct fuzz_random *random = &thread->random;
	unsigned int dice = fuzz_below(random, 100);

	if (dice < 34)
		fuzz_touch(random);
	else if (dice < 80)
		fuzz_mm(random);
	else if (dice < 90)
		fuzz_open(thread);
	else if (dice < 94)
		pthread_kill(ids[fuzz_below(random, VALUE(THREADS))], SIGUSR1);
	else
		fork_and_call(thread);
	atomic_fetch_add(&self.shared->steps, 1);
}

static int open_fail_nth(void)
{
	return open("/proc/thread-self/fail-nth", O_RDWR | O_CLOEXEC);
}

static void *thread_run(void *argument)
{
	struct fuzz_thread *thread = argument;

	thread->fail = self.fail_percent ? open_fail_nth() : -1;
	while (take_ticket(self.limit)) {
		fuzz_call(thread);
		if (fuzz_percent(&thread->random, 45))
			step(thread);
	}
	return NULL;
}

/* Ends in one of the ways a process can end; never returns. */
static void process_run(__u64 seed)
{
	struct fuzz_random random = { mix64(seed) };
	unsigned int i, end = fuzz_below(&random, 4);

	if (fuzz_arena())
		_exit(EXIT_ENVIRONMENT);
	self.limit = atomic_load(&self.shared->tickets) + SHORTEST +
			 fuzz_below(&random, LONGEST - SHORTEST);
	for (i = 0; i < FUZZ_FILES; i++)
		atomic_store(&self.files[i], -1);
	for (i = 0; i < VALUE(THREADS); i++) {
		threads[i].process = &self;
		threads[i].random.state = fuzz_next(&random);
		threads[i].range = fuzz_range(&random);
		threads[i].fail = -1;
		/* Signals go to threads, which may not be there yet. */
		ids[i] = pthread_self();
	}
	for (i = 0; i < 2 * FUZZ_FILES; i++)
		fuzz_open(&threads[0]);
	for (i = 1; i < VALUE(THREADS); i++)
		if (pthread_create(&ids[i], NULL, thread_run, &threads[i]))
			_exit(EXIT_ENVIRONMENT);
	thread_run(&threads[0]);

	/* The other threads may be in the middle of something. */
	if (end == 0)
		kill(getpid(), SIGKILL);
	if (end == 1)
		_exit(EXIT_DONE);
	for (i = 1; i < VALUE(THREADS); i++)
		pthread_join(ids[i], NULL);
	if (end == 2)
		munmap((void *)FUZZ_ARENA, FUZZ_ARENA_SIZE);
	while (waitpid(-1, NULL, 0) > 0 || errno == EINTR)
		;
	_exit(EXIT_DONE);
}

static pid_t start_process(__u64 seed)
{
	pid_t pid = fork();

	if (!pid)
		process_run(seed);
	if (pid < 0)
		report_error("fork", errno, "process");
	return pid;
}

/* False if a process came to an end that nobody meant. */
static bool ended_well(int status)
{
	if (WIFEXITED(status) && WEXITSTATUS(status) == EXIT_DONE)
		return true;
	if (WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL)
		return true;
	report_error("process", 0, "ended with status %d, signal %d",
		     WIFEXITED(status) ? WEXITSTATUS(status) : -1,
		     WIFSIGNALED(status) ? WTERMSIG(status) : 0);
	return false;
}

/* Keeps so many processes going until all calls are made. */
static bool run_processes(void)
{
	__u64 number = VALUE(SEED) << 32;
	bool good = true;
	int status;
	size_t i;

	for (i = 0; i < VALUE(PROCESSES); i++)
		pids[i] = start_process(number++);
	for (;;) {
		pid_t pid = waitpid(-1, &status, 0);

		if (pid < 0 && errno == EINTR)
			continue;
		if (pid < 0)
			return good;
		good &= ended_well(status);
		for (i = 0; i < VALUE(PROCESSES); i++)
			if (pids[i] == pid && good && goes_on(self.budget))
				pids[i] = start_process(number++);
	}
}

/* Also those whose parents are gone: each has the pipe's other end. */
static bool wait_for_all(int alive)
{
	struct pollfd end = { alive, POLLIN, 0 };

	if (poll(&end, 1, END_MS) == 1 && end.revents & POLLHUP)
		return true;
	report_error("process", 0, "one does not die within %d ms", END_MS);
	return false;
}

/*
 * The program's own pages, which a range may have come to.  A process shares them
 * with those it forks until one writes.
 */
static void bring_own_home(void)
{
	FILE *maps = fopen("/proc/self/maps", "re");
	unsigned long start, end;
	char line[256], may[5];

	/* But what is the kernel's own, as [vvar], has holes. */
	while (maps && fgets(line, sizeof(line), maps)) {
		if (sscanf(line, "%lx-%lx %4s", &start, &end, may) != 3 ||
		    may[0] != 'r' || may[3] != 'p' || strstr(line, "[v"))
			continue;
		for (; start < end; start += page_size)
			atomic_load((atomic_uchar *)start);
	}
	if (maps)
		fclose(maps);
}

/* Nobody else has memory any more: nothing of a device can be in use. */
static bool all_home(void)
{
	__u64 deadline = now_ns() + HOME_MS * 1000000ULL;
	bool good = true;
	unsigned int i;

	bring_own_home();
	for (i = 0; i < self.devices; i++) {
		struct hmm_harness_stats stats = { 0 };

		do {
			if (ioctl(self.foreign[i], HMM_HARNESS_STATS, &stats))
				stats.pages_in_use = ~0ULL;
		} while (stats.pages_in_use && now_ns() < deadline);
		if (!stats.pages_in_use)
			continue;
		good = false;
		report_error("leak", 0, "device %u: %lld pages in use", i,
			     (long long)stats.pages_in_use);
	}
	return good;
}

static bool write_text(const char *path, const char *text)
{
	if (write_file(path, text))
		return true;
	report_error("fail_percent", errno, "%s", path);
	return false;
}

/* Of any allocation, and without a stack on the console for each. */
static bool prepare_failures(void)
{
#define DEBUGFS "/sys/kernel/debug/"
	int fd = open_fail_nth();

	if (fd < 0) {
		report_error("fail_percent", errno,
			     "the kernel lacks FAULT_INJECTION");
		return false;
	}
	close(fd);
	return write_text(DEBUGFS "failslab/ignore-gfp-wait", "N") &&
	       write_text(DEBUGFS "failslab/verbose", "0") &&
	       write_text(DEBUGFS "fail_page_alloc/ignore-gfp-wait", "N") &&
	       write_text(DEBUGFS "fail_page_alloc/ignore-gfp-highmem", "N") &&
	       write_text(DEBUGFS "fail_page_alloc/min-order", "0") &&
	       write_text(DEBUGFS "fail_page_alloc/verbose", "0");
}

/* A file of each device that all processes have, and that is not theirs. */
static bool open_devices(void)
{
	struct hmm_harness_attach attach = { 0 };
	int fd;

	while (self.devices < HMM_HARNESS_MAX_DEVICES) {
		fd = open_device(self.devices);
		if (fd < 0)
			break;
		if (ioctl(fd, HMM_HARNESS_ATTACH, &attach))
			break;
		self.foreign[self.devices++] = fd;
	}
	if (self.devices && (errno == ENOENT ||
			     self.devices == HMM_HARNESS_MAX_DEVICES))
		return true;
	report_error("device", errno, "/dev/hmm_harness%u", self.devices);
	return false;
}

static void report_end(int status)
{
	struct fuzz_shared *shared = self.shared;
	__u64 good = atomic_load(&shared->answer[0]);
	__u64 calls = atomic_load(&shared->calls);
	const char *name;
	struct json json;
	size_t i;

	json_begin_end(&json, calls, status);
	json_number(&json, "good", good);
	json_number(&json, "steps", atomic_load(&shared->steps));
	json_open(&json, "answers", '{');
	for (i = 1; i < FUZZ_ERRNOS; i++)
		if (atomic_load(&shared->answer[i]))
			json_number(&json, strerrorname_np(i),
				    atomic_load(&shared->answer[i]));
	json_close(&json, '}');
	json_open(&json, "requests", '{');
	for (i = 0; i < FUZZ_REQUESTS; i++) {
		name = i < FUZZ_REQUESTS - 1 ? fuzz_request_name(i) : "unknown";
		if (!name)
			continue;
		json_open(&json, name, '[');
		json_number(&json, NULL, atomic_load(&shared->request[i].calls));
		json_number(&json, NULL, atomic_load(&shared->request[i].good));
		json_close(&json, ']');
	}
	json_close(&json, '}');
	json_send(&json);
}

static int fuzz_all(int alive[2])
{
	struct progress_counter counters[] = {
		{ "calls", &self.shared->calls },
		{ "steps", &self.shared->steps },
		{ NULL, NULL }
	};
	struct progress progress = { .phases = phases, .counters = counters };
	bool good;
	int ret;

	ret = progress_start(&progress);
	if (ret)
		return ret;
	fuzz_catch_faults();
	good = run_processes();
	close(alive[1]);
	good &= wait_for_all(alive[0]);
	munmap((void *)FUZZ_ARENA, FUZZ_ARENA_SIZE);
	good &= all_home();
	progress_stop(&progress);
	good &= !atomic_load(&self.shared->wrong);
	return good ? EXIT_DONE : EXIT_CHECK;
}

static int fuzz_run(const struct scenario *scenario)
{
	int alive[2], error, ret;

	self.budget = VALUE(CALLS);
	self.huge = VALUE(HUGE_PAGES);
	self.fail_percent = VALUE(FAIL_PERCENT);
	if (!open_devices() || (self.fail_percent && !prepare_failures()))
		return EXIT_ENVIRONMENT;
	self.shared = mmap(NULL, sizeof(*self.shared), PROT_READ | PROT_WRITE,
			   MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (self.shared == MAP_FAILED || pipe2(alive, O_CLOEXEC)) {
		report_error("memory", errno, "to share");
		return EXIT_ENVIRONMENT;
	}
	error = fuzz_arena();
	if (error) {
		report_error("mmap", error, "%#llx", FUZZ_ARENA);
		return EXIT_ENVIRONMENT;
	}
	report_start(scenario);
	ret = fuzz_all(alive);
	report_end(ret);
	return ret;
}

const struct scenario ioctl_fuzz = {
	.name = "ioctl-fuzz",
	.help = "random ioctls on random memory from many sides",
	.parameters = parameters,
	.run = fuzz_run,
};
