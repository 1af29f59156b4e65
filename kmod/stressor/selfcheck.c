// SPDX-License-Identifier: GPL-2.0-only
/*
 * ioctl-check: what hmm_harness.ko must refuse it refuses, with the errno that
 * hmm_harness.h names; and what it reports of good calls is true.
 */
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "hmm_harness.h"
#include "selfcheck.h"

#define PAGES		CHECK_PAGES
/* More than any batch of 512, so that one migrate_vma call must take it. */
#define LONG_PAGES	1100

enum { SEED, PARAMETERS };

static struct parameter parameters[] = {
	[SEED] = { "seed", "of the round trip's data", 1, 0, ~0ULL, NULL },
	[PARAMETERS] = { NULL, NULL, 0, 0, 0, NULL },
};

#define KEY		(parameters[SEED].value)

static unsigned int checks, failures, corruptions;
static int device;		/* attached */
static char *memory;		/* PAGES pages, read and write */

void outcome(const char *what, bool good, __s64 expected, __s64 found)
{
	checks++;
	if (good)
		return;
	failures++;
	report_error("check", 0, "%s: expected %lld, found %lld", what,
		     (long long)expected, (long long)found);
}

void fill_content(void *to, size_t pages)
{
	pattern_fill(to, 0, pages, KEY);
}

bool expect_content(const void *from, size_t pages)
{
	struct mismatch mismatch;

	checks++;
	if (pattern_verify(from, 0, pages, KEY, &mismatch))
		return true;
	failures++;
	corruptions++;
	report_corruption("parent", 0, from, &mismatch);
	return false;
}

void expect(const char *what, int fd, unsigned long request, void *argument,
	    int expected)
{
	int found = ioctl(fd, request, argument) ? errno : 0;

	outcome(what, found == expected, expected, found);
}

void expect_number(const char *what, __u64 expected, __u64 found)
{
	outcome(what, expected == found, expected, found);
}

/* All structures with a range begin with addr and length. */
struct range {
	__u64 addr;
	__u64 length;
};

/* Every way in which a range can be wrong, for one request. */
static void check_ranges(const char *name, unsigned long request,
			 const void *good, size_t size)
{
	const __u64 base = (uintptr_t)memory;
	const struct {
		const char *what;
		struct range range;
		int expected;
	} cases[] = {
		{ "address misaligned", { base + 1, page_size }, EINVAL },
		{ "address misaligned by half a page",
		  { base + page_size / 2, page_size }, EINVAL },
		{ "length misaligned", { base, page_size + 1 }, EINVAL },
		{ "length zero", { base, 0 }, EINVAL },
		{ "length below a page", { base, page_size - 1 }, EINVAL },
		{ "too long", { base, HMM_HARNESS_MAX_LENGTH + page_size },
		  ERANGE },
		{ "length at the end of 64 bits", { base, 0 - page_size },
		  ERANGE },
		{ "wraps", { 0 - page_size, 2 * page_size }, ERANGE },
		{ "ends at 2^64", { 0 - page_size, page_size }, ERANGE },
		{ "kernel address", { 0xffff800000000000ULL & -page_size,
		  page_size }, ERANGE },
	};
	unsigned char buffer[256];
	char what[128];
	size_t i;

	for (i = 0; i < ARRAY_SIZE(cases); i++) {
		memcpy(buffer, good, size);
		memcpy(buffer, &cases[i].range, sizeof(cases[i].range));
		snprintf(what, sizeof(what), "%s: %s", name, cases[i].what);
		expect(what, device, request, buffer, cases[i].expected);
	}
}

void check_argument(const char *name, int fd, unsigned long request,
		    const void *good, size_t size, size_t reserved)
{
	unsigned char buffer[256];
	char what[128];
	size_t i;

	for (i = reserved; i < size; i += sizeof(__u64)) {
		memcpy(buffer, good, size);
		buffer[i] = 1;
		snprintf(what, sizeof(what), "%s: reserved byte %zu", name, i);
		expect(what, fd, request, buffer, EINVAL);
	}
	snprintf(what, sizeof(what), "%s: null pointer", name);
	expect(what, fd, request, NULL, EFAULT);
	snprintf(what, sizeof(what), "%s: kernel pointer", name);
	expect(what, fd, request, (void *)-page_size, EFAULT);
}

