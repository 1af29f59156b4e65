// SPDX-License-Identifier: GPL-2.0-only
/*
 * hmm_harness: simulated devices with device-private memory, which mirror
 * address spaces and move pages the way GPU drivers do.  Device memory is
 * backed by ordinary pages, so that data is really copied and can be checked.
 *
 * This file: module parameters, device nodes, open files.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/fs.h>
#include <linux/hmm.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/overflow.h>
#include <linux/sched/mm.h>
#include <linux/slab.h>
#include <linux/uaccess.h>

#include "internal.h"

static unsigned int devices = 2;
module_param(devices, uint, 0444);
MODULE_PARM_DESC(devices, "Number of simulated devices (1..8, default 2)");

static unsigned int device_mb = 32;
module_param(device_mb, uint, 0444);
MODULE_PARM_DESC(device_mb,
		 "Memory of each device in MiB (2..1024, even, default 32)");

/* Complete before the first node appears. */
struct hh_device *hh_devices[HMM_HARNESS_MAX_DEVICES];
unsigned int hh_nr_devices;

/* Init cannot fail any more. */
static bool hh_ready;

/*
 * Device page tables are not simulated: a mirror that programs nothing has
 * nothing to tear down.  What must hold is the sequence, by which a fault that
 * raced with an invalidation is done again.
 */
static bool hh_mirror_invalidate(struct mmu_interval_notifier *notifier,
				 const struct mmu_notifier_range *range,
				 unsigned long sequence)
{
	struct hh_mirror *mirror =
		container_of(notifier, struct hh_mirror, notifier);

	/* Our own migration: the device knows, its view stays valid. */
	if (range->event == MMU_NOTIFY_MIGRATE &&
	    range->owner == mirror->device)
		return true;

	spin_lock(&mirror->lock);
	mmu_interval_set_seq(notifier, sequence);
	spin_unlock(&mirror->lock);
	return true;
}

static const struct mmu_interval_notifier_ops hh_mirror_ops = {
	.invalidate = hh_mirror_invalidate,
};

/* Common checks of a user range; see hmm_harness.h for the errors. */
int hh_check_range(u64 addr, u64 length)
{
	u64 end;

	if (!length || !PAGE_ALIGNED(addr) || !PAGE_ALIGNED(length))
		return -EINVAL;
	if (length > HMM_HARNESS_MAX_LENGTH)
		return -ERANGE;
	if (check_add_overflow(addr, length, &end) || end > TASK_SIZE)
		return -ERANGE;
	return 0;
}

/* The attached address space, referenced: release it with mmput(). */
struct mm_struct *hh_mirror_mm(struct hh_mirror *mirror)
{
	/* Pairs with the release in hh_ioctl_attach(). */
	if (!smp_load_acquire(&mirror->attached))
		return ERR_PTR(-ENXIO);
	if (!mmget_not_zero(mirror->notifier.mm))
		return ERR_PTR(-ESRCH);
	return mirror->notifier.mm;
}

static long hh_ioctl_attach(struct hh_mirror *mirror, void __user *arg)
{
	struct hmm_harness_attach attach;
	int ret;

	if (copy_from_user(&attach, arg, sizeof(attach)))
		return -EFAULT;
	if (attach.flags || attach.reserved[0] || attach.reserved[1])
		return -EINVAL;

	mutex_lock(&mirror->attach_lock);
	if (mirror->attached) {
		ret = -EBUSY;
		goto out;
	}

	attach.device = mirror->device->index;
	attach.device_bytes = range_len(&mirror->device->pagemap.range);
	if (copy_to_user(arg, &attach, sizeof(attach))) {
		ret = -EFAULT;
		goto out;
	}

	ret = mmu_interval_notifier_insert(&mirror->notifier, current->mm, 0,
					   ULONG_MAX & PAGE_MASK,
					   &hh_mirror_ops);
	if (!ret)
		/* Pairs with the acquire in hh_mirror_mm(). */
		smp_store_release(&mirror->attached, true);
out:
	mutex_unlock(&mirror->attach_lock);
	return ret;
}

