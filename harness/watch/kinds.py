# SPDX-License-Identifier: GPL-2.0-only
"""How a trial can end: the words that reports, comparisons and exit codes share."""

from __future__ import annotations

from enum import StrEnum


class OutcomeKind(StrEnum):
    """The outcome of one trial."""

    #: Ran to its end, every check passed.
    COMPLETED = "completed"
    #: Ran to its end, but the window it is about was never hit.
    NOT_EXERCISED = "not_exercised"
    #: A suite of tests ran, and a case of it failed, or its results are not all there.
    TEST_FAILED = "test_failed"
    #: Alive, a metric crossed its threshold.
    STARVED = "starved"
    #: A cycle of waiters, proven from the guest's memory.
    LIVELOCK = "livelock"
    SOFT_LOCKUP = "soft_lockup"
    HARD_LOCKUP = "hard_lockup"
    RCU_STALL = "rcu_stall"
    HUNG_TASK = "hung_task"
    WORKQUEUE_LOCKUP = "workqueue_lockup"
    OOPS = "oops"
    PANIC = "panic"
    WARNING = "warning"
    #: Data that changed on its way, or a kernel structure found damaged.
    CORRUPTION = "corruption"
    OOM = "oom"
    #: A hang that neither the console names nor a look into the memory proves.
    NO_PROGRESS = "no_progress"
    #: Out of time, the guest alive.
    TIMEOUT = "timeout"
    #: The guest is gone and did not say why.
    TARGET_LOST = "target_lost"
    #: The harness or the machine failed, not the kernel.
    INFRA_ERROR = "infra_error"

    @property
    def is_answer(self) -> bool:
        """Whether this says anything about the kernel, good or bad."""
        return self not in _NO_ANSWER

    @property
    def is_failure(self) -> bool:
        """Whether this says that the kernel failed."""
        return self.is_answer and self is not OutcomeKind.COMPLETED


_NO_ANSWER = frozenset(
    {OutcomeKind.NOT_EXERCISED, OutcomeKind.TIMEOUT, OutcomeKind.TARGET_LOST, OutcomeKind.INFRA_ERROR}
)

#: Outcomes of a guest, or a part of it, that does not get on.
HANGS = frozenset(
    {
        OutcomeKind.LIVELOCK,
        OutcomeKind.SOFT_LOCKUP,
        OutcomeKind.HARD_LOCKUP,
        OutcomeKind.RCU_STALL,
        OutcomeKind.HUNG_TASK,
        OutcomeKind.WORKQUEUE_LOCKUP,
        OutcomeKind.NO_PROGRESS,
    }
)
