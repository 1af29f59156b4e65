/* SPDX-License-Identifier: GPL-2.0-only */
/* What the files of ioctl-check share. */
#ifndef SELFCHECK_H
#define SELFCHECK_H

#include "stressor.h"

#define CHECK_PAGES	8

void outcome(const char *what, bool good, __s64 expected, __s64 found);
/* expected: an errno value, or 0 for a call that must succeed. */
void expect(const char *what, int fd, unsigned long request, void *argument,
	    int expected);
void expect_number(const char *what, __u64 expected, __u64 found);
/* The content that a run has for its seed; true if it is there. */
void fill_content(void *to, size_t pages);
bool expect_content(const void *from, size_t pages);
/* What SNAPSHOT says of a page. */
unsigned char kind_of(int fd, const void *page);

/*
 * What every call must refuse: reserved members, from that offset to the end,
 * with a word that is not zero; a pointer to nothing, and one into the kernel.
 */
void check_argument(const char *name, int fd, unsigned long request,
		    const void *good, size_t size, size_t reserved);
#define check_call(name, fd, request, good)				\
	check_argument(name, fd, request, &(good), sizeof(good),	\
		       offsetof(typeof(good), reserved))

/* behavecheck.c: device is attached, memory has CHECK_PAGES pages. */
void check_behaviour(int device, char *memory);

/*
 * hugecheck.c: 0 if the kernel has no huge device folios, or else how many
 * pages it left on the device; closed: what became of them by the last close;
 * scarce: the same where no huge page is to be had, which closes fd and returns
 * another.
 */
size_t check_huge(int fd);
void check_huge_closed(void);
int check_huge_scarce(int fd);

#endif /* SELFCHECK_H */
