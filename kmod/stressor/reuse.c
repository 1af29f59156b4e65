// SPDX-License-Identifier: GPL-2.0-only
/*
 * stale-page-flags: device pages that were unevictable when their last user
 * dropped them, and that an active page is moved to.  What is moved back from
 * there says, if nobody has cleared it, that it is both.
 */
#include <errno.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "hmm_harness.h"
#include "stressor.h"

#ifndef MADV_PAGEOUT
#define MADV_PAGEOUT	21
#endif

enum { ITERATIONS, PAGES, SEED, PARAMETERS };

static struct parameter parameters[] = {
	[ITERATIONS] = { "iterations", "how often", 4, 1, 1000000, NULL },
	[PAGES] = { "pages", "moved at a time", 64, 1, 4096, NULL },
	[SEED] = { "seed", "of the data", 1, 0, ~0ULL, NULL },
	[PARAMETERS] = { NULL, NULL, 0, 0, 0, NULL },
};

#define VALUE(which)	(parameters[which].value)

static int lock(char *memory, size_t length)
{
	if (!mlock(memory, length))
		return EXIT_DONE;
	report_error("mlock", errno, "%zu bytes", length);
	return EXIT_ENVIRONMENT;
}

/*
 * The second to have locked the pages: to be read, as they stay shared then.
 * What is unlocked by munmap() or at the end waits for that in a batch.
 */
[[gnu::noreturn]] static void hold(char *memory, size_t length,
				  int ready, int go)
{
	char done = mprotect(memory, length, PROT_READ) ?
		    EXIT_ENVIRONMENT : lock(memory, length);

	/* The parent says nothing: it closes its end. */
	if (write(ready, &done, 1) == 1 && !read(go, &done, 1))
		munlock(memory, length);
	_exit(done);
}

/*
 * Leaves device pages behind that are free and unevictable.  That is lifted when
 * a page is unlocked on its LRU list, as the caller's mapping is.  The other
 * process's one goes when the page is isolated from there, and with it goes the
 * flag to the device.
 */
static int drop_locked(int fd)
{
	size_t length = VALUE(PAGES) * page_size;
	char *memory = map_pages(VALUE(PAGES));
	char done = EXIT_ENVIRONMENT;
	int ready[2], go[2], ret;
	pid_t pid;

	if (!memory || lock(memory, length))
		return EXIT_ENVIRONMENT;
	if (pipe(ready) || pipe(go)) {
		report_error("pipe", errno, "to a child");
		return EXIT_ENVIRONMENT;
	}
	pid = fork();
	if (!pid) {
		close(go[1]);
		hold(memory, length, ready[1], go[0]);
	}
	close(ready[1]);
	if (pid < 0 || read(ready[0], &done, 1) != 1)
		report_error("fork", errno, "no child");
	ret = done ?: move_to_device(fd, memory, VALUE(PAGES));
	munlock(memory, length);
	munmap(memory, length);
	close(ready[0]);
	close(go[0]);
	close(go[1]);
	if (pid > 0)
		waitpid(pid, NULL, 0);
	return ret;
}

/* The same pages of the device: it gives the lowest that is free. */
static int move_active(int fd, __u64 iteration)
{
	struct hmm_harness_migrate home = { 0 };
	size_t length = VALUE(PAGES) * page_size;
	char *memory = map_pages(VALUE(PAGES));
	__u64 key = mix64(VALUE(SEED) + iteration);
	int ret;

	if (!memory)
		return EXIT_ENVIRONMENT;
	pattern_fill(memory, 0, VALUE(PAGES), key);
	/* Without swap there is nowhere to go: reclaim makes them active. */
	if (madvise(memory, length, MADV_PAGEOUT)) {
		report_error("madvise", errno, "MADV_PAGEOUT");
		return EXIT_ENVIRONMENT;
	}
	ret = move_to_device(fd, memory, VALUE(PAGES));
	home.addr = (uintptr_t)memory;
	home.length = length;
	if (!ret && ioctl(fd, HMM_HARNESS_MIGRATE_TO_SYSTEM, &home)) {
		report_error("ioctl", errno, "MIGRATE_TO_SYSTEM");
		ret = EXIT_ENVIRONMENT;
	}
	ret = ret ?: check_content("stressor", iteration, memory,
				   VALUE(PAGES), key);
	munmap(memory, length);
	return ret;
}

static int reuse_run(const struct scenario *scenario)
{
	int fd = attach_device(0), ret = EXIT_DONE;
	struct json json;
	__u64 number;

	if (fd < 0)
		return EXIT_ENVIRONMENT;
	report_start(scenario);
	for (number = 0; !ret && number < VALUE(ITERATIONS); number++) {
		ret = drop_locked(fd);
		ret = ret ?: move_active(fd, number);
		if (ret)
			break;
		json_begin(&json, "iteration");
		json_number(&json, "n", number);
		json_send(&json);
	}
	json_begin_end(&json, number, ret);
	json_send(&json);
	return ret;
}

const struct scenario stale_page_flags = {
	.name = "stale-page-flags",
	.help = "device pages that were unevictable for their last user",
	.parameters = parameters,
	.run = reuse_run,
};
