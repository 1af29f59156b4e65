// SPDX-License-Identifier: GPL-2.0-only
/*
 * The part of ioctl-check about huge pages: moved to the device and back as one
 * folio, split on each of the ways on which that can happen, and no device page
 * lost on any of them.
 */
#include <errno.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/sysinfo.h>
#include <sys/wait.h>
#include <unistd.h>

#include "hmm_harness.h"
#include "selfcheck.h"

/* Of memory that is free where no huge page is. */
#define SPARE	(64 * HUGE_SIZE)
#define ALL	(HMM_HARNESS_PAGE_READ | HMM_HARNESS_PAGE_WRITE)

static int device;
static size_t huge;		/* pages of a huge page */
static char *memory;		/* two of them, aligned */

static __u64 in_use(void)
{
	struct hmm_harness_stats stats = { 0 };

	expect("STATS", device, HMM_HARNESS_STATS, &stats, 0);
	return stats.pages_in_use;
}

/* How many of the pages a call moved. */
static __u64 move(unsigned long request, const char *what, char *from,
		  size_t pages, __u32 flags)
{
	struct hmm_harness_migrate migrate = {
		.addr = (uintptr_t)from, .length = pages * page_size,
		.flags = flags,
	};

	expect(what, device, request, &migrate, 0);
	return migrate.migrated;
}

static __u64 to_device(__u32 flags)
{
	return move(HMM_HARNESS_MIGRATE_TO_DEVICE, "huge: MIGRATE_TO_DEVICE",
		    memory, huge, flags);
}

static __u64 to_system(__u32 flags)
{
	return move(HMM_HARNESS_MIGRATE_TO_SYSTEM, "huge: MIGRATE_TO_SYSTEM",
		    memory, huge, flags);
}

/* A huge page with the pattern, in system memory. */
static void place_here(void)
{
	if (madvise(memory, huge * page_size, MADV_DONTNEED))
		outcome("huge: MADV_DONTNEED", false, 0, errno);
	fill_content(memory, huge);
	expect_number("huge: in system memory",
		      HMM_HARNESS_PAGE_SYSTEM | HMM_HARNESS_PAGE_HUGE | ALL,
		      kind_of(device, memory + page_size));
}

/* The same, on the device as one folio. */
static void place(void)
{
	place_here();
	expect_number("huge: moved to the device", huge,
		      to_device(HMM_HARNESS_MIGRATE_COMPOUND));
	expect_number("huge: on the device",
		      HMM_HARNESS_PAGE_DEVICE | HMM_HARNESS_PAGE_HUGE | ALL,
		      kind_of(device, memory + page_size));
}

static void check_moves(__u64 before)
{
	place();
	expect_number("huge: pages in use", before + huge, in_use());
	expect_number("huge: mixed", huge,
		      to_device(HMM_HARNESS_MIGRATE_COMPOUND |
				HMM_HARNESS_MIGRATE_MIXED));
	expect_number("huge: back", huge,
		      to_system(HMM_HARNESS_MIGRATE_COMPOUND));
	expect_number("huge: home",
		      HMM_HARNESS_PAGE_SYSTEM | HMM_HARNESS_PAGE_HUGE | ALL,
		      kind_of(device, memory));
	expect_content(memory, huge);

	expect_number("huge: without the flag", huge, to_device(0));
	expect_number("huge: small on the device",
		      HMM_HARNESS_PAGE_DEVICE | ALL, kind_of(device, memory));
	expect_number("huge: small ones back", huge,
		      to_system(HMM_HARNESS_MIGRATE_COMPOUND));
	expect_content(memory, huge);

	place();
	expect_number("huge: back without the flag", huge, to_system(0));
	expect_number("huge: small at home", HMM_HARNESS_PAGE_SYSTEM | ALL,
		      kind_of(device, memory));
	expect_content(memory, huge);

	place_here();
	expect_number("huge: to places for small ones", huge,
		      to_device(HMM_HARNESS_MIGRATE_COMPOUND |
				HMM_HARNESS_MIGRATE_SMALL));
	expect_number("huge: in these on the device",
		      HMM_HARNESS_PAGE_DEVICE | ALL, kind_of(device, memory));
	expect_content(memory, huge);
	place();
	expect_number("huge: back to places for small ones", huge,
		      to_system(HMM_HARNESS_MIGRATE_COMPOUND |
				HMM_HARNESS_MIGRATE_SMALL));
	expect_number("huge: in these at home", HMM_HARNESS_PAGE_SYSTEM | ALL,
		      kind_of(device, memory));
	expect_content(memory, huge);

	place();
	expect_number("huge: a quarter back", huge / 4,
		      move(HMM_HARNESS_MIGRATE_TO_SYSTEM, "huge: a quarter",
			   memory, huge / 4, HMM_HARNESS_MIGRATE_COMPOUND));
	expect_number("huge: the rest in use", before + huge - huge / 4,
		      in_use());
	expect_content(memory, huge);
	expect_number("huge: none in use", before, in_use());
}