static long hh_ioctl_stats(struct hh_mirror *mirror, void __user *arg)
{
	struct hh_device *device = mirror->device;
	struct hmm_harness_stats stats;

	if (copy_from_user(&stats, arg, sizeof(stats)))
		return -EFAULT;
	if (stats.reserved)
		return -EINVAL;

	stats.faults = atomic64_read(&device->counter[HH_FAULTS]);
	stats.fault_retries = atomic64_read(&device->counter[HH_FAULT_RETRIES]);
	stats.migrations_to_device =
		atomic64_read(&device->counter[HH_TO_DEVICE]);
	stats.migrations_to_system =
		atomic64_read(&device->counter[HH_TO_SYSTEM]);
	stats.migrate_to_ram = atomic64_read(&device->counter[HH_TO_RAM]);
	stats.migrate_to_ram_failed =
		atomic64_read(&device->counter[HH_TO_RAM_FAILED]);
	stats.aborts = atomic64_read(&device->counter[HH_ABORTS]);
	stats.evicting = atomic_long_read(&device->evicting);
	stats.hog_locks = atomic64_read(&device->counter[HH_HOG_LOCKS]);
	hh_clock_prepare();
	stats.clock_ns = hh_clock_ns();
	spin_lock(&device->lock);
	stats.pages_in_use = device->nr_used;
	stats.pages_free = device->nr_pages - device->nr_used;
	spin_unlock(&device->lock);

	return copy_to_user(arg, &stats, sizeof(stats)) ? -EFAULT : 0;
}

static long hh_ioctl(struct file *file, unsigned int request, unsigned long arg)
{
	struct hh_mirror *mirror = file->private_data;
	void __user *pointer = (void __user *)arg;

	switch (request) {
	case HMM_HARNESS_ATTACH:
		return hh_ioctl_attach(mirror, pointer);
	case HMM_HARNESS_FAULT:
		return hh_ioctl_fault(mirror, pointer);
	case HMM_HARNESS_MIGRATE_TO_DEVICE:
		return hh_ioctl_migrate(mirror, pointer, true);
	case HMM_HARNESS_MIGRATE_TO_SYSTEM:
		return hh_ioctl_migrate(mirror, pointer, false);
	case HMM_HARNESS_SNAPSHOT:
		return hh_ioctl_snapshot(mirror, pointer);
	case HMM_HARNESS_TOUCH:
		return hh_ioctl_touch(mirror, pointer);
	case HMM_HARNESS_STATS:
		return hh_ioctl_stats(mirror, pointer);
	case HMM_HARNESS_WINDOW:
		return hh_ioctl_window(mirror, pointer);
	case HMM_HARNESS_HOLD:
		return hh_ioctl_hold(mirror, pointer);
	case HMM_HARNESS_BEHAVE:
		return hh_ioctl_behave(mirror, pointer);
	case HMM_HARNESS_HOG:
		return hh_ioctl_hog(mirror, pointer);
	case HMM_HARNESS_EVICT:
		return hh_ioctl_evict(mirror, pointer);
	default:
		return -ENOTTY;
	}
}

static struct hh_mirror *hh_mirror_create(struct hh_device *device)
{
	struct hh_mirror *mirror = kzalloc(sizeof(*mirror), GFP_KERNEL);

	if (!mirror)
		return NULL;
	mirror->device = device;
	mutex_init(&mirror->attach_lock);
	mutex_init(&mirror->migrate_lock);
	spin_lock_init(&mirror->lock);
	hh_window_init(mirror);
	hh_hold_init(mirror);
	return mirror;
}

static int hh_open(struct inode *inode, struct file *file)
{
	struct hh_device *device =
		container_of(file->private_data, struct hh_device, misc);
	struct hh_mirror *mirror;

	/* A failing init frees all, open files or not: let nobody in before. */
	if (!READ_ONCE(hh_ready))
		return -EAGAIN;
	mirror = hh_mirror_create(device);
	if (!mirror)
		return -ENOMEM;

	mutex_lock(&device->open_lock);
	device->opens++;
	mutex_unlock(&device->open_lock);
	file->private_data = mirror;
	return 0;
}

