/* SPDX-License-Identifier: GPL-2.0-only WITH Linux-syscall-note */
/*
 * Interface between hmm_harness.ko and user space.
 *
 * Every structure has one size on all machines, no implicit padding, and
 * reserved members which must be zero.  Members marked "out" are ignored on
 * input.  Addresses and lengths are in bytes and multiples of the page size.
 *
 * Errors common to all calls:
 *   ENOTTY  unknown request
 *   EFAULT  the structure, or an address in it, is not accessible
 *   EINVAL  misaligned or empty range, unknown flag, reserved member not zero
 *   ERANGE  range wraps, leaves user space or is longer than the maximum;
 *           an index or a timeout is too large
 *   ENXIO   no address space attached yet (STATS, WINDOW, BEHAVE and
 *           EVICT need none)
 *   ESRCH   the attached address space is gone
 *   ENOMEM  the kernel has no memory left for the call
 *   EINTR   a signal came while the call waited
 */
#ifndef HMM_HARNESS_H
#define HMM_HARNESS_H

#include <linux/ioctl.h>
#include <linux/types.h>

#define HMM_HARNESS_MAX_LENGTH		0x40000000ULL
#define HMM_HARNESS_MAX_TIMEOUT_MS	60000U
#define HMM_HARNESS_MAX_DEVICES		8U

/* Binds the caller's address space to this open file; EBUSY if one is. */
struct hmm_harness_attach {
	__u32 flags;		/* must be zero */
	__u32 device;		/* out: index of the device */
	__u64 device_bytes;	/* out: device memory, used or not */
	__u64 reserved[2];
};

enum hmm_harness_owner {
	HMM_HARNESS_OWNER_SELF,		/* the device of this file */
	HMM_HARNESS_OWNER_NONE,		/* NULL: every device page is foreign */
	HMM_HARNESS_OWNER_DEVICE,	/* the device named by owner_device */
};

enum hmm_harness_entry {
	HMM_HARNESS_ENTRY_LOCKED,	/* hmm_range_fault() */
	HMM_HARNESS_ENTRY_UNLOCKED,	/* hmm_range_fault_unlocked_timeout() */
};

#define HMM_HARNESS_FAULT_WRITE		0x01U

/*
 * Faults a range as a device would.  EBUSY when it stayed unstable for
 * timeout_ms (0: the kernel's own default), EPERM when it may not be written,
 * EOPNOTSUPP when the kernel lacks the entry point.  retries is valid on every
 * return but for a refused call.
 */
struct hmm_harness_fault {
	__u64 addr;
	__u64 length;
	__u32 flags;
	__u32 owner;
	__u32 owner_device;	/* zero unless owner is OWNER_DEVICE */
	__u32 entry;
	__u32 timeout_ms;
	__u32 cpu;		/* out: CPU on which the fault began */
	__u64 retries;		/* out */
	__u64 reserved[2];
};

/* Let the batch take this device's own pages along with system pages. */
#define HMM_HARNESS_MIGRATE_MIXED	0x01U
/*
 * Move a huge page (as many pages as a PMD maps) as one folio, if the range has
 * all of it; without the flag, or a place for all of it, it is split.
 * EOPNOTSUPP where the kernel has no such device folios.
 */
#define HMM_HARNESS_MIGRATE_COMPOUND	0x02U
/*
 * With MIGRATE_COMPOUND: a huge page is taken as one folio, but its pages are
 * placed one by one, as when there is no place for all of it.
 */
#define HMM_HARNESS_MIGRATE_SMALL	0x04U

/*
 * Moves a range to device memory or, with the other request, back.  The range
 * is cut at VMA borders only (and at 65536 pages).  ENOMEM when memory ran out
 * part of the way; the counts tell how far it came.
 */
struct hmm_harness_migrate {
	__u64 addr;
	__u64 length;
	__u32 flags;		/* MIGRATE_MIXED to the device only */
	__u32 batches;		/* out: migrate_vma batches used */
	__u64 collected;	/* out: pages that could be moved */
	__u64 migrated;		/* out: pages that were moved */
	__u64 from_device;	/* out: of those, pages of this device */
	__u64 reserved[2];
};

