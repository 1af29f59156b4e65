# SPDX-License-Identifier: GPL-2.0-only
"""A livelock as facts, made by hand after one that was read from a guest."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from harness.diagnose.facts import (
    CpuFact,
    Facts,
    FolioFact,
    Frame,
    Hold,
    Mapping,
    PoolFact,
    Spin,
    TaskFact,
    Wait,
    WorkFact,
)

SPINNER, HOLDER, WORKER = 38, 35, 34
PFN = 0xFFF9FF4
WORK = 0xFFFF88803ED1B620


def task(pid: int, comm: str, state: str, cpu: int, **changes: Any) -> TaskFact:
    """A fair task that has been off its CPU for 4 s."""
    fact = TaskFact(
        pid=pid,
        comm=comm,
        state=state,
        cpu=cpu,
        on_cpu=False,
        policy="fair",
        rt_priority=0,
        nice=0,
        kthread=False,
        bound=True,
        on_cpu_s=None,
        off_cpu_s=4.0,
        faults=0,
        switches=3,
    )
    return replace(fact, **changes)


def livelock() -> Facts:
    """The spinner on CPU 1, the holder asleep, its work item queued on CPU 1."""
    spinner = task(
        SPINNER,
        "hmm-stressor",
        "R",
        1,
        on_cpu=True,
        on_cpu_s=4.1,
        off_cpu_s=None,
        faults=8_000_000,
        stack=(
            Frame("do_swap_page", "mm/memory.c", 4807),
            Frame("hmm_range_fault", "mm/hmm.c", 764),
        ),
    )
    holder = task(
        HOLDER,
        "hmm-stressor",
        "D",
        0,
        stack=(
            Frame("__flush_work", "kernel/workqueue.c", 4448),
            Frame("lru_add_drain_all", "mm/folio.c", 876),
            Frame("migrate_device_unmap", "mm/migrate_device.c", 605),
            Frame("migrate_vma_setup", "mm/migrate_device.c", 770),
        ),
    )
    return Facts(
        release="7.3.4",
        model="none",
        tasks=(spinner, holder, task(WORKER, "kworker/1:2", "R", 1, kthread=True)),
        cpus=(
            CpuFact(0, 0, True, False, 1, False, 50.0),
            CpuFact(1, SPINNER, True, False, 0, True, 50.0),
        ),
        folios=(
            FolioFact(
                pfn=PFN,
                address=0xFFFFEA03FFE7FD00,
                locked=True,
                device_private=True,
                lru=False,
                pages=1,
                mapcount=1,
                refcount=2,
                mappings=(Mapping(SPINNER, "hmm-stressor", 0x7F85C580C000, "device private"),),
            ),
        ),
        pools=(PoolFact(6, 1, 0xFFFF88803ED1D800, 3, 4.0, (22, WORKER), WORKER),),
        works=(WorkFact(WORK, "lru_add_drain_per_cpu", "mm_percpu_wq", 6, True, 0),),
        waits=(Wait(HOLDER, "work", WORK, 0, "__flush_work"),),
        holds=(Hold(HOLDER, PFN, 2, "migrate_device_unmap", True, "src[12] is 0x3ffe7fd03"),),
        spins=(Spin(SPINNER, PFN, 0x7F85C580C000, 0, "do_swap_page", "device private", True, 64),),
    )


def with_task(facts: Facts, pid: int, **changes: Any) -> Facts:
    """The same facts, one task changed."""
    tasks = tuple(replace(task, **changes) if task.pid == pid else task for task in facts.tasks)
    return replace(facts, tasks=tasks)


def with_cpu(facts: Facts, number: int, **changes: Any) -> Facts:
    """The same facts, one CPU changed."""
    cpus = tuple(replace(cpu, **changes) if cpu.cpu == number else cpu for cpu in facts.cpus)
    return replace(facts, cpus=cpus)
