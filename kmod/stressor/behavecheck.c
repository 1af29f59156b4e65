// SPDX-License-Identifier: GPL-2.0-only
/* ioctl-check: how the simulated driver behaves, the lock hog, eviction. */
#include <errno.h>
#include <pthread.h>
#include <sys/ioctl.h>

#include "hmm_harness.h"
#include "selfcheck.h"

#define WAIT_NS	(HMM_HARNESS_MAX_TIMEOUT_MS * 1000000ULL)

static int device;
static char *memory;

static void check_behave(void)
{
	const struct hmm_harness_behave good = { 0 };
	struct hmm_harness_behave behave = good;

	check_call("BEHAVE", device, HMM_HARNESS_BEHAVE, good);
	behave.flags = ~HMM_HARNESS_BEHAVE_MUTEX;
	expect("BEHAVE: flags", device, HMM_HARNESS_BEHAVE, &behave, EINVAL);
	behave = good;
	behave.delay_us = HMM_HARNESS_MAX_DELAY_US + 1;
	expect("BEHAVE: delay", device, HMM_HARNESS_BEHAVE, &behave, ERANGE);
}

static void check_hog(void)
{
	const struct hmm_harness_hog good = {
		.addr = (uintptr_t)memory, .on_us = 1, .duration_ms = 1,
	};
	struct hmm_harness_hog hog = good;

	check_call("HOG", device, HMM_HARNESS_HOG, good);
	hog.addr++;
	expect("HOG: misaligned", device, HMM_HARNESS_HOG, &hog, EINVAL);
	hog.addr = 0 - page_size;
	expect("HOG: wraps", device, HMM_HARNESS_HOG, &hog, ERANGE);
	hog = good;
	hog.flags = 1;
	expect("HOG: flags", device, HMM_HARNESS_HOG, &hog, EINVAL);
	hog = good;
	hog.on_us = 0;
	expect("HOG: never locked", device, HMM_HARNESS_HOG, &hog, ERANGE);
	hog.on_us = HMM_HARNESS_MAX_DELAY_US + 1;
	expect("HOG: on_us", device, HMM_HARNESS_HOG, &hog, ERANGE);
	hog = good;
	hog.off_us = HMM_HARNESS_MAX_DELAY_US + 1;
	expect("HOG: off_us", device, HMM_HARNESS_HOG, &hog, ERANGE);
	hog = good;
	hog.duration_ms = 0;
	expect("HOG: no duration", device, HMM_HARNESS_HOG, &hog, ERANGE);
	hog.duration_ms = HMM_HARNESS_MAX_TIMEOUT_MS + 1;
	expect("HOG: duration", device, HMM_HARNESS_HOG, &hog, ERANGE);
	hog = good;
	memory[0] = 1;
	expect("HOG: no device page", device, HMM_HARNESS_HOG, &hog, ENOENT);
	hog.addr = 0;
	expect("HOG: nothing mapped", device, HMM_HARNESS_HOG, &hog, EFAULT);
}

/* Each step of a migration to the device fails once, and then every second. */
static void check_failures(void)
{
	static const struct {
		const char *name;
		int error;
		__u64 migrated;
	} steps[HMM_HARNESS_STEPS] = {
		[HMM_HARNESS_STEP_ALLOC] = { "ALLOC", ENOMEM, 0 },
		[HMM_HARNESS_STEP_REFERENCE] = { "REFERENCE", 0, CHECK_PAGES - 1 },
		[HMM_HARNESS_STEP_COPY] = { "COPY", 0, CHECK_PAGES - 1 },
	};
	struct hmm_harness_behave behave;
	struct hmm_harness_migrate migrate = {
		.addr = (uintptr_t)memory, .length = CHECK_PAGES * page_size,
	};
	size_t step, i;
	__u64 failed;

	for (step = 0; step < HMM_HARNESS_STEPS; step++) {
		behave = (struct hmm_harness_behave){ 0 };
		behave.to_device[step].next = 1;
		behave.to_device[step].every = 2;
		fill_content(memory, CHECK_PAGES);
		expect("BEHAVE", device, HMM_HARNESS_BEHAVE, &behave, 0);
		failed = behave.to_device[step].failed;
		/* The one of next, then none, then the one of every. */
		for (i = 0; i < 3; i++) {
			expect(steps[step].name, device,
			       HMM_HARNESS_MIGRATE_TO_DEVICE, &migrate,
			       i == 1 ? 0 : steps[step].error);
			expect_number(steps[step].name,
				      i == 1 ? CHECK_PAGES : steps[step].migrated,
				      migrate.migrated);
			expect("MIGRATE_TO_SYSTEM: never fails", device,
			       HMM_HARNESS_MIGRATE_TO_SYSTEM, &migrate, 0);
		}
		behave = (struct hmm_harness_behave){ 0 };
		expect("BEHAVE: well", device, HMM_HARNESS_BEHAVE, &behave, 0);
		expect_number("BEHAVE: failed", 2,
			      behave.to_device[step].failed - failed);
		expect_content(memory, CHECK_PAGES);
	}
}

