// SPDX-License-Identifier: GPL-2.0-only
/*
 * Device memory: pages that the CPU cannot address, each in use backed by a
 * page that it can.  A free page's zone_device_data links the free list, a
 * used page's points to its backing page.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/delay.h>
#include <linux/ioport.h>
#include <linux/jiffies.h>
#include <linux/mm.h>
#include <linux/sched.h>
#include <linux/slab.h>

#include "compat.h"
#include "internal.h"

#define HH_EVICT_BATCH	512UL
#define HH_EVICT_WARN_S	5

static struct hh_device *hh_devmem_device(struct page *page)
{
	return hh_page_pagemap(page)->owner;
}

struct page *hh_devmem_backing(struct page *page)
{
	return page->zone_device_data;
}

/* A device page with backing, locked and referenced once; NULL: none left. */
struct page *hh_devmem_alloc(struct hh_device *device)
{
	struct page *backing = alloc_page(GFP_HIGHUSER | __GFP_NOWARN);
	struct page *page;

	if (!backing)
		return NULL;

	spin_lock(&device->lock);
	page = device->free_list;
	if (page) {
		device->free_list = page->zone_device_data;
		device->nr_free--;
		device->nr_used++;
	}
	spin_unlock(&device->lock);

	if (!page) {
		__free_page(backing);
		return NULL;
	}
	hh_page_init(page, &device->pagemap);
	page->zone_device_data = backing;
	return page;
}

/* Called by the core when the last reference to a device page is gone. */
static void hh_devmem_free(struct page *page)
{
	struct hh_device *device = hh_devmem_device(page);
	struct page *backing = page->zone_device_data;

	__free_page(backing);
	spin_lock(&device->lock);
	page->zone_device_data = device->free_list;
	device->free_list = page;
	device->nr_free++;
	device->nr_used--;
	spin_unlock(&device->lock);
}

HH_DEFINE_FREE(hh_devmem_free_op, hh_devmem_free)

static const struct dev_pagemap_ops hh_devmem_ops = {
	HH_FREE_OP(hh_devmem_free_op),
	.migrate_to_ram = hh_migrate_to_ram,
};

int hh_devmem_create(struct hh_device *device, unsigned long bytes)
{
	struct resource *region;
	unsigned long pfn, end_pfn;
	void *mapping;

	region = request_free_mem_region(&iomem_resource, bytes, device->name);
	if (IS_ERR(region))
		return PTR_ERR(region);
	device->region_start = region->start;
	device->region_size = resource_size(region);

	/* The region may be rounded up; the device has what was asked for. */
	device->pagemap.type = MEMORY_DEVICE_PRIVATE;
	device->pagemap.nr_range = 1;
	device->pagemap.range.start = region->start;
	device->pagemap.range.end = region->start + bytes - 1;
	device->pagemap.ops = &hh_devmem_ops;
	device->pagemap.owner = device;

	mapping = memremap_pages(&device->pagemap, NUMA_NO_NODE);
	if (IS_ERR(mapping)) {
		release_mem_region(device->region_start, device->region_size);
		return PTR_ERR(mapping);
	}

	pfn = PHYS_PFN(device->pagemap.range.start);
	end_pfn = pfn + PHYS_PFN(bytes);
	for (; pfn < end_pfn; pfn++) {
		struct page *page = pfn_to_page(pfn);

		page->zone_device_data = device->free_list;
		device->free_list = page;
		device->nr_free++;
	}
	return 0;
}

static unsigned long hh_devmem_used(struct hh_device *device)
{
	unsigned long used;

	spin_lock(&device->lock);
	used = device->nr_used;
	spin_unlock(&device->lock);
	return used;
}

static void hh_devmem_evict_batch(struct hh_device *device,
				  unsigned long *source,
				  unsigned long *target, unsigned long pfn,
				  unsigned long count)
{
	unsigned long i, moved = 0, failed = 0;

	memset(target, 0, count * sizeof(*target));
	if (migrate_device_range(source, pfn, count))
		return;

	for (i = 0; i < count; i++) {
		struct page *page = migrate_pfn_to_page(source[i]);
		struct page *copy;

		if (!page || !(source[i] & MIGRATE_PFN_MIGRATE))
			continue;
		copy = hh_migrate_copy_out(page);
		if (copy)
			target[i] = migrate_pfn(page_to_pfn(copy)) |
				    (source[i] & MIGRATE_PFN_WRITE);
	}
	migrate_device_pages(source, target, count);
	for (i = 0; i < count; i++) {
		if (!target[i])
			continue;
		if (source[i] & MIGRATE_PFN_MIGRATE)
			moved++;
		else
			failed++;
	}
	migrate_device_finalize(source, target, count);
	hh_count(device, HH_TO_SYSTEM, moved);
	hh_count(device, HH_ABORTS, failed);
}

/* Moves what can be moved back to system memory; returns pages still in use. */
unsigned long hh_devmem_evict(struct hh_device *device)
{
	unsigned long pages = PHYS_PFN(range_len(&device->pagemap.range));
	unsigned long first = PHYS_PFN(device->pagemap.range.start);
	unsigned long *source, *target;
	unsigned long i;

	if (!hh_devmem_used(device))
		return 0;

	source = kcalloc(HH_EVICT_BATCH, sizeof(*source), GFP_KERNEL);
	target = kcalloc(HH_EVICT_BATCH, sizeof(*target), GFP_KERNEL);
	if (source && target) {
		for (i = 0; i < pages; i += HH_EVICT_BATCH) {
			hh_devmem_evict_batch(device, source, target, first + i,
					      min(HH_EVICT_BATCH, pages - i));
			cond_resched();
		}
	}
	kfree(target);
	kfree(source);
	return hh_devmem_used(device);
}

/* References beyond the mappings are pins; none: memory for a copy ran out. */
static void hh_devmem_warn(struct hh_device *device, unsigned long used)
{
	unsigned long pfn = PHYS_PFN(device->pagemap.range.start);
	unsigned long end = pfn + PHYS_PFN(range_len(&device->pagemap.range));
	struct folio *folio;

	for (; pfn < end; pfn++) {
		folio = page_folio(pfn_to_page(pfn));
		if (folio_ref_count(folio))
			break;
	}
	if (pfn == end)
		return;		/* given back meanwhile */
	pr_warn("%s: waiting for %lu pages in use; the first: pfn %#lx, references %d, mappings %d%s\n",
		device->name, used, pfn, folio_ref_count(folio),
		folio_mapcount(folio),
		folio_test_locked(folio) ? ", locked" : "");
}

/*
 * The pages must be gone before their struct pages are.  Nobody can make new
 * ones, and what keeps one for a while (a fault, a fork) ends: keep trying, as
 * memunmap_pages() would only wait.
 */
void hh_devmem_destroy(struct hh_device *device)
{
	unsigned long warn_at = jiffies + HH_EVICT_WARN_S * HZ;
	bool warned = false;
	unsigned long used;

	while ((used = hh_devmem_evict(device))) {
		if (!warned && time_after(jiffies, warn_at)) {
			hh_devmem_warn(device, used);
			warned = true;
		}
		msleep(20);
	}
	memunmap_pages(&device->pagemap);
	release_mem_region(device->region_start, device->region_size);
}
