// SPDX-License-Identifier: GPL-2.0-only
/*
 * Did a mixed batch really meet the conditions of the trylock starvation?
 *
 * migrate_vma_setup() works in two steps: it collects (and locks) the folios
 * of the range, then isolates and unmaps them in the order of addresses.  In
 * between it ends the MMU_NOTIFY_MIGRATE notification, in the caller's context,
 * so that a notifier of our own can look at the batch at just that moment,
 * through the src array, which is ours.
 *
 * Observed there: folios locked; device folios still mapped (the caller's own
 * mapping is gone by then, so by another address space); system folios off the
 * LRU with one reference more than mappings and collection account for; FAULT
 * calls inside hmm_range_fault*(), their ranges, owners and CPUs.
 *
 * Inferred: that the spare reference is the one a per-CPU LRU batch holds, and
 * that the batch is that of the CPU on which this module saw the page come up
 * last (a batch holds at most 31 folios, and so many are remembered per CPU).
 * Batches cannot be looked at from a module: a page that came up unseen has the
 * CPU of its frame's last use that was seen, if that is still remembered.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/ktime.h>
#include <linux/mm.h>
#include <linux/mmu_notifier.h>
#include <linux/percpu.h>
#include <linux/sched.h>
#include <linux/uaccess.h>

#include "internal.h"

#define HH_RECENT	32U
/* Faults of a spinner in vain, after which it is one. */
#define HH_ROUNDS	64U

/* What must meet for the bug: with the batch's own drain, or a work item. */
#define HH_NEEDED_DRAIN \
	(HMM_HARNESS_COND_DEVICE_LOCKED | HMM_HARNESS_COND_DEVICE_SHARED | \
	 HMM_HARNESS_COND_SYSTEM_OFF_LRU | HMM_HARNESS_COND_ORDER | \
	 HMM_HARNESS_COND_REMOTE_DRAIN | HMM_HARNESS_COND_SPINNER | \
	 HMM_HARNESS_COND_SPINNER_DRAIN)
#define HH_NEEDED_WORK \
	(HMM_HARNESS_COND_DEVICE_LOCKED | HMM_HARNESS_COND_DEVICE_SHARED | \
	 HMM_HARNESS_COND_SPINNER | HMM_HARNESS_COND_SPINNER_WORK)

#define HH_NEEDED_FAULT \
	(HMM_HARNESS_COND_DEVICE_LOCKED | HMM_HARNESS_COND_SPINNER | \
	 HMM_HARNESS_COND_SPINNER_WORK)

/* Page frames that were last put in a CPU's LRU batch, as far as we know. */
struct hh_recent {
	unsigned int next;
	struct {
		unsigned long pfn;
		u64 number;		/* of the record; 0: none */
	} entry[HH_RECENT];
};

static DEFINE_PER_CPU(struct hh_recent, hh_recent);
static DEFINE_SPINLOCK(hh_recent_lock);
static u64 hh_recent_number;

/*
 * Batches being unmapped and faults being served.  Whoever comes second,
 * holder or spinner, sees the first: both enter their own list and look at
 * the other under this one lock.
 */
static DEFINE_SPINLOCK(hh_window_lock);
static LIST_HEAD(hh_batches);
static LIST_HEAD(hh_faults);

void hh_window_batched(struct page *page, unsigned int cpu)
{
	struct hh_recent *recent = per_cpu_ptr(&hh_recent, cpu);
	unsigned int i;

	spin_lock(&hh_recent_lock);
	i = recent->next++ % HH_RECENT;
	recent->entry[i].pfn = page_to_pfn(page);
	recent->entry[i].number = ++hh_recent_number;
	spin_unlock(&hh_recent_lock);
}

/*
 * The CPU in whose batch the page is, as a bit; 0 if we never saw it, or if the
 * CPU has no bit.  Frames are used again: the newest record is the page's.
 */
