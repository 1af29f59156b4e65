# SPDX-License-Identifier: GPL-2.0-only
"""The preemption model: what was asked for against what the running kernel says it does."""

from __future__ import annotations

from harness.errors import InfraError
from harness.guest.protocol import Hello
from harness.kernel.preemption import HINTS


class PreemptionError(InfraError):
    """The kernel runs under another preemption model than was asked for."""


def check_preemption(hello: Hello, asked: str) -> None:
    """PreemptionError if the kernel runs under another model than was asked for.

    A kernel without that model only says so in its log and keeps its own (`setup_preempt_mode()`,
    kernel/sched/core.c), and a result under the wrong model would be taken for one under the right.
    """
    if hello.preempt == asked:
        return
    if hello.preempt == "unknown":
        raise PreemptionError(
            f"asked for preempt={asked}, but the kernel {hello.release} does not say what it runs under",
            hint="it needs CONFIG_PREEMPT_DYNAMIC and CONFIG_DEBUG_FS (/sys/kernel/debug/sched/preempt)",
        )
    raise PreemptionError(
        f"asked for preempt={asked}, the kernel {hello.release} runs {hello.preempt}",
        hint=HINTS.get(asked, f"preemption models: {', '.join(HINTS)}"),
    )
