/* SPDX-License-Identifier: GPL-2.0-only */
/* What the files of hmm_harness.ko share. */
#ifndef HH_INTERNAL_H
#define HH_INTERNAL_H

#include <linux/atomic.h>
#include <linux/hmm.h>
#include <linux/list.h>
#include <linux/memremap.h>
#include <linux/migrate.h>
#include <linux/miscdevice.h>
#include <linux/mmu_notifier.h>
#include <linux/mutex.h>
#include <linux/spinlock.h>

#include "compat.h"
#include "hmm_harness.h"

enum hh_counter {
	HH_FAULTS,
	HH_FAULT_RETRIES,
	HH_TO_DEVICE,
	HH_TO_SYSTEM,
	HH_TO_RAM,
	HH_TO_RAM_FAILED,
	HH_ABORTS,
	HH_HOG_LOCKS,
	HH_COUNTERS
};

/* Migrations as BEHAVE tells them apart. */
enum hh_way {
	HH_WAY_RAM,			/* CPU faults */
	HH_WAY_DEVICE,
	HH_WAY_SYSTEM,			/* on request; never fails */
	HH_WAYS
};

/* What BEHAVE asked for. */
struct hh_behave {
	struct mutex turn;		/* CPU faults, if they take turns */
	spinlock_t lock;		/* all below */
	u32 flags;
	u32 delay_us;
	struct hmm_harness_failure failure[HH_WAYS][HMM_HARNESS_STEPS];
	u32 passed[HH_WAYS][HMM_HARNESS_STEPS];	/* since the last failure */
};

/* A simulated device; its address is the owner of its pages. */
struct hh_device {
	unsigned int index;
	char name[24];
	struct miscdevice misc;
	struct mutex open_lock;		/* opens, and eviction on last close */
	unsigned int opens;
	atomic64_t counter[HH_COUNTERS];
	atomic_long_t evicting;		/* pages of an eviction that waits */
	atomic_t evict_went_on;		/* how often waits were ended */
	wait_queue_head_t evict_wait;
	struct hh_behave behave;
	struct page **backing;		/* of each device page in use */
	unsigned long nr_pages;
	spinlock_t lock;		/* used, lowest, nr_used */
	unsigned long *used;		/* a bit per device page */
	unsigned long lowest;		/* no page below it is free */
	unsigned long nr_used;
	resource_size_t region_start;
	resource_size_t region_size;
	struct dev_pagemap pagemap;	/* last: it ends in a flexible array */
};

/* What HOLD asked for; one-shot. */
struct hh_hold {
	bool armed;
	u32 kind;
	u32 timeout_ms;
	unsigned long start;
	unsigned long end;
};

/* A mixed batch between the end of collection and the end of unmapping. */
struct hh_batch {
	struct list_head link;		/* hh_batches, while open */
	struct mmu_notifier notifier;
	bool registered;
	struct task_struct *armed;	/* whose next range_end is the one */
	struct migrate_vma *args;
	struct hh_hold hold;		/* for the next batch */
	struct list_head fault_link;	/* hh_fault_holds, while hold waits */
	bool faulting;			/* a CPU fault is held */
	u64 opened_ns;
	u64 opened_faults;		/* HH_TO_RAM by then */
	unsigned long start;		/* addresses of the shared device folios */
	unsigned long end;
	unsigned long off_lru_pfn;
	unsigned long device_pfn;
	struct hmm_harness_window now;	/* this batch */
	struct hmm_harness_window kept;	/* what WINDOW returns */
};

/* An open file: one address space as one device sees it. */
struct hh_mirror {
	struct hh_device *device;
	struct mutex attach_lock;	/* attaching, registering batch.notifier */
	bool attached;
	struct mmu_interval_notifier notifier;
	spinlock_t lock;		/* notifier's sequence against retries */
	struct mutex migrate_lock;	/* one migration at a time; batch */
	struct hh_batch batch;
};

/* A migration under way, and what BEHAVE does to it. */
struct hh_mishap {
	struct hh_device *device;
	enum hh_way way;
	bool turn;			/* it has the mutex */
	bool decided;			/* whether it fails */
	struct folio *pinned;
};

/* A FAULT call that is inside hmm_range_fault*(). */
struct hh_fault_entry {
	struct list_head link;
	struct hh_mirror *mirror;
	void *owner;
	unsigned long start;
	unsigned long end;
	unsigned int cpu;
	struct task_struct *task;
	unsigned long min_flt;		/* of the task, when it began */
};