/* A CPU fault brings it home for parent and child; unmapping frees its part. */
static void check_mappings(__u64 before)
{
	int status = 0;
	pid_t pid;

	place();
	pid = fork();
	if (!pid)
		_exit(!expect_content(memory, huge));
	if (pid < 0 || waitpid(pid, &status, 0) != pid)
		status = -1;
	expect_number("huge: what the child read", 0, status);
	expect_number("huge: home by the child's fault",
		      HMM_HARNESS_PAGE_SYSTEM | HMM_HARNESS_PAGE_HUGE |
		      HMM_HARNESS_PAGE_READ,
		      kind_of(device, memory) & ~HMM_HARNESS_PAGE_WRITE);
	expect_number("huge: none in use after the fault", before, in_use());
	expect_content(memory, huge);

	/* The child's copy of the page table goes first, then ours, in parts. */
	place();
	pid = fork();
	if (!pid)
		_exit(munmap(memory, huge / 2 * page_size));
	if (pid < 0 || waitpid(pid, &status, 0) != pid)
		status = -1;
	expect_number("huge: the child unmapped a half", 0, status);
	if (madvise(memory + huge / 2 * page_size, huge / 2 * page_size,
		    MADV_DONTNEED))
		outcome("huge: MADV_DONTNEED of a half", false, 0, errno);
	expect_content(memory, huge / 2);
	expect_number("huge: none in use after a half", before, in_use());

	place();
	if (madvise(memory, huge * page_size, MADV_DONTNEED))
		outcome("huge: MADV_DONTNEED", false, 0, errno);
	expect_number("huge: none in use after all", before, in_use());
}

