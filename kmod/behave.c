// SPDX-License-Identifier: GPL-2.0-only
/*
 * How the simulated driver behaves: CPU faults that take turns, as on a mutex
 * that nouveau and amdgpu have, or are slow; migrations that fail.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/mm.h>
#include <linux/pagemap.h>
#include <linux/uaccess.h>

#include "internal.h"

void hh_behave_init(struct hh_device *device)
{
	mutex_init(&device->behave.turn);
	spin_lock_init(&device->behave.lock);
}

/* The counts stay, the rules are new. */
static void hh_behave_rule(struct hh_behave *behave, enum hh_way way,
			   const struct hmm_harness_failure *rules)
{
	unsigned int step;

	for (step = 0; step < HMM_HARNESS_STEPS; step++) {
		behave->failure[way][step].next = rules[step].next;
		behave->failure[way][step].every = rules[step].every;
		behave->passed[way][step] = 0;
	}
}

static void hh_behave_set(struct hh_device *device,
			  const struct hmm_harness_behave *wanted)
{
	struct hh_behave *behave = &device->behave;

	spin_lock(&behave->lock);
	behave->flags = wanted->flags;
	behave->delay_us = wanted->delay_us;
	hh_behave_rule(behave, HH_WAY_RAM, wanted->to_ram);
	hh_behave_rule(behave, HH_WAY_DEVICE, wanted->to_device);
	spin_unlock(&behave->lock);
}

/* With the last file goes what it asked for. */
void hh_behave_reset(struct hh_device *device)
{
	static const struct hmm_harness_behave good;

	hh_behave_set(device, &good);
}

/* A CPU fault calls it before migrate_vma_setup(), and may sleep. */
void hh_mishap_begin(struct hh_mishap *mishap, struct hh_device *device,
		     enum hh_way way)
{
	struct hh_behave *behave = &device->behave;
	u32 delay_us;

	*mishap = (struct hh_mishap){ .device = device, .way = way };
	if (way != HH_WAY_RAM)
		return;
	spin_lock(&behave->lock);
	mishap->turn = behave->flags & HMM_HARNESS_BEHAVE_MUTEX;
	delay_us = behave->delay_us;
	spin_unlock(&behave->lock);
	if (mishap->turn)
		mutex_lock(&behave->turn);
	if (delay_us)
		hh_clock_busy(delay_us);
}

/* True if the rule makes this migration fail. */
static bool hh_behave_due(struct hmm_harness_failure *failure, u32 *passed)
{
	if (failure->next) {
		failure->next--;
	} else {
		if (!failure->every || ++*passed < failure->every)
			return false;
		*passed = 0;
	}
	failure->failed++;
	return true;
}

static unsigned int hh_behave_step(struct hh_behave *behave, enum hh_way way)
{
	unsigned int step;

	spin_lock(&behave->lock);
	for (step = 0; step < HMM_HARNESS_STEPS; step++)
		if (hh_behave_due(&behave->failure[way][step],
				  &behave->passed[way][step]))
			break;
	spin_unlock(&behave->lock);
	return step;
}

/*
 * For each page of a migration that can be moved, with its copy or NULL; the
 * first that has one decides.  -ENOMEM: no copy.  -EIO: it came to nothing.
 */
int hh_mishap_strike(struct hh_mishap *mishap, struct page *source,
		     struct page **copy)
{
	unsigned int step;

	if (!*copy)
		return -ENOMEM;
	if (mishap->decided)
		return 0;
	mishap->decided = true;
	step = hh_behave_step(&mishap->device->behave, mishap->way);
	if (step == HMM_HARNESS_STEPS)
		return 0;
	if (step == HMM_HARNESS_STEP_REFERENCE) {
		mishap->pinned = page_folio(source);
		folio_get(mishap->pinned);
		return 0;
	}
	folio_unlock(page_folio(*copy));
	folio_put(page_folio(*copy));
	*copy = NULL;
	return step == HMM_HARNESS_STEP_ALLOC ? -ENOMEM : -EIO;
}

/* After migrate_vma_finalize(). */
void hh_mishap_end(struct hh_mishap *mishap)
{
	if (mishap->pinned)
		folio_put(mishap->pinned);
	if (mishap->turn)
		mutex_unlock(&mishap->device->behave.turn);
}

static void hh_behave_report(struct hh_behave *behave,
			     struct hmm_harness_behave *report)
{
	unsigned int step;

	spin_lock(&behave->lock);
	for (step = 0; step < HMM_HARNESS_STEPS; step++) {
		report->to_ram[step].failed =
			behave->failure[HH_WAY_RAM][step].failed;
		report->to_device[step].failed =
			behave->failure[HH_WAY_DEVICE][step].failed;
	}
	spin_unlock(&behave->lock);
}

long hh_ioctl_behave(struct hh_mirror *mirror, void __user *arg)
{
	struct hmm_harness_behave behave;

	if (copy_from_user(&behave, arg, sizeof(behave)))
		return -EFAULT;
	if ((behave.flags & ~HMM_HARNESS_BEHAVE_MUTEX) || behave.reserved[0] ||
	    behave.reserved[1])
		return -EINVAL;
	if (behave.delay_us > HMM_HARNESS_MAX_DELAY_US)
		return -ERANGE;

	hh_clock_prepare();
	hh_behave_set(mirror->device, &behave);
	hh_behave_report(&mirror->device->behave, &behave);
	return copy_to_user(arg, &behave, sizeof(behave)) ? -EFAULT : 0;
}
