// SPDX-License-Identifier: GPL-2.0-only
/*
 * Holding a batch: waiting with the folios locked until a FAULT is stuck on
 * them, so that what follows finds it there, whoever was faster.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/delay.h>
#include <linux/ktime.h>
#include <linux/sched/signal.h>
#include <linux/workqueue.h>

#include "compat.h"
#include "internal.h"

/* Sleeps, so that the holder's CPU is free; returns how the hold ended. */
u32 hh_hold_wait(struct hh_batch *batch, u32 timeout_ms, unsigned int *cpu)
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
void hh_hold_work(unsigned int cpu)
{
	struct work_struct work;

	INIT_WORK_ONSTACK(&work, hh_hold_nothing);
	queue_work_on(cpu, hh_percpu_wq(), &work);
	flush_work(&work);
	destroy_work_on_stack(&work);
}
