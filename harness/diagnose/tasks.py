# SPDX-License-Identifier: GPL-2.0-only
"""Tasks and CPUs, as the scheduler's own data has them."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import drgn
from drgn.helpers.linux.cpumask import for_each_online_cpu
from drgn.helpers.linux.percpu import per_cpu
from drgn.helpers.linux.pid import for_each_task
from drgn.helpers.linux.sched import cpu_curr, task_cpu, task_state_to_char

from harness.diagnose.facts import CpuFact, Model, Policy, TaskFact
from harness.diagnose.image import UNREADABLE, MemoryImage

#: include/uapi/linux/sched.h, SCHED_*.
_POLICIES: dict[int, Policy] = {0: "fair", 1: "rt", 2: "rt", 3: "fair", 5: "fair", 6: "deadline", 7: "fair"}
#: kernel/sched/core.c, enum of sched_dynamic_mode().
_MODELS: dict[int, Model] = {0: "none", 1: "voluntary", 2: "full", 3: "lazy"}
#: include/linux/sched.h, PF_KTHREAD.
_PF_KTHREAD = 0x00200000
#: arch/x86/include/uapi/asm/processor-flags.h, X86_EFLAGS_IF.
_INTERRUPTS_ON = 0x200
#: Kernel addresses have the top bit (x86-64).
KERNEL_HALF = 1 << 63
#: kernel/sched/sched.h, the default of MAX_RT_PRIO and the nice 0 level.
_NICE_0 = 120
#: More tasks than any list has that is not damaged.
_TASK_LIMIT = 65536
#: CONFIG_NR_CPUS goes no further (arch/x86/Kconfig, NR_CPUS_RANGE_END).
_CPU_LIMIT = 8192
#: More gaps than anybody reads.
_GAP_LIMIT = 100


@dataclass
class Source:
    """An image being read. `gaps` grows by a line for everything that could not be."""

    image: MemoryImage
    gaps: list[str] = field(default_factory=list)

    @property
    def prog(self) -> drgn.Program:
        """The image's symbols and memory."""
        return self.image.prog

    def miss(self, what: str, error: Exception | None = None) -> None:
        """Note a gap, once."""
        line = f"{what}: {error}" if error else what
        if line not in self.gaps and len(self.gaps) < _GAP_LIMIT:
            self.gaps.append(line)


def online_cpus(source: Source) -> Iterator[int]:
    """The numbers of the CPUs that are online; of a damaged mask not more than any kernel has."""
    return itertools.islice(for_each_online_cpu(source.prog), _CPU_LIMIT)


@dataclass(frozen=True)
class KernelTask:
    """A task as the library has it, and what was read of it."""

    object: drgn.Object
    fact: TaskFact


def preemption_model(source: Source) -> Model:
    """The model in effect: PREEMPT_DYNAMIC's variable, else what the build says of itself."""
    try:
        return _MODELS.get(int(source.prog["preempt_dynamic_mode"]), "unknown")
    except UNREADABLE:
        pass
    try:
        version = source.prog["init_uts_ns"].name.version.string_().decode(errors="replace").split()
    except UNREADABLE as error:
        source.miss("the preemption model", error)
        return "unknown"
    # init/Makefile: UTS_VERSION names PREEMPT, PREEMPT_LAZY or PREEMPT_RT; none and voluntary look alike.
    if "PREEMPT_LAZY" in version:
        return "lazy"
    return "full" if {"PREEMPT", "PREEMPT_RT"} & set(version) else "none"


def read_tasks(source: Source) -> list[KernelTask]:
    """Every thread on the kernel's list, without the idle tasks."""
    tasks: list[KernelTask] = []
    clock = _Clock(source)
    try:
        for task in for_each_task(source.prog):
            try:
                tasks.append(KernelTask(task, _task(task, clock)))
            except UNREADABLE as error:
                source.miss(f"task at {task.value_():#x}", error)
            if len(tasks) >= _TASK_LIMIT:
                source.miss(f"only the first {_TASK_LIMIT} tasks were read")
                break
    except UNREADABLE as error:
        source.miss("the list of tasks", error)
    return tasks


def read_cpus(source: Source) -> tuple[CpuFact, ...]:
    """The CPUs that are online."""
    cpus: list[CpuFact] = []
    try:
        for cpu in online_cpus(source):
            try:
                cpus.append(_cpu(source, cpu))
            except UNREADABLE as error:
                source.miss(f"CPU {cpu}", error)
    except UNREADABLE as error:
        source.miss("the list of CPUs", error)
    return tuple(cpus)


