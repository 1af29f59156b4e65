# SPDX-License-Identifier: GPL-2.0-only
"""What a report shows of a splat: task, place and stack, on a real one."""

from __future__ import annotations

from pathlib import Path

from harness.experiment.report import trial_text
from harness.results.runfolder import TrialResult
from harness.watch.classify import classify_file
from harness.watch.kinds import OutcomeKind

LOG = Path(__file__).resolve().parents[1] / "data" / "console" / "7.3-unfixed-preempt-none-soft-lockup.log"


def test_a_trial_shows_the_stack_and_no_registers() -> None:
    event = classify_file(LOG).events[0]
    result = TrialResult(
        arm="base-without-wait",
        index=1,
        seed=7,
        kind=OutcomeKind.SOFT_LOCKUP,
        title=event.title,
        signature="soft_lockup < hmm_range_fault_locked",
        is_bug=True,
        windows=1,
        iterations=0,
        seconds=3.5,
        preempt="none",
        folder="trials/001",
        splat=event.text,
    )
    text = trial_text(result, "runs/x/trials/001")
    assert "BUG: soft lockup - CPU#1 stuck for 13s! [stress:53]" in text
    assert "hmm_range_fault_locked+0xe4/0x15c" in text and "entry_SYSCALL_64" in text
    assert "RAX:" not in text and "Code:" not in text and "RIP: 0033" not in text
    assert "the bug of this scenario" in text