/* CPU faults that fail for want of memory, or of luck, are done again. */
static void check_failed_faults(void)
{
	struct hmm_harness_behave behave = {
		.flags = HMM_HARNESS_BEHAVE_MUTEX, .delay_us = 20,
		.to_ram[HMM_HARNESS_STEP_ALLOC].next = 2,
		.to_ram[HMM_HARNESS_STEP_REFERENCE].next = 3,
	};
	struct hmm_harness_migrate migrate = {
		.addr = (uintptr_t)memory, .length = CHECK_PAGES * page_size,
	};
	struct hmm_harness_stats before = { 0 }, after = { 0 };
	__u64 alloc, reference;

	expect("MIGRATE_TO_DEVICE", device, HMM_HARNESS_MIGRATE_TO_DEVICE,
	       &migrate, 0);
	expect("STATS", device, HMM_HARNESS_STATS, &before, 0);
	expect("BEHAVE: faults fail", device, HMM_HARNESS_BEHAVE, &behave, 0);
	alloc = behave.to_ram[HMM_HARNESS_STEP_ALLOC].failed;
	reference = behave.to_ram[HMM_HARNESS_STEP_REFERENCE].failed;
	expect_content(memory, CHECK_PAGES);
	behave = (struct hmm_harness_behave){ 0 };
	expect("BEHAVE: well", device, HMM_HARNESS_BEHAVE, &behave, 0);
	expect_number("ALLOC: faults", 2,
		      behave.to_ram[HMM_HARNESS_STEP_ALLOC].failed - alloc);
	expect_number("REFERENCE: faults", 3,
		      behave.to_ram[HMM_HARNESS_STEP_REFERENCE].failed -
		      reference);
	expect("STATS", device, HMM_HARNESS_STATS, &after, 0);
	expect_number("STATS: failed CPU faults", 5,
		      after.migrate_to_ram_failed -
		      before.migrate_to_ram_failed);
	expect_number("STATS: CPU faults", CHECK_PAGES + 5,
		      after.migrate_to_ram - before.migrate_to_ram);
}

/* Nobody wants the page: it is hogged to the end, and stays. */
static void check_hogged(void)
{
	struct hmm_harness_migrate migrate = {
		.addr = (uintptr_t)memory, .length = CHECK_PAGES * page_size,
	};
	struct hmm_harness_hog hog = {
		.addr = (uintptr_t)memory, .on_us = 200, .off_us = 200,
		.duration_ms = 20,
	};
	struct hmm_harness_stats before = { 0 }, after = { 0 };

	expect("MIGRATE_TO_DEVICE", device, HMM_HARNESS_MIGRATE_TO_DEVICE,
	       &migrate, 0);
	expect("STATS", device, HMM_HARNESS_STATS, &before, 0);
	expect("HOG", device, HMM_HARNESS_HOG, &hog, 0);
	/* A busy host may have given us the time for one only. */
	while (hog.locks < 2 &&
	       hog.duration_ms < HMM_HARNESS_MAX_TIMEOUT_MS / 10) {
		hog.duration_ms *= 10;
		expect("STATS", device, HMM_HARNESS_STATS, &before, 0);
		expect("HOG", device, HMM_HARNESS_HOG, &hog, 0);
	}
	expect("STATS", device, HMM_HARNESS_STATS, &after, 0);
	expect_number("HOG: took the lock more than once", 1, hog.locks > 1);
	expect_number("HOG: nobody else did", 0, hog.busy);
	expect_number("STATS: hog's locks", hog.locks,
		      after.hog_locks - before.hog_locks);
	expect_number("HOG: locked for so long", 1,
		      hog.locked_ns >= hog.locks * hog.on_us * 1000);
	expect_number("HOG: unlocked for so long", 1,
		      hog.elapsed_ns - hog.locked_ns >=
		      hog.locks * hog.off_us * 1000);
	expect_content(memory, CHECK_PAGES);
}