#define HMM_HARNESS_PAGE_NONE		0x00
#define HMM_HARNESS_PAGE_SYSTEM		0x01
#define HMM_HARNESS_PAGE_DEVICE		0x02	/* this device's memory */
#define HMM_HARNESS_PAGE_OTHER		0x03	/* another device's, or no access */
#define HMM_HARNESS_PAGE_KIND		0x0f
#define HMM_HARNESS_PAGE_READ		0x10
#define HMM_HARNESS_PAGE_WRITE		0x20
#define HMM_HARNESS_PAGE_HUGE		0x40	/* mapped by a PMD */

/*
 * Reads the page table without changing it; one byte a page.  EBUSY when the
 * range stayed unstable for the kernel's own timeout.
 */
struct hmm_harness_snapshot {
	__u64 addr;
	__u64 length;
	__u64 pages;		/* user pointer to an array of count bytes */
	__u32 count;		/* must be length / page size */
	__u32 flags;		/* must be zero */
	__u64 reserved[2];
};

/*
 * Faults a range in for writing, by the calling thread, whose process must be
 * the attached one.  EAGAIN when the thread changed its CPU meanwhile: pin it.
 */
struct hmm_harness_touch {
	__u64 addr;
	__u64 length;
	__u32 flags;		/* must be zero */
	__u32 cpu;		/* out */
	__u64 off_lru;		/* out: pages not on an LRU list afterwards */
	__u64 reserved[2];
};

/* Counters of the device since the module was loaded. */
struct hmm_harness_stats {
	__u64 faults;			/* FAULT calls that have ended */
	__u64 fault_retries;
	__u64 migrations_to_device;	/* pages */
	__u64 migrations_to_system;	/* pages, on request or on eviction */
	__u64 migrate_to_ram;		/* CPU faults on device pages */
	__u64 migrate_to_ram_failed;
	__u64 aborts;			/* collected pages that did not move */
	__u64 pages_in_use;
	__u64 pages_free;
	__u64 hog_locks;		/* folio locks that HOG took */
	__u64 evicting;			/* pages of EVICTs that wait right now */
	/*
	 * A clock of this CPU's that does not stand still between ticks, as
	 * those of user space do in an emulated machine.
	 */
	__u64 clock_ns;
	__u64 reserved;
};

/* Where a migration can be made to fail: with its first movable page. */
enum hmm_harness_step {
	/*
	 * No destination, nor for the rest of the batch: ENOMEM of
	 * MIGRATE_TO_DEVICE, VM_FAULT_OOM of a CPU fault.
	 */
	HMM_HARNESS_STEP_ALLOC,
	/*
	 * Somebody has a reference on the source folio, from the end of
	 * migrate_vma_setup() to that of migrate_vma_finalize(): the core does
	 * not move it, and nobody gets an error.
	 */
	HMM_HARNESS_STEP_REFERENCE,
	/*
	 * The destination is given back instead of filled: the page stays, the
	 * rest of a batch moves.  VM_FAULT_SIGBUS of a CPU fault.
	 */
	HMM_HARNESS_STEP_COPY,
	HMM_HARNESS_STEPS
};

/* The next so many migrations fail, and each every-th after them; 0: none. */
struct hmm_harness_failure {
	__u32 next;
	__u32 every;
	__u64 failed;		/* out: since the module was loaded */
};

/* CPU faults take turns, from before the delay until they are over. */
#define HMM_HARNESS_BEHAVE_MUTEX	0x01U

#define HMM_HARNESS_MAX_DELAY_US	1000000U

/*
 * How the driver of this device behaves from now on: all members say all of it.
 * A migration is a batch, and fails at one step, the first that is due;
 * MIGRATE_TO_SYSTEM and eviction never do.  The last close of the device brings
 * back what was before the first call, which is all zero.  ERANGE also for too
 * long a delay.
 */
struct hmm_harness_behave {
	__u32 flags;
	__u32 delay_us;		/* CPU faults, busy before migrate_vma_setup() */
	struct hmm_harness_failure to_ram[HMM_HARNESS_STEPS];	/* CPU faults */
	struct hmm_harness_failure to_device[HMM_HARNESS_STEPS];
	__u64 reserved[2];
};

/*
 * Takes the lock of the folio at addr again and again, with a reference while
 * it has it, as one would who has business with the folio but does not move it.
 * Both times pass busily: keep the caller on one CPU.
 * Ends after duration_ms, or when there is no page of this device any more.
 * The page is looked up each time as FAULT would, which is part of the time
 * unlocked; locked_ns and elapsed_ns tell what came of it.  All of "out" is
 * valid on every return but for a refused call.
 *
 * ENOENT: not even the first look found a page of this device.  EBUSY: as of
 * FAULT.  ERANGE also for a time out of its limits.
 */
