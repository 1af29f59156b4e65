// SPDX-License-Identifier: GPL-2.0-only
/* What there is to provoke: the thread that does it runs on the chosen CPU. */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/mm.h>
#include <linux/nmi.h>
#include <linux/printk.h>
#include <linux/rcupdate.h>
#include <linux/reboot.h>
#include <linux/refcount.h>
#include <linux/sched/mm.h>
#include <linux/sched/signal.h>
#include <linux/sched/task.h>
#include <linux/smp.h>
#include <linux/stop_machine.h>
#include <linux/workqueue.h>

#include "internal.h"

static bool hs_spinning;

static void hs_spin(void)
{
	WRITE_ONCE(hs_spinning, true);
	while (!hs_over())
		cpu_relax();
}

static void hs_soft_lockup(void)
{
	preempt_disable();
	hs_spin();
	preempt_enable();
}

static void hs_hard_lockup(void)
{
	local_irq_disable();
	hs_spin();
	local_irq_enable();
}

/* The soft lockup watchdog would come first: it is told that all is well. */
static void hs_rcu_stall(void)
{
	preempt_disable();
	rcu_read_lock();
	start_poll_synchronize_rcu();
	while (!hs_over()) {
		touch_softlockup_watchdog();
		cpu_relax();
	}
	rcu_read_unlock();
	preempt_enable();
}

static void hs_hung_task(void)
{
	wait_event(hs_wait, hs_over());
}

static void hs_work_spins(struct work_struct *work)
{
	hs_soft_lockup();
}

static void hs_work_waits(struct work_struct *work)
{
}

static DECLARE_WORK(hs_spinner, hs_work_spins);
static DECLARE_WORK(hs_waiter, hs_work_waits);

/* One work item keeps the CPU, the next one waits in its pool. */
static void hs_workqueue_lockup(void)
{
	schedule_work_on(hs_cpu, &hs_spinner);
	schedule_work_on(hs_cpu, &hs_waiter);
	flush_work(&hs_spinner);
	flush_work(&hs_waiter);
}

static void hs_warning(void)
{
	WARN(true, "provoked\n");
}

static void hs_corruption(void)
{
	refcount_t count = REFCOUNT_INIT(0);

	if (refcount_dec_and_test(&count))
		pr_info("a count below zero was taken for zero\n");
}

/* The last page of the program's heap holds what it knows. */
static void hs_data_corruption(void)
{
	struct task_struct *task = hs_find_program();
	struct mm_struct *mm = task ? get_task_mm(task) : NULL;
	u8 byte = 0x5a;

	if (mm) {
		if (access_process_vm(task, mm->brk - PAGE_SIZE / 2, &byte, 1,
				      FOLL_WRITE | FOLL_FORCE) != 1)
			pr_err("%s has no heap\n", task->comm);
		mmput(mm);
	}
	if (task)
		put_task_struct(task);
}

static int *hs_nowhere;

static void hs_oops(void)
{
	WRITE_ONCE(*READ_ONCE(hs_nowhere), 1);
}

static void hs_panic(void)
{
	panic("hmm_selftest: provoked");
}

static void hs_oom(void)
{
	struct page *page, *next;
	LIST_HEAD(pages);

	while (!hs_over()) {
		page = alloc_page(GFP_KERNEL);
		if (!page)
			break;
		list_add(&page->lru, &pages);
	}
	list_for_each_entry_safe(page, next, &pages, lru)
		__free_page(page);
}

static void hs_spin_here(void *unused)
{
	hs_spin();
}

static void hs_silent_spin(void)
{
	on_each_cpu(hs_spin_here, NULL, false);
}

static int hs_stop_nothing(void *unused)
{
	return 0;
}

/* All CPUs but the one that spins wait for it in their stopper threads. */
static void hs_silent_stop_machine_helper(void)
{
	while (!READ_ONCE(hs_spinning) && !hs_over())
		hs_sleep(1);
	stop_machine(hs_stop_nothing, NULL, NULL);
}

static void hs_user_hang(void)
{
	struct task_struct *task = hs_find_program();

	if (task) {
		send_sig(SIGSTOP, task, 1);
		put_task_struct(task);
	}
}

static void hs_guest_exit(void)
{
	emergency_restart();
}

static void hs_print(unsigned long line)
{
	pr_info("line %lu of a flood, as long as many a line of a call trace is\n",
		line);
}

/* Faster than any console: most of it is lost before it is written. */
static void hs_console_flood(void)
{
	unsigned long line;

	for (line = 0; !hs_over(); line++) {
		hs_print(line);
		cond_resched();
	}
}

/* What a console can just take: nothing is lost on the kernel's side. */
static void hs_steady_flood(void)
{
	unsigned long line;

	for (line = 1; !hs_over(); line++) {
		hs_print(line);
		if (line % 25 == 0)
			hs_sleep(20);
	}
}

static void hs_flood_then_lockup(void)
{
	hs_sleep(1000);
	hs_soft_lockup();
}

const struct hs_failure hs_failures[] = {
	{ "soft-lockup", hs_soft_lockup },
	{ "hard-lockup", hs_hard_lockup },
	{ "rcu-stall", hs_rcu_stall },
	{ "hung-task", hs_hung_task },
	{ "workqueue-lockup", hs_workqueue_lockup },
	{ "warning", hs_warning },
	{ "corruption", hs_corruption },
	{ "data-corruption", hs_data_corruption, .needs_program = true },
	{ "oops", hs_oops },
	{ "panic", hs_panic },
	{ "oom", hs_oom },
	{ "silent-spin", hs_silent_spin },
	{ "silent-stop-machine", hs_soft_lockup,
	  .help = hs_silent_stop_machine_helper },
	{ "user-hang", hs_user_hang, .needs_program = true },
	{ "guest-exit", hs_guest_exit },
	{ "console-flood", hs_console_flood },
	{ "flood-then-lockup", hs_flood_then_lockup,
	  .help = hs_steady_flood },
};

const size_t hs_nr_failures = ARRAY_SIZE(hs_failures);
