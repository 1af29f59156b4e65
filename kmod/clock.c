// SPDX-License-Identifier: GPL-2.0-only
/*
 * A clock for times of less than a tick.  In an emulated machine, whose TSC the
 * kernel does not trust, ktime and the scheduler's clock stand still between
 * ticks, and sleeps last for whole ones.  Its cycle counter goes on; how fast is
 * measured once, by the ticks.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/ktime.h>
#include <linux/math64.h>
#include <linux/mutex.h>
#include <linux/sched.h>
#include <linux/timex.h>

#include "internal.h"

#define HH_MEASURE_NS	(40 * (u64)NSEC_PER_MSEC)

static DEFINE_MUTEX(hh_clock_lock);
static bool hh_clock_measured;
static u64 hh_cycles_per_ms;	/* 0: no cycle counter, use ktime */

/* The moment at which ktime moves on, in cycles. */
static u64 hh_clock_edge(u64 not_before_ns, u64 *ns)
{
	u64 before, cycles;

	do {
		before = ktime_get_ns();
		do {
			cpu_relax();
			cycles = get_cycles();
			*ns = ktime_get_ns();
		} while (*ns == before);
		cond_resched();
	} while (*ns < not_before_ns);
	return cycles;
}

/* Before the first use of the others; may sleep. */
void hh_clock_prepare(void)
{
	u64 cycles, start_ns, end_ns;

	/* Pairs with the release below. */
	if (smp_load_acquire(&hh_clock_measured))
		return;
	mutex_lock(&hh_clock_lock);
	if (!hh_clock_measured) {
		cycles = hh_clock_edge(0, &start_ns);
		cycles = hh_clock_edge(start_ns + HH_MEASURE_NS, &end_ns) -
			 cycles;
		hh_cycles_per_ms = div64_u64(cycles * NSEC_PER_MSEC,
					     end_ns - start_ns);
		/* Pairs with the acquire above. */
		smp_store_release(&hh_clock_measured, true);
	}
	mutex_unlock(&hh_clock_lock);
}

/* Since some moment; two CPUs' need not agree. */
u64 hh_clock_ns(void)
{
	u64 rest, ms;

	if (!hh_cycles_per_ms)
		return ktime_get_ns();
	ms = div64_u64_rem(get_cycles(), hh_cycles_per_ms, &rest);
	return ms * NSEC_PER_MSEC +
	       div64_u64(rest * NSEC_PER_MSEC, hh_cycles_per_ms);
}

/* Passes the time busily, but lets others in. */
void hh_clock_busy(u32 us)
{
	u64 end = hh_clock_ns() + us * (u64)NSEC_PER_USEC;

	while (hh_clock_ns() < end) {
		cond_resched();
		cpu_relax();
	}
}