static void check_unknown(void)
{
	struct hmm_harness_stats stats = { 0 };

	expect("unknown number", device,
	       _IOWR(HMM_HARNESS_IOC_MAGIC, 99, struct hmm_harness_stats),
	       &stats, ENOTTY);
	expect("unknown size", device,
	       _IOWR(HMM_HARNESS_IOC_MAGIC, 6, struct hmm_harness_touch),
	       &stats, ENOTTY);
	expect("unknown magic", device, _IOWR('z', 6, struct hmm_harness_stats),
	       &stats, ENOTTY);
	expect("number zero", device, 0, &stats, ENOTTY);
}

/* A file that never attached. */
static void check_unattached(void)
{
	struct hmm_harness_fault fault = { .length = page_size };
	struct hmm_harness_migrate migrate = { .length = page_size };
	struct hmm_harness_snapshot snapshot = { .length = page_size };
	struct hmm_harness_touch touch = { .length = page_size };
	struct hmm_harness_hold hold = { .length = page_size, .timeout_ms = 1 };
	struct hmm_harness_hog hog = { .on_us = 1, .duration_ms = 1 };
	__u64 addr = (uintptr_t)memory;
	int fd = open_device(0);

	fault.addr = addr;
	migrate.addr = addr;
	touch.addr = addr;
	snapshot.addr = addr;
	snapshot.count = 1;
	expect("unattached: FAULT", fd, HMM_HARNESS_FAULT, &fault, ENXIO);
	expect("unattached: MIGRATE_TO_DEVICE", fd, HMM_HARNESS_MIGRATE_TO_DEVICE, &migrate, ENXIO);
	expect("unattached: MIGRATE_TO_SYSTEM", fd, HMM_HARNESS_MIGRATE_TO_SYSTEM, &migrate, ENXIO);
	expect("unattached: SNAPSHOT", fd, HMM_HARNESS_SNAPSHOT, &snapshot, ENXIO);
	hold.addr = addr;
	expect("unattached: HOLD", fd, HMM_HARNESS_HOLD, &hold, ENXIO);
	expect("unattached: TOUCH", fd, HMM_HARNESS_TOUCH, &touch, ENXIO);
	hog.addr = addr;
	expect("unattached: HOG", fd, HMM_HARNESS_HOG, &hog, ENXIO);
	close(fd);
}

static void check_attach(void)
{
	struct hmm_harness_attach attach = { 0 };
	int fd = open_device(0);

	attach.flags = 1;
	expect("ATTACH: flags", fd, HMM_HARNESS_ATTACH, &attach, EINVAL);
	attach.flags = 0;
	check_call("ATTACH", fd, HMM_HARNESS_ATTACH, attach);
	expect("ATTACH", fd, HMM_HARNESS_ATTACH, &attach, 0);
	expect_number("ATTACH: device", 0, attach.device);
	expect("ATTACH: twice", fd, HMM_HARNESS_ATTACH, &attach, EBUSY);
	close(fd);
}

static void check_fault(void)
{
	const struct hmm_harness_fault good = {
		.addr = (uintptr_t)memory, .length = page_size,
	};
	struct hmm_harness_fault fault = good;

	check_ranges("FAULT", HMM_HARNESS_FAULT, &good, sizeof(good));
	check_call("FAULT", device, HMM_HARNESS_FAULT, good);
	fault.flags = ~HMM_HARNESS_FAULT_WRITE;
	expect("FAULT: flags", device, HMM_HARNESS_FAULT, &fault, EINVAL);
	fault = good;
	fault.owner = HMM_HARNESS_OWNER_DEVICE + 1;
	expect("FAULT: owner", device, HMM_HARNESS_FAULT, &fault, EINVAL);
	fault = good;
	fault.owner_device = 1;
	expect("FAULT: owner_device without use", device, HMM_HARNESS_FAULT,
	       &fault, EINVAL);
	fault.owner = HMM_HARNESS_OWNER_DEVICE;
	fault.owner_device = HMM_HARNESS_MAX_DEVICES;
	expect("FAULT: owner_device", device, HMM_HARNESS_FAULT, &fault,
	       ERANGE);
	fault = good;
	fault.entry = HMM_HARNESS_ENTRY_UNLOCKED + 1;
	expect("FAULT: entry", device, HMM_HARNESS_FAULT, &fault, EINVAL);
	fault = good;
	fault.timeout_ms = HMM_HARNESS_MAX_TIMEOUT_MS + 1;
	expect("FAULT: timeout", device, HMM_HARNESS_FAULT, &fault, ERANGE);
	fault = good;
	fault.addr = 0;
	expect("FAULT: nothing mapped", device, HMM_HARNESS_FAULT, &fault,
	       EFAULT);
	fault = good;
	fault.flags = HMM_HARNESS_FAULT_WRITE;
	expect("FAULT: write", device, HMM_HARNESS_FAULT, &fault, 0);
}

