// SPDX-License-Identifier: GPL-2.0-only
/* Faulting a range as a device does, looking at it, touching it as a CPU. */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/hmm.h>
#include <linux/jiffies.h>
#include <linux/mm.h>
#include <linux/pagemap.h>
#include <linux/sched.h>
#include <linux/sched/mm.h>
#include <linux/sched/signal.h>
#include <linux/slab.h>
#include <linux/uaccess.h>

#include "compat.h"
#include "internal.h"

/* True if what hmm_range_fault() found has been invalidated meanwhile. */
static bool hh_range_stale(struct hh_mirror *mirror, struct hmm_range *range)
{
	bool stale;

	spin_lock(&mirror->lock);
	stale = mmu_interval_read_retry(range->notifier, range->notifier_seq);
	spin_unlock(&mirror->lock);
	return stale;
}

/*
 * Until the range is stable, as drivers do it.  There is deliberately no
 * cond_resched() here: the drivers have none.
 */
int hh_range_fault(struct hh_mirror *mirror, struct hmm_range *range, u32 entry,
		   unsigned long timeout, u64 *retries)
{
	struct mm_struct *mm = range->notifier->mm;
	unsigned long deadline = jiffies + timeout;
	long left;
	int ret;

	for (;;) {
		if (entry == HMM_HARNESS_ENTRY_UNLOCKED) {
			/* Never 0, which would mean without end. */
			left = max_t(long, deadline - jiffies, 1);
			ret = hh_range_fault_unlocked(range, left);
			if (ret)
				return ret;
		} else {
			range->notifier_seq =
				mmu_interval_read_begin(range->notifier);
			mmap_read_lock(mm);
			ret = hmm_range_fault(range);
			mmap_read_unlock(mm);
			if (ret && ret != -EBUSY)
				return ret;
		}
		if (!ret && !hh_range_stale(mirror, range))
			return 0;

		++*retries;
		if (fatal_signal_pending(current))
			return -EINTR;
		if (time_after(jiffies, deadline))
			return -EBUSY;
	}
}

static int hh_fault_owner(struct hh_mirror *mirror,
			  const struct hmm_harness_fault *fault, void **owner)
{
	if (fault->owner != HMM_HARNESS_OWNER_DEVICE && fault->owner_device)
		return -EINVAL;

	switch (fault->owner) {
	case HMM_HARNESS_OWNER_SELF:
		*owner = mirror->device;
		return 0;
	case HMM_HARNESS_OWNER_NONE:
		*owner = NULL;
		return 0;
	case HMM_HARNESS_OWNER_DEVICE:
		if (fault->owner_device >= hh_nr_devices)
			return -ERANGE;
		*owner = hh_devices[fault->owner_device];
		return 0;
	default:
		return -EINVAL;
	}
}

static int hh_fault_check(struct hh_mirror *mirror,
			  const struct hmm_harness_fault *fault, void **owner)
{
	int ret;

	if (fault->reserved[0] || fault->reserved[1] ||
	    (fault->flags & ~HMM_HARNESS_FAULT_WRITE) ||
	    fault->entry > HMM_HARNESS_ENTRY_UNLOCKED)
		return -EINVAL;
	if (fault->timeout_ms > HMM_HARNESS_MAX_TIMEOUT_MS)
		return -ERANGE;
	ret = hh_fault_owner(mirror, fault, owner);
	if (!ret)
		ret = hh_check_range(fault->addr, fault->length);
	if (ret)
		return ret;
	if (fault->entry == HMM_HARNESS_ENTRY_UNLOCKED &&
	    !HH_RANGE_FAULT_UNLOCKED)
		return -EOPNOTSUPP;
	return 0;
}

