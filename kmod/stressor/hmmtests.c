// SPDX-License-Identifier: GPL-2.0-only
/*
 * Runs the tree's own hmm-tests and passes on what it says, line by line, in
 * messages.  Nothing is judged here: a program that lost its results on the way
 * ends with status 0 as well.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "program.h"
#include "stressor.h"

#define PROGRAM		"hmm-tests"
#define DEVICE		"/dev/hmm_dmirror0"
#define RESERVE		"/proc/sys/vm/nr_hugepages"

enum { BENCHMARK, SEED };

static const char *const benchmark_choices[] = { "run", "leave-out", NULL };

static struct parameter parameters[] = {
	[BENCHMARK] = { "benchmark", "the case that measures migration", 0, 0,
			0, benchmark_choices },
	[SEED] = { "seed", "not used", 1, 0, UINT64_MAX, NULL },
	{ 0 },
};

static const char *const phases[] = { "testing", NULL };
static atomic_ullong lines;
static const struct progress_counter counters[] = {
	{ "lines", &lines },
	{ 0 },
};

static struct progress progress = { .phases = phases, .counters = counters };

/* Errors are unbuffered, and would tear a result apart: they become comments. */
static void send_line(const char *line, bool errors)
{
	struct json json;
	char text[PROGRAM_LINE + 3];

	snprintf(text, sizeof(text), "%s%s",
		 errors && line[0] != '#' ? "# " : "", line);
	if (!strncmp(text, "ok ", 3) || !strncmp(text, "not ok ", 7))
		atomic_fetch_add(&progress.iteration, 1);
	atomic_fetch_add(&lines, 1);
	json_begin(&json, "ktap");
	json_string(&json, "line", text);
	json_send(&json);
}

/* Where there are no huge pages to be had, the cases that want one say so. */
static void reserve_huge_pages(void)
{
	if (!write_file(RESERVE, "4") && errno != ENOENT)
		fprintf(stderr, "%s: %s\n", RESERVE, strerror(errno));
}

/* The program beside this one, wherever that is. */
static char *beside(const char *name)
{
	static char path[4096];
	ssize_t length;
	char *slash;

	length = readlink("/proc/self/exe", path, sizeof(path) - 1);
	path[length < 0 ? 0 : length] = '\0';
	slash = strrchr(path, '/');
	if (!slash)
		slash = path;
	snprintf(slash, sizeof(path) - (slash - path), "/%s", name);
	return path;
}

static int hmm_tests_run(const struct scenario *scenario)
{
	char *tests = beside(PROGRAM);
	char *const leave_out[] = { tests, "-T", "benchmark_thp_migration",
				    NULL };
	char *const all[] = { tests, NULL };
	struct program program = { .take = send_line };
	int error, ret, status;

	if (access(DEVICE, R_OK | W_OK)) {
		report_error("device", errno, DEVICE);
		return EXIT_ENVIRONMENT;
	}
	report_start(scenario);
	reserve_huge_pages();
	error = program_start(&program, parameters[BENCHMARK].value ? leave_out :
								      all);
	if (error) {
		report_error("run", error, "%s", tests);
		return EXIT_ENVIRONMENT;
	}
	ret = progress_start(&progress);
	if (ret)
		return ret;
	status = program_pass_on(&program);
	progress_stop(&progress);

	report_program_end(&progress, EXIT_DONE, status);
	return EXIT_DONE;
}

/* What is coherent about it are the parameters of the module. */
const struct scenario upstream_hmm_tests_coherent = {
	.name = "upstream-hmm-tests-coherent",
	.help = "the same with coherent devices",
	.parameters = parameters,
	.run = hmm_tests_run,
};

const struct scenario upstream_hmm_tests = {
	.name = "upstream-hmm-tests",
	.help = "the tree's own hmm-tests",
	.parameters = parameters,
	.run = hmm_tests_run,
};
