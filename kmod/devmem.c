// SPDX-License-Identifier: GPL-2.0-only
/*
 * Device memory: pages that the CPU cannot address, each in use backed by a
 * page that it can, which the device's table has by page number.  A folio is
 * one page or, where the kernel can, as many as a PMD maps; one that the core
 * splits keeps its pages' backing.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/bitmap.h>
#include <linux/delay.h>
#include <linux/ioport.h>
#include <linux/jiffies.h>
#include <linux/mm.h>
#include <linux/slab.h>

#include "compat.h"
#include "internal.h"

#define HH_EVICT_WARN_S	5

static struct hh_device *hh_devmem_device(struct page *page)
{
	return hh_page_pagemap(page)->owner;
}

static unsigned long hh_devmem_index(struct hh_device *device,
				     struct page *page)
{
	return page_to_pfn(page) - PHYS_PFN(device->pagemap.range.start);
}

struct page *hh_devmem_backing(struct page *page)
{
	struct hh_device *device = hh_devmem_device(page);

	return device->backing[hh_devmem_index(device, page)];
}

/* The first of so many free pages, aligned; nr_pages if there are none. */
static unsigned long hh_devmem_take(struct hh_device *device,
				    unsigned long pages)
{
	unsigned long first;

	spin_lock(&device->lock);
	first = bitmap_find_next_zero_area(device->used, device->nr_pages,
					   device->lowest, pages, pages - 1);
	if (first < device->nr_pages) {
		bitmap_set(device->used, first, pages);
		device->nr_used += pages;
		if (first == device->lowest || pages == 1)
			device->lowest = first + pages;
	} else {
		first = device->nr_pages;
	}
	spin_unlock(&device->lock);
	return first;
}

static void hh_devmem_give(struct hh_device *device, unsigned long first,
			   unsigned long pages)
{
	spin_lock(&device->lock);
	bitmap_clear(device->used, first, pages);
	device->nr_used -= pages;
	device->lowest = min(device->lowest, first);
	spin_unlock(&device->lock);
}

/* A device folio with backing, locked and referenced once; NULL: none left. */
struct page *hh_devmem_alloc(struct hh_device *device, unsigned int order)
{
	unsigned long first = hh_devmem_take(device, 1UL << order);
	struct page **backing = device->backing + first;
	struct page *page;
	unsigned long i;

	if (first == device->nr_pages)
		return NULL;
	for (i = 0; i < 1UL << order; i++) {
		backing[i] = alloc_page(GFP_HIGHUSER | __GFP_NOWARN);
		if (!backing[i])
			goto err;
	}
	page = pfn_to_page(PHYS_PFN(device->pagemap.range.start) + first);
	hh_page_init(page, &device->pagemap, order);
	return page;

err:
	while (i--)
		__free_page(backing[i]);
	hh_devmem_give(device, first, 1UL << order);
	return NULL;
}

/* Called by the core when the last reference to a device folio is gone. */
static void hh_devmem_free(struct page *page)
{
	struct hh_device *device = hh_devmem_device(page);
	unsigned long pages = folio_nr_pages(page_folio(page));
	unsigned long first = hh_devmem_index(device, page);
	unsigned long i;

	for (i = 0; i < pages; i++)
		__free_page(device->backing[first + i]);
	hh_devmem_give(device, first, pages);
}

HH_DEFINE_FREE(hh_devmem_free_op, hh_devmem_free)

#if HH_COMPOUND
/* Called for each folio behind the first, and at the end with no tail. */
static void hh_devmem_split(struct folio *head, struct folio *tail)
{
	if (tail)
		tail->pgmap = head->pgmap;
}
#endif

static const struct dev_pagemap_ops hh_devmem_ops = {
	HH_FREE_OP(hh_devmem_free_op),
#if HH_COMPOUND
	.folio_split = hh_devmem_split,
#endif
	.migrate_to_ram = hh_migrate_to_ram,
};

static void hh_devmem_free_tables(struct hh_device *device)
{
	bitmap_free(device->used);
	kvfree(device->backing);
}

int hh_devmem_create(struct hh_device *device, unsigned long bytes)
{
	struct resource *region;
	void *mapping;
	int ret;

	device->nr_pages = PHYS_PFN(bytes);
	device->backing = kvcalloc(device->nr_pages, sizeof(*device->backing),
				   GFP_KERNEL);
	device->used = bitmap_zalloc(device->nr_pages, GFP_KERNEL);
	if (!device->backing || !device->used) {
		ret = -ENOMEM;
		goto err_tables;
	}

	region = request_free_mem_region(&iomem_resource, bytes, device->name);
	if (IS_ERR(region)) {
		ret = PTR_ERR(region);
		goto err_tables;
	}
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
		ret = PTR_ERR(mapping);
		goto err_region;
	}
	return 0;

err_region:
	release_mem_region(device->region_start, device->region_size);
err_tables:
	hh_devmem_free_tables(device);
	return ret;
}

unsigned long hh_devmem_used(struct hh_device *device)
{
	unsigned long used;

	spin_lock(&device->lock);
	used = device->nr_used;
	spin_unlock(&device->lock);
	return used;
}

/* References beyond the mappings are pins; none: memory for a copy ran out. */
static void hh_devmem_warn(struct hh_device *device, unsigned long used)
{
	unsigned long pfn = PHYS_PFN(device->pagemap.range.start);
	unsigned long end = pfn + device->nr_pages;
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

	while ((used = hh_evict(device, 0))) {
		if (!warned && time_after(jiffies, warn_at)) {
			hh_devmem_warn(device, used);
			warned = true;
		}
		msleep(20);
	}
	memunmap_pages(&device->pagemap);
	release_mem_region(device->region_start, device->region_size);
	hh_devmem_free_tables(device);
}
