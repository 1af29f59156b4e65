// SPDX-License-Identifier: GPL-2.0-only
//
// A fault that is retried at once because somebody holds a folio's lock.
//
// The shape: a function on the way of a page fault tries a folio's lock while it has the page table locked. On the
// path where that fails it drops the page table lock and returns 0 (or VM_FAULT_NOPAGE), having slept nowhere. The
// entry is unchanged, so the next fault comes the same way. A fault from user mode passes the scheduler on its way
// out; a loop in kernel mode around handle_mm_fault(), as in hmm_range_fault(), does not: it can keep the CPU from
// whoever would have to run there before the holder of the folio's lock lets go of it.
//
// How a failed attempt is recognised, whatever the code around it looks like: on a path from the attempt to the
// return where it succeeded, the lock is released. A path without a release is one where it failed. (Or one that
// hands the locked folio on, or one that no execution takes, because conditions further down exclude it: every hit
// has to be read.)
//
// What is not found: a function that leaves the attempt, the dropping of the page table lock or the return value to
// functions it calls; a lock that is only looked at, not tried. cond_resched() does not count as waiting: nothing
// wakes its caller up, and a real-time task keeps the CPU all the same.
//
// Modes: `-D shape` marks attempt, dropped lock and return; `-D attempts` marks every attempt that was read, in any
// function, so that what could not be parsed shows.

virtual shape
virtual attempts

@attempt depends on attempts@
expression F;
@@
* \(folio_trylock\|trylock_page\)(F)

@takes_fault depends on shape@
identifier fn, vmf;
expression F;
position p;
@@
fn(..., struct vm_fault *vmf, ...)
{
<+...
\(folio_trylock@p\|trylock_page@p\)(F)
...+>
}

@returns_fault depends on shape@
typedef vm_fault_t;
identifier fn;
expression F;
position p;
@@
vm_fault_t fn(...)
{
<+...
\(folio_trylock@p\|trylock_page@p\)(F)
...+>
}

@retried depends on shape exists@
position p = { takes_fault.p, returns_fault.p };
expression F, pte, ptl, nonzero != 0;
identifier ret;
@@
* \(folio_trylock@p\|trylock_page@p\)(F)
... when != \(folio_unlock\|unlock_page\)(F)
    when != \(softleaf_entry_wait_on_locked\|migration_entry_wait_on_locked\)(...)
    when != \(folio_lock\|folio_lock_killable\|folio_lock_or_retry\|lock_page\)(...)
    when != \(folio_wait_locked\|folio_wait_locked_killable\|folio_wait_bit\|wait_on_page_locked\)(...)
    when != \(schedule\|io_schedule\|schedule_timeout\|schedule_timeout_uninterruptible\)(...)
    when != ret = nonzero
    when != ret |= nonzero
    when any
* \(pte_unmap_unlock(pte, ptl)\|spin_unlock(ptl)\)
... when != \(folio_unlock\|unlock_page\)(F)
    when != \(softleaf_entry_wait_on_locked\|migration_entry_wait_on_locked\|migration_entry_wait\)(...)
    when != \(folio_lock\|folio_lock_killable\|folio_lock_or_retry\|lock_page\)(...)
    when != \(folio_wait_locked\|folio_wait_locked_killable\|folio_wait_bit\|wait_on_page_locked\)(...)
    when != \(schedule\|io_schedule\|schedule_timeout\|schedule_timeout_uninterruptible\)(...)
    when != ret = nonzero
    when != ret |= nonzero
    when any
* return \(0\|ret\|VM_FAULT_NOPAGE\);
