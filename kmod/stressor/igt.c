// SPDX-License-Identifier: GPL-2.0-only
/*
 * Runs tests of IGT by its igt_runner, where that is installed, and passes on
 * what it says, line by line, and at the end its results.json.  Nothing is
 * judged here.  Beside it runs a scenario of this program's own, again and
 * again for as long as the tests do.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <ftw.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "program.h"
#include "stressor.h"

#define DEBUGFS		"/sys/kernel/debug"
#define TRACING		DEBUGFS "/tracing"
/* More in a test's log is no test's, but something that repeats itself. */
#define LOG_LIMIT	"8M"
/* What runs beside is killed; in a kernel that is well, it then ends. */
#define TURN_NS		(100 * 1000000ULL)
#define TURNS		300

enum { RUNNER, TESTS, INCLUDE, EXCLUDE, TEST_S, TOTAL_S, BESIDE, SEED };

static const char *const beside_choices[] = { "nothing", "churn",
					      "trylock-starvation", NULL };

static struct parameter parameters[] = {
	[RUNNER] = { "runner", "igt_runner", 0, 0, 0, any_text },
	[TESTS] = { "tests", "folder of IGT's tests", 0, 0, 0, any_text },
	[INCLUDE] = { "include", "tests to run", 0, 0, 0, any_text },
	[EXCLUDE] = { "exclude", "tests to leave out", 0, 0, 0, any_text },
	[TEST_S] = { "test_s", "a test that takes longer is killed", 60, 1,
		     3600, NULL },
	[TOTAL_S] = { "total_s", "no test begins later", 600, 1, 86400, NULL },
	[BESIDE] = { "beside", "what runs meanwhile", 1, 0, 0, beside_choices },
	[SEED] = { "seed", "of what runs meanwhile", 1, 0, UINT64_MAX, NULL },
	{ 0 },
};

static const char *const phases[] = { "testing", NULL };
static atomic_ullong lines, rounds;
static const struct progress_counter counters[] = {
	{ "lines", &lines },
	{ "beside", &rounds },
	{ 0 },
};

static struct progress progress = { .phases = phases, .counters = counters };

static struct {
	struct program program;
	pthread_t thread;
	atomic_int pid;
	atomic_uint ending;
	atomic_uint gone;
	int status;		/* what it exited with, if that was not 0 */
} beside;

static void set_defaults(void)
{
	parameter_set_text(&parameters[RUNNER], "/usr/bin/igt_runner");
	parameter_set_text(&parameters[TESTS], "/usr/libexec/igt-gpu-tools");
	parameter_set_text(&parameters[INCLUDE],
			   "^igt@xe_exec_system_allocator@");
	parameter_set_text(&parameters[EXCLUDE], "");
}

static char *text_of(int parameter)
{
	return (char *)parameter_text(&parameters[parameter]);
}

static void send_line(const char *line, bool errors)
{
	struct json json;

	/* As the runner puts it on its own output: a time comes first. */
	if (strstr(line, "Subtest "))
		atomic_fetch_add(&progress.iteration, 1);
	atomic_fetch_add(&lines, 1);
	json_begin(&json, "igt");
	json_string(&json, "line", line);
	json_bool(&json, "errors", errors);
	json_send(&json);
}

/* --- what runs beside ---------------------------------------------------- */

/* All that is told of it is what it finds wrong. */
static void send_finding(const char *line, bool errors)
{
	static const char *const told[] = { "{\"type\":\"corruption\"",
					    "{\"type\":\"error\"" };
	struct iovec parts[] = {
		{ (void *)line, strlen(line) },
		{ "\n", 1 },
	};
	size_t i;

	for (i = 0; i < ARRAY_SIZE(told) && !errors; i++)
		if (!strncmp(line, told[i], strlen(told[i])) &&
		    writev(STDOUT_FILENO, parts, ARRAY_SIZE(parts)) < 0)
			perror("beside");
}

static void *keep_beside(void *argument)
{
	char self[4096], seed[64], *argv[] = { self, argument, seed, NULL };
	ssize_t length = readlink("/proc/self/exe", self, sizeof(self) - 1);
	int error, status;

	/* By its own name, which is then that of its processes. */
	self[length > 0 ? length : 0] = '\0';
	while (!atomic_load(&beside.ending) && !beside.status) {
		snprintf(seed, sizeof(seed), "seed=%llu",
			 (unsigned long long)parameters[SEED].value +
				 atomic_load(&rounds));
		error = program_start(&beside.program, argv);
		if (error) {
			report_error("beside", error, "%s", argv[1]);
			beside.status = EXIT_ENVIRONMENT;
			break;
		}
		atomic_store(&beside.pid, beside.program.pid);
		status = program_pass_on(&beside.program);
		atomic_store(&beside.pid, 0);
		if (atomic_load(&beside.ending))
			break;
		if (WIFSIGNALED(status)) {
			report_error("beside", 0, "%s was killed by signal %d",
				     argv[1], WTERMSIG(status));
			beside.status = EXIT_CHECK;
		} else {
			beside.status = WEXITSTATUS(status);
		}
		atomic_fetch_add(&rounds, 1);
	}
	set_and_wake(&beside.gone, 1);
	return NULL;
}

static int start_beside(void)
{
	__u64 choice = parameters[BESIDE].value;
	int error;

	if (!choice) {
		atomic_store(&beside.gone, 1);
		return EXIT_DONE;
	}
	beside.program.take = send_finding;
	error = pthread_create(&beside.thread, NULL, keep_beside,
			       (void *)beside_choices[choice]);
	if (!error)
		return EXIT_DONE;
	report_error("thread", error, "beside");
	return EXIT_ENVIRONMENT;
}