/* Faulting a page for writing must not get round the page's protection. */
static void check_read_only(void)
{
	char *page = mmap(NULL, page_size, PROT_READ,
			  MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct hmm_harness_fault fault = {
		.addr = (uintptr_t)page, .length = page_size,
		.flags = HMM_HARNESS_FAULT_WRITE,
	};
	struct hmm_harness_touch touch = {
		.addr = (uintptr_t)page, .length = page_size,
	};

	expect("FAULT: write to read-only", device, HMM_HARNESS_FAULT, &fault,
	       EPERM);
	expect("TOUCH: read-only", device, HMM_HARNESS_TOUCH, &touch, EFAULT);
	munmap(page, page_size);
	expect("TOUCH: nothing mapped", device, HMM_HARNESS_TOUCH, &touch,
	       EFAULT);
}

static void check_migrate(const char *name, unsigned long request,
			  __u32 known)
{
	const struct hmm_harness_migrate good = {
		.addr = (uintptr_t)memory, .length = page_size,
	};
	struct hmm_harness_migrate migrate = good;
	char what[128];

	check_ranges(name, request, &good, sizeof(good));
	check_call(name, device, request, good);
	migrate.flags = ~known;
	snprintf(what, sizeof(what), "%s: flags", name);
	expect(what, device, request, &migrate, EINVAL);
	migrate.flags = HMM_HARNESS_MIGRATE_SMALL;
	snprintf(what, sizeof(what), "%s: small places, of nothing", name);
	expect(what, device, request, &migrate, EINVAL);
	migrate = good;
	migrate.addr = 0;
	snprintf(what, sizeof(what), "%s: nothing mapped", name);
	expect(what, device, request, &migrate, EFAULT);
}

static void check_snapshot(void)
{
	unsigned char bytes[PAGES];
	const struct hmm_harness_snapshot good = {
		.addr = (uintptr_t)memory, .length = PAGES * page_size,
		.pages = (uintptr_t)bytes, .count = PAGES,
	};
	struct hmm_harness_snapshot snapshot = good;

	check_ranges("SNAPSHOT", HMM_HARNESS_SNAPSHOT, &good, sizeof(good));
	check_call("SNAPSHOT", device, HMM_HARNESS_SNAPSHOT, good);
	snapshot.flags = 1;
	expect("SNAPSHOT: flags", device, HMM_HARNESS_SNAPSHOT, &snapshot,
	       EINVAL);
	snapshot = good;
	snapshot.count--;
	expect("SNAPSHOT: count", device, HMM_HARNESS_SNAPSHOT, &snapshot,
	       EINVAL);
	snapshot = good;
	snapshot.pages = 0;
	expect("SNAPSHOT: no array", device, HMM_HARNESS_SNAPSHOT, &snapshot,
	       EFAULT);
}

static void check_touch(void)
{
	const struct hmm_harness_touch good = {
		.addr = (uintptr_t)memory, .length = page_size,
	};
	struct hmm_harness_touch touch = good;
	int status = 0;
	pid_t pid;

	check_ranges("TOUCH", HMM_HARNESS_TOUCH, &good, sizeof(good));
	check_call("TOUCH", device, HMM_HARNESS_TOUCH, good);
	touch.flags = 1;
	expect("TOUCH: flags", device, HMM_HARNESS_TOUCH, &touch, EINVAL);
	touch = good;
	pid = fork();
	if (!pid)
		_exit(ioctl(device, HMM_HARNESS_TOUCH, &touch) ? errno : 0);
	if (pid < 0 || waitpid(pid, &status, 0) != pid)
		status = -1;
	outcome("TOUCH: another process", WIFEXITED(status) &&
		WEXITSTATUS(status) == EINVAL, EINVAL, WEXITSTATUS(status));
}

/* The process that attached has gone, the file has not. */
static void check_orphan(void)
{
	struct hmm_harness_attach attach = { 0 };
	struct hmm_harness_fault fault = {
		.addr = (uintptr_t)memory, .length = page_size,
	};
	int status, fd = open_device(0);
	pid_t pid = fork();

	if (!pid)
		_exit(ioctl(fd, HMM_HARNESS_ATTACH, &attach) ? errno : 0);
	if (pid < 0 || waitpid(pid, &status, 0) != pid)
		status = -1;
	outcome("orphan: ATTACH by a child", !status, 0, status);
	expect("orphan: FAULT", fd, HMM_HARNESS_FAULT, &fault, ESRCH);
	close(fd);
}

static void check_reports(void)
{
	struct hmm_harness_stats stats = { 0 };
	struct hmm_harness_window window = { 0 };

	check_call("STATS", device, HMM_HARNESS_STATS, stats);
	check_call("WINDOW", device, HMM_HARNESS_WINDOW, window);
	window.flags = ~HMM_HARNESS_WINDOW_RESET;
	expect("WINDOW: flags", device, HMM_HARNESS_WINDOW, &window, EINVAL);
	memset(&window, 0, sizeof(window));
	window.pad = 1;
	expect("WINDOW: pad", device, HMM_HARNESS_WINDOW, &window, EINVAL);
	memset(&window, 0, sizeof(window));
	expect("WINDOW", device, HMM_HARNESS_WINDOW, &window, 0);
	expect_number("WINDOW: no mixed batch yet", 0, window.batches);
}

static void check_hold(void)
{
	const struct hmm_harness_hold good = {
		.addr = (uintptr_t)memory, .length = page_size,
		.timeout_ms = 1,
	};
	struct hmm_harness_hold hold = good;

	check_ranges("HOLD", HMM_HARNESS_HOLD, &good, sizeof(good));
	check_call("HOLD", device, HMM_HARNESS_HOLD, good);
	hold.flags = 1;
	expect("HOLD: flags", device, HMM_HARNESS_HOLD, &hold, EINVAL);
	hold = good;
	hold.pad = 1;
	expect("HOLD: pad", device, HMM_HARNESS_HOLD, &hold, EINVAL);
	hold = good;
	hold.kind = HMM_HARNESS_HOLD_FAULT_ONLY + 1;
	expect("HOLD: kind", device, HMM_HARNESS_HOLD, &hold, EINVAL);
	hold = good;
	hold.timeout_ms = 0;
	expect("HOLD: no timeout", device, HMM_HARNESS_HOLD, &hold, ERANGE);
	hold.timeout_ms = HMM_HARNESS_MAX_TIMEOUT_MS + 1;
	expect("HOLD: timeout", device, HMM_HARNESS_HOLD, &hold, ERANGE);
}

static struct hmm_harness_window window_of(int fd)
{
	struct hmm_harness_window window = { 0 };

	expect("WINDOW", fd, HMM_HARNESS_WINDOW, &window, 0);
	return window;
}

/* Nobody faults: what is held is held to the end, once, and then goes on. */
static void check_held_batches(void)
{
	struct hmm_harness_hold hold = {
		.addr = (uintptr_t)memory, .length = (PAGES - 1) * page_size,
		.timeout_ms = 20,
	};
	struct hmm_harness_migrate migrate = {
		.addr = (uintptr_t)memory, .length = PAGES * page_size,
		.flags = HMM_HARNESS_MIGRATE_MIXED,
	};
	struct hmm_harness_window window;

	pattern_fill(memory, 0, PAGES, KEY);
	expect("HOLD: another range", device, HMM_HARNESS_HOLD, &hold, 0);
	expect("MIGRATE_TO_DEVICE: not held", device,
	       HMM_HARNESS_MIGRATE_TO_DEVICE, &migrate, 0);
	window = window_of(device);
	expect_number("another range: held", HMM_HARNESS_HELD_NOT, window.held);
	expect_number("another range: batches", 1, window.batches);

	hold.length = migrate.length;
	expect("HOLD", device, HMM_HARNESS_HOLD, &hold, 0);
	expect("MIGRATE_TO_DEVICE: held", device,
	       HMM_HARNESS_MIGRATE_TO_DEVICE, &migrate, 0);
	expect_number("held: migrated", PAGES, migrate.migrated);
	window = window_of(device);
	expect_number("held", HMM_HARNESS_HELD_TIMEOUT, window.held);
	expect_number("held: long enough", 1,
		      window.held_ns >= hold.timeout_ms * 1000000ULL);
	expect_number("held: batches", 2, window.batches);
	expect_number("held: no hit", 0, window.hits);

	expect("MIGRATE_TO_DEVICE: no more held", device,
	       HMM_HARNESS_MIGRATE_TO_DEVICE, &migrate, 0);
	window = window_of(device);
	expect_number("no more held", HMM_HARNESS_HELD_NOT, window.held);

	hold.kind = HMM_HARNESS_HOLD_FAULT;
	expect("HOLD: CPU fault", device, HMM_HARNESS_HOLD, &hold, 0);
	expect("MIGRATE_TO_DEVICE: no CPU fault", device,
	       HMM_HARNESS_MIGRATE_TO_DEVICE, &migrate, 0);
	window = window_of(device);
	expect_number("no CPU fault: held", HMM_HARNESS_HELD_NOT, window.held);
	expect_content(memory, PAGES);
	window = window_of(device);
	expect_number("CPU fault: held", HMM_HARNESS_HELD_TIMEOUT, window.held);
	/* Three more migrations, and one of the faults. */
	expect_number("CPU fault: batches", 5, window.batches);
}

/* False if the hold is over before anybody saw it. */
static bool wait_for_hold(int fd)
{
	__u64 end = now_ns() + 20000000000ULL;
	struct hmm_harness_window window = { 0 };

	while (now_ns() < end && !ioctl(fd, HMM_HARNESS_WINDOW, &window)) {
		if (window.held == HMM_HARNESS_HELD_WAITING)
			return true;
		if (window.held == HMM_HARNESS_HELD_TIMEOUT)
			return false;
		usleep(1000);
	}
	return false;
}

/* The process dies while its batch is held, long before the hold would end. */
static void check_held_and_killed(void)
{
	struct hmm_harness_attach attach = { 0 };
	struct hmm_harness_hold hold = {
		.addr = (uintptr_t)memory, .length = PAGES * page_size,
		.timeout_ms = HMM_HARNESS_MAX_TIMEOUT_MS,
	};
	struct hmm_harness_migrate migrate = {
		.addr = (uintptr_t)memory, .length = PAGES * page_size,
		.flags = HMM_HARNESS_MIGRATE_MIXED,
	};
	int status = 0, fd = open_device(0);
	struct hmm_harness_window window;
	pid_t pid = fork();

	if (!pid) {
		if (!ioctl(fd, HMM_HARNESS_ATTACH, &attach) &&
		    !ioctl(fd, HMM_HARNESS_HOLD, &hold))
			ioctl(fd, HMM_HARNESS_MIGRATE_TO_DEVICE, &migrate);
		_exit(1);
	}
	expect_number("killed: held before", 1, wait_for_hold(fd));
	if (pid < 0 || kill(pid, SIGKILL) || waitpid(pid, &status, 0) != pid)
		status = -1;
	expect_number("killed: by the signal", 1, WIFSIGNALED(status));
	window = window_of(fd);
	expect_number("killed: held", HMM_HARNESS_HELD_KILLED, window.held);
	expect_number("killed: open", 0, window.open);
	close(fd);
	expect_content(memory, PAGES);
}

static void *read_page(void *page)
{
	return (void *)(uintptr_t)*(char *)page;
}

/* The file goes away while a CPU fault is held on its account. */
static bool close_while_held(__u32 timeout_ms)
{
	char *page = mmap(NULL, page_size, PROT_READ | PROT_WRITE,
			  MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct hmm_harness_attach attach = { 0 };
	struct hmm_harness_migrate migrate = {
		.addr = (uintptr_t)page, .length = page_size,
	};
	struct hmm_harness_hold hold = {
		.addr = (uintptr_t)page, .length = page_size,
		.kind = HMM_HARNESS_HOLD_FAULT, .timeout_ms = timeout_ms,
	};
	int fd = open_device(0);
	pthread_t thread;
	void *read;
	bool held;

	pattern_fill(page, 0, 1, KEY);
	page[0] = 42;
	expect("closed: ATTACH", fd, HMM_HARNESS_ATTACH, &attach, 0);
	expect("closed: MIGRATE_TO_DEVICE", fd, HMM_HARNESS_MIGRATE_TO_DEVICE,
	       &migrate, 0);
	expect("closed: HOLD", fd, HMM_HARNESS_HOLD, &hold, 0);
	if (pthread_create(&thread, NULL, read_page, page)) {
		outcome("closed: no thread", false, 0, errno);
		return false;
	}
	held = wait_for_hold(fd);
	close(fd);
	pthread_join(thread, &read);
	expect_number("closed: what was read", 42, (uintptr_t)read);
	munmap(page, page_size);
	return held;
}

static void check_held_and_closed(void)
{
	struct hmm_harness_attach attach = { 0 };
	struct hmm_harness_migrate migrate = {
		.addr = (uintptr_t)memory, .length = page_size,
	};
	struct hmm_harness_hold hold = {
		.addr = (uintptr_t)memory, .length = page_size,
		.kind = HMM_HARNESS_HOLD_FAULT, .timeout_ms = 200,
	};
	__u32 timeout_ms = hold.timeout_ms;
	int fd;

	/* A busy host may not let us look in so short a time. */
	while (!close_while_held(timeout_ms) &&
	       timeout_ms < HMM_HARNESS_MAX_TIMEOUT_MS)
		timeout_ms *= 10;
	expect_number("closed: held before", 1,
		      timeout_ms < HMM_HARNESS_MAX_TIMEOUT_MS);

	/* Armed only. */
	fd = open_device(0);
	expect("armed: ATTACH", fd, HMM_HARNESS_ATTACH, &attach, 0);
	expect("armed: HOLD", fd, HMM_HARNESS_HOLD, &hold, 0);
	close(fd);
	expect("armed: MIGRATE_TO_DEVICE", device,
	       HMM_HARNESS_MIGRATE_TO_DEVICE, &migrate, 0);
	expect_content(memory, PAGES);
}

unsigned char kind_of(int fd, const void *page)
{
	unsigned char byte = 0xff;
	struct hmm_harness_snapshot snapshot = {
		.addr = (uintptr_t)page, .length = page_size,
		.pages = (uintptr_t)&byte, .count = 1,
	};

	expect("SNAPSHOT", fd, HMM_HARNESS_SNAPSHOT, &snapshot, 0);
	return byte;
}

/* Out and back, over more than 1024 pages in one batch, checking the data. */
static void check_round_trip(void)
{
	const size_t length = LONG_PAGES * page_size;
	char *many = mmap(NULL, length, PROT_READ | PROT_WRITE,
			  MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct hmm_harness_migrate migrate = {
		.addr = (uintptr_t)many, .length = length,
	};
	struct hmm_harness_attach attach = { 0 };
	struct hmm_harness_stats before = { 0 }, after = { 0 };
	struct hmm_harness_fault fault = {
		.addr = (uintptr_t)many, .length = page_size,
	};
	int other = open_device(1);

	if (many == MAP_FAILED || other < 0) {
		outcome("round trip: set-up", false, 0, errno);
		return;
	}
	madvise(many, length, MADV_NOHUGEPAGE);
	expect("ATTACH: other device", other, HMM_HARNESS_ATTACH, &attach, 0);
	expect_number("ATTACH: other device's index", 1, attach.device);
	expect_number("SNAPSHOT: untouched page", HMM_HARNESS_PAGE_NONE,
		      kind_of(device, many));
	pattern_fill(many, 0, LONG_PAGES, KEY);
	expect("STATS", device, HMM_HARNESS_STATS, &before, 0);
	expect("MIGRATE_TO_DEVICE: long range", device,
	       HMM_HARNESS_MIGRATE_TO_DEVICE, &migrate, 0);
	expect_number("long range: batches", 1, migrate.batches);
	expect_number("long range: migrated", LONG_PAGES, migrate.migrated);
	expect_number("SNAPSHOT: own device", HMM_HARNESS_PAGE_DEVICE |
		      HMM_HARNESS_PAGE_READ | HMM_HARNESS_PAGE_WRITE,
		      kind_of(device, many));
	expect_number("SNAPSHOT: another's device", HMM_HARNESS_PAGE_OTHER,
		      kind_of(other, many) & HMM_HARNESS_PAGE_KIND);
	expect("STATS", device, HMM_HARNESS_STATS, &after, 0);
	expect_number("STATS: pages in use", LONG_PAGES,
		      after.pages_in_use - before.pages_in_use);
	expect_number("STATS: migrations to the device", LONG_PAGES,
		      after.migrations_to_device - before.migrations_to_device);

	/* The owner may see its page where it is; a stranger brings it home. */
	expect("FAULT: by the owner", device, HMM_HARNESS_FAULT, &fault, 0);
	expect_number("FAULT by the owner leaves the page",
		      HMM_HARNESS_PAGE_DEVICE,
		      kind_of(device, many) & HMM_HARNESS_PAGE_KIND);
	expect("FAULT: by another", other, HMM_HARNESS_FAULT, &fault, 0);
	expect_number("FAULT by another brings the page home",
		      HMM_HARNESS_PAGE_SYSTEM,
		      kind_of(device, many) & HMM_HARNESS_PAGE_KIND);

	migrate.flags = HMM_HARNESS_MIGRATE_MIXED;
	expect("MIGRATE_TO_DEVICE: mixed", device,
	       HMM_HARNESS_MIGRATE_TO_DEVICE, &migrate, 0);
	expect_number("mixed: migrated", LONG_PAGES, migrate.migrated);
	expect_number("mixed: from the device", LONG_PAGES - 1,
		      migrate.from_device);
	/* By CPU faults, which bring these pages home. */
	expect_content(many, 64);

	migrate.flags = 0;
	expect("MIGRATE_TO_SYSTEM: long range", device,
	       HMM_HARNESS_MIGRATE_TO_SYSTEM, &migrate, 0);
	expect_number("MIGRATE_TO_SYSTEM: migrated", LONG_PAGES - 64,
		      migrate.migrated);
	expect_content(many, LONG_PAGES);
	expect("STATS", device, HMM_HARNESS_STATS, &after, 0);
	expect_number("STATS: all pages given back", before.pages_in_use,
		      after.pages_in_use);
	close(other);
	munmap(many, length);
}

/* The last close of a device brings home what is still in its memory. */
static void check_last_close(size_t huge)
{
	struct hmm_harness_attach attach = { 0 };
	struct hmm_harness_behave behave = {
		.to_device[HMM_HARNESS_STEP_ALLOC].every = 1,
	};
	struct hmm_harness_migrate migrate = {
		.addr = (uintptr_t)memory, .length = PAGES * page_size,
	};
	struct hmm_harness_stats before = { 0 }, after = { 0 };

	pattern_fill(memory, 0, PAGES, KEY);
	expect("last close: MIGRATE_TO_DEVICE", device,
	       HMM_HARNESS_MIGRATE_TO_DEVICE, &migrate, 0);
	expect("STATS", device, HMM_HARNESS_STATS, &before, 0);
	expect_number("last close: pages in use before", PAGES + huge,
		      before.pages_in_use);
	expect("last close: BEHAVE", device, HMM_HARNESS_BEHAVE, &behave, 0);
	close(device);
	device = open_device(0);
	expect("STATS", device, HMM_HARNESS_STATS, &after, 0);
	expect_number("last close: pages in use after", 0, after.pages_in_use);
	expect_number("last close: CPU faults", 0,
		      after.migrate_to_ram - before.migrate_to_ram);
	expect_content(memory, PAGES);
	if (huge)
		check_huge_closed();

	/* And it makes the driver behave again. */
	expect("last close: ATTACH", device, HMM_HARNESS_ATTACH, &attach, 0);
	expect("last close: nothing fails", device,
	       HMM_HARNESS_MIGRATE_TO_DEVICE, &migrate, 0);
}

static int open_as_nobody(unsigned int index)
{
	if (setgid(65534) || setuid(65534))
		return -1;
	return open_device(index) < 0 ? errno : 0;
}

/* Every node is root's alone. */
static void check_nodes(void)
{
	unsigned int i, nodes = 0;
	struct stat node;
	char path[32];
	int status;
	pid_t pid;

	for (i = 0; i < HMM_HARNESS_MAX_DEVICES; i++) {
		snprintf(path, sizeof(path), "/dev/hmm_harness%u", i);
		if (stat(path, &node))
			continue;
		nodes++;
		expect_number("node: mode", S_IFCHR | 0600, node.st_mode);
		expect_number("node: owner", 0, node.st_uid);
		pid = fork();
		if (!pid)
			_exit(open_as_nobody(i));
		if (pid < 0 || waitpid(pid, &status, 0) != pid)
			status = -1;
		outcome("node: opened by nobody", WIFEXITED(status) &&
			WEXITSTATUS(status) == EACCES, EACCES,
			WEXITSTATUS(status));
	}
	outcome("nodes", nodes >= 2, 2, nodes);
}

static int ioctl_check_run(const struct scenario *scenario)
{
	struct hmm_harness_attach attach = { 0 };
	struct json json;
	int ret = EXIT_DONE;
	size_t huge;

	device = open_device(0);
	if (device < 0 || ioctl(device, HMM_HARNESS_ATTACH, &attach)) {
		report_error("device", errno, "/dev/hmm_harness0");
		return EXIT_ENVIRONMENT;
	}
	memory = mmap(NULL, PAGES * page_size, PROT_READ | PROT_WRITE,
		      MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (memory == MAP_FAILED) {
		report_error("mmap", errno, "%d pages", PAGES);
		return EXIT_ENVIRONMENT;
	}
	report_start(scenario);

	check_nodes();
	check_unknown();
	check_unattached();
	check_attach();
	check_fault();
	check_read_only();
	check_migrate("MIGRATE_TO_DEVICE", HMM_HARNESS_MIGRATE_TO_DEVICE,
		      HMM_HARNESS_MIGRATE_MIXED | HMM_HARNESS_MIGRATE_COMPOUND |
		      HMM_HARNESS_MIGRATE_SMALL);
	check_migrate("MIGRATE_TO_SYSTEM", HMM_HARNESS_MIGRATE_TO_SYSTEM,
		      HMM_HARNESS_MIGRATE_COMPOUND | HMM_HARNESS_MIGRATE_SMALL);
	check_snapshot();
	check_touch();
	check_orphan();
	check_reports();
	check_hold();
	check_behaviour(device, memory);
	check_held_batches();
	check_held_and_killed();
	check_held_and_closed();
	check_round_trip();
	huge = check_huge(device);
	check_last_close(huge);
	if (huge)
		device = check_huge_scarce(device);

	if (corruptions)
		ret = EXIT_CORRUPTION;
	else if (failures)
		ret = EXIT_CHECK;
	json_begin_end(&json, 1, ret);
	json_number(&json, "checks", checks);
	json_number(&json, "failures", failures);
	json_bool(&json, "huge", huge > 0);
	json_send(&json);
	return ret;
}

const struct scenario ioctl_check = {
	.name = "ioctl-check",
	.help = "bad arguments to every ioctl, and a round trip of data",
	.parameters = parameters,
	.run = ioctl_check_run,
};
