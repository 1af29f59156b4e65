// SPDX-License-Identifier: GPL-2.0-only
/* Moving pages: to device memory, back on request, back on a CPU fault. */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/highmem.h>
#include <linux/migrate.h>
#include <linux/mm.h>
#include <linux/pagemap.h>
#include <linux/sched.h>
#include <linux/sched/mm.h>
#include <linux/slab.h>
#include <linux/uaccess.h>

#include "compat.h"
#include "internal.h"

#define HH_BATCH_PAGES	65536UL

/* A locked system page with a device page's content, or NULL. */
struct page *hh_migrate_copy_out(struct page *source)
{
	struct page *page = alloc_page(GFP_HIGHUSER_MOVABLE | __GFP_NOWARN);

	if (!page)
		return NULL;
	lock_page(page);
	copy_highpage(page, hh_devmem_backing(source));
	return page;
}

/* A locked device page with the content of a system or device page, or NULL. */
static struct page *hh_migrate_copy_in(struct hh_device *device,
				       struct page *source)
{
	struct page *page = hh_devmem_alloc(device);

	if (!page)
		return NULL;
	if (is_device_private_page(source))
		source = hh_devmem_backing(source);
	copy_highpage(hh_devmem_backing(page), source);
	return page;
}

/*
 * A CPU fault on a device page.  The core holds a reference on vmf->page and,
 * where it does so, its lock; fault_page tells migrate_vma about both.
 */
vm_fault_t hh_migrate_to_ram(struct vm_fault *vmf)
{
	struct hh_device *device = hh_page_pagemap(vmf->page)->owner;
	unsigned long source = 0, target = 0;
	struct migrate_vma args = {
		.vma		= vmf->vma,
		.start		= vmf->address & PAGE_MASK,
		.end		= (vmf->address & PAGE_MASK) + PAGE_SIZE,
		.src		= &source,
		.dst		= &target,
		.pgmap_owner	= device,
		.flags		= MIGRATE_VMA_SELECT_DEVICE_PRIVATE,
		.fault_page	= vmf->page,
	};
	struct page *page, *copy = NULL;
	struct hh_mishap mishap;
	vm_fault_t ret = 0;
	int error;

	hh_count(device, HH_TO_RAM, 1);
	if (vmf->flags & FAULT_FLAG_USER)
		hh_hold_cpu_fault(device, &args);
	hh_mishap_begin(&mishap, device, HH_WAY_RAM);
	if (migrate_vma_setup(&args)) {
		hh_mishap_end(&mishap);
		hh_count(device, HH_TO_RAM_FAILED, 1);
		return VM_FAULT_SIGBUS;
	}

	page = migrate_pfn_to_page(source);
	if (page && (source & MIGRATE_PFN_MIGRATE)) {
		copy = hh_migrate_copy_out(page);
		error = hh_mishap_strike(&mishap, page, &copy);
		if (!error)
			target = migrate_pfn(page_to_pfn(copy)) |
				 (source & MIGRATE_PFN_WRITE);
		else if (error == -EIO)
			ret = VM_FAULT_SIGBUS;
		else
			ret = VM_FAULT_OOM;
	}
	migrate_vma_pages(&args);
	if (copy && (source & MIGRATE_PFN_MIGRATE)) {
		hh_count(device, HH_TO_SYSTEM, 1);
	} else {
		/* Somebody else had it; the access faults again. */
		hh_count(device, HH_TO_RAM_FAILED, 1);
		copy = NULL;
	}

	/* Finalizing puts the new page in this CPU's batch for the LRU. */
	if (copy) {
		unsigned int cpu = raw_smp_processor_id();
		unsigned long pfn = page_to_pfn(copy);

		migrate_vma_finalize(&args);
		if (cpu == raw_smp_processor_id())
			hh_window_batched(pfn_to_page(pfn), cpu);
	} else {
		migrate_vma_finalize(&args);
	}
	hh_mishap_end(&mishap);
	return ret;
}

