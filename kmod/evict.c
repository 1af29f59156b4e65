// SPDX-License-Identifier: GPL-2.0-only
/*
 * Eviction: moving a device's memory home by its page frames, as a driver does
 * that needs it for others or is to go.  No mmap_lock is taken for that: who has
 * the memory mapped may drop it at any time, or end.  A huge folio for which no
 * huge page is to be had comes home by its address, afterwards.
 */
#include <linux/mm.h>
#include <linux/sched.h>
#include <linux/sched/signal.h>
#include <linux/slab.h>
#include <linux/uaccess.h>
#include <linux/wait.h>

#include "compat.h"
#include "internal.h"

/* A multiple of a huge folio's pages: none must reach beyond its batch. */
#define HH_EVICT_BATCH	max_t(unsigned long, HH_HUGE_PAGES, 512)

void hh_evict_init(struct hh_device *device)
{
	init_waitqueue_head(&device->evict_wait);
}

/* For device pages that are locked and unmapped, and not copied yet. */
static void hh_evict_wait(struct hh_device *device,
			  const unsigned long *source, unsigned long count,
			  u32 delay_ms)
{
	int before = atomic_read(&device->evict_went_on);
	unsigned long i, pages = 0;

	for (i = 0; i < count; i++)
		if (source[i] & MIGRATE_PFN_MIGRATE)
			pages += 1UL << hh_pfn_order(source[i]);
	if (!pages || !delay_ms)
		return;
	atomic_long_add(pages, &device->evicting);
	wait_event_killable_timeout(device->evict_wait,
				    atomic_read(&device->evict_went_on) !=
				    before, msecs_to_jiffies(delay_ms));
	atomic_long_sub(pages, &device->evicting);
}

/* False if there was no huge page to be had for one of its huge folios. */
static bool hh_evict_batch(struct hh_device *device, unsigned long *source,
			   unsigned long *target, unsigned long pfn,
			   unsigned long count, u32 delay_ms)
{
	unsigned long i, moved = 0, failed = 0;
	bool had = true;

	memset(target, 0, count * sizeof(*target));
	if (migrate_device_range(source, pfn, count))
		return true;

	hh_evict_wait(device, source, count, delay_ms);
	for (i = 0; i < count; i++) {
		struct page *page = migrate_pfn_to_page(source[i]);
		struct page *copy;

		if (!page || !(source[i] & MIGRATE_PFN_MIGRATE))
			continue;
		copy = hh_migrate_copy_out(page, hh_pfn_order(source[i]));
		if (copy)
			target[i] = hh_migrate_target(copy, source[i]);
		else if (hh_pfn_order(source[i]))
			had = false;
	}
	migrate_device_pages(source, target, count);
	for (i = 0; i < count; i++) {
		if (!target[i])
			continue;
		if (source[i] & MIGRATE_PFN_MIGRATE)
			moved += 1UL << hh_pfn_order(target[i]);
		else
			failed += 1UL << hh_pfn_order(target[i]);
	}
	migrate_device_finalize(source, target, count);
	hh_count(device, HH_TO_SYSTEM, moved);
	hh_count(device, HH_ABORTS, failed);
	return had;
}

/*
 * Moves what can be moved back to system memory; returns pages still in use.
 * By page frames the core does not split a huge folio, in page tables it does.
 */
unsigned long hh_evict(struct hh_device *device, u32 delay_ms)
{
	unsigned long first = PHYS_PFN(device->pagemap.range.start);
	unsigned long *source, *target;
	unsigned long i, count;
	bool split = false;

	if (!hh_devmem_used(device))
		return 0;

	source = kcalloc(HH_EVICT_BATCH, sizeof(*source), GFP_KERNEL);
	target = kcalloc(HH_EVICT_BATCH, sizeof(*target), GFP_KERNEL);
	if (source && target) {
		for (i = 0; i < device->nr_pages; i += HH_EVICT_BATCH) {
			count = min(HH_EVICT_BATCH, device->nr_pages - i);
			if (!hh_evict_batch(device, source, target, first + i,
					    count, delay_ms))
				split = true;
			cond_resched();
		}
	}
	kfree(target);
	kfree(source);
	if (split)
		hh_migrate_home(device);
	return hh_devmem_used(device);
}

long hh_ioctl_evict(struct hh_mirror *mirror, void __user *arg)
{
	struct hmm_harness_evict evict;

	if (copy_from_user(&evict, arg, sizeof(evict)))
		return -EFAULT;
	if ((evict.flags & ~HMM_HARNESS_EVICT_GO_ON) || evict.reserved[0] ||
	    evict.reserved[1])
		return -EINVAL;
	if (evict.delay_ms > HMM_HARNESS_MAX_TIMEOUT_MS)
		return -ERANGE;
	if (evict.flags & HMM_HARNESS_EVICT_GO_ON) {
		atomic_inc(&mirror->device->evict_went_on);
		wake_up_all(&mirror->device->evict_wait);
		evict.left = hh_devmem_used(mirror->device);
	} else {
		evict.left = hh_evict(mirror->device, evict.delay_ms);
	}
	if (copy_to_user(arg, &evict, sizeof(evict)))
		return -EFAULT;
	return fatal_signal_pending(current) ? -EINTR : 0;
}