static u64 hh_window_cpu_of(unsigned long pfn)
{
	unsigned int cpu, i;
	u64 newest = 0, mask = 0;

	spin_lock(&hh_recent_lock);
	for_each_possible_cpu(cpu) {
		struct hh_recent *recent = per_cpu_ptr(&hh_recent, cpu);

		for (i = 0; i < HH_RECENT; i++) {
			if (recent->entry[i].pfn != pfn ||
			    recent->entry[i].number <= newest)
				continue;
			newest = recent->entry[i].number;
			mask = cpu < 64 ? BIT_ULL(cpu) : 0;
		}
	}
	spin_unlock(&hh_recent_lock);
	return mask;
}

/*
 * Off the LRU, and referenced by more than its mappings and the collection:
 * once isolated, a folio is off the LRU too, but has no spare reference.
 */
static bool hh_window_in_batch(struct folio *folio)
{
	return !folio_test_lru(folio) &&
	       folio_ref_count(folio) > 1 + folio_mapcount(folio);
}

static bool hh_window_matches(struct hh_batch *batch,
			      struct hh_fault_entry *entry)
{
	struct hh_mirror *holder = container_of(batch, struct hh_mirror, batch);

	return entry->mirror != holder && entry->owner != holder->device &&
	       entry->start < batch->end && entry->end > batch->start;
}

static void hh_window_judge(struct hmm_harness_window *now)
{
	now->hit = (now->conditions & now->needed) == now->needed;
}

/* A drain that waits for the batch must find the folio still in it. */
static bool hh_window_off_lru(struct hh_batch *batch)
{
	if (!(batch->now.needed & HMM_HARNESS_COND_SYSTEM_OFF_LRU))
		return true;
	return batch->off_lru_pfn &&
	       hh_window_in_batch(page_folio(pfn_to_page(batch->off_lru_pfn)));
}

/* Under hh_window_lock: the spinner's part of the conditions. */
static void hh_window_spinner(struct hh_batch *batch,
			      struct hh_fault_entry *entry, bool late)
{
	struct hmm_harness_window *now = &batch->now;

	if (now->hit)
		return;
	now->conditions |= HMM_HARNESS_COND_SPINNER;
	now->spinner_cpu = entry->cpu;
	now->spinner_late = late;
	if (entry->cpu < 64 && (now->drain_cpus & BIT_ULL(entry->cpu)))
		now->conditions |= HMM_HARNESS_COND_SPINNER_DRAIN;
	hh_window_judge(now);
}

void hh_window_fault_enter(struct hh_fault_entry *entry)
{
	struct hh_batch *batch;

	spin_lock(&hh_window_lock);
	entry->cpu = raw_smp_processor_id();
	entry->task = current;
	entry->min_flt = current->min_flt;
	list_add(&entry->link, &hh_faults);
	list_for_each_entry(batch, &hh_batches, link) {
		if (!hh_window_matches(batch, entry))
			continue;
		/*
		 * Late, so only if the holder has got no further.  The folios
		 * may have moved on while we look, which is harmless: struct
		 * pages do not go away, and a device page in an open batch
		 * keeps the module.
		 */
		if (hh_window_off_lru(batch) &&
		    folio_mapped(page_folio(pfn_to_page(batch->device_pfn))))
			hh_window_spinner(batch, entry, true);
	}
	spin_unlock(&hh_window_lock);
}

void hh_window_fault_leave(struct hh_fault_entry *entry)
{
	spin_lock(&hh_window_lock);
	list_del(&entry->link);
	spin_unlock(&hh_window_lock);
}

/* Only the first entry of a huge folio has it. */
static struct page *hh_window_page(struct migrate_vma *args, unsigned long addr)
{
	unsigned long at = (addr - args->start) >> PAGE_SHIFT;
	struct page *page = migrate_pfn_to_page(args->src[at]);

