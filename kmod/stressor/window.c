// SPDX-License-Identifier: GPL-2.0-only
/* What the module saw of a window, as JSON. */
#include "hmm_harness.h"
#include "stressor.h"

void json_window(struct json *json,
		 const struct hmm_harness_window *window)
{
	static const struct {
		__u32 condition;
		const char *name;
	} names[] = {
		{ HMM_HARNESS_COND_DEVICE_LOCKED, "device_locked" },
		{ HMM_HARNESS_COND_DEVICE_SHARED, "device_shared" },
		{ HMM_HARNESS_COND_SYSTEM_OFF_LRU, "system_off_lru" },
		{ HMM_HARNESS_COND_ORDER, "order" },
		{ HMM_HARNESS_COND_REMOTE_DRAIN, "remote_drain" },
		{ HMM_HARNESS_COND_SPINNER, "spinner_inside" },
		{ HMM_HARNESS_COND_SPINNER_DRAIN, "spinner_cpu_drain" },
		{ HMM_HARNESS_COND_SPINNER_WORK, "spinner_cpu_work" },
	};
	static const char *const helds[] = {
		[HMM_HARNESS_HELD_WAITING] = "waiting",
		[HMM_HARNESS_HELD_SPINS] = "spins",
		[HMM_HARNESS_HELD_SLEEPS] = "sleeps",
		[HMM_HARNESS_HELD_TIMEOUT] = "timeout",
		[HMM_HARNESS_HELD_KILLED] = "killed",
	};
	size_t i;

	json_open(json, "window", '{');
	json_bool(json, "hit", window->hit);
	json_open(json, "missing", '[');
	if (!window->batches)
		json_string(json, NULL, "batch");
	for (i = 0; i < ARRAY_SIZE(names); i++)
		if (window->needed & ~window->conditions & names[i].condition)
			json_string(json, NULL, names[i].name);
	json_close(json, ']');
	json_number(json, "device_locked", window->device_locked);
	json_number(json, "device_shared", window->device_shared);
	json_number(json, "system_folios", window->system_folios);
	json_number(json, "system_off_lru", window->system_off_lru);
	if (window->first_off_lru != HMM_HARNESS_NO_INDEX)
		json_number(json, "first_off_lru", window->first_off_lru);
	if (window->first_device != HMM_HARNESS_NO_INDEX)
		json_number(json, "first_device", window->first_device);
	if (window->holder_cpu != HMM_HARNESS_NO_CPU)
		json_number(json, "holder_cpu", window->holder_cpu);
	if (window->spinner_cpu != HMM_HARNESS_NO_CPU)
		json_number(json, "spinner_cpu", window->spinner_cpu);
	json_bool(json, "spinner_late", window->spinner_late);
	json_number(json, "drain_cpus", window->drain_cpus);
	json_number(json, "unmap_us", window->unmap_ns / 1000);
	if (window->held != HMM_HARNESS_HELD_NOT) {
		json_string(json, "held", window->held < ARRAY_SIZE(helds) ?
			    helds[window->held] : "unknown");
		json_number(json, "held_us", window->held_ns / 1000);
	}
	json_close(json, '}');
}