class _Clock:
    """The scheduler's clocks, ns. That of an idle CPU stands still, so the newest one tells the time."""

    def __init__(self, source: Source) -> None:
        self._offset: dict[int, int] = {}
        self.now = 0
        task_clocks: dict[int, tuple[int, int]] = {}
        try:
            for cpu in online_cpus(source):
                rq = per_cpu(source.prog["runqueues"], cpu)
                task_clocks[cpu] = (int(rq.clock), int(rq.clock_task))
        except UNREADABLE as error:
            source.miss("the scheduler's clocks", error)
        self.now = max((clock for clock, _ in task_clocks.values()), default=0)
        # clock_task runs behind clock by the time spent in interrupts.
        self._behind = {cpu: clock - task for cpu, (clock, task) in task_clocks.items()}

    def since_s(self, cpu: int, exec_start: int) -> float | None:
        """Seconds since a task of this CPU was last charged for running."""
        if not self.now or not exec_start:
            return None
        return max(0.0, (self.now - self._behind.get(cpu, 0) - exec_start) / 1e9)


def _task(task: drgn.Object, clock: _Clock) -> TaskFact:
    value = task[0].read_()
    cpu = task_cpu(task)
    on_cpu = bool(value.on_cpu)
    policy = _policy(value)
    entity = value.se
    ran = int(entity.sum_exec_runtime) - int(entity.prev_sum_exec_runtime)
    return TaskFact(
        pid=int(value.pid),
        comm=value.comm.string_().decode(errors="backslashreplace"),
        state=task_state_to_char(task),
        cpu=cpu,
        on_cpu=on_cpu,
        policy=policy,
        rt_priority=int(value.rt_priority),
        nice=int(value.static_prio) - _NICE_0,
        kthread=bool(int(value.flags) & _PF_KTHREAD),
        bound=int(value.nr_cpus_allowed) == 1,
        # set_next_entity() of the fair class is what sets prev_sum_exec_runtime.
        on_cpu_s=ran / 1e9 if on_cpu and policy == "fair" else None,
        off_cpu_s=None if on_cpu else clock.since_s(cpu, int(entity.exec_start)),
        faults=int(value.min_flt) + int(value.maj_flt),
        switches=int(value.nvcsw) + int(value.nivcsw),
    )


def _policy(value: drgn.Object) -> Policy:
    # The stopper's threads have no policy of their own: their class is above all others.
    if int(value.prio) == 0 and value.comm.string_().startswith(b"migration/"):
        return "stop"
    return _POLICIES.get(int(value.policy), "unknown")


def _cpu(source: Source, cpu: int) -> CpuFact:
    prog = source.prog
    registers: Mapping[str, int] = (source.image.registers or {}).get(cpu, {})
    rip, flags = registers.get("RIP"), registers.get("RFL")
    count = _preempt_count(prog, cpu)
    rq = per_cpu(prog["runqueues"], cpu)
    return CpuFact(
        cpu=cpu,
        pid=int(cpu_curr(prog, cpu).pid),
        in_kernel=None if rip is None else rip >= KERNEL_HALF,
        irqs_off=None if flags is None else not flags & _INTERRUPTS_ON,
        preempt_count=None if count is None else count[0],
        need_resched=bool(count and count[1]),
        fair_server_ms=_fair_server_ms(rq),
    )


def _preempt_count(prog: drgn.Program, cpu: int) -> tuple[int, bool] | None:
    """Count and need-resched of x86, which keeps the latter inverted in the top bit (asm/preempt.h)."""
    try:
        # 6.2 to 6.14; before and after, it is a variable of its own.
        value = per_cpu(prog["pcpu_hot"], cpu).preempt_count
    except UNREADABLE:
        try:
            value = per_cpu(prog["__preempt_count"], cpu)
        except UNREADABLE:
            return None
    top = 1 << (8 * drgn.sizeof(value) - 1)
    number = int(value) & (2 * top - 1)
    return number & (top - 1), not number & top


def _fair_server_ms(rq: drgn.Object) -> float | None:
    try:
        return int(rq.fair_server.dl_runtime) / 1e6
    except UNREADABLE:
        return None