	if (page || !HH_COMPOUND)
		return page;
	addr = max(ALIGN_DOWN(addr, PAGE_SIZE << HH_HUGE_ORDER), args->start);
	at = (addr - args->start) >> PAGE_SHIFT;
	if (!(args->src[at] & HH_PFN_COMPOUND))
		return NULL;
	return migrate_pfn_to_page(args->src[at]);
}

/*
 * Is some FAULT stuck on the batch, which is held?  One that goes round counts
 * its faults, though they fault nothing in: far more of them than pages.  One
 * that waits marks the first folio it comes upon.
 */
u32 hh_window_watch(struct hh_batch *batch, unsigned int *cpu)
{
	u32 held = HMM_HARNESS_HELD_WAITING;
	struct hh_fault_entry *entry;

	spin_lock(&hh_window_lock);
	list_for_each_entry(entry, &hh_faults, link) {
		unsigned long faults;
		struct page *page;

		if (!hh_window_matches(batch, entry))
			continue;
		page = hh_window_page(batch->args,
				      max(entry->start, batch->start));
		faults = READ_ONCE(entry->task->min_flt) - entry->min_flt;
		if (page && folio_test_waiters(page_folio(page)) &&
		    !task_is_running(entry->task))
			held = HMM_HARNESS_HELD_SLEEPS;
		else if (faults > 2 * PHYS_PFN(entry->end - entry->start) +
				  HH_ROUNDS)
			held = HMM_HARNESS_HELD_SPINS;
		else
			continue;
		*cpu = entry->cpu;
		break;
	}
	spin_unlock(&hh_window_lock);
	return held;
}

static void hh_window_blank(struct hmm_harness_window *window)
{
	memset(window, 0, sizeof(*window));
	window->needed = HH_NEEDED_DRAIN;
	window->first_off_lru = HMM_HARNESS_NO_INDEX;
	window->first_device = HMM_HARNESS_NO_INDEX;
	window->holder_cpu = HMM_HARNESS_NO_CPU;
	window->spinner_cpu = HMM_HARNESS_NO_CPU;
}

/* What the src array says; the folios are locked and referenced by us. */
static void hh_window_inspect(struct hh_batch *batch)
{
	struct hmm_harness_window *now = &batch->now;
	struct migrate_vma *args = batch->args;
	unsigned long i;

	for (i = 0; i < args->npages; i++) {
		struct page *page = migrate_pfn_to_page(args->src[i]);
		struct folio *folio;

		if (!page)
			continue;
		folio = page_folio(page);
		if (is_device_private_page(page)) {
			if (now->first_device == HMM_HARNESS_NO_INDEX)
				now->first_device = i;
			if (!folio_test_locked(folio))
				continue;
			now->device_locked++;
			if (!folio_mapped(folio))
				continue;
			if (!now->device_shared++) {
				batch->start = args->start + (i << PAGE_SHIFT);
				batch->device_pfn = page_to_pfn(page);
			}
			batch->end = args->start +
				((i + folio_nr_pages(folio)) << PAGE_SHIFT);
			continue;
		}
		now->system_folios++;
		if (!hh_window_in_batch(folio))
			continue;
		now->system_off_lru++;
		now->drain_cpus |= hh_window_cpu_of(page_to_pfn(page));
		if (now->first_off_lru == HMM_HARNESS_NO_INDEX) {
			now->first_off_lru = i;
			batch->off_lru_pfn = page_to_pfn(page);
		}
	}

	/* The holder's own batch is drained before anything is looked at. */
	if (now->holder_cpu < 64)
		now->drain_cpus &= ~BIT_ULL(now->holder_cpu);
	if (now->device_locked)
		now->conditions |= HMM_HARNESS_COND_DEVICE_LOCKED;
	if (now->device_shared)
		now->conditions |= HMM_HARNESS_COND_DEVICE_SHARED;
	if (now->system_off_lru)
		now->conditions |= HMM_HARNESS_COND_SYSTEM_OFF_LRU;
	if (now->system_off_lru && now->device_locked &&
	    now->first_off_lru < now->first_device)
		now->conditions |= HMM_HARNESS_COND_ORDER;
	if (now->drain_cpus)
		now->conditions |= HMM_HARNESS_COND_REMOTE_DRAIN;
}

