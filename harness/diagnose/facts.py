# SPDX-License-Identifier: GPL-2.0-only
"""What is known of a kernel that stands still: plain values, as read from its memory."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Model = Literal["none", "voluntary", "full", "lazy", "unknown"]
Policy = Literal["fair", "rt", "deadline", "idle", "stop", "unknown"]
#: What a sleeping task waits for.
WaitKind = Literal["work", "folio", "mutex", "rwsem", "completion", "stopper", "rcu"]


@dataclass(frozen=True)
class Frame:
    """A function on a stack. `file`: relative to the kernel's source tree where it is part of it."""

    function: str
    file: str = ""
    line: int = 0
    inline: bool = False

    @property
    def place(self) -> str:
        """`mm/memory.c:4807`, or nothing without symbols."""
        return f"{self.file}:{self.line}" if self.file else ""


@dataclass(frozen=True)
class TaskFact:
    """A thread of the kernel's list."""

    pid: int
    comm: str
    #: As ps shows it: R, S, D, I...
    state: str
    cpu: int
    #: It is the one its CPU executes.
    on_cpu: bool
    policy: Policy
    #: 1 to 99, 0 for a fair one.
    rt_priority: int
    nice: int
    kthread: bool
    #: It may run on one CPU only.
    bound: bool
    #: CPU time used since it was last switched in, s. The kernel keeps it of fair tasks; else None.
    on_cpu_s: float | None
    #: Since it last executed anything, s.
    off_cpu_s: float | None
    #: Page faults so far, minor and major.
    faults: int
    #: Context switches so far.
    switches: int
    #: Innermost first; empty where it was not read.
    stack: tuple[Frame, ...] = ()

    @property
    def name(self) -> str:
        """`comm:pid`."""
        return f"{self.comm}:{self.pid}"


@dataclass(frozen=True)
class CpuFact:
    """A CPU that is online."""

    cpu: int
    #: Who is on it; 0 is the idle task.
    pid: int
    #: Its program counter is in the kernel; None if not known.
    in_kernel: bool | None
    irqs_off: bool | None
    #: Nested preempt_disable(), locks and interrupts, without the need-resched bit; None if not known.
    preempt_count: int | None
    need_resched: bool
    #: What the scheduler's fair server may use a period, ms: 0 is off; None for a kernel without one.
    fair_server_ms: float | None


@dataclass(frozen=True)
class Mapping:
    """How a process maps a folio. `entry`: present, device private, migration, none..."""

    pid: int
    comm: str
    address: int
    entry: str


@dataclass(frozen=True)
class FolioFact:
    """A folio somebody waits for or spins on."""

    pfn: int
    address: int
    locked: bool
    device_private: bool
    lru: bool
    pages: int
    mapcount: int
    refcount: int
    mappings: tuple[Mapping, ...] = ()


@dataclass(frozen=True)
class PoolFact:
    """A worker pool. `cpu`: -1 for one that is not bound."""

    id: int
    cpu: int
    address: int
    #: Work items that wait in it, counted up to a limit.
    pending: int
    #: Since it last began or was first given work, s; None if not known.
    stalled_s: float | None
    #: Threads of it by pid.
    workers: tuple[int, ...]
    #: The last one it woke, or 0.
    woken: int


@dataclass(frozen=True)
class WorkFact:
    """A work item that somebody waits for. `running`: the pid of the worker that executes it, or 0."""

    address: int
    function: str
    workqueue: str
    pool: int
    pending: bool
    running: int


@dataclass(frozen=True)
class Wait:
    """What a sleeping task waits for, by a frame of its stack.

    `target`: the address of a lock, work item or completion, or the pfn of a folio. `owners`: pids, where the
    kernel keeps them.
    """

    pid: int
    kind: WaitKind
    target: int
    frame: int
    function: str
    owners: tuple[int, ...] = ()
    #: Writer or reader, CPU of a stopper...
    detail: str = ""


@dataclass(frozen=True)
class Hold:
    """A task that has locked a folio, as far as its frames tell.

    `data`: the folio is in the source array of a migration that the task is inside of; otherwise only a local
    variable points to it.
    """

    pid: int
    pfn: int
    frame: int
    function: str
    data: bool
    how: str


@dataclass(frozen=True)
class Spin:
    """A task on a CPU, inside a page fault on a device-private folio that is locked.

    `current`: `address` is the one it is faulting at this moment, not just one of its range.
    """

    pid: int
    pfn: int
    address: int
    frame: int
    function: str
    entry: str
    current: bool
    #: Pages it wants; 0 if not known.
    pages: int = 0


@dataclass(frozen=True)
class Facts:
    """Everything that was read. `gaps`: what could not be."""

    release: str = ""
    model: Model = "unknown"
    tasks: tuple[TaskFact, ...] = ()
    cpus: tuple[CpuFact, ...] = ()
    folios: tuple[FolioFact, ...] = ()
    pools: tuple[PoolFact, ...] = ()
    works: tuple[WorkFact, ...] = ()
    waits: tuple[Wait, ...] = ()
    holds: tuple[Hold, ...] = ()
    spins: tuple[Spin, ...] = ()
    gaps: tuple[str, ...] = ()