/* The entry for a copy of what the entry source has. */
static inline unsigned long hh_migrate_target(struct page *copy,
					      unsigned long source)
{
	return migrate_pfn(page_to_pfn(copy)) |
	       (source & (MIGRATE_PFN_WRITE | HH_PFN_COMPOUND));
}

static inline void hh_count(struct hh_device *device, enum hh_counter which,
			    u64 n)
{
	atomic64_add(n, &device->counter[which]);
}

/* main.c */
extern struct hh_device *hh_devices[HMM_HARNESS_MAX_DEVICES];
extern unsigned int hh_nr_devices;
int hh_check_range(u64 addr, u64 length);
struct mm_struct *hh_mirror_mm(struct hh_mirror *mirror);

/* devmem.c */
int hh_devmem_create(struct hh_device *device, unsigned long bytes);
void hh_devmem_destroy(struct hh_device *device);
struct page *hh_devmem_alloc(struct hh_device *device, unsigned int order);
struct page *hh_devmem_backing(struct page *page);
unsigned long hh_devmem_used(struct hh_device *device);

/* evict.c */
void hh_evict_init(struct hh_device *device);
unsigned long hh_evict(struct hh_device *device, u32 delay_ms);
long hh_ioctl_evict(struct hh_mirror *mirror, void __user *arg);

/* migrate.c */
vm_fault_t hh_migrate_to_ram(struct vm_fault *vmf);
struct page *hh_migrate_copy_out(struct page *source, unsigned int order);
void hh_migrate_home(struct hh_device *device);
long hh_ioctl_migrate(struct hh_mirror *mirror, void __user *arg,
		      bool to_device);

/* fault.c */
int hh_range_fault(struct hh_mirror *mirror, struct hmm_range *range, u32 entry,
		   unsigned long timeout, u64 *retries);
long hh_ioctl_fault(struct hh_mirror *mirror, void __user *arg);
long hh_ioctl_snapshot(struct hh_mirror *mirror, void __user *arg);
long hh_ioctl_touch(struct hh_mirror *mirror, void __user *arg);

/* window.c */
void hh_window_init(struct hh_mirror *mirror);
int hh_window_prepare(struct hh_mirror *mirror);
void hh_window_detach(struct hh_mirror *mirror);
void hh_window_arm(struct hh_mirror *mirror, struct migrate_vma *args);
void hh_window_close(struct hh_mirror *mirror);
void hh_window_batched(struct page *page, unsigned int cpu);
void hh_window_fault_enter(struct hh_fault_entry *entry);
void hh_window_fault_leave(struct hh_fault_entry *entry);
void hh_window_open_fault(struct hh_batch *batch, struct migrate_vma *args);
void hh_window_held(struct hh_batch *batch, u32 held, unsigned int work_cpu);
u32 hh_window_watch(struct hh_batch *batch, unsigned int *cpu);
long hh_ioctl_window(struct hh_mirror *mirror, void __user *arg);

/* hold.c */
void hh_hold_init(struct hh_mirror *mirror);
void hh_hold_detach(struct hh_mirror *mirror);
bool hh_hold_take(struct hh_batch *batch, struct hh_hold *hold);
void hh_hold_until_stuck(struct hh_batch *batch, const struct hh_hold *hold);
void hh_hold_cpu_fault(struct hh_device *device, struct migrate_vma *args);
long hh_ioctl_hold(struct hh_mirror *mirror, void __user *arg);

/* clock.c */
void hh_clock_prepare(void);
u64 hh_clock_ns(void);
void hh_clock_busy(u32 us);

/* behave.c */
void hh_behave_init(struct hh_device *device);
void hh_behave_reset(struct hh_device *device);
void hh_mishap_begin(struct hh_mishap *mishap, struct hh_device *device,
		     enum hh_way way);
int hh_mishap_strike(struct hh_mishap *mishap, struct page *source,
		     struct page **copy);
void hh_mishap_end(struct hh_mishap *mishap);
long hh_ioctl_behave(struct hh_mirror *mirror, void __user *arg);

/* hog.c */
long hh_ioctl_hog(struct hh_mirror *mirror, void __user *arg);

#endif /* HH_INTERNAL_H */
