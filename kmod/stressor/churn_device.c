// SPDX-License-Identifier: GPL-2.0-only
/*
 * What a churning process has done to its memory without knowing, or changing,
 * what that holds: by devices, and by the kernel's own machinery.  Whatever
 * threads with locks do at the same time, an answer other than those expected
 * here is an error.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "churn.h"

#ifndef MADV_COLD
#define MADV_COLD	20
#endif
#ifndef MADV_PAGEOUT
#define MADV_PAGEOUT	21
#endif
#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE	25
#endif

#define SPLIT_FILE	"/sys/kernel/debug/split_huge_pages"

struct range {
	char *memory;
	size_t pages;
};

/* Pages of one block, or from it on whatever there is. */
static struct range choose(struct churner *self)
{
	struct churn_block *block =
		&churn_self.block[churn_random(self) % churn_self.blocks];
	struct range range = { churn_memory(block), BLOCK_PAGES };
	size_t first;

	switch (churn_random(self) % 16) {
	case 0:
		range.pages = (churn_self.arena + churn_self.arena_length -
			       range.memory) / page_size;
		break;
	case 1 ... 4:
		break;
	default:
		first = churn_random(self) % BLOCK_PAGES;
		range.memory += first * page_size;
		range.pages = 1 + churn_random(self) % 64;
		if (range.pages > BLOCK_PAGES - first)
			range.pages = BLOCK_PAGES - first;
	}
	return range;
}

static int any_device(struct churner *self)
{
	return atomic_load(&churn_self.device[churn_random(self) %
					      churn_devices]);
}

/*
 * EBADF, ENOTTY: the file was closed meanwhile, and another has its number;
 * ENXIO: it is open again, and not attached yet; ESRCH: it is the parent's, and
 * that is gone; EINTR: this process is to die.
 */
static enum churn_result answer(struct churner *self, int error, int also,
				int too)
{
	switch (error) {
	case 0:
		return RESULT_DONE;
	case EBADF:
	case ENOTTY:
	case ENXIO:
	case ESRCH:
	case EINTR:
	case EFAULT:
	case ENOMEM:
		return RESULT_REFUSED;
	}
	if (error == also || error == too)
		return RESULT_REFUSED;
	report_error("ioctl", error, "%s of %s", churn_names[self->kind],
		     self->name);
	churn_fails(EXIT_CHECK);
	return RESULT_FAILED;
}

static bool huge_device_page(const __u8 *bytes, size_t pages)
{
	while (pages--) {
		__u8 kind = *bytes & HMM_HARNESS_PAGE_KIND;

		if (*bytes++ & HMM_HARNESS_PAGE_HUGE &&
		    kind != HMM_HARNESS_PAGE_SYSTEM)
			return true;
	}
	return false;
}

static enum churn_result snapshot(struct churner *self, struct range range)
{
	struct hmm_harness_snapshot look = {
		.addr = (uintptr_t)range.memory,
		.length = range.pages * page_size,
		.count = range.pages,
	};
	__u8 *bytes = malloc(range.pages);
	int error;

	if (!bytes)
		return RESULT_REFUSED;
	look.pages = (uintptr_t)bytes;
	error = ioctl(any_device(self), HMM_HARNESS_SNAPSHOT, &look) ?
		errno : 0;
	if (!error && huge_device_page(bytes, range.pages))
		atomic_fetch_add(&churn->huge, 1);
	free(bytes);
	return answer(self, error, EBUSY, EPERM);
}

static enum churn_result migrate(struct churner *self, unsigned long request,
				 __u32 flags)
{
	struct range range = choose(self);
	struct hmm_harness_migrate migrate = {
		.addr = (uintptr_t)range.memory,
		.length = range.pages * page_size,
		.flags = flags,
	};
	int fd = any_device(self), error;

	/* In whole huge pages, on kernels that have such device folios. */
	if (churn_random(self) & 1)
		migrate.flags |= HMM_HARNESS_MIGRATE_COMPOUND;
	if (migrate.flags & HMM_HARNESS_MIGRATE_COMPOUND &&
	    VALUE(SMALL_PERCENT) &&
	    churn_random(self) % 100 < VALUE(SMALL_PERCENT))
		migrate.flags |= HMM_HARNESS_MIGRATE_SMALL;
	error = ioctl(fd, request, &migrate) ? errno : 0;
	if (error == EOPNOTSUPP) {
		migrate.flags = flags;
		error = ioctl(fd, request, &migrate) ? errno : 0;
	}
	return answer(self, error, 0, 0);
}