/* Half of two blocks are free on the device, and no whole one. */
static void check_fragmented(__u64 before, __u64 total)
{
	size_t length = (total - before) * page_size, half = huge / 2;
	char *small = mmap(NULL, length, PROT_READ | PROT_WRITE,
			   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (small == MAP_FAILED || madvise(small, length, MADV_NOHUGEPAGE)) {
		outcome("huge: small pages", false, 0, errno);
		return;
	}
	memset(small, 1, length);
	expect_number("huge: the device is full", total - before,
		      move(HMM_HARNESS_MIGRATE_TO_DEVICE, "huge: fill", small,
			   total - before, 0));
	move(HMM_HARNESS_MIGRATE_TO_SYSTEM, "huge: a half", small, half, 0);
	move(HMM_HARNESS_MIGRATE_TO_SYSTEM, "huge: another half",
	     small + huge * page_size, half, 0);
	expect_number("huge: so many in use", total - huge, in_use());

	if (madvise(memory, huge * page_size, MADV_DONTNEED))
		outcome("huge: MADV_DONTNEED", false, 0, errno);
	fill_content(memory, huge);
	expect_number("huge: moved one by one", huge,
		      to_device(HMM_HARNESS_MIGRATE_COMPOUND));
	expect_number("huge: by small pages", HMM_HARNESS_PAGE_DEVICE | ALL,
		      kind_of(device, memory));
	expect_content(memory, huge);
	munmap(small, length);
	expect_number("huge: none in use at last", before, in_use());
}

size_t check_huge(int fd)
{
	struct hmm_harness_stats stats = { 0 };
	struct hmm_harness_migrate probe = {
		.length = page_size, .flags = HMM_HARNESS_MIGRATE_COMPOUND,
	};

	device = fd;
	huge = HUGE_SIZE / page_size;
	memory = map_huge(2);
	if (!memory) {
		outcome("huge: mmap", false, 0, errno);
		return 0;
	}
	probe.addr = (uintptr_t)memory;
	if (ioctl(device, HMM_HARNESS_MIGRATE_TO_DEVICE, &probe) &&
	    errno == EOPNOTSUPP) {
		expect("huge: MIGRATE_TO_SYSTEM", device,
		       HMM_HARNESS_MIGRATE_TO_SYSTEM, &probe, EOPNOTSUPP);
		return 0;
	}
	if (madvise(memory, 2 * HUGE_SIZE, MADV_HUGEPAGE))
		outcome("huge: MADV_HUGEPAGE", false, 0, errno);
	expect("STATS", device, HMM_HARNESS_STATS, &stats, 0);
	check_moves(stats.pages_in_use);
	check_mappings(stats.pages_in_use);
	check_fragmented(stats.pages_in_use,
			 stats.pages_in_use + stats.pages_free);

	/* For the last close: one mapped as a whole, and half a one. */
	place();
	memory += HUGE_SIZE;
	place();
	if (madvise(memory + HUGE_SIZE / 2, HUGE_SIZE / 2, MADV_DONTNEED))
		outcome("huge: MADV_DONTNEED of a half", false, 0, errno);
	return 2 * huge;
}

void check_huge_closed(void)
{
	expect_content(memory - HUGE_SIZE, huge);
	expect_content(memory, huge / 2);
}

/* Faults the page there; whether a huge one was to be had. */
static bool had_huge(char *page)
{
	*page = 1;
	return kind_of(device, page) & HMM_HARNESS_PAGE_HUGE;
}

static __u64 free_memory(void)
{
	struct sysinfo info = { 0 };

	sysinfo(&info);
	return (__u64)info.freeram * info.mem_unit;
}

static char *rest, *end;	/* for huge pages that shall not be free */

static bool take_huge_pages(void)
{
	while (rest < end && had_huge(rest))
		rest += HUGE_SIZE;
	rest += HUGE_SIZE;
	return rest < end;
}

/*
 * Leaves free memory, but no huge page.  SPARE is taken in small pages, the rest
 * but as much in huge ones; and of the small ones every 64th stays, where
 * compaction may not move it.
 */
static bool fragment(void)
{
	size_t kept = 64 * page_size, length, i;
	char *small;

	if (!write_file("/proc/sys/vm/compact_unevictable_allowed", "0"))
		return false;
	length = free_memory();
	small = mmap(NULL, SPARE, PROT_READ | PROT_WRITE,
		     MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	rest = mmap(NULL, length, PROT_READ | PROT_WRITE,
		    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (small == MAP_FAILED || rest == MAP_FAILED ||
	    madvise(small, SPARE, MADV_NOHUGEPAGE) || mlock(small, SPARE) ||
	    madvise(rest, length, MADV_HUGEPAGE))
		return false;
	end = rest + length - HUGE_SIZE;
	rest += -(uintptr_t)rest & (HUGE_SIZE - 1);
	while (rest < end && free_memory() > SPARE && had_huge(rest))
		rest += HUGE_SIZE;
	for (i = 0; i < SPARE; i += kept)
		if (madvise(small + i, kept - page_size, MADV_DONTNEED_LOCKED))
			return false;
	return true;
}

/* The last close with a huge device folio; what the page at home is then. */
static __u8 close_scarce(void)
{
	struct hmm_harness_attach attach = { 0 };
	int status = 0, go[2];
	pid_t pid;
	char byte;

	place();
	pid = pipe(go) ? -1 : fork();
	if (!pid) {
		close(device);
		close(go[1]);
		_exit(read(go[0], &byte, 1) || !expect_content(memory, huge));
	}
	outcome("scarce: no huge page left", take_huge_pages(), 0, errno);
	close(device);
	device = open_device(0);
	expect_number("scarce: none in use after the last close", 0, in_use());
	expect("scarce: ATTACH", device, HMM_HARNESS_ATTACH, &attach, 0);
	expect_content(memory, huge);
	close(go[1]);
	if (pid < 0 || waitpid(pid, &status, 0) != pid)
		status = -1;
	expect_number("scarce: what the child read", 0, status);
	close(go[0]);
	return kind_of(device, memory) & ~ALL;
}

/* Again while a huge page has come up: freed ones merge, compaction goes on. */
int check_huge_scarce(int fd)
{
	int tries = 16;
	__u8 kind;

	device = fd;
	outcome("scarce: fragmented", fragment(), 0, errno);
	do
		kind = close_scarce();
	while (kind & HMM_HARNESS_PAGE_HUGE && --tries);
	expect_number("scarce: home in small pages", HMM_HARNESS_PAGE_SYSTEM,
		      kind);
	return device;
}