/* What to exit with for its sake. */
static int end_beside(void)
{
	int turn, pid;

	atomic_store(&beside.ending, 1);
	for (turn = 0; turn < TURNS; turn++) {
		pid = atomic_load(&beside.pid);
		if (pid)
			kill(-pid, SIGKILL);
		if (wait_while_for(&beside.gone, 0, TURN_NS))
			return beside.status;
	}
	report_error("beside", 0, "%s was killed and does not end",
		     beside_choices[parameters[BESIDE].value]);
	return EXIT_CHECK;
}

/* --- the tests ----------------------------------------------------------- */

/*
 * A kernel that mounts it there by itself warns of that once, at KERN_WARNING
 * (trace_automount(), kernel/trace/trace.c): IGT would blame the test that runs.
 */
static void open_tracing(void)
{
	DIR *folder;

	/* IGT's tests mount it as well. */
	if (access(TRACING, F_OK) &&
	    mount("debugfs", DEBUGFS, "debugfs", 0, NULL))
		return;
	folder = opendir(TRACING);
	if (!folder)
		return;
	readdir(folder);
	closedir(folder);
}

static int run_program(char *const argv[], int *status)
{
	struct program program = { .take = send_line };
	int error = program_start(&program, argv);

	if (error)
		report_error("run", error, "%s", argv[0]);
	else
		*status = program_pass_on(&program);
	return error;
}

/* A runner that was killed has left what igt_results makes the file of. */
static void make_results(char *results)
{
	char program[4096], *const argv[] = { program, results, NULL };
	char *slash;
	int status;

	snprintf(program, sizeof(program), "%s", text_of(RUNNER));
	slash = strrchr(program, '/');
	snprintf(slash ? slash + 1 : program, 16, "igt_results");
	run_program(argv, &status);
}

static void send_results(const char *file)
{
	FILE *source = fopen(file, "re");
	char piece[PROGRAM_LINE + 1];
	struct json json;
	struct stat about;
	off_t left;
	size_t n;

	if (!source)
		return;
	left = fstat(fileno(source), &about) ? 0 : about.st_size;
	while (left > 0) {
		n = fread(piece, 1, PROGRAM_LINE, source);
		if (!n)
			break;
		piece[n] = '\0';
		left -= n;
		json_begin(&json, "igt_results");
		json_string(&json, "text", piece);
		json_number(&json, "left", left);
		json_send(&json);
	}
	fclose(source);
}

static int remove_one(const char *path, const struct stat *about, int type,
		      struct FTW *place)
{
	(void)about;
	(void)type;
	(void)place;
	return remove(path);
}

static int igt_run(const struct scenario *scenario)
{
	char results[] = "/tmp/hmm-harness-igt.XXXXXX";
	char test_s[32], total_s[32], file[sizeof(results) + 32];
	char *argv[24];
	int error, exiting, status = 0;
	size_t n = 0;

	if (access(text_of(RUNNER), X_OK) || access(text_of(TESTS), X_OK)) {
		report_error("IGT", errno, "%s and %s are wanted",
			     text_of(RUNNER), text_of(TESTS));
		return EXIT_ENVIRONMENT;
	}
	if (!mkdtemp(results)) {
		report_error("IGT", errno, "%s", results);
		return EXIT_ENVIRONMENT;
	}
	snprintf(file, sizeof(file), "%s/results.json", results);
	snprintf(test_s, sizeof(test_s), "%llu",
		 (unsigned long long)parameters[TEST_S].value);
	snprintf(total_s, sizeof(total_s), "%llu",
		 (unsigned long long)parameters[TOTAL_S].value);
	argv[n++] = text_of(RUNNER);
	argv[n++] = "--overwrite";
	argv[n++] = "--log-level";
	argv[n++] = "verbose";
	argv[n++] = "--per-test-timeout";
	argv[n++] = test_s;
	argv[n++] = "--overall-timeout";
	argv[n++] = total_s;
	argv[n++] = "--disk-usage-limit";
	argv[n++] = LOG_LIMIT;
	argv[n++] = "--prune-mode";
	argv[n++] = "keep-subtests";
	argv[n++] = "--include-tests";
	argv[n++] = text_of(INCLUDE);
	if (*text_of(EXCLUDE)) {
		argv[n++] = "--exclude-tests";
		argv[n++] = text_of(EXCLUDE);
	}
	argv[n++] = text_of(TESTS);
	argv[n++] = results;
	argv[n] = NULL;
	report_start(scenario);
	open_tracing();
	error = progress_start(&progress) ?: start_beside();
	if (error)
		return error;
	error = run_program(argv, &status);
	exiting = end_beside();
	if (!error) {
		if (access(file, F_OK))
			make_results(results);
		send_results(file);
	}
	progress_stop(&progress);
	nftw(results, remove_one, 16, FTW_DEPTH | FTW_PHYS);
	report_program_end(&progress, error ? EXIT_ENVIRONMENT : exiting,
			   status);
	return error ? EXIT_ENVIRONMENT : exiting;
}

const struct scenario xe_system_allocator = {
	.name = "xe-system-allocator",
	.help = "tests of IGT, by its runner",
	.parameters = parameters,
	.defaults = set_defaults,
	.run = igt_run,
};