struct hmm_harness_hog {
	__u64 addr;
	__u32 flags;		/* must be zero */
	__u32 on_us;		/* locked, 1..HMM_HARNESS_MAX_DELAY_US */
	__u32 off_us;		/* unlocked, 0..HMM_HARNESS_MAX_DELAY_US */
	__u32 duration_ms;	/* 1..HMM_HARNESS_MAX_TIMEOUT_MS */
	__u64 locks;		/* out: how often it took the lock */
	__u64 busy;		/* out: how often somebody else had it */
	__u64 locked_ns;	/* out */
	__u64 elapsed_ns;	/* out */
	__u64 reserved[2];
};

/* Evicts nothing: whoever waits in an EVICT of this device, waits no more. */
#define HMM_HARNESS_EVICT_GO_ON	0x01U

/*
 * Moves the device's memory home by its page frames, whoever has it mapped, as a
 * driver does that needs it for somebody else.  Each batch (of 512 pages, or as
 * many as a huge page has) that has anything to move waits when its folios are
 * locked and unmapped, before they are copied, for delay_ms at most; a signal
 * that kills ends that as well.
 * What others have locked, or have a reference on, stays.
 */
struct hmm_harness_evict {
	__u32 flags;
	__u32 delay_ms;		/* 0..HMM_HARNESS_MAX_TIMEOUT_MS */
	__u64 left;		/* out: pages in use afterwards */
	__u64 reserved[2];
};

enum hmm_harness_hold_kind {
	/* A mixed batch, which then goes on to its own LRU drain. */
	HMM_HARNESS_HOLD_NOTIFIER,
	/*
	 * A mixed batch, system pages or not, which then awaits a work item
	 * that is queued on the CPU of the FAULT.
	 */
	HMM_HARNESS_HOLD_WORK,
	/* A CPU fault from user mode; then the same work item. */
	HMM_HARNESS_HOLD_FAULT,
	/* A CPU fault from user mode, and nothing to wait for behind it. */
	HMM_HARNESS_HOLD_FAULT_ONLY,
};

/*
 * Stops the next MIGRATE_TO_DEVICE with MIGRATE_MIXED on this file that takes
 * just this range in one batch, when it has locked the folios and not unmapped
 * them yet, until a FAULT of another mirror for another owner is stuck on the
 * device pages of the batch, for timeout_ms at most.  That FAULT should begin
 * when the batch is held, which struct hmm_harness_window tells: one that comes
 * too early finds no folio locked.  A batch that stopped disarms the HOLD, a
 * further HOLD replaces it.
 * ERANGE also for a timeout of 0.
 *
 * HOLD_FAULT and HOLD_FAULT_ONLY stop the attached process's next CPU fault on a
 * page of this device in the range, as a batch of one page, before its migration
 * is set up.
 */
struct hmm_harness_hold {
	__u64 addr;
	__u64 length;
	__u32 flags;		/* must be zero */
	__u32 kind;
	__u32 timeout_ms;	/* 1..HMM_HARNESS_MAX_TIMEOUT_MS */
	__u32 pad;		/* must be zero */
	__u64 reserved[2];
};

/* How the hold of a batch ended, in struct hmm_harness_window. */
enum hmm_harness_held {
	HMM_HARNESS_HELD_NOT,		/* was not to be held */
	HMM_HARNESS_HELD_WAITING,	/* is held right now */
	HMM_HARNESS_HELD_SPINS,		/* FAULT goes round, and gets nowhere */
	HMM_HARNESS_HELD_SLEEPS,	/* FAULT waits for the folio */
	HMM_HARNESS_HELD_TIMEOUT,	/* neither, for timeout_ms */
	HMM_HARNESS_HELD_KILLED,	/* the caller is to die */
};

/* Start over after reading; EBUSY while a batch is under way. */
#define HMM_HARNESS_WINDOW_RESET	0x01U

