// SPDX-License-Identifier: GPL-2.0-only
/* If this does not compile, no other answer means anything. */
#include <linux/hmm.h>
#include <linux/memremap.h>
#include <linux/migrate.h>
#include <linux/mmu_notifier.h>

#ifndef CONFIG_DEVICE_PRIVATE
#error "CONFIG_DEVICE_PRIVATE is not set in this kernel"
#endif
#ifndef CONFIG_HMM_MIRROR
#error "CONFIG_HMM_MIRROR is not set in this kernel (some driver must select it)"
#endif
#ifndef CONFIG_MIGRATION
#error "CONFIG_MIGRATION is not set in this kernel"
#endif

int probe(struct hmm_range *range, struct migrate_vma *args)
{
	args->fault_page = NULL;
	return migrate_vma_setup(args) ?: hmm_range_fault(range);
}
