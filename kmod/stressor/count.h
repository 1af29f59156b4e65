/* SPDX-License-Identifier: GPL-2.0-only */
/* How often the kernel writes a variable: breakpoints that only count. */
#ifndef COUNT_H
#define COUNT_H

#include <linux/types.h>

#define COUNT_CPUS	8

struct count {
	int fds[COUNT_CPUS];
	unsigned int cpus;
};

/*
 * Counts on all CPUs, from now on, the stores to a kernel variable of 4 bytes.
 * Its name in /proc/kallsyms may end in a number of the compiler's.  An errno
 * value.
 */
int count_begin(struct count *count, const char *symbol);
/* So far. */
__u64 count_read(const struct count *count);
void count_end(struct count *count);

#endif /* COUNT_H */
