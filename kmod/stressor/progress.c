// SPDX-License-Identifier: GPL-2.0-only
/* One thread that tells, about ten times a second, how far the others are. */
#include "stressor.h"

#define INTERVAL_NS	(100 * 1000000ULL)

static void report_progress(struct progress *progress)
{
	const struct progress_counter *counter;
	struct json json;

	json_begin(&json, "progress");
	json_number(&json, "iteration", atomic_load(&progress->iteration));
	json_string(&json, "phase",
		    progress->phases[atomic_load(&progress->phase)]);
	json_open(&json, "threads", '[');
	for (counter = progress->counters; counter->name; counter++) {
		json_open(&json, NULL, '{');
		json_string(&json, "name", counter->name);
		json_number(&json, "count", atomic_load(counter->count));
		json_close(&json, '}');
	}
	json_close(&json, ']');
	if (progress->more)
		progress->more(&json);
	json_send(&json);
}

static void *monitor(void *argument)
{
	struct progress *progress = argument;

	if (progress->pinned)
		pin_to_cpu(progress->cpu);
	while (!wait_while_for(&progress->ending, 0, INTERVAL_NS))
		report_progress(progress);
	return NULL;
}

int progress_start(struct progress *progress)
{
	int error;

	atomic_store(&progress->ending, 0);
	error = pthread_create(&progress->thread, NULL, monitor, progress);
	if (!error)
		return EXIT_DONE;
	report_error("pthread_create", error, "no progress thread");
	return EXIT_ENVIRONMENT;
}

void progress_stop(struct progress *progress)
{
	set_and_wake(&progress->ending, 1);
	pthread_join(progress->thread, NULL);
}
