// SPDX-License-Identifier: GPL-2.0-only
/*
 * Runs the tree's own hmm-tests and passes on what it says, line by line, in
 * messages.  Nothing is judged here: a program that lost its results on the way
 * ends with status 0 as well.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "stressor.h"

#define PROGRAM		"/hmm-tests"
#define DEVICE		"/dev/hmm_dmirror0"
#define RESERVE		"/proc/sys/vm/nr_hugepages"
/* Every character may become six, and a message holds 8192. */
#define MAX_LINE	1200

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

/* One of the program's outputs, and the line that is not complete yet. */
struct stream {
	int fd;
	bool errors;
	size_t length;
	char line[MAX_LINE + 1];
};

/* Errors are unbuffered, and would tear a result apart: they become comments. */
static void send_line(struct stream *stream)
{
	struct json json;
	char text[MAX_LINE + 3];
	bool comment = stream->errors && stream->line[0] != '#';

	stream->line[stream->length] = '\0';
	snprintf(text, sizeof(text), "%s%s", comment ? "# " : "", stream->line);
	stream->length = 0;
	if (!strncmp(text, "ok ", 3) || !strncmp(text, "not ok ", 7))
		atomic_fetch_add(&progress.iteration, 1);
	atomic_fetch_add(&lines, 1);
	json_begin(&json, "ktap");
	json_string(&json, "line", text);
	json_send(&json);
}

/* False once there is nothing more, for now or for ever. */
static bool take(struct stream *stream)
{
	char buffer[4096];
	ssize_t i, n = read(stream->fd, buffer, sizeof(buffer));

	if (!n || (n < 0 && errno != EAGAIN && errno != EINTR)) {
		close(stream->fd);
		stream->fd = -1;
	}
	for (i = 0; i < n; i++) {
		if (buffer[i] == '\n')
			send_line(stream);
		else if (stream->length < MAX_LINE)
			stream->line[stream->length++] = buffer[i];
	}
	return n > 0;
}

/*
 * Until the program has ended, not until its output has: a test that hangs in
 * the kernel keeps the other end of the pipe for ever.
 */
static void pass_on(struct stream *streams, int ended)
{
	struct pollfd polled[] = {
		{ streams[0].fd, POLLIN, 0 },
		{ streams[1].fd, POLLIN, 0 },
		{ ended, POLLIN, 0 },
	};
	int i;

	while (!polled[2].revents) {
		if (poll(polled, ARRAY_SIZE(polled), -1) < 0)
			continue;
		for (i = 0; i < 2; i++) {
			if (polled[i].revents)
				take(&streams[i]);
			polled[i].fd = streams[i].fd;
		}
	}
	for (i = 0; i < 2; i++) {
		while (streams[i].fd >= 0 && take(&streams[i]))
			;
		if (streams[i].length)
			send_line(&streams[i]);
	}
}

static pid_t start(struct stream *streams)
{
	char *const leave_out[] = { PROGRAM, "-T", "benchmark_thp_migration",
				    NULL };
	char *const all[] = { PROGRAM, NULL };
	int out[2], err[2];
	pid_t pid;

	if (pipe2(out, O_CLOEXEC) || pipe2(err, O_CLOEXEC))
		return -1;
	pid = fork();
	if (!pid) {
		dup2(out[1], STDOUT_FILENO);
		dup2(err[1], STDERR_FILENO);
		execv(PROGRAM, parameters[BENCHMARK].value ? leave_out : all);
		dprintf(STDERR_FILENO, "%s: %s\n", PROGRAM, strerror(errno));
		_exit(127);
	}
	close(out[1]);
	close(err[1]);
	fcntl(out[0], F_SETFL, O_NONBLOCK);
	fcntl(err[0], F_SETFL, O_NONBLOCK);
	/* In this order: results are buffered, and come later than errors. */
	streams[0] = (struct stream){ .fd = err[0], .errors = true };
	streams[1] = (struct stream){ .fd = out[0] };
	return pid;
}

/* Where there are no huge pages to be had, the cases that want one say so. */
static void reserve_huge_pages(void)
{
	int fd = open(RESERVE, O_WRONLY | O_CLOEXEC);

	if (fd < 0)
		return;
	if (write(fd, "4", 1) != 1)
		fprintf(stderr, "%s: %s\n", RESERVE, strerror(errno));
	close(fd);
}

static int hmm_tests_run(const struct scenario *scenario)
{
	struct stream streams[2];
	int ended, error, status;
	struct json json;
	pid_t pid;

	if (access(DEVICE, R_OK | W_OK)) {
		report_error("device", errno, DEVICE);
		return EXIT_ENVIRONMENT;
	}
	report_start(scenario);
	reserve_huge_pages();
	pid = start(streams);
	ended = pid < 0 ? -1 : syscall(SYS_pidfd_open, pid, 0);
	if (ended < 0) {
		report_error("run", errno, PROGRAM);
		return EXIT_ENVIRONMENT;
	}
	error = progress_start(&progress);
	if (error) {
		report_error("thread", error, "progress");
		return EXIT_ENVIRONMENT;
	}
	pass_on(streams, ended);
	progress_stop(&progress);
	waitpid(pid, &status, 0);

	json_begin(&json, "end");
	json_number(&json, "iterations", atomic_load(&progress.iteration));
	json_number(&json, "windows", 0);
	json_number(&json, "status", EXIT_DONE);
	json_open(&json, "program", '{');
	json_number(&json, "status", WIFEXITED(status) ? WEXITSTATUS(status) : 0);
	json_number(&json, "signal", WIFSIGNALED(status) ? WTERMSIG(status) : 0);
	json_close(&json, '}');
	json_send(&json);
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
