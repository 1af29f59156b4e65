# SPDX-License-Identifier: GPL-2.0-only
"""What a report shows of a splat: task, place and stack, on a real one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from harness.experiment.report import comparison_json, metric_ranges, onset_to_verdict, proofs
from harness.layout import laid_out
from harness.results.report import report_text, trial_lines
from harness.results.runfolder import TrialResult
from harness.scenario.catalogue import load_scenario
from harness.watch.classify import classify_file
from harness.watch.kinds import OutcomeKind
from tests.unit.runroom import comparison

LOG = Path(__file__).resolve().parents[1] / "data" / "console" / "7.3-unfixed-preempt-none-soft-lockup.log"


def soft_lockup() -> TrialResult:
    event = classify_file(LOG).events[0]
    return TrialResult(
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


def test_a_trial_shows_the_stack_and_no_registers() -> None:
    text = "\n".join(laid_out(trial_lines(soft_lockup(), "runs/x/trials/001")))
    assert "BUG: soft lockup - CPU#1 stuck for 13s! [stress:53]" in text
    assert "hmm_range_fault_locked+0xe4/0x15c" in text and "entry_SYSCALL_64" in text
    assert "RAX:" not in text and "Code:" not in text and "RIP: 0033" not in text
    assert "the bug of this scenario" in text


def test_a_trial_shows_its_cycle() -> None:
    result = replace(soft_lockup(), splat=(), proof="cycle", cycle=("a:1 spins", "  on a folio held by b:2"))
    text = "\n".join(laid_out(trial_lines(result, "runs/x/trials/001")))
    assert "  proof: cycle\n    a:1 spins\n      on a folio held by b:2\n" in text


def test_an_arm_counts_its_proofs_and_their_times() -> None:
    proven = replace(soft_lockup(), kind=OutcomeKind.LIVELOCK, proof="cycle", onset_s=1.5, decided_s=2.75)
    gaps = replace(proven, proof="partial", decided_s=4.0)
    unseen = soft_lockup()
    completed = replace(proven, kind=OutcomeKind.COMPLETED, proof="")
    arm = [proven, gaps, unseen, completed]
    assert proofs(arm) == {"cycle": 1, "partial": 1, "none": 1}
    assert onset_to_verdict(arm) == {"median": 1.875, "max": 2.5}
    assert onset_to_verdict([completed]) is None


def test_a_comparison_shows_what_was_measured(tmp_path: Path) -> None:
    scenario = load_scenario("lock-hog")
    hung = soft_lockup()
    waits = [
        replace(hung, metrics={"wait_ms": wait, "wait_worst_ms": 2000.0}) for wait in (12.25, 300.0, 1000.0)
    ]
    ranges = metric_ranges(scenario, [*waits, hung])
    assert list(ranges) == ["wait_ms", "wait_worst_ms"]

    folder, text, done = comparison(tmp_path / "runs", tmp_path / "room")
    assert "starved" not in text
    result = comparison_json(done, 1.0)
    result["arms"][0]["metrics"] = {name: found.model_dump() for name, found in ranges.items()}
    lines = report_text("compare", result, done.results, folder).splitlines()
    table = lines.index("  metric            unfixed              fixed  starved")
    assert lines[table + 1 : table + 3] == [
        "  wait_ms ms        300 (12.25 to 1000)  -      above 250",
        "  wait_worst_ms ms  2000 (2000 to 2000)  -",
    ]
    title = "wait_ms 300 ms, more than 250: of a fault (median)"
    starved = replace(hung, kind=OutcomeKind.STARVED, title=title, splat=())
    lines = report_text("compare", result, [replace(hung, is_bug=False), starved], folder).splitlines()
    told = lines.index("  base-without-wait, trial 1 (all of it in trials/001):")
    assert lines[told + 1 : told + 3] == [f"    {title}", ""]
