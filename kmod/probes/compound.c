// SPDX-License-Identifier: GPL-2.0-only
/* Device-private folios of the size that a PMD maps, from end to end. */
#include <linux/memremap.h>
#include <linux/migrate.h>
#include <linux/mm.h>

#ifndef CONFIG_TRANSPARENT_HUGEPAGE
#error "CONFIG_TRANSPARENT_HUGEPAGE is not set in this kernel"
#endif

static void give_back(struct folio *folio)
{
}

static void split(struct folio *head, struct folio *tail)
{
	tail->pgmap = head->pgmap;
}

const struct dev_pagemap_ops probe = {
	.folio_free = give_back,
	.folio_split = split,
};

unsigned long make(struct page *page, struct dev_pagemap *pagemap,
		   struct migrate_vma *args)
{
	zone_device_page_init(page, pagemap, HPAGE_PMD_ORDER);
	args->flags = MIGRATE_VMA_SELECT_COMPOUND;
	return thp_migration_supported() ? MIGRATE_PFN_COMPOUND : 0;
}
