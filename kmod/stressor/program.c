// SPDX-License-Identifier: GPL-2.0-only
/* Starts a program and takes what it says, line by line, until it has ended. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "program.h"
#include "stressor.h"

static void take_line(struct program *program, struct program_stream *stream)
{
	stream->line[stream->length] = '\0';
	stream->length = 0;
	program->take(stream->line, stream->errors);
}

/* False once there is nothing more, for now or for ever. */
static bool take(struct program *program, struct program_stream *stream)
{
	char buffer[4096];
	ssize_t i, n = read(stream->fd, buffer, sizeof(buffer));

	if (!n || (n < 0 && errno != EAGAIN && errno != EINTR)) {
		close(stream->fd);
		stream->fd = -1;
	}
	for (i = 0; i < n; i++) {
		if (buffer[i] == '\n')
			take_line(program, stream);
		else if (stream->length < PROGRAM_LINE)
			stream->line[stream->length++] = buffer[i];
	}
	return n > 0;
}

/*
 * Until the program has ended, not until its output has: one that hangs in the
 * kernel keeps the other end of the pipe for ever.
 */
int program_pass_on(struct program *program)
{
	struct program_stream *streams = program->streams;
	struct pollfd polled[] = {
		{ streams[0].fd, POLLIN, 0 },
		{ streams[1].fd, POLLIN, 0 },
		{ program->ended, POLLIN, 0 },
	};
	int i, status = 0;

	while (!polled[2].revents) {
		if (poll(polled, ARRAY_SIZE(polled), -1) < 0)
			continue;
		for (i = 0; i < 2; i++) {
			if (polled[i].revents)
				take(program, &streams[i]);
			polled[i].fd = streams[i].fd;
		}
	}
	for (i = 0; i < 2; i++) {
		while (streams[i].fd >= 0 && take(program, &streams[i]))
			;
		if (streams[i].length)
			take_line(program, &streams[i]);
		if (streams[i].fd >= 0)
			close(streams[i].fd);
	}
	close(program->ended);
	waitpid(program->pid, &status, 0);
	return status;
}

int program_start(struct program *program, char *const argv[])
{
	int out[2], err[2], error;

	if (pipe2(out, O_CLOEXEC) || pipe2(err, O_CLOEXEC))
		return errno;
	program->pid = fork();
	if (!program->pid) {
		/* Leads a group, so that what it starts can be ended as well. */
		setpgid(0, 0);
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		dup2(out[1], STDOUT_FILENO);
		dup2(err[1], STDERR_FILENO);
		execv(argv[0], argv);
		dprintf(STDERR_FILENO, "%s: %s\n", argv[0], strerror(errno));
		_exit(127);
	}
	error = errno;
	close(out[1]);
	close(err[1]);
	if (program->pid < 0)
		return error;
	program->ended = syscall(SYS_pidfd_open, program->pid, 0);
	if (program->ended < 0)
		return errno;
	fcntl(out[0], F_SETFL, O_NONBLOCK);
	fcntl(err[0], F_SETFL, O_NONBLOCK);
	/* In this order: results are buffered, and come later than errors. */
	program->streams[0] = (struct program_stream){ .fd = err[0],
						       .errors = true };
	program->streams[1] = (struct program_stream){ .fd = out[0] };
	return 0;
}

void report_program_end(struct progress *progress, int exiting, int status)
{
	struct json json;

	json_begin_end(&json, atomic_load(&progress->iteration), exiting);
	json_number(&json, "windows", 0);
	json_open(&json, "program", '{');
	json_number(&json, "status", WIFEXITED(status) ? WEXITSTATUS(status) : 0);
	json_number(&json, "signal", WIFSIGNALED(status) ? WTERMSIG(status) : 0);
	json_close(&json, '}');
	json_send(&json);
}
