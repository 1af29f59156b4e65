// SPDX-License-Identifier: GPL-2.0-only
#include <linux/memremap.h>

void probe(struct page *page, struct dev_pagemap *pagemap)
{
	zone_device_page_init(page, pagemap, 0);
}
