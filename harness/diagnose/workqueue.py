# SPDX-License-Identifier: GPL-2.0-only
"""Work items, the pools they are queued in, and the threads that serve those (kernel/workqueue.c)."""

from __future__ import annotations

import itertools

import drgn
from drgn.helpers.linux.idr import idr_find
from drgn.helpers.linux.list import hlist_for_each_entry, list_for_each, list_for_each_entry

from harness.diagnose.facts import PoolFact, WorkFact
from harness.diagnose.image import UNREADABLE
from harness.diagnose.tasks import Source

#: include/linux/workqueue.h, WORK_STRUCT_PENDING_BIT and WORK_STRUCT_PWQ_BIT.
_PENDING, _HAS_PWQ = 1 << 0, 1 << 2
_LIST_LIMIT = 1024


def read_work(source: Source, address: int) -> tuple[WorkFact, PoolFact | None] | None:
    """A work item and the pool it is in; None (and a gap) if that cannot be read."""
    prog = source.prog
    try:
        work = drgn.Object(prog, "struct work_struct *", address)
        data = int(work.data.counter) & (1 << 64) - 1
        function = _symbol(prog, int(work.func))
        queue, pool = _place(prog, data)
        running = _runner(pool, address) if pool is not None else 0
    except UNREADABLE as error:
        source.miss(f"work item {address:#x}", error)
        return None
    fact = WorkFact(
        address=address,
        function=function,
        workqueue=queue,
        pool=-1 if pool is None else int(pool.id),
        pending=bool(data & _PENDING),
        running=running,
    )
    return fact, None if pool is None else _pool(source, pool)


def _place(prog: drgn.Program, data: int) -> tuple[str, drgn.Object | None]:
    """The name of the workqueue, and the pool: that of the queued item, or the last one that executed it."""
    if data & _HAS_PWQ:
        shift = int(prog["WORK_STRUCT_PWQ_SHIFT"])
        pwq = drgn.Object(prog, "struct pool_workqueue *", data >> shift << shift)
        return str(pwq.wq.name.string_().decode(errors="backslashreplace")), pwq.pool.read_()
    number = data >> int(prog["WORK_OFFQ_POOL_SHIFT"])
    found = idr_find(prog["worker_pool_idr"].address_of_(), number)
    return "", drgn.cast("struct worker_pool *", found) if found else None


def _runner(pool: drgn.Object, address: int) -> int:
    """Pid of the worker that executes the item, or 0."""
    for bucket in pool.busy_hash:
        workers = hlist_for_each_entry("struct worker", bucket.address_of_(), "hentry")
        for worker in itertools.islice(workers, _LIST_LIMIT):
            if int(worker.current_work) == address:
                return int(worker.task.pid)
    return 0


def _pool(source: Source, pool: drgn.Object) -> PoolFact | None:
    try:
        workers = list_for_each_entry("struct worker", pool.workers.address_of_(), "node")
        pids = tuple(int(worker.task.pid) for worker in itertools.islice(workers, _LIST_LIMIT))
        pending = sum(1 for _ in itertools.islice(list_for_each(pool.worklist.address_of_()), _LIST_LIMIT))
        return PoolFact(
            id=int(pool.id),
            cpu=int(pool.cpu),
            address=int(pool),
            pending=pending,
            stalled_s=_stalled_s(source.prog, pool),
            workers=pids,
            woken=_woken(pool),
        )
    except UNREADABLE as error:
        source.miss(f"worker pool {int(pool):#x}", error)
        return None


def _stalled_s(prog: drgn.Program, pool: drgn.Object) -> float | None:
    """Since the pool last made progress, or was first given work."""
    try:
        try:
            stamp = int(pool.last_progress_ts)  # 7.x
        except AttributeError:
            stamp = int(pool.watchdog_ts)
        ticks = (int(prog["jiffies"]) - stamp) & (1 << 64) - 1
        return ticks / _hz(prog) if ticks < 1 << 63 else 0.0
    except UNREADABLE:
        return None


def _hz(prog: drgn.Program) -> int:
    """CONFIG_HZ, by the clock source that counts ticks (kernel/time/jiffies.c): ns a tick, shifted."""
    clock = prog["clocksource_jiffies"]
    return round(1e9 / (int(clock.mult) >> int(clock.shift)))


def _woken(pool: drgn.Object) -> int:
    try:
        worker = pool.last_woken_worker.read_()
        return int(worker.task.pid) if worker else 0
    except UNREADABLE:
        return 0


def _symbol(prog: drgn.Program, address: int) -> str:
    try:
        return str(prog.symbol(address).name)
    except LookupError:
        return f"{address:#x}"