long hh_ioctl_fault(struct hh_mirror *mirror, void __user *arg)
{
	struct hmm_harness_fault fault;
	struct hh_fault_entry entry = { .mirror = mirror };
	struct hmm_range range = { .notifier = &mirror->notifier };
	unsigned long timeout;
	struct mm_struct *mm;
	int ret;

	if (copy_from_user(&fault, arg, sizeof(fault)))
		return -EFAULT;
	ret = hh_fault_check(mirror, &fault, &range.dev_private_owner);
	if (ret)
		return ret;
	mm = hh_mirror_mm(mirror);
	if (IS_ERR(mm))
		return PTR_ERR(mm);

	range.start = fault.addr;
	range.end = fault.addr + fault.length;
	range.default_flags = HMM_PFN_REQ_FAULT;
	if (fault.flags & HMM_HARNESS_FAULT_WRITE)
		range.default_flags |= HMM_PFN_REQ_WRITE;
	range.hmm_pfns = kvcalloc(fault.length >> PAGE_SHIFT,
				  sizeof(*range.hmm_pfns), GFP_KERNEL);
	if (!range.hmm_pfns) {
		mmput(mm);
		return -ENOMEM;
	}
	timeout = msecs_to_jiffies(fault.timeout_ms ?: HMM_RANGE_DEFAULT_TIMEOUT);
	fault.retries = 0;

	entry.owner = range.dev_private_owner;
	entry.start = range.start;
	entry.end = range.end;
	hh_window_fault_enter(&entry);
	ret = hh_range_fault(mirror, &range, fault.entry, timeout,
			     &fault.retries);
	hh_window_fault_leave(&entry);

	fault.cpu = entry.cpu;
	hh_count(mirror->device, HH_FAULTS, 1);
	hh_count(mirror->device, HH_FAULT_RETRIES, fault.retries);
	kvfree(range.hmm_pfns);
	mmput(mm);
	if (copy_to_user(arg, &fault, sizeof(fault)))
		return -EFAULT;
	return ret;
}

/* The byte for one page, from what hmm_range_fault() said about it. */
static u8 hh_snapshot_byte(struct hh_device *device, unsigned long hmm_pfn)
{
	struct page *page;
	u8 byte = HMM_HARNESS_PAGE_READ;

	if (hmm_pfn & HMM_PFN_ERROR)
		return HMM_HARNESS_PAGE_OTHER;
	if (!(hmm_pfn & HMM_PFN_VALID))
		return HMM_HARNESS_PAGE_NONE;
	if (hmm_pfn & HMM_PFN_WRITE)
		byte |= HMM_HARNESS_PAGE_WRITE;
	if (hmm_pfn_to_map_order(hmm_pfn) == PMD_SHIFT - PAGE_SHIFT)
		byte |= HMM_HARNESS_PAGE_HUGE;
	page = hmm_pfn_to_page(hmm_pfn);
	if (!is_device_private_page(page))
		return byte | HMM_HARNESS_PAGE_SYSTEM;
	if (hh_page_pagemap(page)->owner == device)
		return byte | HMM_HARNESS_PAGE_DEVICE;
	return byte | HMM_HARNESS_PAGE_OTHER;
}

/*
 * Without a request to fault, a foreign device page is reported as no page at
 * all; pages seen by no owner's eyes are therefore asked for once more with
 * each other device as the owner.
 */
static int hh_snapshot_fill(struct hh_mirror *mirror, struct hmm_range *range,
			    u8 *bytes)
{
	unsigned long i, pages = (range->end - range->start) >> PAGE_SHIFT;
	unsigned int n;
	u64 retries = 0;
	int ret;

	memset(bytes, HMM_HARNESS_PAGE_NONE, pages);
	for (n = 0; n < hh_nr_devices; n++) {
		memset(range->hmm_pfns, 0, pages * sizeof(*range->hmm_pfns));
		range->dev_private_owner = hh_devices[n];
		ret = hh_range_fault(mirror, range, HMM_HARNESS_ENTRY_LOCKED,
				     msecs_to_jiffies(HMM_RANGE_DEFAULT_TIMEOUT),
				     &retries);
		if (ret)
			return ret;
		for (i = 0; i < pages; i++)
			if (bytes[i] == HMM_HARNESS_PAGE_NONE)
				bytes[i] = hh_snapshot_byte(mirror->device,
							    range->hmm_pfns[i]);
	}
	return 0;
}