static void hh_window_begin(struct hh_batch *batch, u32 needed)
{
	hh_window_blank(&batch->now);
	batch->now.needed = needed;
	batch->now.holder_cpu = raw_smp_processor_id();
	batch->start = 0;
	batch->end = 0;
	batch->off_lru_pfn = 0;
	batch->device_pfn = 0;
}

static u64 hh_window_faults(struct hh_batch *batch)
{
	struct hh_mirror *mirror = container_of(batch, struct hh_mirror, batch);

	return atomic64_read(&mirror->device->counter[HH_TO_RAM]);
}

static void hh_window_open(struct hh_batch *batch)
{
	struct hh_fault_entry *entry;

	spin_lock(&hh_window_lock);
	list_add(&batch->link, &hh_batches);
	batch->now.open = 1;
	list_for_each_entry(entry, &hh_faults, link)
		if (hh_window_matches(batch, entry))
			hh_window_spinner(batch, entry, false);
	batch->opened_ns = ktime_get_ns();
	batch->opened_faults = hh_window_faults(batch);
	spin_unlock(&hh_window_lock);
}

/* A page that a CPU fault has come upon, as a batch of its own. */
void hh_window_open_fault(struct hh_batch *batch, struct migrate_vma *args)
{
	hh_window_begin(batch, HH_NEEDED_FAULT);
	batch->args = args;
	batch->start = args->start;
	batch->end = args->end;
	batch->device_pfn = page_to_pfn(args->fault_page);
	batch->now.held = HMM_HARNESS_HELD_WAITING;
	batch->now.first_device = 0;
	/* The core has it locked, if it is a core that locks it. */
	if (folio_test_locked(page_folio(args->fault_page))) {
		batch->now.device_locked = 1;
		batch->now.conditions = HMM_HARNESS_COND_DEVICE_LOCKED;
	}
	hh_window_open(batch);
}

/* The hold is over; a work item for work_cpu, if any, comes next. */
void hh_window_held(struct hh_batch *batch, u32 held, unsigned int work_cpu)
{
	struct hmm_harness_window *now = &batch->now;

	spin_lock(&hh_window_lock);
	now->held = held;
	now->held_ns = ktime_get_ns() - batch->opened_ns;
	now->held_faults = hh_window_faults(batch) - batch->opened_faults;
	if (work_cpu != HMM_HARNESS_NO_CPU && work_cpu != now->holder_cpu)
		now->conditions |= HMM_HARNESS_COND_SPINNER_WORK;
	if (!hh_window_off_lru(batch))
		now->conditions &= ~HMM_HARNESS_COND_SYSTEM_OFF_LRU;
	hh_window_judge(now);
	spin_unlock(&hh_window_lock);
}

static void hh_window_range_end(struct mmu_notifier *notifier,
				const struct mmu_notifier_range *range)
{
	struct hh_batch *batch =
		container_of(notifier, struct hh_batch, notifier);
	struct hh_mirror *mirror = container_of(batch, struct hh_mirror, batch);
	struct hh_hold hold;
	bool held;

	/*
	 * Other events, and other threads' migrations, are none of ours.  One
	 * notification a batch: pages of holes, and foreign mappings, send
	 * more of them later.
	 */
	if (range->event != MMU_NOTIFY_MIGRATE ||
	    READ_ONCE(batch->armed) != current ||
	    range->owner != mirror->device ||
	    range->start != batch->args->start ||
	    range->end != batch->args->end)
		return;
	WRITE_ONCE(batch->armed, NULL);

	held = hh_hold_take(batch, &hold);
	hh_window_begin(batch, held && hold.kind == HMM_HARNESS_HOLD_WORK ?
			       HH_NEEDED_WORK : HH_NEEDED_DRAIN);
	if (held)
		batch->now.held = HMM_HARNESS_HELD_WAITING;
	hh_window_inspect(batch);
	hh_window_open(batch);
	if (held)
		hh_hold_until_stuck(batch, &hold);
}

