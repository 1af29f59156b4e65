/* SPDX-License-Identifier: GPL-2.0-only */
/* Another program, whose output is taken line by line. */
#ifndef PROGRAM_H
#define PROGRAM_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

/* Every character may become six in a message, which holds 8192. */
#define PROGRAM_LINE	1200

/* One of its outputs, and the line that is not complete yet. */
struct program_stream {
	int fd;
	bool errors;
	size_t length;
	char line[PROGRAM_LINE + 1];
};

struct program {
	/* Gets every line without its end; of a long one, the beginning. */
	void (*take)(const char *line, bool errors);
	struct program_stream streams[2];
	pid_t pid;
	int ended;	/* a descriptor of the process */
};

/* An errno value; a program that cannot be run says so, and exits with 127. */
int program_start(struct program *program, char *const argv[]);
/* Until it has ended: its wait status. */
int program_pass_on(struct program *program);

struct progress;
/* The message "end" of a scenario that ran it: what we exit with, how it did. */
void report_program_end(struct progress *progress, int exiting, int status);

#endif /* PROGRAM_H */
