// SPDX-License-Identifier: GPL-2.0-only
/*
 * A churning process's memory.  It consists of blocks.  Who has a block's lock
 * knows what each of its pages must hold, and is the only one to change that;
 * what the device does meanwhile, and other threads without the lock, must not
 * change it.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <sched.h>
#include <string.h>
#include <sys/mman.h>

#include "churn.h"

#ifndef MREMAP_DONTUNMAP
#define MREMAP_DONTUNMAP	4
#endif

#define READ_WRITE	(PROT_READ | PROT_WRITE)
#define ANONYMOUS	(MAP_PRIVATE | MAP_ANONYMOUS)

/* Some pages of a block. */
struct part {
	struct churn_block *block;
	size_t first;
	size_t pages;
	char *memory;
	size_t length;
};

static size_t block_length(void)
{
	return BLOCK_PAGES * page_size;
}

/* Nobody else's mapping may come to lie in the arena. */
static bool reserve(char *place, size_t length)
{
	return mmap(place, length, PROT_NONE, ANONYMOUS | MAP_NORESERVE |
		    MAP_FIXED, -1, 0) == place;
}

static enum churn_result fails(const char *what)
{
	report_error(what, errno, "churn %llu",
		     (unsigned long long)churn_self.number);
	churn_fails(EXIT_ENVIRONMENT);
	return RESULT_FAILED;
}

/* EINVAL: a kernel without huge pages. */
static bool advise(struct churn_block *block)
{
	return !madvise(churn_memory(block), block_length(),
			block->huge ? MADV_HUGEPAGE : MADV_NOHUGEPAGE) ||
	       errno == EINVAL;
}

