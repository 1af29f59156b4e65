// SPDX-License-Identifier: GPL-2.0-only
/* Moving pages: to device memory, back on request, back on a CPU fault. */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/highmem.h>
#include <linux/migrate.h>
#include <linux/mm.h>
#include <linux/pagemap.h>
#include <linux/sched.h>
#include <linux/sched/mm.h>
#include <linux/sched/signal.h>
#include <linux/sched/task.h>
#include <linux/slab.h>
#include <linux/uaccess.h>

#include "compat.h"
#include "internal.h"

#define HH_BATCH_PAGES	65536UL
#define HH_HOME_PAGES	8192UL

/*
 * A locked system folio with the content of a device folio's pages, or NULL.
 * A huge one is worth an effort: under a CPU fault, and by page frames, the
 * core moves a huge device folio as a whole or not at all.
 */
struct page *hh_migrate_copy_out(struct page *source, unsigned int order)
{
	gfp_t gfp = order ? GFP_TRANSHUGE : GFP_HIGHUSER_MOVABLE;
	struct folio *folio = folio_alloc(gfp | __GFP_NOWARN, order);
	unsigned long i;

	if (!folio)
		return NULL;
	folio_lock(folio);
	for (i = 0; i < 1UL << order; i++)
		copy_highpage(folio_page(folio, i),
			      hh_devmem_backing(source + i));
	return folio_page(folio, 0);
}

/* A locked device folio with the content of as many system or device pages. */
static struct page *hh_migrate_copy_in(struct hh_device *device,
				       struct page *source, unsigned int order)
{
	struct page *page = hh_devmem_alloc(device, order);
	bool from_device = is_device_private_page(source);
	unsigned long i;

	if (!page)
		return NULL;
	for (i = 0; i < 1UL << order; i++)
		copy_highpage(hh_devmem_backing(page + i),
			      from_device ? hh_devmem_backing(source + i) :
					    source + i);
	return page;
}

/*
 * A CPU fault on a device page.  The core holds a reference on vmf->page and,
 * where it does so, its lock; fault_page tells migrate_vma about both.  A huge
 * folio mapped by a PMD, so that vmf has no pte, must move as a whole.
 */
vm_fault_t hh_migrate_to_ram(struct vm_fault *vmf)
{
	struct hh_device *device = hh_page_pagemap(vmf->page)->owner;
	unsigned int order = vmf->pte ? 0 : HH_HUGE_ORDER;
	unsigned long start = ALIGN_DOWN(vmf->address, PAGE_SIZE << order);
	struct migrate_vma args = {
		.vma		= vmf->vma,
		.start		= start,
		.end		= start + (PAGE_SIZE << order),
		.pgmap_owner	= device,
		.flags		= MIGRATE_VMA_SELECT_DEVICE_PRIVATE,
		.fault_page	= vmf->page,
	};
	unsigned long pfns[2] = { 0, 0 };
	struct page *page, *copy = NULL;
	struct hh_mishap mishap;
	vm_fault_t ret = 0;
	int error;

	hh_count(device, HH_TO_RAM, 1);
	args.src = &pfns[0];
	args.dst = &pfns[1];
	if (order) {
		args.flags |= HH_SELECT_COMPOUND;
		args.src = kcalloc(2UL << order, sizeof(*args.src), GFP_KERNEL);
		if (!args.src) {
			hh_count(device, HH_TO_RAM_FAILED, 1);
			return VM_FAULT_OOM;
		}
		args.dst = args.src + (1UL << order);
	}
	if (vmf->flags & FAULT_FLAG_USER)
		hh_hold_cpu_fault(device, &args);
	hh_mishap_begin(&mishap, device, HH_WAY_RAM);
	if (migrate_vma_setup(&args)) {
		hh_count(device, HH_TO_RAM_FAILED, 1);
		ret = VM_FAULT_SIGBUS;
		goto out;
	}

	page = migrate_pfn_to_page(args.src[0]);
	if (page && (args.src[0] & MIGRATE_PFN_MIGRATE)) {
		copy = hh_migrate_copy_out(page, hh_pfn_order(args.src[0]));
		error = hh_mishap_strike(&mishap, page, &copy);
		if (!error)
			args.dst[0] = hh_migrate_target(copy, args.src[0]);
		else if (error == -EIO)
			ret = VM_FAULT_SIGBUS;
		else
			ret = VM_FAULT_OOM;
	}
	migrate_vma_pages(&args);
	if (copy && (args.src[0] & MIGRATE_PFN_MIGRATE)) {
		hh_count(device, HH_TO_SYSTEM, 1UL << order);
	} else {
		/* Somebody else had it; the access faults again. */
		hh_count(device, HH_TO_RAM_FAILED, 1);
		copy = NULL;
	}

	/* Finalizing puts a new small page in this CPU's batch for the LRU. */
	if (copy && !order) {
		unsigned int cpu = raw_smp_processor_id();
		unsigned long pfn = page_to_pfn(copy);

		migrate_vma_finalize(&args);
		if (cpu == raw_smp_processor_id())
			hh_window_batched(pfn_to_page(pfn), cpu);
	} else {
		migrate_vma_finalize(&args);
	}
out:
	hh_mishap_end(&mishap);
	if (args.src != &pfns[0])
		kfree(args.src);
	return ret;
}

