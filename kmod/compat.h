/* SPDX-License-Identifier: GPL-2.0-only */
/* One spelling for what kernels spell differently; probed.h says which. */
#ifndef HH_COMPAT_H
#define HH_COMPAT_H

#include <linux/hmm.h>
#include <linux/memremap.h>
#include <linux/migrate.h>
#include <linux/mm.h>
#include <linux/workqueue.h>

#include "probed.h"

/* Device folios of the size that a PMD maps; without them all are one page. */
#if HH_COMPOUND
#define HH_HUGE_ORDER		HPAGE_PMD_ORDER
#define HH_HUGE_PAGES		HPAGE_PMD_NR
#define HH_PFN_COMPOUND		MIGRATE_PFN_COMPOUND
#define HH_SELECT_COMPOUND	MIGRATE_VMA_SELECT_COMPOUND
#else
#define HH_HUGE_ORDER		0
#define HH_HUGE_PAGES		1
#define HH_PFN_COMPOUND		0UL
#define HH_SELECT_COMPOUND	0
#endif

/* False also where this machine's page tables cannot migrate them. */
static inline bool hh_compound(void)
{
	return HH_COMPOUND && thp_migration_supported();
}

/* Of the folio in an entry of migrate_vma's src or dst. */
static inline unsigned int hh_pfn_order(unsigned long entry)
{
	return (entry & HH_PFN_COMPOUND) ? HH_HUGE_ORDER : 0;
}

/* Makes free device pages a locked folio with one reference. */
static inline void hh_page_init(struct page *page, struct dev_pagemap *pagemap,
				unsigned int order)
{
#if defined(HH_INIT_PAGE_PGMAP_ORDER)
	zone_device_page_init(page, pagemap, order);
	if (order)
		folio_set_large_rmappable(page_folio(page));
#elif defined(HH_INIT_PAGE_ORDER)
	zone_device_page_init(page, 0);
#elif defined(HH_INIT_PAGE)
	zone_device_page_init(page);
#else
#error "probe.sh gave no answer on zone_device_page_init()"
#endif
}

static inline struct dev_pagemap *hh_page_pagemap(struct page *page)
{
#if defined(HH_PGMAP_FUNCTION)
	return page_pgmap(page);
#elif defined(HH_PGMAP_MEMBER)
	return page->pgmap;
#else
#error "probe.sh gave no answer on the pagemap of a page"
#endif
}

/*
 * Defines the callback for a device page without users, and HH_FREE_OP, its
 * entry in struct dev_pagemap_ops; the body sees it as a struct page.
 */
#if defined(HH_FREE_FOLIO)
#define HH_DEFINE_FREE(name, body)				\
	static void name(struct folio *folio)			\
	{							\
		body(folio_page(folio, 0));			\
	}
#define HH_FREE_OP(name)	.folio_free = name
#elif defined(HH_FREE_PAGE)
#define HH_DEFINE_FREE(name, body)				\
	static void name(struct page *page)			\
	{							\
		body(page);					\
	}
#define HH_FREE_OP(name)	.page_free = name
#else
#error "probe.sh gave no answer on how a device page is given back"
#endif

static inline struct workqueue_struct *hh_percpu_wq(void)
{
#if defined(HH_PERCPU_WQ)
	return system_percpu_wq;
#elif defined(HH_PERCPU_WQ_OLD)
	return system_wq;
#else
#error "probe.sh gave no answer on the per-CPU workqueue"
#endif
}

static inline int hh_range_fault_unlocked(struct hmm_range *range,
					  unsigned long timeout)
{
#if HH_RANGE_FAULT_UNLOCKED
	return hmm_range_fault_unlocked_timeout(range, timeout);
#else
	return -EOPNOTSUPP;
#endif
}

#endif /* HH_COMPAT_H */