enum churn_result churn_place_huge(struct churner *self, char *memory)
{
	struct hmm_harness_migrate migrate = {
		.addr = (uintptr_t)memory,
		.length = BLOCK_PAGES * page_size,
		.flags = HMM_HARNESS_MIGRATE_COMPOUND,
	};

	if (ioctl(any_device(self), HMM_HARNESS_MIGRATE_TO_DEVICE, &migrate))
		return answer(self, errno, EOPNOTSUPP, 0);
	return snapshot(self, (struct range){ memory, BLOCK_PAGES });
}

enum churn_result churn_to_device(struct churner *self)
{
	return migrate(self, HMM_HARNESS_MIGRATE_TO_DEVICE, 0);
}

enum churn_result churn_mixed(struct churner *self)
{
	return migrate(self, HMM_HARNESS_MIGRATE_TO_DEVICE,
		       HMM_HARNESS_MIGRATE_MIXED);
}

enum churn_result churn_to_system(struct churner *self)
{
	return migrate(self, HMM_HARNESS_MIGRATE_TO_SYSTEM, 0);
}

static enum churn_result fault(struct churner *self, __u32 owner,
			       __u32 owner_device)
{
	struct range range = choose(self);
	struct hmm_harness_fault fault = {
		.addr = (uintptr_t)range.memory,
		.length = range.pages * page_size,
		.flags = churn_random(self) & 1 ? HMM_HARNESS_FAULT_WRITE : 0,
		.owner = owner,
		.owner_device = owner_device,
		.entry = churn_random(self) & 1 ? HMM_HARNESS_ENTRY_UNLOCKED :
						  HMM_HARNESS_ENTRY_LOCKED,
		.timeout_ms = churn_random(self) & 1 ? 20 : 0,
	};
	int fd = any_device(self);
	int error = ioctl(fd, HMM_HARNESS_FAULT, &fault) ? errno : 0;

	if (error == EOPNOTSUPP) {
		fault.entry = HMM_HARNESS_ENTRY_LOCKED;
		error = ioctl(fd, HMM_HARNESS_FAULT, &fault) ? errno : 0;
	}
	return answer(self, error, EBUSY, EPERM);
}

/* The pages of the device itself stay where they are. */
enum churn_result churn_fault(struct churner *self)
{
	return fault(self, HMM_HARNESS_OWNER_SELF, 0);
}

/* Device pages come home, whoever has them. */
enum churn_result churn_fault_foreign(struct churner *self)
{
	if (churn_random(self) & 1)
		return fault(self, HMM_HARNESS_OWNER_NONE, 0);
	return fault(self, HMM_HARNESS_OWNER_DEVICE,
		     churn_random(self) % churn_devices);
}

/*
 * As nobody's device: of its own pages a device is told where they are even if
 * it asks for more than the mapping allows (mm/hmm.c, hmm_vma_handle_pte()).
 */
bool churn_may_access(char *memory, size_t pages, bool write)
{
	struct hmm_harness_fault fault = {
		.addr = (uintptr_t)memory,
		.length = pages * page_size,
		.flags = write ? HMM_HARNESS_FAULT_WRITE : 0,
		.owner = HMM_HARNESS_OWNER_NONE,
		.timeout_ms = 20,
	};

	return atomic_load(&churn_self.own) &&
	       !ioctl(atomic_load(&churn_self.device[0]), HMM_HARNESS_FAULT,
		      &fault);
}

enum churn_result churn_snapshot(struct churner *self)
{
	return snapshot(self, choose(self));
}

