# SPDX-License-Identifier: GPL-2.0-only
"""Whether a task that is on a CPU must give way to another one that wants it. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from harness.diagnose.facts import CpuFact, Model, Policy, TaskFact
from harness.diagnose.graph import Sure

_RANK: dict[Policy, int] = {"idle": 0, "unknown": 1, "fair": 1, "rt": 2, "deadline": 3, "stop": 4}


@dataclass(frozen=True)
class Stand:
    """`keeps`: the task on the CPU need not give way, because of `why`."""

    keeps: bool
    why: str
    sure: Sure = "data"


def stand(model: Model, cpu: CpuFact, holder: TaskFact, policy: Policy, rt_priority: int = 0) -> Stand:
    """Does `holder`, which is on `cpu`, keep it from a runnable task of this policy?

    Without preemption of kernel code (none, voluntary) every task does in kernel mode. Otherwise a real-time
    one does from a fair one if the fair server is off (`0` in its `runtime`), and any does with preemption
    disabled or interrupts off. That may last for a microsecond only: what waits must have waited for long.
    """
    in_kernel = cpu.in_kernel if cpu.in_kernel is not None else bool(holder.stack)
    if in_kernel and model in ("none", "voluntary"):
        return Stand(True, f"preempt={model}, in kernel mode")
    name = f"preempt={model}" if in_kernel else "in user mode"
    if _outranks(holder, policy, rt_priority):
        return _above(name, cpu, holder, policy)
    if in_kernel and cpu.irqs_off:
        return Stand(True, "interrupts are off", "derived")
    if in_kernel and cpu.preempt_count:
        return Stand(True, f"preempt_count is {cpu.preempt_count}", "derived")
    if in_kernel and model == "unknown":
        return Stand(True, "in kernel mode, preemption model unknown", "derived")
    return Stand(False, f"{name}: it gives way")


def _outranks(holder: TaskFact, policy: Policy, rt_priority: int) -> bool:
    mine, theirs = _RANK[holder.policy], _RANK[policy]
    return mine > theirs or (holder.policy == policy == "rt" and holder.rt_priority >= rt_priority)


def _above(name: str, cpu: CpuFact, holder: TaskFact, policy: Policy) -> Stand:
    rank = f"real-time priority {holder.rt_priority}" if holder.policy == "rt" else holder.policy
    if policy not in ("fair", "unknown", "idle"):
        return Stand(True, f"{rank} outranks it")
    if cpu.fair_server_ms is None:
        return Stand(False, f"{name}, {rank}, but real-time throttling lets it in")
    if cpu.fair_server_ms:
        return Stand(False, f"{name}, {rank}, but the fair server lets it in")
    return Stand(True, f"{name}, {rank} over a fair task, fair server off")
