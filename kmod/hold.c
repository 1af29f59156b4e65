// SPDX-License-Identifier: GPL-2.0-only
/*
 * Holding a batch: waiting with the folios locked until a FAULT is stuck on
 * them, so that what follows finds it there, whoever was faster.
 *
 * The callback that ends the MMU_NOTIFY_MIGRATE notification is a good place:
 * it runs between the locking and the unmapping of the folios, in the caller's
 * context, and may sleep.  A CPU fault is held in migrate_to_ram.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/delay.h>
#include <linux/ktime.h>
#include <linux/sched/mm.h>
#include <linux/sched/signal.h>
#include <linux/uaccess.h>
#include <linux/wait.h>
#include <linux/workqueue.h>

#include "compat.h"
#include "internal.h"

/* What is armed, and of which mirror a CPU fault is held. */
static DEFINE_SPINLOCK(hh_hold_lock);
static LIST_HEAD(hh_fault_holds);
static DECLARE_WAIT_QUEUE_HEAD(hh_fault_held);

void hh_hold_init(struct hh_mirror *mirror)
{
	INIT_LIST_HEAD(&mirror->batch.fault_link);
}

static bool hh_hold_busy(struct hh_mirror *mirror)
{
	bool busy;

	spin_lock(&hh_hold_lock);
	busy = mirror->batch.faulting;
	spin_unlock(&hh_hold_lock);
	return busy;
}

/* A CPU fault that is held has no reference on the file: wait for it. */
void hh_hold_detach(struct hh_mirror *mirror)
{
	spin_lock(&hh_hold_lock);
	list_del_init(&mirror->batch.fault_link);
	spin_unlock(&hh_hold_lock);
	wait_event(hh_fault_held, !hh_hold_busy(mirror));
}

static bool hh_hold_of_fault(u32 kind)
{
	return kind == HMM_HARNESS_HOLD_FAULT ||
	       kind == HMM_HARNESS_HOLD_FAULT_ONLY;
}

/* True, once, if the batch is the one that HOLD named. */
bool hh_hold_take(struct hh_batch *batch, struct hh_hold *hold)
{
	bool taken;

	spin_lock(&hh_hold_lock);
	*hold = batch->hold;
	taken = hold->armed && !hh_hold_of_fault(hold->kind) &&
		hold->start == batch->args->start &&
		hold->end == batch->args->end;
	if (taken)
		batch->hold.armed = false;
	spin_unlock(&hh_hold_lock);
	return taken;
}

/* Sleeps, so that the holder's CPU is free; returns how the hold ended. */
static u32 hh_hold_wait(struct hh_batch *batch, u32 timeout_ms,
			unsigned int *cpu)
{
	u64 deadline = ktime_get_ns() + timeout_ms * (u64)NSEC_PER_MSEC;
	u32 held;

	for (;;) {
		held = hh_window_watch(batch, cpu);
		if (held != HMM_HARNESS_HELD_WAITING)
			return held;
		if (fatal_signal_pending(current))
			return HMM_HARNESS_HELD_KILLED;
		if (ktime_get_ns() >= deadline)
			return HMM_HARNESS_HELD_TIMEOUT;
		usleep_range(100, 500);
	}
}

static void hh_hold_nothing(struct work_struct *work)
{
}

/* As any driver does that needs something done on a CPU, or everywhere. */
static void hh_hold_work(unsigned int cpu)
{
	struct work_struct work;

	INIT_WORK_ONSTACK(&work, hh_hold_nothing);
	queue_work_on(cpu, hh_percpu_wq(), &work);
	flush_work(&work);
	destroy_work_on_stack(&work);
}