static struct page *hh_migrate_copy(struct hh_device *device,
				    struct page *source, unsigned int order,
				    bool to_device)
{
	return to_device ? hh_migrate_copy_in(device, source, order) :
			   hh_migrate_copy_out(source, order);
}

/*
 * Finds a place for one folio of the batch; where there is none for all of it,
 * for its pages one by one, and the core splits it.  -ENOMEM if some page has
 * none.
 */
static int hh_migrate_place(struct hh_mishap *mishap, struct migrate_vma *args,
			    unsigned long i, bool to_device, bool small)
{
	unsigned int order = hh_pfn_order(args->src[i]);
	unsigned long last = i + (1UL << order) - 1;
	unsigned long source = args->src[i];
	struct page *page = migrate_pfn_to_page(source);
	struct page *copy = NULL;
	int error;

	if (!order || !small)
		copy = hh_migrate_copy(mishap->device, page, order, to_device);
	if (!copy && order) {
		source &= ~HH_PFN_COMPOUND;
		copy = hh_migrate_copy(mishap->device, page, 0, to_device);
	} else {
		last = i;
	}
	for (;;) {
		error = hh_mishap_strike(mishap, page, &copy);
		if (!error)
			args->dst[i] = hh_migrate_target(copy, source);
		if (error == -ENOMEM || i == last)
			return error;
		cond_resched();
		i++;
		page++;
		copy = hh_migrate_copy(mishap->device, page, 0, to_device);
	}
}

/*
 * One migrate_vma batch; -ENOMEM if some page found no place.  mixed is the
 * mirror whose window a mixed batch is, or else NULL.
 */
static int hh_migrate_batch(struct hh_device *device, struct hh_mirror *mixed,
			    struct migrate_vma *args,
			    struct hmm_harness_migrate *result, bool to_device)
{
	bool small = result->flags & HMM_HARNESS_MIGRATE_SMALL;
	unsigned long i, moved = 0, collected = 0;
	struct hh_mishap mishap;
	int ret;

	memset(args->dst, 0,
	       ((args->end - args->start) >> PAGE_SHIFT) * sizeof(*args->dst));
	if (mixed)
		hh_window_arm(mixed, args);
	ret = migrate_vma_setup(args);
	if (mixed)
		hh_window_close(mixed);
	if (ret)
		return ret;
	hh_mishap_begin(&mishap, device,
			to_device ? HH_WAY_DEVICE : HH_WAY_SYSTEM);

	for (i = 0; i < args->npages; i++) {
		/* Addresses without a page stay without one. */
		if (!migrate_pfn_to_page(args->src[i]) ||
		    !(args->src[i] & MIGRATE_PFN_MIGRATE))
			continue;
		collected += 1UL << hh_pfn_order(args->src[i]);
		if (!ret && hh_migrate_place(&mishap, args, i, to_device,
					     small) == -ENOMEM)
			ret = -ENOMEM;
		cond_resched();
	}

