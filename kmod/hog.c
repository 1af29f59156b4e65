// SPDX-License-Identifier: GPL-2.0-only
/* Taking a folio's lock again and again without moving the folio. */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/hmm.h>
#include <linux/jiffies.h>
#include <linux/mm.h>
#include <linux/pagemap.h>
#include <linux/sched.h>
#include <linux/sched/mm.h>
#include <linux/sched/signal.h>
#include <linux/uaccess.h>

#include "compat.h"
#include "internal.h"

/*
 * This device's folio at the address, with a reference; NULL if there is none,
 * -EAGAIN if it was given back while we looked.  It may even be another's before
 * we reference it; then that one is hogged, once, and the next look tells.
 */
static struct folio *hh_hog_find(struct hh_mirror *mirror, u64 addr)
{
	unsigned long pfn = 0;
	struct hmm_range range = {
		.notifier		= &mirror->notifier,
		.start			= addr,
		.end			= addr + PAGE_SIZE,
		.hmm_pfns		= &pfn,
		.default_flags		= HMM_PFN_REQ_FAULT,
		.dev_private_owner	= mirror->device,
	};
	struct folio *folio;
	struct page *page;
	u64 retries = 0;
	int ret;

	ret = hh_range_fault(mirror, &range, HMM_HARNESS_ENTRY_LOCKED,
			     msecs_to_jiffies(HMM_RANGE_DEFAULT_TIMEOUT),
			     &retries);
	if (ret)
		return ERR_PTR(ret);
	page = hmm_pfn_to_page(pfn);
	if (!is_device_private_page(page) ||
	    hh_page_pagemap(page)->owner != mirror->device)
		return NULL;
	folio = page_folio(page);
	return folio_try_get(folio) ? folio : ERR_PTR(-EAGAIN);
}

/* Unless somebody else has the lock, or has a migration under way. */
static void hh_hog_once(struct hh_device *device, struct folio *folio,
			struct hmm_harness_hog *hog)
{
	u64 start = hh_clock_ns();

	if (!folio_trylock(folio)) {
		hog->busy++;
		return;
	}
	hh_count(device, HH_HOG_LOCKS, 1);
	hh_clock_busy(hog->on_us);
	folio_unlock(folio);
	hog->locks++;
	hog->locked_ns += hh_clock_ns() - start;
}

static int hh_hog(struct hh_mirror *mirror, struct hmm_harness_hog *hog)
{
	u64 start = hh_clock_ns(), now = start;
	u64 end = start + hog->duration_ms * (u64)NSEC_PER_MSEC;
	bool found = false;
	int ret = 0;

	while (now < end) {
		struct folio *folio = hh_hog_find(mirror, hog->addr);

		if (!folio) {
			ret = found ? 0 : -ENOENT;
			break;
		}
		if (!IS_ERR(folio)) {
			hh_hog_once(mirror->device, folio, hog);
			folio_put(folio);
		} else if (PTR_ERR(folio) != -EAGAIN) {
			ret = PTR_ERR(folio);
			break;
		}
		found = true;
		hh_clock_busy(hog->off_us);
		if (signal_pending(current)) {
			ret = -EINTR;
			break;
		}
		cond_resched();
		now = hh_clock_ns();
	}
	hog->elapsed_ns = hh_clock_ns() - start;
	return ret;
}

long hh_ioctl_hog(struct hh_mirror *mirror, void __user *arg)
{
	struct hmm_harness_hog hog;
	struct mm_struct *mm;
	int ret;

	if (copy_from_user(&hog, arg, sizeof(hog)))
		return -EFAULT;
	if (hog.flags || hog.reserved[0] || hog.reserved[1])
		return -EINVAL;
	if (!hog.on_us || hog.on_us > HMM_HARNESS_MAX_DELAY_US ||
	    hog.off_us > HMM_HARNESS_MAX_DELAY_US || !hog.duration_ms ||
	    hog.duration_ms > HMM_HARNESS_MAX_TIMEOUT_MS)
		return -ERANGE;
	ret = hh_check_range(hog.addr, PAGE_SIZE);
	if (ret)
		return ret;
	mm = hh_mirror_mm(mirror);
	if (IS_ERR(mm))
		return PTR_ERR(mm);

	hh_clock_prepare();
	hog.locks = 0;
	hog.busy = 0;
	hog.locked_ns = 0;
	ret = hh_hog(mirror, &hog);
	mmput(mm);
	if (copy_to_user(arg, &hog, sizeof(hog)))
		return -EFAULT;
	return ret;
}