static void check_evict(void)
{
	const struct hmm_harness_evict good = { 0 };
	struct hmm_harness_evict evict = good;

	check_call("EVICT", device, HMM_HARNESS_EVICT, good);
	evict.flags = ~HMM_HARNESS_EVICT_GO_ON;
	expect("EVICT: flags", device, HMM_HARNESS_EVICT, &evict, EINVAL);
	evict = good;
	evict.delay_ms = HMM_HARNESS_MAX_TIMEOUT_MS + 1;
	expect("EVICT: delay", device, HMM_HARNESS_EVICT, &evict, ERANGE);
}

static int evict_error;

static void *evict(void *evict)
{
	evict_error = ioctl(device, HMM_HARNESS_EVICT, evict) ? errno : 0;
	return NULL;
}

/*
 * Nobody has a reference: all of it comes home, and long before its time as the
 * eviction is told to go on.
 */
static void check_evicted(void)
{
	struct hmm_harness_migrate migrate = {
		.addr = (uintptr_t)memory, .length = CHECK_PAGES * page_size,
	};
	struct hmm_harness_evict waiting = {
		.delay_ms = HMM_HARNESS_MAX_TIMEOUT_MS,
	};
	struct hmm_harness_evict go_on = { .flags = HMM_HARNESS_EVICT_GO_ON };
	struct hmm_harness_stats before = { 0 }, after = { 0 };
	__u64 began_ns = now_ns();
	pthread_t thread;
	int error;

	expect("MIGRATE_TO_DEVICE", device, HMM_HARNESS_MIGRATE_TO_DEVICE,
	       &migrate, 0);
	expect("STATS", device, HMM_HARNESS_STATS, &before, 0);
	expect_number("STATS: pages to evict", 1,
		      before.pages_in_use >= CHECK_PAGES);
	error = pthread_create(&thread, NULL, evict, &waiting);
	outcome("pthread_create", !error, 0, error);
	if (error)
		return;
	while (!after.evicting && now_ns() - began_ns < WAIT_NS)
		expect("STATS", device, HMM_HARNESS_STATS, &after, 0);
	expect_number("EVICT_GO_ON: pages wait", 1, after.evicting > 0);
	expect("EVICT_GO_ON", device, HMM_HARNESS_EVICT, &go_on, 0);
	pthread_join(thread, NULL);
	expect_number("EVICT_GO_ON: before its time", 1,
		      now_ns() - began_ns < WAIT_NS);
	outcome("EVICT", !evict_error, 0, evict_error);
	expect_number("EVICT: pages left", 0, waiting.left);
	expect("STATS", device, HMM_HARNESS_STATS, &after, 0);
	expect_number("STATS: evicted", before.pages_in_use,
		      after.migrations_to_system -
		      before.migrations_to_system);
	expect_number("STATS: evicting no more", 0, after.evicting);
	expect_content(memory, CHECK_PAGES);
}

void check_behaviour(int fd, char *pages)
{
	device = fd;
	memory = pages;
	check_behave();
	check_hog();
	check_evict();
	check_failures();
	check_failed_faults();
	check_hogged();
	check_evicted();
}
