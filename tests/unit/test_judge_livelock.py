# SPDX-License-Identifier: GPL-2.0-only
"""The judge, where somebody has looked into the guest's memory, and where the host was overloaded."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from harness.judge import judge
from harness.outcome import MetricLimit, Oracle, Outcome, Signature
from harness.scenario.catalogue import load_scenario
from harness.target.protocol import GuestEnded, RawEvent
from harness.watch.console import ConsoleEvent
from harness.watch.examination import Examination, Proof
from harness.watch.kinds import OutcomeKind
from harness.watch.observation import Stall, Starved
from harness.watch.thresholds import Thresholds
from harness.watch.watcher import Watcher
from tests.unit.test_judge import SPIN, lockup
from tests.unit.watching import END, HELLO, START, SYMBOLS, At, Host, console, progress, say

ORACLE = load_scenario("trylock-starvation").judge_by()
#: As a debugger sees them: inlined functions too.
FRAMES = ("do_swap_page", "__handle_mm_fault", "handle_mm_fault", "hmm_do_fault", "hmm_range_fault_locked",
          "hmm_range_fault", "hh_range_fault", "hh_ioctl_fault")  # fmt: skip
BANNER = "[    0.000000][    T0] Linux version 7.3.4"
BOOT: list[RawEvent] = [console(0.4, BANNER), say(1.0, **HELLO), say(1.1, **START), progress(1.2, 0, 1)]
STOPPED = GuestEnded(60.0, 0, "stopped")
WARNING = "WARNING: mm/memory.c:4321 at do_swap_page+0x1a2/0x9f0, CPU#1: stress/52"
STUCK = ("native_queued_spin_lock_slowpath", "_raw_spin_lock", "some_driver")


def look(
    host_s: float,
    proof: Proof = "cycle",
    frames: tuple[str, ...] = FRAMES,
    since_s: float = 1.2,
    entry: str = "device private",
) -> Examination:
    title = (
        "CPU 1 spins on a folio whose holder waits for CPU 1"
        if proof == "cycle"
        else "nobody waits in a circle"
    )
    return Examination(host_s, since_s, proof, title, frames, entry=entry)


def judged(
    events: Sequence[RawEvent | Examination], stall_s: float = 20.0, oracle: Oracle = ORACLE
) -> Outcome:
    watcher = Watcher(Thresholds(stall_s=stall_s), SYMBOLS)
    for event in events:
        if isinstance(event, Examination):
            watcher.examined(event)
        else:
            watcher.observe(event)
    watcher.close()
    return judge(watcher.observations, oracle)


# -- what a look decides -----------------------------------------------------------------------------------


@pytest.mark.parametrize("proof", ["cycle", "partial"])
def test_a_proof_is_a_livelock(proof: Proof) -> None:
    outcome = judged([*BOOT, look(2.6, proof), STOPPED])
    assert outcome.kind is OutcomeKind.LIVELOCK and outcome.is_failure and outcome.is_bug
    assert outcome.proof == proof and outcome.title == look(2.6, proof).title
    assert (outcome.onset_s, outcome.decided_s) == (1.2, 2.6)
    assert str(outcome.signature) == (
        "livelock < hmm_range_fault_locked < hmm_range_fault < hh_range_fault < hh_ioctl_fault"
    )


def test_a_livelock_elsewhere_is_not_the_bug() -> None:
    outcome = judged([*BOOT, look(2.6, frames=STUCK), STOPPED])
    assert outcome.kind is OutcomeKind.LIVELOCK and not outcome.is_bug
    assert outcome.signature == Signature("livelock", STUCK)
    waiting = judged([*BOOT, look(2.6, frames=("native_queued_spin_lock_slowpath", *FRAMES)), STOPPED])
    assert not waiting.is_bug


@pytest.mark.parametrize(
    ("scenario", "entry", "is_bug"),
    [
        ("trylock-starvation", "device private", True),
        ("trylock-starvation", "device private (PMD)", False),
        ("trylock-starvation", "", True),
        ("pmd-trylock-starvation", "device private", False),
        ("pmd-trylock-starvation", "device private (PMD)", True),
    ],
)
def test_the_page_tables_entry_tells_the_bug_from_its_sibling_where_one_stack_does_not(
    scenario: str, entry: str, is_bug: bool
) -> None:
    """As when neither do_swap_page() nor do_huge_pmd_device_private() is on the stack at that moment."""
    between = ("walk_pgd_range", "hmm_range_fault", "hh_range_fault")
    oracle = load_scenario(scenario).judge_by()
    outcome = judged([*BOOT, look(2.6, frames=between, entry=entry), STOPPED], oracle=oracle)
    assert outcome.kind is OutcomeKind.LIVELOCK and outcome.is_bug is is_bug
    cls = "livelock on a PMD" if "PMD" in entry else "livelock"
    assert outcome.signature == Signature(cls, ("hmm_range_fault", "hh_range_fault"))


def test_a_proof_without_a_stack_is_named_by_the_console() -> None:
    assert judged([*BOOT, look(2.6, frames=()), lockup(4.0, *SPIN), STOPPED]).is_bug
    assert not judged([*BOOT, look(2.6, frames=()), lockup(4.0, *STUCK), STOPPED]).is_bug


@pytest.mark.parametrize("reported_s", [2.0, 4.5])
def test_the_console_corroborates_a_livelock_before_or_after(reported_s: float) -> None:
    report = lockup(reported_s, *SPIN)
    events = [*BOOT, report, look(2.6), STOPPED] if reported_s < 2.6 else [*BOOT, look(2.6), report, STOPPED]
    outcome = judged(events)
    assert outcome.kind is OutcomeKind.LIVELOCK and outcome.decided_s == 2.6 and outcome.onset_s == 1.2
    assert [event.cls for event in outcome.consequences if isinstance(event, ConsoleEvent)] == ["soft_lockup"]


@pytest.mark.parametrize(
    ("line", "kind"),
    [
        (WARNING, OutcomeKind.WARNING),
        ("Kernel panic - not syncing: why", OutcomeKind.PANIC),
        ("BUG: kernel NULL pointer dereference, address: 0000000000000008", OutcomeKind.OOPS),
        ("stress invoked oom-killer: gfp_mask=0xcc0(GFP_KERNEL), order=0", OutcomeKind.OOM),
        ("list_add corruption. prev is NULL.", OutcomeKind.CORRUPTION),
    ],
)
def test_a_splat_that_came_first_decides(line: str, kind: OutcomeKind) -> None:
    outcome = judged([*BOOT, lockup(1.3, "do_swap_page", cls=line), look(2.6), STOPPED])
    assert outcome.kind is kind and not outcome.is_bug and outcome.proof is None
    assert look(2.6) in outcome.consequences
    after = judged([*BOOT, look(2.6), lockup(2.8, "do_swap_page", cls=line), STOPPED])
    assert after.kind is OutcomeKind.LIVELOCK and len(after.consequences) == 1


def test_a_splat_between_the_report_and_the_proof_is_consequence() -> None:
    outcome = judged([*BOOT, lockup(2.0, *SPIN), lockup(2.2, "f", cls=WARNING), look(2.6), STOPPED])
    assert outcome.kind is OutcomeKind.LIVELOCK


def test_a_cycle_counts_more_than_a_proof_with_gaps_before_it() -> None:
    outcome = judged([*BOOT, look(2.6, "partial"), look(3.6), STOPPED])
    assert outcome.proof == "cycle" and outcome.decided_s == 3.6


def test_a_proof_is_void_if_a_counter_moved_after_all() -> None:
    outcome = judged([*BOOT, look(2.6), progress(3.0, 0, 2), STOPPED], stall_s=100.0)
    assert outcome.kind is OutcomeKind.TIMEOUT and outcome.proof is None


def test_a_look_that_proved_nothing_goes_with_the_kernels_report() -> None:
    outcome = judged([*BOOT, look(2.6, "none"), lockup(4.0, *SPIN), STOPPED])
    assert outcome.kind is OutcomeKind.SOFT_LOCKUP and outcome.is_bug and outcome.proof == "none"
    assert (outcome.onset_s, outcome.decided_s) == (1.2, 4.0)


def test_a_stall_is_told_with_where_the_cpus_were_and_the_longest_chain() -> None:
    host = Host(now=1.2)
    spin = host.samples(21.0, "halted", "native_queued_spin_lock_slowpath")
    outcome = judged([*BOOT, *spin, look(host.now + 0.1, "none"), STOPPED])
    assert outcome.kind is OutcomeKind.NO_PROGRESS and not outcome.is_bug and outcome.proof == "none"
    assert isinstance(outcome.decided_by, Stall)
    for words in (
        "no progress for 20 s, and the kernel says nothing; CPU 0 halted (",
        ", CPU 1 in native_queued_spin_lock_slowpath (",
        "; nobody waits in a circle",
    ):
        assert words in outcome.title


def test_a_false_suspicion_does_not_show_in_a_trial_that_completed() -> None:
    outcome = judged([*BOOT, look(2.6, "none"), progress(3.0, 0, 2), say(4.0, **END), STOPPED])
    assert outcome.kind is OutcomeKind.COMPLETED and outcome.proof is None


# -- an overloaded host ------------------------------------------------------------------------------------


def starved(seconds: float, share: float, *at: At) -> list[RawEvent]:
    return Host(now=1.2, share=share).samples(seconds, *at)


def test_out_of_time_on_an_overloaded_host_is_no_ones_fault() -> None:
    outcome = judged([*BOOT, *starved(58.0, 0.1, "halted", "do_swap_page"), STOPPED])
    assert outcome.kind is OutcomeKind.INFRA_ERROR and not outcome.is_answer
    assert outcome.title == "host overloaded: the guest could run 5.8 of 57.8 s"


def test_out_of_time_on_a_host_with_room_is_a_timeout() -> None:
    slow = [*BOOT, *starved(10.0, 0.9, "halted", "do_swap_page"), STOPPED]
    assert judged(slow).kind is OutcomeKind.TIMEOUT


def test_a_lockup_elsewhere_reported_while_the_host_was_overloaded_is_not_believed() -> None:
    spin = starved(15.0, 0.1, "halted", "native_queued_spin_lock_slowpath")
    report = lockup(16.3, "some_driver")
    outcome = judged([*BOOT, *spin, report, STOPPED])
    assert outcome.kind is OutcomeKind.INFRA_ERROR and outcome.signature is None
    assert outcome.title.startswith("host overloaded: the guest could run 1.")
    assert "soft lockup" in outcome.title
    fair = judged([*BOOT, *starved(15.0, 0.9, "halted", "native_queued_spin_lock_slowpath"), report, STOPPED])
    assert fair.kind is OutcomeKind.SOFT_LOCKUP


def test_not_even_the_bugs_own_lockup_is_believed_of_a_starved_guest() -> None:
    """A sound kernel is in hmm_range_fault() too when the host takes its CPU away."""
    spin = starved(15.0, 0.1, "halted", "do_swap_page")
    outcome = judged([*BOOT, *spin, lockup(16.3, *SPIN), STOPPED])
    assert outcome.kind is OutcomeKind.INFRA_ERROR and not outcome.is_bug


def test_a_proof_needs_no_fair_host() -> None:
    spin = starved(15.0, 0.1, "halted", "do_swap_page")
    outcome = judged([*BOOT, *spin, lockup(16.3, "some_driver"), look(16.6), STOPPED])
    assert outcome.kind is OutcomeKind.LIVELOCK and outcome.is_bug


def test_a_report_speaks_of_its_own_time_only() -> None:
    """Overloaded for long, but not in the 13 s that the report speaks of."""
    host = Host(now=1.2, share=0.1)
    events = host.samples(20.0, "halted", "do_swap_page")
    host.share = 1.0
    events += host.samples(14.0, "halted", "do_swap_page")
    outcome = judged([*BOOT, *events, lockup(host.now, "some_driver"), STOPPED], stall_s=100.0)
    assert outcome.kind is OutcomeKind.SOFT_LOCKUP


def test_a_host_that_held_up_qemu_itself_is_not_the_kernels_fault() -> None:
    """No sample for 10 s: QEMU was stopped; the report comes before the next one."""
    fine = starved(5.0, 1.0, "halted", "do_swap_page")
    outcome = judged([*BOOT, *fine, lockup(16.3, "some_driver"), STOPPED], stall_s=100.0)
    assert outcome.kind is OutcomeKind.INFRA_ERROR


def test_a_splat_is_believed_on_any_host() -> None:
    spin = starved(15.0, 0.1, "halted", "do_swap_page")
    outcome = judged([*BOOT, *spin, lockup(16.3, "f", cls=WARNING), STOPPED])
    assert outcome.kind is OutcomeKind.WARNING


@pytest.mark.parametrize(
    ("share", "unit", "kind"), [(0.1, "ms", "infra_error"), (0.1, "pages", "starved"), (0.9, "ms", "starved")]
)
def test_a_time_measured_in_a_starved_guest_says_nothing(share: float, unit: str, kind: str) -> None:
    oracle = Oracle((), needs_windows=False, metrics=(MetricLimit("figure", unit, above=5.0),))
    end = say(16.2, type="end", t=8.0, iterations=3, metrics={"figure": 7.0})
    spin = starved(15.0, share, "halted", "do_swap_page")
    outcome = judged([*BOOT, *spin, end, STOPPED], stall_s=100.0, oracle=oracle)
    assert outcome.kind == kind and "figure 7" in outcome.title


def test_an_idle_guest_is_not_starved() -> None:
    watcher = Watcher(Thresholds(stall_s=20.0))
    for event in [*BOOT, *starved(10.0, 0.1, "halted", "halted"), STOPPED]:
        watcher.observe(event)
    assert not any(isinstance(observation, Starved) for observation in watcher.observations)


def test_a_proof_with_gaps_alone_is_no_verdict() -> None:
    outcome = judged([*BOOT, look(2.6, "partial"), STOPPED], stall_s=100.0)
    assert outcome.kind is OutcomeKind.TIMEOUT and outcome.proof is None
    reported = judged([*BOOT, look(2.6, "partial"), lockup(4.0, *SPIN), STOPPED], stall_s=100.0)
    assert reported.kind is OutcomeKind.LIVELOCK and reported.proof == "partial"