static const struct mmu_notifier_ops hh_window_ops = {
	.invalidate_range_end = hh_window_range_end,
};

void hh_window_init(struct hh_mirror *mirror)
{
	INIT_LIST_HEAD(&mirror->batch.link);
	mirror->batch.notifier.ops = &hh_window_ops;
	hh_window_blank(&mirror->batch.now);
	hh_window_blank(&mirror->batch.kept);
}

/* Before the first mixed batch; the caller holds a reference on the mm. */
int hh_window_prepare(struct hh_mirror *mirror)
{
	int ret = 0;

	mutex_lock(&mirror->attach_lock);
	if (!mirror->batch.registered) {
		ret = mmu_notifier_register(&mirror->batch.notifier,
					    mirror->notifier.mm);
		mirror->batch.registered = !ret;
	}
	mutex_unlock(&mirror->attach_lock);
	return ret;
}

void hh_window_detach(struct hh_mirror *mirror)
{
	if (mirror->batch.registered)
		mmu_notifier_unregister(&mirror->batch.notifier,
					mirror->notifier.mm);
}

/* Under migrate_lock, just before migrate_vma_setup(). */
void hh_window_arm(struct hh_mirror *mirror, struct migrate_vma *args)
{
	mirror->batch.args = args;
	WRITE_ONCE(mirror->batch.armed, current);
}

/* Adds the batch to what WINDOW returns; under hh_window_lock. */
static void hh_window_merge(const struct hh_batch *batch,
			    struct hmm_harness_window *into)
{
	u64 batches = into->batches + 1;
	u64 hits = into->hits + batch->now.hit;

	if (!into->hit)
		*into = batch->now;
	into->batches = batches;
	into->hits = hits;
}

/* migrate_vma_setup() has returned: too late for any spinner. */
void hh_window_close(struct hh_mirror *mirror)
{
	struct hh_batch *batch = &mirror->batch;

	WRITE_ONCE(batch->armed, NULL);
	spin_lock(&hh_window_lock);
	/* Not open if nothing was collected, not even attempted. */
	if (!list_empty(&batch->link)) {
		list_del_init(&batch->link);
		batch->now.open = 0;
		batch->now.unmap_ns = ktime_get_ns() - batch->opened_ns;
		hh_window_merge(batch, &batch->kept);
	}
	batch->args = NULL;
	spin_unlock(&hh_window_lock);
}

/* Takes no lock that a stuck holder has: it must answer during a hang. */
long hh_ioctl_window(struct hh_mirror *mirror, void __user *arg)
{
	struct hmm_harness_window window;
	struct hh_batch *batch = &mirror->batch;
	u32 flags;
	int ret = 0;

	if (copy_from_user(&window, arg, sizeof(window)))
		return -EFAULT;
	flags = window.flags;
	if ((flags & ~HMM_HARNESS_WINDOW_RESET) || window.pad ||
	    window.reserved)
		return -EINVAL;

	spin_lock(&hh_window_lock);
	window = batch->kept;
	if (!list_empty(&batch->link)) {
		hh_window_merge(batch, &window);
		window.open = 1;
		if (flags & HMM_HARNESS_WINDOW_RESET)
			ret = -EBUSY;
	} else if (flags & HMM_HARNESS_WINDOW_RESET) {
		hh_window_blank(&batch->kept);
	}
	spin_unlock(&hh_window_lock);

	window.flags = flags;
	if (ret)
		return ret;
	return copy_to_user(arg, &window, sizeof(window)) ? -EFAULT : 0;
}