/* Conditions, one bit each, of struct hmm_harness_window. */
#define HMM_HARNESS_COND_DEVICE_LOCKED	0x01U /* device folios locked */
#define HMM_HARNESS_COND_DEVICE_SHARED	0x02U /* ... and mapped elsewhere */
#define HMM_HARNESS_COND_SYSTEM_OFF_LRU	0x04U /* system folio in a batch */
#define HMM_HARNESS_COND_ORDER		0x08U /* ... below every device folio */
#define HMM_HARNESS_COND_REMOTE_DRAIN	0x10U /* ... of another CPU's batch */
#define HMM_HARNESS_COND_SPINNER	0x20U /* another mirror faults them */
#define HMM_HARNESS_COND_SPINNER_DRAIN	0x40U /* on a CPU owing a drain */
#define HMM_HARNESS_COND_SPINNER_WORK	0x80U /* on the CPU of the work item */

#define HMM_HARNESS_NO_INDEX		0xffffffffU
#define HMM_HARNESS_NO_CPU		0xffffffffU

/*
 * What met during the mixed batches since the last reset, and the CPU faults
 * that were held, which count as batches of one page.  The members from
 * conditions on describe one batch: the first with all conditions it needed,
 * or else the latest.
 */
struct hmm_harness_window {
	__u32 flags;
	__u32 open;		/* out: a batch is being unmapped right now */
	__u64 batches;		/* out: mixed batches looked at */
	__u64 hits;		/* out: of those, with all it needed at once */
	__u32 conditions;	/* out */
	__u32 needed;		/* out: conditions that must meet */
	__u32 hit;		/* out: all of them did */
	__u32 device_locked;	/* out: folios */
	__u32 device_shared;	/* out: folios */
	__u32 system_folios;	/* out */
	__u32 system_off_lru;	/* out: folios */
	__u32 first_off_lru;	/* out: index in the batch, or NO_INDEX */
	__u32 first_device;	/* out: index in the batch, or NO_INDEX */
	__u32 holder_cpu;	/* out */
	__u32 spinner_cpu;	/* out: or NO_CPU */
	__u32 spinner_late;	/* out: the spinner came second */
	__u32 held;		/* out: enum hmm_harness_held */
	__u32 pad;		/* must be zero */
	__u64 drain_cpus;	/* out: bit per CPU (0..63) owing a drain */
	__u64 held_ns;		/* out: how long it was held */
	__u64 unmap_ns;		/* out: duration of isolation and unmapping */
	__u64 held_faults;	/* out: CPU faults of the device meanwhile */
	__u64 reserved;
};

#define HMM_HARNESS_IOC_MAGIC	0xb7

#define HMM_HARNESS_ATTACH \
	_IOWR(HMM_HARNESS_IOC_MAGIC, 0, struct hmm_harness_attach)
#define HMM_HARNESS_FAULT \
	_IOWR(HMM_HARNESS_IOC_MAGIC, 1, struct hmm_harness_fault)
#define HMM_HARNESS_MIGRATE_TO_DEVICE \
	_IOWR(HMM_HARNESS_IOC_MAGIC, 2, struct hmm_harness_migrate)
#define HMM_HARNESS_MIGRATE_TO_SYSTEM \
	_IOWR(HMM_HARNESS_IOC_MAGIC, 3, struct hmm_harness_migrate)
#define HMM_HARNESS_SNAPSHOT \
	_IOWR(HMM_HARNESS_IOC_MAGIC, 4, struct hmm_harness_snapshot)
#define HMM_HARNESS_TOUCH \
	_IOWR(HMM_HARNESS_IOC_MAGIC, 5, struct hmm_harness_touch)
#define HMM_HARNESS_STATS \
	_IOWR(HMM_HARNESS_IOC_MAGIC, 6, struct hmm_harness_stats)
#define HMM_HARNESS_WINDOW \
	_IOWR(HMM_HARNESS_IOC_MAGIC, 7, struct hmm_harness_window)
#define HMM_HARNESS_HOLD \
	_IOWR(HMM_HARNESS_IOC_MAGIC, 8, struct hmm_harness_hold)
#define HMM_HARNESS_BEHAVE \
	_IOWR(HMM_HARNESS_IOC_MAGIC, 9, struct hmm_harness_behave)
#define HMM_HARNESS_HOG \
	_IOWR(HMM_HARNESS_IOC_MAGIC, 10, struct hmm_harness_hog)
#define HMM_HARNESS_EVICT \
	_IOWR(HMM_HARNESS_IOC_MAGIC, 11, struct hmm_harness_evict)

#endif /* HMM_HARNESS_H */
