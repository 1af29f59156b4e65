// SPDX-License-Identifier: GPL-2.0-only
/*
 * A processor has breakpoints for data, and perf counts what meets them: each
 * store, and without anything else in the kernel.
 */
#include <ctype.h>
#include <errno.h>
#include <linux/hw_breakpoint.h>
#include <linux/perf_event.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "stressor.h"
#include "count.h"

/* name, or name.NUMBER as the compiler calls a function's static variable. */
static bool same_symbol(const char *found, const char *name)
{
	size_t length = strlen(name);

	if (strncmp(found, name, length))
		return false;
	found += length;
	if (*found == '.')
		for (found++; isdigit((unsigned char)*found); found++)
			;
	return !*found;
}

/* 0 if there is none, or it is hidden. */
static __u64 kernel_address(const char *name)
{
	unsigned long long address, found = 0;
	FILE *symbols = fopen("/proc/kallsyms", "r");
	char line[512], symbol[256];

	if (!symbols)
		return 0;
	while (!found && fgets(line, sizeof(line), symbols))
		if (sscanf(line, "%llx %*c %255s", &address, symbol) == 2 &&
		    same_symbol(symbol, name))
			found = address;
	fclose(symbols);
	return found;
}

int count_begin(struct count *count, const char *symbol)
{
	struct perf_event_attr attr = {
		.type = PERF_TYPE_BREAKPOINT,
		.size = sizeof(attr),
		.bp_type = HW_BREAKPOINT_W,
		.bp_len = HW_BREAKPOINT_LEN_4,
		.bp_addr = kernel_address(symbol),
		.exclude_user = 1,
	};
	int fd, error = attr.bp_addr ? 0 : ENOENT;

	count->cpus = 0;
	if (error)
		return error;
	while (count->cpus < COUNT_CPUS && cpu_online(count->cpus)) {
		fd = syscall(SYS_perf_event_open, &attr, -1, count->cpus, -1,
			     PERF_FLAG_FD_CLOEXEC);
		if (fd < 0) {
			error = errno;
			count_end(count);
			return error;
		}
		count->fds[count->cpus++] = fd;
	}
	return 0;
}

__u64 count_read(const struct count *count)
{
	__u64 value, sum = 0;
	unsigned int cpu;

	for (cpu = 0; cpu < count->cpus; cpu++)
		if (read(count->fds[cpu], &value, sizeof(value)) ==
		    sizeof(value))
			sum += value;
	return sum;
}

void count_end(struct count *count)
{
	while (count->cpus)
		close(count->fds[--count->cpus]);
}