/* EAGAIN: on another CPU by now; EINVAL: by the parent's file. */
enum churn_result churn_touch(struct churner *self)
{
	struct range range = choose(self);
	struct hmm_harness_touch touch = {
		.addr = (uintptr_t)range.memory,
		.length = range.pages * page_size,
	};
	int error = ioctl(any_device(self), HMM_HARNESS_TOUCH, &touch) ?
		    errno : 0;

	return answer(self, error, EAGAIN, EINVAL);
}

/* The kernel gives up for a dozen good reasons. */
enum churn_result churn_collapse(struct churner *self)
{
	struct churn_block *block =
		&churn_self.block[churn_random(self) % churn_self.blocks];

	return madvise(churn_memory(block), BLOCK_PAGES * page_size,
		       MADV_COLLAPSE) ? RESULT_REFUSED : RESULT_DONE;
}

enum churn_result churn_split(struct churner *self)
{
	struct range range = choose(self);
	char text[80];

	snprintf(text, sizeof(text), "%d,0x%lx,0x%lx", getpid(),
		 (unsigned long)range.memory,
		 (unsigned long)(range.memory + range.pages * page_size));
	return write_file(SPLIT_FILE, text) ? RESULT_DONE : RESULT_REFUSED;
}

/* Without swap nothing leaves; isolated, split and put back it is all the same. */
enum churn_result churn_pageout(struct churner *self)
{
	struct range range = choose(self);

	return madvise(range.memory, range.pages * page_size,
		       churn_random(self) & 1 ? MADV_PAGEOUT : MADV_COLD) ?
	       RESULT_REFUSED : RESULT_DONE;
}

/* ENOENT: the page is not on that device; EBUSY: it never stays where it is. */
enum churn_result churn_hog(struct churner *self)
{
	struct range range = choose(self);
	struct hmm_harness_hog hog = {
		.addr = (uintptr_t)range.memory,
		.on_us = 1 + churn_random(self) % 200,
		.off_us = churn_random(self) % 50,
		.duration_ms = 4,
	};
	int error = ioctl(any_device(self), HMM_HARNESS_HOG, &hog) ? errno : 0;

	return answer(self, error, ENOENT, EBUSY);
}

/* A device wants its memory back, whoever has it. */
enum churn_result churn_evict(struct churner *self)
{
	struct hmm_harness_evict evict = { 0 };

	if (!VALUE(EVICT_MS))
		return RESULT_REFUSED;
	evict.delay_ms = churn_random(self) % (VALUE(EVICT_MS) + 1);
	return answer(self, ioctl(any_device(self), HMM_HARNESS_EVICT, &evict) ?
			    errno : 0, 0, 0);
}

static int open_and_attach(unsigned int index)
{
	struct hmm_harness_attach attach = { 0 };
	int fd = open_device(index);

	if (fd < 0)
		return -1;
	if (!ioctl(fd, HMM_HARNESS_ATTACH, &attach))
		return fd;
	close(fd);
	return -1;
}

int churn_open_all(void)
{
	unsigned int i;
	int error = 0;

	for (i = 0; i < churn_devices; i++) {
		int fd = open_and_attach(i);

		if (fd < 0)
			error = errno;
		atomic_store(&churn_self.device[i], fd);
	}
	atomic_store(&churn_self.own, !error);
	return error;
}

void churn_close_all(void)
{
	unsigned int i;

	for (i = 0; i < churn_devices; i++) {
		int fd = atomic_exchange(&churn_self.device[i], -1);

		if (fd >= 0)
			close(fd);
	}
}

/* Closed under the feet of whoever uses it, then there again. */
enum churn_result churn_reopen(struct churner *self)
{
	unsigned int index = churn_random(self) % churn_devices;
	int fd = atomic_exchange(&churn_self.device[index], -1);

	if (fd >= 0)
		close(fd);
	fd = open_and_attach(index);
	if (fd < 0) {
		/* EINTR: about to die, in the middle of it. */
		if (errno != EINTR && errno != ENOMEM)
			return answer(self, errno, 0, 0);
		return RESULT_REFUSED;
	}
	/* Another thread may have been as quick. */
	fd = atomic_exchange(&churn_self.device[index], fd);
	if (fd >= 0)
		close(fd);
	return RESULT_DONE;
}
