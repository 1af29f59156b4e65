# SPDX-License-Identifier: GPL-2.0-only
"""What a sleeping task waits for: the innermost frame of a function that waits, and its variables."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import drgn
from drgn.helpers.linux.locking import mutex_owner, rwsem_owner
from drgn.helpers.linux.mm import compound_head, page_to_pfn, pfn_to_page
from drgn.helpers.linux.percpu import per_cpu

from harness.diagnose.facts import Wait, WaitKind
from harness.diagnose.image import UNREADABLE
from harness.diagnose.stacks import Stack, local
from harness.diagnose.tasks import Source, online_cpus

#: A waiting function's prefix, what it waits for, and the variables that tell which. The first that matches
#: the innermost frames counts. Names of 6.12 and 7.x.
_WAITS: tuple[tuple[str, WaitKind, tuple[str, ...]], ...] = (
    ("__flush_work", "work", ("work",)),
    ("flush_work", "work", ("work",)),
    ("flush_delayed_work", "work", ("dwork",)),
    ("stop_one_cpu", "stopper", ("cpu",)),
    ("stop_machine", "stopper", ()),
    ("__stop_cpus", "stopper", ()),
    ("folio_wait_bit_common", "folio", ("wait_page", "folio")),
    ("__folio_lock", "folio", ("folio",)),
    ("softleaf_entry_wait_on_locked", "folio", ("wait_page", "folio", "entry")),
    ("migration_entry_wait_on_locked", "folio", ("wait_page", "folio", "entry")),
    ("__mutex_lock", "mutex", ("lock",)),
    ("mutex_lock", "mutex", ("lock",)),
    ("rwsem_down_", "rwsem", ("sem",)),
    ("__down_read", "rwsem", ("sem",)),
    ("__down_write", "rwsem", ("sem",)),
    ("down_read", "rwsem", ("sem",)),
    ("down_write", "rwsem", ("sem",)),
    ("synchronize_rcu", "rcu", ()),
    ("synchronize_srcu", "rcu", ()),
    ("__wait_rcu_gp", "rcu", ()),
)
#: kernel/locking/rwsem.c, RWSEM_READER_OWNED.
_READER_OWNED = 1 << 0
_COMPLETION = ("wait_for_completion", "__wait_for_common", "do_wait_for_common")


@dataclass(frozen=True)
class _Found:
    kind: WaitKind
    number: int
    function: str
    value: drgn.Object | None


def find_wait(source: Source, stack: Stack) -> Wait | None:
    """What the task sleeps on; None (and no gap) if no frame of it is known to wait."""
    try:
        found = _innermost(stack)
        return None if found is None else _wait(source, stack, found)
    except UNREADABLE as error:
        source.miss(f"what {stack.task.fact.name} waits for", error)
        return None


def _innermost(stack: Stack) -> _Found | None:
    completion: _Found | None = None
    for number, frame in enumerate(stack.frames):
        if frame.name.startswith(_COMPLETION) and (completion is None or completion.value is None):
            completion = _Found("completion", number, frame.name, local(frame, "x"))
        for prefix, kind, names in _WAITS:
            if frame.name.startswith(prefix):
                return _with_value(stack, number, kind, names)
    return completion


def _with_value(stack: Stack, number: int, kind: WaitKind, names: tuple[str, ...]) -> _Found:
    """The waiter is often split over several frames (inlined wrappers): any of them may know the object."""
    function = str(stack.frames[number].name)
    for further, frame in enumerate(stack.frames[number : number + 4], start=number):
        if names and (value := local(frame, *names)) is not None:
            return _Found(kind, further, str(frame.name), value)
    return _Found(kind, number, function, None)


def _wait(source: Source, stack: Stack, found: _Found) -> Wait | None:
    value = found.value
    owners: tuple[int, ...] = ()
    target = 0
    detail = ""
    if value is None:
        if found.kind not in ("stopper", "rcu"):
            source.miss(f"{stack.task.fact.name} waits in {found.function}, for what is not known")
            return None
    elif found.kind == "folio":
        target = _folio(source.prog, value)
    elif found.kind == "stopper":
        detail = str(int(value))
    elif value.type_.kind == drgn.TypeKind.POINTER:
        target = int(value)
    if found.kind == "mutex" and value is not None:
        owners = _pids((mutex_owner(value),))
    elif found.kind == "rwsem" and value is not None:
        # Of readers the kernel keeps one that may long be gone (kernel/locking/rwsem.c): that is no owner.
        reader = int(value.owner.counter) & _READER_OWNED
        owners = () if reader else _pids((rwsem_owner(value),))
    if found.kind == "stopper":
        owners = tuple(_stoppers(source, detail))
    return Wait(stack.pid, found.kind, target, found.number, found.function, owners, detail)


def _pids(owners: tuple[drgn.Object | None, ...]) -> tuple[int, ...]:
    return tuple(int(owner.pid) for owner in owners if owner)


def _folio(prog: drgn.Program, value: drgn.Object) -> int:
    """Pfn of a folio's first page, from a pointer, a waiter's record or an entry."""
    kind = value.type_
    while kind.kind == drgn.TypeKind.TYPEDEF:
        kind = kind.type
    if kind.kind == drgn.TypeKind.POINTER:
        page = drgn.cast("struct page *", value)
    elif kind.tag == "wait_page_queue":
        page = drgn.cast("struct page *", value.folio)
    else:
        # include/linux/swapops.h: the pfn is the low part of the offset.
        page = pfn_to_page(prog, int(value.val) & (1 << 34) - 1)
    return int(page_to_pfn(compound_head(page)))


def _stoppers(source: Source, cpu: str) -> Iterator[int]:
    """Pids of the stopper threads that have work to do: of one CPU, or of all."""
    for number in online_cpus(source):
        if cpu and number != int(cpu):
            continue
        stopper = per_cpu(source.prog["cpu_stopper"], number)
        if stopper.works.next != stopper.works.address_of_() or stopper.fn:
            yield int(stopper.thread.pid)
