// SPDX-License-Identifier: GPL-2.0-only
/*
 * The playground that the ioctls are about: 16 MiB of address space with all
 * kinds of memory, and what a process may do to it meanwhile.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "fuzz.h"

#define MIB	(1024 * 1024ULL)

#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE	25
#endif

#define MOST_AGAIN	1000

static __thread sigjmp_buf landing;
static __thread atomic_bool guarded;

static atomic_uint again;

/*
 * Not in the arena: this program is broken, unless a device has a page of the
 * program itself, by a range that happens to be there, and its driver has failed
 * to copy that.  Then again, as drivers do not fail always.
 */
static void on_fault(int number)
{
	if (atomic_load(&guarded))
		siglongjmp(landing, 1);
	if (number != SIGBUS || atomic_fetch_add(&again, 1) >= MOST_AGAIN)
		_exit(128 + number);
}

static void on_nothing(int number)
{
	(void)number;
}

/* SIGUSR1 does nothing but interrupt. */
void fuzz_catch_faults(void)
{
	/* The handler's own pages may be there as well. */
	struct sigaction fault = {
		.sa_handler = on_fault, .sa_flags = SA_NODEFER,
	};
	struct sigaction nothing = { .sa_handler = on_nothing };

	sigaction(SIGSEGV, &fault, NULL);
	sigaction(SIGBUS, &fault, NULL);
	sigaction(SIGUSR1, &nothing, NULL);
}

static void *map(__u64 addr, __u64 length, int protection, int flags)
{
	return mmap((void *)addr, length, protection,
		    MAP_FIXED | MAP_ANONYMOUS | flags, -1, 0);
}

int fuzz_arena(void)
{
	const int all = PROT_READ | PROT_WRITE;
	char *huge = (char *)FUZZ_ARENA + 4 * MIB;

	/* The last two MiB are a hole. */
	if (map(FUZZ_ARENA, FUZZ_ARENA_SIZE, PROT_NONE, MAP_PRIVATE) ==
		    MAP_FAILED ||
	    map(FUZZ_ARENA, 8 * MIB, all, MAP_PRIVATE) == MAP_FAILED ||
	    map(FUZZ_ARENA + 8 * MIB, 4 * MIB, all, MAP_SHARED) == MAP_FAILED ||
	    map(FUZZ_ARENA + 12 * MIB, 2 * MIB, PROT_READ, MAP_PRIVATE) ==
		    MAP_FAILED ||
	    munmap((char *)FUZZ_ARENA + 14 * MIB, 2 * MIB))
		return errno;
	/* EINVAL: a kernel without. */
	madvise((void *)FUZZ_ARENA, 4 * MIB, MADV_NOHUGEPAGE);
	madvise(huge, 4 * MIB, MADV_HUGEPAGE);
	return 0;
}

/* Short ones mostly, all of the arena now and then, and what is too long. */
struct fuzz_range fuzz_range(struct fuzz_random *random)
{
	static const __u64 longest[] = { 4, 16, 64, 600, 4096 };
	__u64 most = longest[fuzz_below(random, ARRAY_SIZE(longest))];
	__u64 pages = FUZZ_ARENA_SIZE / page_size;
	__u64 first = fuzz_below(random, pages);
	__u64 count = 1 + fuzz_below(random, most);
	unsigned int dice = fuzz_below(random, 100);

	/* Neighbours meet more often in a small place. */
	if (dice < 50)
		first %= 1024 + 64;
	if (dice < 10)
		first = first / 512 * 512;
	/* Beyond the arena there is nothing. */
	if (dice < 96 && first + count > pages)
		count = pages - first;
	if (dice == 99)
		count = fuzz_below(random,
				   2 * HMM_HARNESS_MAX_LENGTH / page_size);
	return (struct fuzz_range) {
		FUZZ_ARENA + first * page_size, count * page_size
	};
}

/* Loads and stores: faults from user mode, which bring pages home. */
void fuzz_touch(struct fuzz_random *random)
{
	struct fuzz_range range = fuzz_range(random);
	bool store = fuzz_percent(random, 60);
	__u64 at = range.addr, end = at + range.length;

	if (range.length > 64 * page_size)
		end = at + 64 * page_size;
	atomic_store(&guarded, true);
	if (!sigsetjmp(landing, 1)) {
		for (; at < end; at += page_size) {
			if (store)
				atomic_store((atomic_char *)at, 1);
			else
				atomic_load((atomic_char *)at);
		}
	}
	atomic_store(&guarded, false);
}

bool fuzz_copy(void *to, const void *from, size_t size)
{
	bool copied = false;

	atomic_store(&guarded, true);
	if (!sigsetjmp(landing, 1)) {
		memcpy(to, from, size);
		copied = true;
	}
	atomic_store(&guarded, false);
	return copied;
}

static void remap(struct fuzz_random *random, struct fuzz_range from)
{
	struct fuzz_range to = fuzz_range(random);

	if (from.length > 64 * page_size)
		from.length = 64 * page_size;
	if (to.addr + from.length <= FUZZ_ARENA + FUZZ_ARENA_SIZE)
		mremap((void *)from.addr, from.length, from.length,
		       MREMAP_MAYMOVE | MREMAP_FIXED, (void *)to.addr);
}

/* Whatever the kernel says to it: the ranges are wild. */
void fuzz_mm(struct fuzz_random *random)
{
	static const int advice[] = {
		MADV_DONTNEED, MADV_DONTNEED, MADV_DONTNEED, MADV_FREE,
		MADV_HUGEPAGE, MADV_NOHUGEPAGE, MADV_COLD, MADV_PAGEOUT,
		MADV_COLLAPSE, MADV_POPULATE_WRITE, MADV_POPULATE_READ,
		MADV_DONTFORK, MADV_DOFORK, MADV_WIPEONFORK, MADV_KEEPONFORK,
		MADV_REMOVE,
	};
	static const int protections[] = {
		PROT_READ | PROT_WRITE, PROT_READ | PROT_WRITE, PROT_READ,
		PROT_NONE,
	};
	struct fuzz_range range = fuzz_range(random);
	void *at = (void *)range.addr;

	/* Nothing of this process but the arena. */
	if (range.addr + range.length > FUZZ_ARENA + FUZZ_ARENA_SIZE)
		return;
	switch (fuzz_below(random, 8)) {
	case 0:
		munmap(at, range.length);
		break;
	case 1:
	case 2:
		map(range.addr, range.length, PROT_READ | PROT_WRITE,
		    fuzz_percent(random, 80) ? MAP_PRIVATE : MAP_SHARED);
		break;
	case 3:
		mprotect(at, range.length,
			 protections[fuzz_below(random, ARRAY_SIZE(protections))]);
		break;
	case 4:
		remap(random, range);
		break;
	case 5:
		if (fuzz_percent(random, 50))
			mlock(at, range.length);
		else
			munlock(at, range.length);
		break;
	default:
		madvise(at, range.length,
			advice[fuzz_below(random, ARRAY_SIZE(advice))]);
	}
}