/* For a batch that is open, by whoever has its folios locked. */
void hh_hold_until_stuck(struct hh_batch *batch, const struct hh_hold *hold)
{
	unsigned int cpu = HMM_HARNESS_NO_CPU;
	u32 held = hh_hold_wait(batch, hold->timeout_ms, &cpu);

	if (hold->kind == HMM_HARNESS_HOLD_NOTIFIER ||
	    hold->kind == HMM_HARNESS_HOLD_FAULT_ONLY)
		cpu = HMM_HARNESS_NO_CPU;
	hh_window_held(batch, held, cpu);
	if (cpu != HMM_HARNESS_NO_CPU)
		hh_hold_work(cpu);
	batch->opened_ns = ktime_get_ns();
}

/*
 * The mirror whose HOLD the fault is for.  Its migrate_lock makes the batch
 * ours; we hold mmap_lock, which is taken after it elsewhere, so that all we can
 * do is try.
 */
static struct hh_mirror *hh_hold_claim(struct hh_device *device,
				       struct migrate_vma *args,
				       struct hh_hold *hold)
{
	struct hh_mirror *mirror, *claimed = NULL;
	struct hh_batch *batch;

	spin_lock(&hh_hold_lock);
	list_for_each_entry(batch, &hh_fault_holds, fault_link) {
		mirror = container_of(batch, struct hh_mirror, batch);
		if (mirror->device != device ||
		    mirror->notifier.mm != args->vma->vm_mm ||
		    args->start < batch->hold.start ||
		    args->start >= batch->hold.end ||
		    !mutex_trylock(&mirror->migrate_lock))
			continue;
		list_del_init(&batch->fault_link);
		*hold = batch->hold;
		batch->hold.armed = false;
		batch->faulting = true;
		claimed = mirror;
		break;
	}
	spin_unlock(&hh_hold_lock);
	return claimed;
}

/* A CPU fault on args->fault_page, before migrate_vma_setup(). */
void hh_hold_cpu_fault(struct hh_device *device, struct migrate_vma *args)
{
	struct hh_mirror *mirror;
	struct hh_hold hold;

	mirror = hh_hold_claim(device, args, &hold);
	if (!mirror)
		return;
	args->src[0] = migrate_pfn(page_to_pfn(args->fault_page));
	if (args->end - args->start > PAGE_SIZE)
		args->src[0] |= HH_PFN_COMPOUND;
	hh_window_open_fault(&mirror->batch, args);
	hh_hold_until_stuck(&mirror->batch, &hold);
	hh_window_close(mirror);
	args->src[0] = 0;
	mutex_unlock(&mirror->migrate_lock);

	/* The last look at the mirror: hh_hold_detach() may be waiting. */
	spin_lock(&hh_hold_lock);
	mirror->batch.faulting = false;
	spin_unlock(&hh_hold_lock);
	wake_up_all(&hh_fault_held);
}

long hh_ioctl_hold(struct hh_mirror *mirror, void __user *arg)
{
	struct hh_batch *batch = &mirror->batch;
	struct hmm_harness_hold hold;
	struct mm_struct *mm;
	int ret;

	if (copy_from_user(&hold, arg, sizeof(hold)))
		return -EFAULT;
	if (hold.flags || hold.pad || hold.reserved[0] || hold.reserved[1] ||
	    hold.kind > HMM_HARNESS_HOLD_FAULT_ONLY)
		return -EINVAL;
	if (!hold.timeout_ms || hold.timeout_ms > HMM_HARNESS_MAX_TIMEOUT_MS)
		return -ERANGE;
	ret = hh_check_range(hold.addr, hold.length);
	if (ret)
		return ret;
	mm = hh_mirror_mm(mirror);
	if (IS_ERR(mm))
		return PTR_ERR(mm);
	mmput(mm);

	spin_lock(&hh_hold_lock);
	batch->hold = (struct hh_hold){
		.armed		= true,
		.kind		= hold.kind,
		.timeout_ms	= hold.timeout_ms,
		.start		= hold.addr,
		.end		= hold.addr + hold.length,
	};
	list_del_init(&batch->fault_link);
	if (hh_hold_of_fault(hold.kind))
		list_add(&batch->fault_link, &hh_fault_holds);
	spin_unlock(&hh_hold_lock);
	return 0;
}
