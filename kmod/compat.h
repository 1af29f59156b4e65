/* SPDX-License-Identifier: GPL-2.0-only */
/* One spelling for what kernels spell differently; probed.h says which. */
#ifndef HH_COMPAT_H
#define HH_COMPAT_H

#include <linux/hmm.h>
#include <linux/memremap.h>
#include <linux/mm.h>
#include <linux/workqueue.h>

#include "probed.h"

/* Makes a free device page a locked page with one reference. */
static inline void hh_page_init(struct page *page, struct dev_pagemap *pagemap)
{
#if defined(HH_INIT_PAGE_PGMAP_ORDER)
	zone_device_page_init(page, pagemap, 0);
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