	migrate_vma_pages(args);
	for (i = 0; i < args->npages; i++) {
		struct page *page = migrate_pfn_to_page(args->src[i]);
		unsigned long pages = 1UL << hh_pfn_order(args->dst[i]);

		if (!page || !args->dst[i] ||
		    !(args->src[i] & MIGRATE_PFN_MIGRATE))
			continue;
		moved += pages;
		if (is_device_private_page(page))
			result->from_device += pages;
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
			    struct hmm_harness_migrate *result, bool to_device)
{
	bool mixed = result->flags & HMM_HARNESS_MIGRATE_MIXED;
	unsigned long pages = min_t(u64, result->length >> PAGE_SHIFT,
				    HH_BATCH_PAGES);
	unsigned long addr = result->addr;
	unsigned long end = addr + result->length;
	struct migrate_vma args = {
		.pgmap_owner = mirror->device,
	};
	int ret = 0;

	if (to_device)
		args.flags |= MIGRATE_VMA_SELECT_SYSTEM;
	if (!to_device || mixed)
		args.flags |= MIGRATE_VMA_SELECT_DEVICE_PRIVATE;
	if (result->flags & HMM_HARNESS_MIGRATE_COMPOUND)
		args.flags |= HH_SELECT_COMPOUND;

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
		ret = hh_migrate_batch(mirror->device, mixed ? mirror : NULL,
				       &args, result, to_device);
		if (!ret && fatal_signal_pending(current))
			ret = -EINTR;
	}
	mmap_read_unlock(mm);
out:
	kvfree(args.dst);
	kvfree(args.src);
	return ret;
}

/*
 * Moves the device's pages that mm maps to system memory one by one: without
 * MIGRATE_VMA_SELECT_COMPOUND the core splits huge folios as it collects them.
 */
static void hh_migrate_home_of(struct hh_device *device, struct mm_struct *mm,
			       unsigned long *pfns)
{
	struct hmm_harness_migrate result = { 0 };
	struct migrate_vma args = {
		.pgmap_owner	= device,
		.flags		= MIGRATE_VMA_SELECT_DEVICE_PRIVATE,
		.src		= pfns,
		.dst		= pfns + HH_HOME_PAGES,
	};
	unsigned long addr = 0;

	mmap_read_lock(mm);
	while ((args.vma = find_vma(mm, addr))) {
		args.start = max(addr, args.vma->vm_start);
		args.end = min(args.vma->vm_end,
			       args.start + HH_HOME_PAGES * PAGE_SIZE);
		addr = args.end;
		if (vma_is_anonymous(args.vma))
			hh_migrate_batch(device, NULL, &args, &result, false);
		else
			addr = args.vma->vm_end;
		cond_resched();
	}
	mmap_read_unlock(mm);
}

/* The same for every process, as page frames do not say whose they are. */
void hh_migrate_home(struct hh_device *device)
{
	unsigned long *pfns = kvcalloc(2 * HH_HOME_PAGES, sizeof(*pfns),
				       GFP_KERNEL);
	struct task_struct *task;
	struct mm_struct *mm;
	bool there;

	if (!pfns)
		return;
	rcu_read_lock();
	for_each_process(task) {
		mm = get_task_mm(task);
		if (!mm)
			continue;
		get_task_struct(task);
		rcu_read_unlock();
		hh_migrate_home_of(device, mm, pfns);
		mmput(mm);
		rcu_read_lock();
		there = pid_alive(task);
		put_task_struct(task);
		/* Gone, and with it the way to the next: for another time. */
		if (!there)
			break;
	}
	rcu_read_unlock();
	kvfree(pfns);
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
	if (migrate.flags & ~(HMM_HARNESS_MIGRATE_COMPOUND |
			      HMM_HARNESS_MIGRATE_SMALL |
			      (to_device ? HMM_HARNESS_MIGRATE_MIXED : 0)))
		return -EINVAL;
	if ((migrate.flags & HMM_HARNESS_MIGRATE_SMALL) &&
	    !(migrate.flags & HMM_HARNESS_MIGRATE_COMPOUND))
		return -EINVAL;
	ret = hh_check_range(migrate.addr, migrate.length);
	if (ret)
		return ret;
	if ((migrate.flags & HMM_HARNESS_MIGRATE_COMPOUND) && !hh_compound())
		return -EOPNOTSUPP;

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
		ret = hh_migrate_range(mirror, mm, &migrate, to_device);
		mutex_unlock(&mirror->migrate_lock);
	}
	mmput(mm);

	if (copy_to_user(arg, &migrate, sizeof(migrate)))
		return -EFAULT;
	return ret;
}
