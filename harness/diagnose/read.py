# SPDX-License-Identifier: GPL-2.0-only
"""An image to facts: who runs, who sleeps on what, and what that leads to."""

from __future__ import annotations

from dataclasses import replace

from harness.deadline import Deadline
from harness.diagnose.facts import CpuFact, Facts, FolioFact, Hold, PoolFact, Spin, TaskFact, Wait, WorkFact
from harness.diagnose.folios import Folios, find_holders, find_spin
from harness.diagnose.image import UNREADABLE, MemoryImage
from harness.diagnose.stacks import Stack, frame_facts, read_stack
from harness.diagnose.tasks import KernelTask, Source, preemption_model, read_cpus, read_tasks
from harness.diagnose.waits import find_wait
from harness.diagnose.workqueue import read_work

#: Stacks that are read beyond those of the CPUs: one takes about 1.5 ms.
STACK_LIMIT = 64


def read_facts(image: MemoryImage) -> Facts:
    """Everything that the wait-for graph is made of. What cannot be read becomes a gap; nothing is raised."""
    source = Source(image, list(image.gaps))
    tasks = read_tasks(source)
    cpus = read_cpus(source)
    stacks = [read_stack(source, task) for task in _interesting(source, tasks)]
    asleep = [stack for stack in stacks if stack.task.fact.state not in ("R", "I")]
    waits = [wait for stack in asleep if (wait := find_wait(source, stack))]
    folios = Folios(source)
    running = [stack for stack in stacks if stack.task.fact.on_cpu]
    spins = [spin for stack in running if (spin := find_spin(source, folios, stack))]
    known = _folios(folios, spins, waits, stacks)
    works, pools = _works(source, waits)
    return Facts(
        release=_release(source),
        model=preemption_model(source),
        tasks=_tasks(source, tasks, stacks),
        cpus=tuple(_with_mode(cpu, running) for cpu in cpus),
        folios=known,
        pools=pools,
        works=works,
        waits=tuple(waits),
        holds=_holds(source, known, stacks),
        spins=tuple(spins),
        gaps=tuple(source.gaps),
    )


def read_all_stacks(image: MemoryImage, deadline: Deadline) -> tuple[TaskFact, ...]:
    """Every task, in the order of the kernel's list; those read after the deadline have no stack."""
    source = Source(image)
    return tuple(
        task.fact
        if deadline.expired
        else replace(task.fact, stack=frame_facts(source, read_stack(source, task)))
        for task in read_tasks(source)
    )


def _interesting(source: Source, tasks: list[KernelTask]) -> list[KernelTask]:
    """Those that run, want to run, or sleep: user's before the kernel's own, as far as the limit goes."""

    def rank(task: KernelTask) -> int:
        fact = task.fact
        if fact.on_cpu:
            return 0
        if fact.state == "D":
            return 1
        if fact.state == "R":
            return 2
        return 3 if not fact.kthread else 9

    wanted = sorted((task for task in tasks if rank(task) < 9), key=rank)
    running = sum(task.fact.on_cpu for task in wanted)
    if len(wanted) > running + STACK_LIMIT:
        left = len(wanted) - running - STACK_LIMIT
        source.miss(f"the stacks of {left} sleeping tasks were not read")
    return wanted[: running + STACK_LIMIT]


def _with_mode(cpu: CpuFact, running: list[Stack]) -> CpuFact:
    """A dump keeps the registers to itself; a task with kernel frames on its CPU is in the kernel."""
    if cpu.in_kernel is not None or cpu.pid == 0:
        return cpu
    return replace(cpu, in_kernel=any(stack.frames for stack in running if stack.pid == cpu.pid))


def _tasks(source: Source, tasks: list[KernelTask], stacks: list[Stack]) -> tuple[TaskFact, ...]:
    frames = {stack.pid: frame_facts(source, stack) for stack in stacks}
    return tuple(replace(task.fact, stack=frames.get(task.fact.pid, ())) for task in tasks)


def _folios(
    folios: Folios, spins: list[Spin], waits: list[Wait], stacks: list[Stack]
) -> tuple[FolioFact, ...]:
    wanted = {wait.target: 0 for wait in waits if wait.kind == "folio"}
    wanted |= {spin.pfn: spin.address for spin in spins}
    facts = [folios.fact(pfn, address, stacks) for pfn, address in wanted.items()]
    return tuple(fact for fact in facts if fact)


def _holds(source: Source, folios: tuple[FolioFact, ...], stacks: list[Stack]) -> tuple[Hold, ...]:
    holds: list[Hold] = []
    for folio in folios:
        if folio.locked:
            holds += find_holders(source, folio.pfn, folio.pages, stacks)
    return tuple(holds)


def _works(source: Source, waits: list[Wait]) -> tuple[tuple[WorkFact, ...], tuple[PoolFact, ...]]:
    works: dict[int, WorkFact] = {}
    pools: dict[int, PoolFact] = {}
    for wait in waits:
        if wait.kind != "work" or wait.target in works:
            continue
        found = read_work(source, wait.target)
        if found:
            work, pool = found
            works[work.address] = work
            if pool:
                pools[pool.id] = pool
    return tuple(works.values()), tuple(pools.values())


def _release(source: Source) -> str:
    try:
        return str(source.prog["init_uts_ns"].name.release.string_().decode(errors="replace"))
    except UNREADABLE as error:
        source.miss("the kernel's release", error)
        return ""