/* One migrate_vma batch; -ENOMEM if some page found no place. */
static int hh_migrate_batch(struct hh_mirror *mirror, struct migrate_vma *args,
			    struct hmm_harness_migrate *result, bool to_device,
			    bool mixed)
{
	struct hh_device *device = mirror->device;
	unsigned long i, moved = 0, collected = 0;
	struct hh_mishap mishap;
	int ret;

	memset(args->dst, 0,
	       ((args->end - args->start) >> PAGE_SHIFT) * sizeof(*args->dst));
	if (mixed)
		hh_window_arm(mirror, args);
	ret = migrate_vma_setup(args);
	if (mixed)
		hh_window_close(mirror);
	if (ret)
		return ret;
	hh_mishap_begin(&mishap, device,
			to_device ? HH_WAY_DEVICE : HH_WAY_SYSTEM);

	for (i = 0; i < args->npages; i++) {
		struct page *page = migrate_pfn_to_page(args->src[i]);
		struct page *copy = NULL;

		/* Addresses without a page stay without one. */
		if (!page || !(args->src[i] & MIGRATE_PFN_MIGRATE))
			continue;
		collected++;
		if (!ret) {
			copy = to_device ? hh_migrate_copy_in(device, page) :
					   hh_migrate_copy_out(page);
			if (hh_mishap_strike(&mishap, page, &copy) == -ENOMEM)
				ret = -ENOMEM;
		}
		if (copy)
			args->dst[i] = migrate_pfn(page_to_pfn(copy)) |
				       (args->src[i] & MIGRATE_PFN_WRITE);
		cond_resched();
	}

	migrate_vma_pages(args);
	for (i = 0; i < args->npages; i++) {
		struct page *page = migrate_pfn_to_page(args->src[i]);

		if (!page || !args->dst[i] ||
		    !(args->src[i] & MIGRATE_PFN_MIGRATE))
			continue;
		moved++;
		if (is_device_private_page(page))
			result->from_device++;
	}
	migrate_vma_finalize(args);
	hh_mishap_end(&mishap);

	result->batches++;
	result->collected += collected;
	result->migrated += moved;
	hh_count(device, to_device ? HH_TO_DEVICE : HH_TO_SYSTEM, moved);
	hh_count(device, HH_ABORTS, collected - moved);
	return ret;
}

static int hh_migrate_range(struct hh_mirror *mirror, struct mm_struct *mm,
			    struct hmm_harness_migrate *result, bool to_device,
			    bool mixed)
{
	unsigned long pages = min_t(u64, result->length >> PAGE_SHIFT,
				    HH_BATCH_PAGES);
	unsigned long addr = result->addr;
	unsigned long end = addr + result->length;
	struct migrate_vma args = {
		.pgmap_owner = mirror->device,
	};
	int ret = 0;

	if (!to_device)
		args.flags = MIGRATE_VMA_SELECT_DEVICE_PRIVATE;
	else if (mixed)
		args.flags = MIGRATE_VMA_SELECT_SYSTEM |
			     MIGRATE_VMA_SELECT_DEVICE_PRIVATE;
	else
		args.flags = MIGRATE_VMA_SELECT_SYSTEM;

	args.src = kvcalloc(pages, sizeof(*args.src), GFP_KERNEL);
	args.dst = kvcalloc(pages, sizeof(*args.dst), GFP_KERNEL);
	if (!args.src || !args.dst) {
		ret = -ENOMEM;
		goto out;
	}

	mmap_read_lock(mm);
	while (addr < end && !ret) {
		args.vma = vma_lookup(mm, addr);
		if (!args.vma) {
			ret = -EFAULT;
			break;
		}
		args.start = addr;
		args.end = min3(end, args.vma->vm_end,
				addr + (pages << PAGE_SHIFT));
		addr = args.end;
		ret = hh_migrate_batch(mirror, &args, result, to_device, mixed);
		if (!ret && fatal_signal_pending(current))
			ret = -EINTR;
	}
	mmap_read_unlock(mm);
out:
	kvfree(args.dst);
	kvfree(args.src);
	return ret;
}

long hh_ioctl_migrate(struct hh_mirror *mirror, void __user *arg,
		      bool to_device)
{
	struct hmm_harness_migrate migrate;
	struct mm_struct *mm;
	bool mixed;
	int ret;

	if (copy_from_user(&migrate, arg, sizeof(migrate)))
		return -EFAULT;
	if (migrate.reserved[0] || migrate.reserved[1])
		return -EINVAL;
	if (migrate.flags & ~(to_device ? HMM_HARNESS_MIGRATE_MIXED : 0))
		return -EINVAL;
	ret = hh_check_range(migrate.addr, migrate.length);
	if (ret)
		return ret;

	mixed = migrate.flags & HMM_HARNESS_MIGRATE_MIXED;
	migrate.batches = 0;
	migrate.collected = 0;
	migrate.migrated = 0;
	migrate.from_device = 0;

	mm = hh_mirror_mm(mirror);
	if (IS_ERR(mm))
		return PTR_ERR(mm);
	ret = mixed ? hh_window_prepare(mirror) : 0;
	if (!ret)
		ret = mutex_lock_killable(&mirror->migrate_lock);
	if (!ret) {
		ret = hh_migrate_range(mirror, mm, &migrate, to_device, mixed);
		mutex_unlock(&mirror->migrate_lock);
	}
	mmput(mm);

	if (copy_to_user(arg, &migrate, sizeof(migrate)))
		return -EFAULT;
	return ret;
}
