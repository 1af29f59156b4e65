// SPDX-License-Identifier: GPL-2.0-only
/*
 * hmm_selftest: makes a kernel fail on purpose, so that what watches it can be
 * seen to notice.
 *
 * The name of a failure, written to /dev/hmm_selftest by root, starts a thread
 * that provokes it: -EINVAL for a name that is not known, -EBUSY while an
 * earlier one is under way.  Unloading ends those that a kernel outlives.
 *
 * This file: parameters, the device node, the threads.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/capability.h>
#include <linux/cpumask.h>
#include <linux/fs.h>
#include <linux/kthread.h>
#include <linux/miscdevice.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/rcupdate.h>
#include <linux/sched/signal.h>
#include <linux/sched/task.h>
#include <linux/string.h>
#include <linux/uaccess.h>

#include "internal.h"

unsigned int hs_cpu = 1;
module_param_named(cpu, hs_cpu, uint, 0444);
MODULE_PARM_DESC(cpu, "Where to fail (default 1)");

static unsigned int delay_ms = 500;
module_param(delay_ms, uint, 0444);
MODULE_PARM_DESC(delay_ms, "How long to wait before (ms, default 500)");

static char *program = "";
module_param(program, charp, 0444);
MODULE_PARM_DESC(program,
		 "Wait for a process of this name first; the one that suffers");

/* Ends what a kernel outlives. */
bool hs_released;
DECLARE_WAIT_QUEUE_HEAD(hs_wait);

static DEFINE_MUTEX(hs_lock);
static struct task_struct *hs_thread;
static struct task_struct *hs_helper;

/* The process that the parameter names, with a reference, or NULL. */
struct task_struct *hs_find_program(void)
{
	struct task_struct *task, *found = NULL;

	rcu_read_lock();
	for_each_process(task) {
		if (!strcmp(task->comm, program)) {
			found = task;
			get_task_struct(found);
			break;
		}
	}
	rcu_read_unlock();
	return found;
}

void hs_sleep(unsigned int ms)
{
	wait_event_idle_timeout(hs_wait, hs_over(), msecs_to_jiffies(ms));
}

static void hs_wait_for_program(void)
{
	struct task_struct *task = NULL;

	while (*program && !task && !hs_over()) {
		task = hs_find_program();
		if (!task)
			hs_sleep(10);
	}
	if (task)
		put_task_struct(task);
	hs_sleep(delay_ms);
}

static void hs_until_stopped(void)
{
	for (;;) {
		set_current_state(TASK_IDLE);
		if (kthread_should_stop())
			break;
		schedule();
	}
	__set_current_state(TASK_RUNNING);
}

static int hs_helper_main(void *data)
{
	const struct hs_failure *failure = data;

	failure->help();
	hs_until_stopped();
	return 0;
}

static int hs_main(void *data)
{
	const struct hs_failure *failure = data;

	hs_wait_for_program();
	if (hs_helper)
		wake_up_process(hs_helper);
	if (!hs_over())
		failure->provoke();
	hs_until_stopped();
	return 0;
}

static struct task_struct *hs_create(int (*run)(void *),
				     const struct hs_failure *failure,
				     unsigned int where)
{
	struct task_struct *task;

	task = kthread_create_on_cpu(run, (void *)failure, where,
				     "hmm_selftest/%u");
	if (!IS_ERR(task))
		get_task_struct(task);
	return task;
}

static void hs_stop(struct task_struct **task)
{
	if (*task) {
		kthread_stop(*task);
		put_task_struct(*task);
	}
	*task = NULL;
}

static int hs_start(const struct hs_failure *failure)
{
	struct task_struct *task;

	if (failure->needs_program && !*program)
		return -ENODEV;
	if (hs_thread)
		return -EBUSY;
	if (failure->help) {
		task = hs_create(hs_helper_main, failure,
				 cpumask_any_but(cpu_online_mask, hs_cpu));
		if (IS_ERR(task))
			return PTR_ERR(task);
		hs_helper = task;
	}
	task = hs_create(hs_main, failure, hs_cpu);
	if (IS_ERR(task)) {
		hs_stop(&hs_helper);
		return PTR_ERR(task);
	}
	hs_thread = task;
	wake_up_process(task);
	return 0;
}

static ssize_t hs_write(struct file *file, const char __user *buffer,
			size_t length, loff_t *position)
{
	char name[32];
	size_t i;
	int ret;

	if (!capable(CAP_SYS_ADMIN))
		return -EPERM;
	if (length >= sizeof(name))
		return -EINVAL;
	if (copy_from_user(name, buffer, length))
		return -EFAULT;
	name[length] = '\0';

	for (i = 0; i < hs_nr_failures; i++) {
		if (!sysfs_streq(name, hs_failures[i].name))
			continue;
		mutex_lock(&hs_lock);
		ret = hs_start(&hs_failures[i]);
		mutex_unlock(&hs_lock);
		return ret ? ret : length;
	}
	return -EINVAL;
}

static const struct file_operations hs_fops = {
	.owner	= THIS_MODULE,
	.write	= hs_write,
	.llseek	= noop_llseek,
};

static struct miscdevice hs_misc = {
	.minor	= MISC_DYNAMIC_MINOR,
	.name	= "hmm_selftest",
	.fops	= &hs_fops,
	.mode	= 0600,
};

static int __init hs_init(void)
{
	if (hs_cpu >= nr_cpu_ids || !cpu_online(hs_cpu) ||
	    num_online_cpus() < 2) {
		pr_err("cpu=%u is not one of several that are online\n",
		       hs_cpu);
		return -EINVAL;
	}
	return misc_register(&hs_misc);
}

static void __exit hs_exit(void)
{
	misc_deregister(&hs_misc);
	WRITE_ONCE(hs_released, true);
	wake_up_all(&hs_wait);
	hs_stop(&hs_thread);
	hs_stop(&hs_helper);
}

module_init(hs_init);
module_exit(hs_exit);
MODULE_DESCRIPTION("Makes a kernel fail on purpose, to test what watches it");
MODULE_LICENSE("GPL");
