// SPDX-License-Identifier: GPL-2.0-only
/* The deadline servers by which fair tasks run beside real-time ones. */
#define _GNU_SOURCE
#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <unistd.h>

#include "stressor.h"

/* The runtime of each CPU's fair server before the run; "" if left alone. */
static char fair_runtimes[CPU_SETSIZE][32];

/* Only the CPUs there are have such a file. */
static void fair_path(unsigned int cpu, char *path, size_t size)
{
	snprintf(path, size,
		 "/sys/kernel/debug/sched/fair_server/cpu%u/runtime", cpu);
}

/* All that can be, even if one file refuses. */
int restore_fair_servers(void)
{
	int ret = EXIT_DONE;
	unsigned int cpu;
	char path[80];

	for (cpu = 0; cpu < CPU_SETSIZE; cpu++) {
		char *old = fair_runtimes[cpu];

		fair_path(cpu, path, sizeof(path));
		if (!old[0] || write_file(path, old))
			continue;
		report_error("fair_server", errno, "%s", path);
		ret = EXIT_ENVIRONMENT;
	}
	return ret;
}

/* On failure some may be stopped: restore them. */
int stop_fair_servers(void)
{
	char path[80];
	unsigned int cpu, found = 0;

	for (cpu = 0; cpu < CPU_SETSIZE; cpu++) {
		char *old = fair_runtimes[cpu];

		fair_path(cpu, path, sizeof(path));
		if (access(path, F_OK))
			continue;
		if (!read_file(path, old, sizeof(fair_runtimes[cpu])) ||
		    !write_file(path, "0")) {
			report_error("fair_server", errno, "%s", path);
			old[0] = '\0';
			return EXIT_ENVIRONMENT;
		}
		found++;
	}
	if (!found) {
		report_error("fair_server", ENOENT,
			     "/sys/kernel/debug/sched/fair_server");
		return EXIT_ENVIRONMENT;
	}
	return EXIT_DONE;
}
