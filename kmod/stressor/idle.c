// SPDX-License-Identifier: GPL-2.0-only
/*
 * Nothing but a sign of life: counts, says so, and looks after a page of data.
 * What happens meanwhile is hmm_selftest.ko's doing, so no device is needed.
 */
#include <errno.h>
#include <unistd.h>

#include "stressor.h"

#define TICK_NS		(100 * 1000000ULL)
#define KEY		0x1d1eULL

enum { SECONDS };

static struct parameter parameters[] = {
	[SECONDS] = { "seconds", "how long to live", 5, 1, 86400, NULL },
	{ 0 },
};

static void report_count(__u64 count)
{
	struct json json;

	json_begin(&json, "progress");
	json_number(&json, "iteration", 0);
	json_string(&json, "phase", "idle");
	json_open(&json, "threads", '[');
	json_open(&json, NULL, '{');
	json_string(&json, "name", "idle");
	json_number(&json, "count", count);
	json_close(&json, '}');
	json_close(&json, ']');
	json_send(&json);
}

static int idle_run(const struct scenario *scenario)
{
	__u64 count, end = now_ns() + parameters[SECONDS].value * 1000000000;
	struct mismatch mismatch;
	struct json json;
	atomic_uint never = 0;
	char *page;
	int ret = EXIT_DONE;

	/* On the heap, whose end the module knows. */
	page = sbrk(page_size);
	if (page == (void *)-1) {
		report_error("memory", errno, "sbrk");
		return EXIT_ENVIRONMENT;
	}
	pattern_fill(page, 0, 1, KEY);
	report_start(scenario);
	pin_to_cpu(0);
	for (count = 1; now_ns() < end; count++) {
		wait_while_for(&never, 0, TICK_NS);
		if (!pattern_verify(page, 0, 1, KEY, &mismatch)) {
			report_corruption("idle", 0, page, &mismatch);
			ret = EXIT_CORRUPTION;
			break;
		}
		report_count(count);
	}

	json_begin_end(&json, 0, ret);
	json_number(&json, "windows", 0);
	json_send(&json);
	return ret;
}

const struct scenario idle = {
	.name = "idle",
	.help = "does nothing but say so",
	.parameters = parameters,
	.run = idle_run,
};
