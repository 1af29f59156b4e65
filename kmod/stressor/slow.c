// SPDX-License-Identifier: GPL-2.0-only
/*
 * slow-progress: nearly all the time inside hmm_range_fault(), and a step ahead
 * only now and then.  From outside it looks like a spinner; nothing is wrong.
 */
#include <errno.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

#include "hmm_harness.h"
#include "stressor.h"

enum { ITERATIONS, INTERVAL_MS, PAGES, CPU, SEED, PARAMETERS };

static struct parameter parameters[] = {
	[ITERATIONS] = { "iterations", "how often", 4, 1, 100000, NULL },
	[INTERVAL_MS] = { "interval_ms", "of faulting between two counts",
			  3000, 1, 600000, NULL },
	[PAGES] = { "pages", "faulted at a time", 4096, 1, 65000, NULL },
	[CPU] = { "cpu", "", 1, 0, 1023, NULL },
	[SEED] = { "seed", "nothing here is random", 1, 0, ~0ULL, NULL },
	[PARAMETERS] = { NULL, NULL, 0, 0, 0, NULL },
};

#define VALUE(which)	(parameters[which].value)

static void report(const char *type, __u64 number)
{
	struct json json;

	json_begin(&json, type);
	json_number(&json, "n", number);
	json_send(&json);
}

/* Calls of FAULT one after the other, until the interval is over. */
static int fault_for(int fd, char *memory, __u64 interval_ns)
{
	__u64 end = now_ns() + interval_ns;

	do {
		struct hmm_harness_fault fault = {
			.addr = (uintptr_t)memory,
			.length = VALUE(PAGES) * page_size,
			.owner = HMM_HARNESS_OWNER_SELF,
			.entry = HMM_HARNESS_ENTRY_LOCKED,
		};

		/* Nothing to fault in, and the walk is all there is. */
		if (madvise(memory, VALUE(PAGES) * page_size, MADV_DONTNEED) ||
		    ioctl(fd, HMM_HARNESS_FAULT, &fault)) {
			report_error("ioctl", errno, "FAULT");
			return EXIT_ENVIRONMENT;
		}
	} while (now_ns() < end);
	return EXIT_DONE;
}

static int slow_run(const struct scenario *scenario)
{
	struct hmm_harness_attach attach = { 0 };
	int ret = EXIT_DONE, fd, error;
	struct json json;
	__u64 number;
	char *memory;

	error = pin_to_cpu(VALUE(CPU));
	if (error) {
		report_error("cpu", error, "cpu=%llu",
			     (unsigned long long)VALUE(CPU));
		return EXIT_ENVIRONMENT;
	}
	memory = mmap(NULL, VALUE(PAGES) * page_size, PROT_READ | PROT_WRITE,
		      MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (memory == MAP_FAILED) {
		report_error("mmap", errno, "%llu pages",
			     (unsigned long long)VALUE(PAGES));
		return EXIT_ENVIRONMENT;
	}
	fd = open_device(0);
	if (fd < 0 || ioctl(fd, HMM_HARNESS_ATTACH, &attach)) {
		report_error("device", errno, "/dev/hmm_harness0");
		return EXIT_ENVIRONMENT;
	}
	report_start(scenario);
	for (number = 0; !ret && number < VALUE(ITERATIONS); number++) {
		ret = fault_for(fd, memory, VALUE(INTERVAL_MS) * 1000000);
		if (!ret)
			report("iteration", number);
	}

	json_begin_end(&json, number - !!ret, ret);
	json_number(&json, "windows", 0);
	json_send(&json);
	return ret;
}

const struct scenario slow_progress = {
	.name = "slow-progress",
	.help = "long in hmm_range_fault(), but not for ever",
	.parameters = parameters,
	.run = slow_run,
};
