// SPDX-License-Identifier: GPL-2.0-only
#include <linux/workqueue.h>

bool probe(struct work_struct *work)
{
	return queue_work_on(0, system_wq, work);
}