int churn_arena(struct churner *self)
{
	size_t i, length = block_length();
	char *place;

	churn_self.blocks = VALUE(PAGES) / BLOCK_PAGES;
	churn_self.arena_length = (churn_self.blocks + 2) * length;
	/*
	 * Two more, to begin where a huge page can, and to have some of it on
	 * both sides: a hole that moving a block leaves for a moment must not
	 * be one with the free space next to it.  A thread's first malloc()
	 * takes 128 MB from there and gives back what lies at both ends, by
	 * then a block's.
	 */
	place = mmap(NULL, churn_self.arena_length + 2 * length, PROT_NONE,
		     ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (place == MAP_FAILED)
		return errno;
	place += length - (uintptr_t)place % length;
	churn_self.arena = place;
	churn_self.spare = place + churn_self.blocks * length;
	churn_self.scratch = churn_self.spare + length;
	pthread_mutex_init(&churn_self.spare_lock, NULL);
	for (i = 0; i < churn_self.blocks; i++, place += length) {
		struct churn_block *block = &churn_self.block[i];

		pthread_mutex_init(&block->lock, NULL);
		memset(block->tag, 0, sizeof(block->tag));
		block->huge = churn_random(self) & 1;
		atomic_store(&block->memory, (uintptr_t)place);
		if (mprotect(place, length, READ_WRITE) || !advise(block))
			return errno;
	}
	return 0;
}

void churn_lock_all(void)
{
	size_t i;

	for (i = 0; i < churn_self.blocks; i++)
		pthread_mutex_lock(&churn_self.block[i].lock);
}

void churn_unlock_all(void)
{
	size_t i;

	for (i = 0; i < churn_self.blocks; i++)
		pthread_mutex_unlock(&churn_self.block[i].lock);
}

static void lock_part(struct part *part)
{
	part->length = part->pages * page_size;
	pthread_mutex_lock(&part->block->lock);
	part->memory = churn_memory(part->block) + part->first * page_size;
}

static struct part take_block(struct churner *self)
{
	struct part part = {
		.block = &churn_self.block[churn_random(self) %
					   churn_self.blocks],
		.pages = BLOCK_PAGES,
	};

	lock_part(&part);
	return part;
}

static struct part take(struct churner *self)
{
	struct part part = {
		.block = &churn_self.block[churn_random(self) %
					   churn_self.blocks],
		.pages = BLOCK_PAGES,
	};

	if (churn_random(self) % 8) {
		part.first = churn_random(self) % BLOCK_PAGES;
		part.pages = 1 + churn_random(self) % 64;
		if (part.pages > BLOCK_PAGES - part.first)
			part.pages = BLOCK_PAGES - part.first;
	}
	lock_part(&part);
	return part;
}

static void give_back(struct part *part)
{
	pthread_mutex_unlock(&part->block->lock);
}

/* No two pages of all processes have the same number and tag. */
static size_t page_number(const struct churn_block *block, size_t page)
{
	return (block - churn_self.block) * BLOCK_PAGES + page;
}

static void is_zero(struct part *part)
{
	memset(part->block->tag + part->first, 0,
	       part->pages * sizeof(*part->block->tag));
}

static bool check_zero(const char *memory, size_t number,
		       struct mismatch *mismatch)
{
	const __u64 *words = (const __u64 *)memory;
	size_t i;

	for (i = 0; i < page_size / sizeof(*words); i++) {
		if (!words[i])
			continue;
		*mismatch = (struct mismatch){
			.page = number,
			.offset = i * sizeof(*words),
			.found = words[i],
		};
		return false;
	}
	return true;
}

/* The pages of a block, wherever they are right now. */
static bool check(struct churner *self, const struct churn_block *block,
		  size_t first, size_t pages, const char *memory)
{
	struct mismatch mismatch;
	size_t page;

	for (page = first; page < first + pages; page++, memory += page_size) {
		size_t number = page_number(block, page);
		__u64 tag = block->tag[page];

		if (tag ? pattern_verify(memory, number, 1, tag, &mismatch) :
			  check_zero(memory, number, &mismatch))
			continue;
		report_corruption(self->name, churn_self.number,
				  memory - number * page_size, &mismatch);
		churn_fails(EXIT_CORRUPTION);
		return false;
	}
	return true;
}

static enum churn_result check_part(struct churner *self, struct part *part)
{
	return check(self, part->block, part->first, part->pages,
		     part->memory) ? RESULT_DONE : RESULT_FAILED;
}

bool churn_check_all(struct churner *self)
{
	bool good = true;
	size_t i;

	for (i = 0; good && i < churn_self.blocks; i++) {
		struct churn_block *block = &churn_self.block[i];

		pthread_mutex_lock(&block->lock);
		good = check(self, block, 0, BLOCK_PAGES,
			     churn_memory(block));
		pthread_mutex_unlock(&block->lock);
	}
	return good;
}

static void fill(struct churner *self, struct part *part)
{
	size_t i;

	for (i = 0; i < part->pages; i++) {
		size_t page = part->first + i;

		part->block->tag[page] = churn_random(self) | 1;
		pattern_fill(part->memory + i * page_size,
			     page_number(part->block, page), 1,
			     part->block->tag[page]);
	}
}

enum churn_result churn_write(struct churner *self)
{
	struct part part = take(self);

	fill(self, &part);
	give_back(&part);
	return RESULT_DONE;
}

/* A block that is one page, and that on a device. */
enum churn_result churn_huge(struct churner *self)
{
	struct part part = take_block(self);
	enum churn_result result = RESULT_DONE;

	part.block->huge = true;
	if (!advise(part.block) ||
	    madvise(part.memory, part.length, MADV_DONTNEED))
		result = fails("madvise");
	fill(self, &part);
	if (result == RESULT_DONE)
		result = churn_place_huge(self, part.memory);
	give_back(&part);
	return result;
}

enum churn_result churn_read(struct churner *self)
{
	struct part part = take(self);
	enum churn_result result = check_part(self, &part);

	give_back(&part);
	return result;
}

enum churn_result churn_dontneed(struct churner *self)
{
	struct part part = take(self);
	enum churn_result result = RESULT_DONE;

	if (madvise(part.memory, part.length, MADV_DONTNEED))
		result = fails("MADV_DONTNEED");
	is_zero(&part);
	give_back(&part);
	return result;
}

enum churn_result churn_unmap(struct churner *self)
{
	struct part part = take(self);
	enum churn_result result = RESULT_DONE;

	if (munmap(part.memory, part.length))
		result = fails("munmap");
	/* The hole is there to be seen. */
	sched_yield();
	if (mmap(part.memory, part.length, READ_WRITE, ANONYMOUS | MAP_FIXED,
		 -1, 0) != part.memory)
		result = fails("mmap");
	else if (!advise(part.block))
		result = fails("madvise");
	is_zero(&part);
	give_back(&part);
	return result;
}

static bool allowed(struct part *part, bool write)
{
	if (!churn_may_access(part->memory, part->pages, write))
		return false;
	report_error("FAULT", 0, "%s access to memory without permission",
		     write ? "write" : "read");
	churn_fails(EXIT_CHECK);
	return true;
}

enum churn_result churn_protect(struct churner *self)
{
	struct part part = take(self);
	enum churn_result result = RESULT_DONE;

	if (mprotect(part.memory, part.length, PROT_READ))
		result = fails("mprotect");
	else if (allowed(&part, true))
		result = RESULT_FAILED;
	else
		result = check_part(self, &part);
	if (result == RESULT_DONE && churn_random(self) & 1) {
		if (mprotect(part.memory, part.length, PROT_NONE))
			result = fails("mprotect");
		else if (allowed(&part, false))
			result = RESULT_FAILED;
	}
	if (mprotect(part.memory, part.length, READ_WRITE))
		result = fails("mprotect");
	if (result == RESULT_DONE)
		result = check_part(self, &part);
	give_back(&part);
	return result;
}

/*
 * The place to which nothing could be moved may have lost its reservation.
 * EFAULT: more than one mapping, which kernels before 6.17 do not move at once.
 */
static enum churn_result not_moved(char *place)
{
	int error = errno;

	if (!reserve(place, block_length()))
		return fails("mmap");
	errno = error;
	return error == EFAULT ? RESULT_REFUSED : fails("mremap");
}

static enum churn_result move(struct churner *self, struct churn_block *block)
{
	bool keep = churn_random(self) & 1;
	int flags = MREMAP_MAYMOVE | MREMAP_FIXED |
		    (keep ? MREMAP_DONTUNMAP : 0);
	char *from = churn_memory(block), *to = churn_self.spare;
	struct mismatch mismatch;

	if (mremap(from, block_length(), block_length(), flags, to) != to)
		return not_moved(to);
	atomic_store(&block->memory, (uintptr_t)to);
	churn_self.spare = from;
	/* What is left behind is empty. */
	if (keep && !check_zero(from, 0, &mismatch)) {
		report_corruption(self->name, churn_self.number, from,
				  &mismatch);
		churn_fails(EXIT_CORRUPTION);
		return RESULT_FAILED;
	}
	if (!reserve(from, block_length()))
		return fails("mmap");
	return RESULT_DONE;
}

enum churn_result churn_move(struct churner *self)
{
	struct part part = take(self);
	enum churn_result result;

	pthread_mutex_lock(&churn_self.spare_lock);
	result = move(self, part.block);
	pthread_mutex_unlock(&churn_self.spare_lock);
	give_back(&part);
	return result;
}

static enum churn_result move_part(struct churner *self, struct part *part)
{
	int flags = MREMAP_MAYMOVE | MREMAP_FIXED;
	char *away = churn_self.scratch + part->first * page_size;
	enum churn_result result = RESULT_DONE;

	if (mremap(part->memory, part->length, part->length, flags, away) !=
	    away)
		return not_moved(churn_self.scratch);
	if (!check(self, part->block, part->first, part->pages, away))
		result = RESULT_FAILED;
	if (mremap(away, part->length, part->length, flags, part->memory) !=
	    part->memory)
		result = fails("mremap");
	if (!reserve(churn_self.scratch, block_length()))
		result = fails("mmap");
	return result;
}

/* Away, and back. */
enum churn_result churn_move_part(struct churner *self)
{
	struct part part = take(self);
	enum churn_result result;

	pthread_mutex_lock(&churn_self.spare_lock);
	result = move_part(self, &part);
	pthread_mutex_unlock(&churn_self.spare_lock);
	give_back(&part);
	return result;
}

enum churn_result churn_advise(struct churner *self)
{
	struct part part = take(self);
	enum churn_result result = RESULT_DONE;

	part.block->huge = !part.block->huge;
	if (!advise(part.block))
		result = fails("madvise");
	give_back(&part);
	return result;
}