static int hh_release(struct inode *inode, struct file *file)
{
	struct hh_mirror *mirror = file->private_data;
	struct hh_device *device = mirror->device;

	hh_hold_detach(mirror);
	hh_window_detach(mirror);
	if (mirror->attached)
		mmu_interval_notifier_remove(&mirror->notifier);
	kfree(mirror);

	/*
	 * Pages outlive the file that moved them.  With the last file they go
	 * home, so that an unused module leaves no trace in any process.
	 */
	mutex_lock(&device->open_lock);
	if (!--device->opens) {
		hh_behave_reset(device);
		hh_evict(device, 0);
	}
	mutex_unlock(&device->open_lock);
	return 0;
}

static const struct file_operations hh_fops = {
	.owner		= THIS_MODULE,
	.open		= hh_open,
	.release	= hh_release,
	.unlocked_ioctl	= hh_ioctl,
	.llseek		= noop_llseek,
};

/* The device with its memory, but without a node. */
static struct hh_device *hh_device_create(unsigned int index)
{
	struct hh_device *device = kzalloc(sizeof(*device), GFP_KERNEL);
	int ret;

	if (!device)
		return ERR_PTR(-ENOMEM);
	device->index = index;
	spin_lock_init(&device->lock);
	mutex_init(&device->open_lock);
	hh_behave_init(device);
	hh_evict_init(device);
	snprintf(device->name, sizeof(device->name), "hmm_harness%u", index);
	device->misc.minor = MISC_DYNAMIC_MINOR;
	device->misc.name = device->name;
	device->misc.fops = &hh_fops;
	device->misc.mode = 0600;

	ret = hh_devmem_create(device, (unsigned long)device_mb << 20);
	if (ret) {
		kfree(device);
		return ERR_PTR(ret);
	}
	return device;
}

/* All nodes first: no page can be moved to a device from there on. */
static void hh_devices_destroy(unsigned int nodes)
{
	unsigned int i;

	for (i = 0; i < nodes; i++)
		misc_deregister(&hh_devices[i]->misc);
	for (i = 0; i < hh_nr_devices; i++) {
		hh_devmem_destroy(hh_devices[i]);
		kfree(hh_devices[i]);
	}
}

static int __init hh_init(void)
{
	unsigned int nodes = 0;
	int ret;

	if (devices < 1 || devices > HMM_HARNESS_MAX_DEVICES) {
		pr_err("devices=%u is not within 1..%u\n", devices,
		       HMM_HARNESS_MAX_DEVICES);
		return -EINVAL;
	}
	/* Memory is hot-plugged in subsections of 2 MiB. */
	if (device_mb < 2 || device_mb > 1024 || device_mb % 2) {
		pr_err("device_mb=%u is not an even number within 2..1024\n",
		       device_mb);
		return -EINVAL;
	}

	for (; hh_nr_devices < devices; hh_nr_devices++) {
		struct hh_device *device = hh_device_create(hh_nr_devices);

		if (IS_ERR(device)) {
			ret = PTR_ERR(device);
			pr_err("device %u: no memory (%pe)\n", hh_nr_devices,
			       device);
			goto err;
		}
		hh_devices[hh_nr_devices] = device;
	}
	for (; nodes < devices; nodes++) {
		ret = misc_register(&hh_devices[nodes]->misc);
		if (ret) {
			pr_err("device %u: no node (%pe)\n", nodes,
			       ERR_PTR(ret));
			goto err;
		}
	}
	WRITE_ONCE(hh_ready, true);
	return 0;

err:
	hh_devices_destroy(nodes);
	return ret;
}

static void __exit hh_exit(void)
{
	hh_devices_destroy(hh_nr_devices);
}

module_init(hh_init);
module_exit(hh_exit);
MODULE_DESCRIPTION("Simulated devices that mirror address spaces and migrate pages");
MODULE_LICENSE("GPL");