long hh_ioctl_snapshot(struct hh_mirror *mirror, void __user *arg)
{
	struct hmm_harness_snapshot snapshot;
	struct hmm_range range = { .notifier = &mirror->notifier };
	struct mm_struct *mm;
	u8 *bytes;
	int ret;

	if (copy_from_user(&snapshot, arg, sizeof(snapshot)))
		return -EFAULT;
	if (snapshot.flags || snapshot.reserved[0] || snapshot.reserved[1])
		return -EINVAL;
	ret = hh_check_range(snapshot.addr, snapshot.length);
	if (ret)
		return ret;
	if (snapshot.count != snapshot.length >> PAGE_SHIFT)
		return -EINVAL;
	mm = hh_mirror_mm(mirror);
	if (IS_ERR(mm))
		return PTR_ERR(mm);

	range.start = snapshot.addr;
	range.end = snapshot.addr + snapshot.length;
	range.hmm_pfns = kvcalloc(snapshot.count, sizeof(*range.hmm_pfns),
				  GFP_KERNEL);
	bytes = kvcalloc(snapshot.count, sizeof(*bytes), GFP_KERNEL);
	if (!range.hmm_pfns || !bytes) {
		ret = -ENOMEM;
		goto out;
	}
	ret = hh_snapshot_fill(mirror, &range, bytes);
	if (!ret && copy_to_user(u64_to_user_ptr(snapshot.pages), bytes,
				 snapshot.count))
		ret = -EFAULT;
out:
	kvfree(bytes);
	kvfree(range.hmm_pfns);
	mmput(mm);
	return ret;
}

/*
 * Faulting through get_user_pages_fast() in the process itself is what a store
 * by the thread would do, but leaves the page in hand to look at.
 */
long hh_ioctl_touch(struct hh_mirror *mirror, void __user *arg)
{
	struct hmm_harness_touch touch;
	unsigned long addr, end;
	struct mm_struct *mm;
	int ret;

	if (copy_from_user(&touch, arg, sizeof(touch)))
		return -EFAULT;
	if (touch.flags || touch.reserved[0] || touch.reserved[1])
		return -EINVAL;
	ret = hh_check_range(touch.addr, touch.length);
	if (ret)
		return ret;
	mm = hh_mirror_mm(mirror);
	if (IS_ERR(mm))
		return PTR_ERR(mm);
	if (mm != current->mm) {
		mmput(mm);
		return -EINVAL;
	}

	touch.cpu = raw_smp_processor_id();
	touch.off_lru = 0;
	end = touch.addr + touch.length;
	for (addr = touch.addr; addr < end; addr += PAGE_SIZE) {
		struct page *page;
		bool present;

		/* What was there already came up elsewhere, who knows where. */
		present = get_user_page_fast_only(addr, FOLL_WRITE, &page);
		if (!present) {
			ret = get_user_pages_fast(addr, 1, FOLL_WRITE, &page);
			if (ret != 1) {
				ret = ret < 0 ? ret : -EFAULT;
				break;
			}
			ret = 0;
		}
		if (touch.cpu != raw_smp_processor_id()) {
			put_page(page);
			ret = -EAGAIN;
			break;
		}
		if (!folio_test_lru(page_folio(page))) {
			touch.off_lru++;
			if (!present)
				hh_window_batched(page, touch.cpu);
		}
		put_page(page);
		if (fatal_signal_pending(current)) {
			ret = -EINTR;
			break;
		}
		cond_resched();
	}
	mmput(mm);
	if (copy_to_user(arg, &touch, sizeof(touch)))
		return -EFAULT;
	return ret;
}
