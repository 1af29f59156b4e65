// SPDX-License-Identifier: GPL-2.0-only
#include <linux/memremap.h>

void probe(struct page *page)
{
	zone_device_page_init(page);
}
