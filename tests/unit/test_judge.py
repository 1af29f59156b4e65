# SPDX-License-Identifier: GPL-2.0-only
"""The judge: what decides, what is consequence, and what says nothing."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from harness.judge import judge, latest
from harness.outcome import MetricLimit, Oracle, Outcome, Signature, StackRule
from harness.target.protocol import AgentLine, ConsoleData, GuestEnded, RawEvent
from harness.watch.console import ConsoleEvent
from harness.watch.kinds import OutcomeKind
from harness.watch.observation import AgentMessage, Ended, Stall
from harness.watch.thresholds import Thresholds
from harness.watch.watcher import Watcher

DATA = Path(__file__).resolve().parents[1] / "data" / "console"
ORACLE = Oracle(
    rules=(
        StackRule(
            frozenset({OutcomeKind.SOFT_LOCKUP, OutcomeKind.WORKQUEUE_LOCKUP}),
            ("hmm_range_fault*",),
            ("*spin_lock_slowpath", "*entry_wait*"),
        ),
        StackRule(frozenset({OutcomeKind.HUNG_TASK}), ("migrate_vma_setup",)),
    ),
    needs_windows=True,
)
HELLO = {"type": "hello", "protocol": 1, "t": 0.5, "release": "7.3.4", "preempt": "none", "cpus": 2}
START = {"type": "start", "t": 0.6, "scenario": "trylock-starvation"}
BANNER = "[    0.000000][    T0] Linux version 7.3.4"
KILLED, STOPPED, EXITED = (-9, "killed"), (0, "stopped"), (0, "exited")


def say(host_s: float, **message: Any) -> AgentLine:
    return AgentLine(host_s, json.dumps(message))


def iteration(host_s: float, n: int, hit: bool = True) -> AgentLine:
    return say(host_s, type="iteration", t=host_s, n=n, window={"hit": hit})


def console(host_s: float, *lines: str) -> ConsoleData:
    return ConsoleData(host_s, "".join(f"{line}\n" for line in lines).encode())


def lockup(
    host_s: float, *frames: str, cls: str = "watchdog: BUG: soft lockup - CPU#1 stuck for 13s! [stress:53]"
) -> ConsoleData:
    body = [cls, "Call Trace:", " <TASK>", *(f" {frame}+0x1/0x2" for frame in frames), " </TASK>"]
    return console(host_s, *(f"[   14.500000][    C1] {line}" for line in body))


def ended(host_s: float, how: tuple[int, Any]) -> GuestEnded:
    return GuestEnded(host_s, *how)


def judged(events: Sequence[RawEvent], oracle: Oracle = ORACLE, stall_s: float = 20.0) -> Outcome:
    watcher = Watcher(Thresholds(stall_s=stall_s))
    for event in events:
        watcher.observe(event)
    watcher.close()
    return judge(watcher.observations, oracle)


BOOT: list[RawEvent] = [console(0.4, BANNER), say(1.0, **HELLO), say(1.1, **START)]
RAN: list[RawEvent] = [*BOOT, *(iteration(2.0 + n, n) for n in range(3))]
SPIN = ("do_swap_page", "handle_mm_fault", "hmm_range_fault_locked", "hmm_range_fault")


def done(windows: int, host_s: float = 9.0, status: int = 0) -> list[RawEvent]:
    return [
        say(host_s, type="end", t=8.0, iterations=20, windows=windows),
        say(host_s, type="exit", path="/hmm-stressor", status=status, signal=0),
        ended(host_s + 0.5, EXITED),
    ]


# -- no failure --------------------------------------------------------------------------------------------


def test_completed() -> None:
    outcome = judged([*BOOT, *done(18)])
    assert outcome.kind is OutcomeKind.COMPLETED and outcome.is_answer and not outcome.is_failure
    assert (outcome.windows, outcome.iterations) == (18, 20)
    assert outcome.signature is None and not outcome.is_bug


def test_a_run_without_a_window_is_not_exercised() -> None:
    outcome = judged([*BOOT, *done(0)])
    assert outcome.kind is OutcomeKind.NOT_EXERCISED and not outcome.is_answer
    plain = Oracle(rules=(), needs_windows=False)
    assert judged([*BOOT, *done(0)], plain).kind is OutcomeKind.COMPLETED


def test_out_of_time_with_the_guest_alive() -> None:
    outcome = judged([*RAN, ended(60.0, STOPPED)], stall_s=100.0)
    assert outcome.kind is OutcomeKind.TIMEOUT and not outcome.is_answer
    assert (outcome.windows, outcome.iterations) == (3, 3)


def test_killed_from_outside() -> None:
    outcome = judged([*RAN, ended(6.0, KILLED)])
    assert outcome.kind is OutcomeKind.TARGET_LOST and "signal 9" in outcome.title
    assert isinstance(outcome.decided_by, Ended)


def test_gone_without_a_word() -> None:
    assert judged([*RAN, ended(6.0, EXITED)]).kind is OutcomeKind.TARGET_LOST
    assert judged([console(0.4, BANNER), ended(0.5, EXITED)]).kind is OutcomeKind.TARGET_LOST


@pytest.mark.parametrize("how", [STOPPED, EXITED])
def test_a_kernel_that_says_nothing(how: tuple[int, Any]) -> None:
    outcome = judged([ended(60.0, how)])
    assert outcome.kind is OutcomeKind.INFRA_ERROR and "nothing" in outcome.title


def test_an_init_that_never_says_hello() -> None:
    outcome = judged([console(0.4, BANNER), ended(60.0, STOPPED)])
    assert outcome.kind is OutcomeKind.INFRA_ERROR and "hello" in outcome.title
    started = judged([console(0.4, BANNER), say(1.0, **HELLO), ended(60.0, STOPPED)])
    assert started.kind is OutcomeKind.INFRA_ERROR and "stressor" in started.title


def test_a_module_that_does_not_load_in_the_guests_own_words() -> None:
    text = "Exec format error; hmm_harness: version magic '6.12' should be '7.3.4'"
    error = say(1.2, type="error", what="insmod", errno=8, text=text)
    outcome = judged([console(0.4, BANNER), say(1.0, **HELLO), error, ended(2.0, EXITED)])
    assert outcome.kind is OutcomeKind.INFRA_ERROR and not outcome.is_answer
    assert text in outcome.title and "insmod" in outcome.title


@pytest.mark.parametrize(
    ("exit_", "words"), [({"status": 3, "signal": 0}, "status 3"), ({"status": 0, "signal": 7}, "signal 7")]
)
def test_a_stressor_that_gives_up(exit_: dict[str, int], words: str) -> None:
    outcome = judged([*RAN, say(6.0, type="exit", path="/hmm-stressor", **exit_), ended(7.0, EXITED)])
    assert outcome.kind is OutcomeKind.INFRA_ERROR and words in outcome.title


def test_a_step_that_fails_behind_the_stressor_is_no_pass() -> None:
    busy = say(
        9.2, type="error", what="rmmod", errno=11, text="hmm_harness: Resource temporarily unavailable"
    )
    outcome = judged([*BOOT, *done(18)[:2], busy, ended(9.5, EXITED)])
    assert outcome.kind is OutcomeKind.INFRA_ERROR and "rmmod" in outcome.title
    before = say(8.0, type="error", what="policy", errno=1, text="kept")
    assert judged([*BOOT, before, *done(18)]).kind is OutcomeKind.COMPLETED


def test_a_bad_exit_after_the_end_is_no_pass() -> None:
    assert judged([*BOOT, *done(18, status=1)]).kind is OutcomeKind.INFRA_ERROR


def test_a_bad_end_is_no_pass_even_if_the_stressor_never_exits() -> None:
    events = [*RAN, say(9.0, type="end", t=8.0, iterations=20, windows=2, status=3), ended(20.0, STOPPED)]
    assert judged(events).kind is OutcomeKind.INFRA_ERROR


def test_nothing_observed_at_all() -> None:
    assert judge((), ORACLE).kind is OutcomeKind.INFRA_ERROR


# -- hangs -------------------------------------------------------------------------------------------------


def test_the_bugs_own_soft_lockup() -> None:
    outcome = judged([*RAN, lockup(15.0, *SPIN), ended(19.0, STOPPED)], stall_s=100.0)
    assert outcome.kind is OutcomeKind.SOFT_LOCKUP and outcome.is_bug and outcome.is_failure
    assert outcome.signature == Signature("soft_lockup", SPIN[2:])
    assert str(outcome.signature) == "soft_lockup < hmm_range_fault_locked < hmm_range_fault"
    assert outcome.onset_s == 4.0, "the last iteration ended then"
    assert (outcome.windows, outcome.iterations) == (3, 3)


def test_a_self_deadlock_is_the_same_class_but_not_the_bug() -> None:
    stack = ("native_queued_spin_lock_slowpath", "_raw_spin_lock", *SPIN)
    outcome = judged([*RAN, lockup(15.0, *stack)])
    assert outcome.kind is OutcomeKind.SOFT_LOCKUP and not outcome.is_bug


def test_the_earliest_failure_decides_and_the_rest_is_consequence() -> None:
    hung = "INFO: task stress:52 blocked for more than 10 seconds."
    outcome = judged(
        [
            *RAN,
            lockup(15.0, *SPIN),
            lockup(16.0, "migrate_vma_setup", cls=hung),
            console(17.0, "[   30.000000][    C1] Kernel panic - not syncing: softlockup: hung tasks"),
            ended(19.0, EXITED),
        ]
    )
    assert outcome.kind is OutcomeKind.SOFT_LOCKUP
    assert [event.cls for event in outcome.consequences if isinstance(event, ConsoleEvent)] == [
        "hung_task",
        "panic",
    ]


def test_a_warning_before_the_lockup_decides() -> None:
    warning = "WARNING: mm/memory.c:4321 at do_swap_page+0x1a2/0x9f0, CPU#1: stress/52"
    outcome = judged([*RAN, lockup(5.0, "do_swap_page", cls=warning), lockup(15.0, *SPIN)])
    assert outcome.kind is OutcomeKind.WARNING and not outcome.is_bug


def test_a_warning_counts_although_the_stressor_completed() -> None:
    warning = "WARNING: mm/memory.c:4321 at do_swap_page+0x1a2/0x9f0, CPU#1: stress/52"
    outcome = judged([*BOOT, lockup(5.0, "do_swap_page", cls=warning), *done(18)])
    assert outcome.kind is OutcomeKind.WARNING and outcome.is_answer and outcome.windows == 18
    assert outcome.onset_s == 5.0


def test_a_hint_alone_decides_nothing() -> None:
    hint = "[    9.100000][   T33] workqueue: work_fn hogged CPU for >10000us 4 times, consider switching"
    assert judged([*BOOT, console(3.0, hint), *done(18)]).kind is OutcomeKind.COMPLETED


def test_out_of_memory_is_its_own_verdict_whatever_follows() -> None:
    oom = "[   12.100000][   T52] stress invoked oom-killer: gfp_mask=0xcc0(GFP_KERNEL), order=0"
    outcome = judged([*RAN, console(6.0, oom), lockup(15.0, *SPIN)])
    assert outcome.kind is OutcomeKind.OOM and not outcome.is_bug


def test_a_stall_that_nothing_names() -> None:
    outcome = judged([*RAN, ended(40.0, STOPPED)])
    assert outcome.kind is OutcomeKind.NO_PROGRESS and outcome.is_failure and not outcome.is_bug
    assert outcome.onset_s == 4.0 and isinstance(outcome.decided_by, Stall)
    assert outcome.signature == Signature("no_progress", ())


def test_a_watchdog_that_speaks_after_the_stall_names_it() -> None:
    outcome = judged([*RAN, lockup(30.0, *SPIN), ended(40.0, STOPPED)])
    assert outcome.kind is OutcomeKind.SOFT_LOCKUP and outcome.is_bug


def test_a_stall_that_passed_is_forgotten() -> None:
    late = [*RAN, iteration(30.0, 3), iteration(31.0, 4), *done(5, host_s=32.0)]
    assert judged(late).kind is OutcomeKind.COMPLETED
    running = [*RAN, iteration(30.0, 3), ended(35.0, STOPPED)]
    assert judged(running).kind is OutcomeKind.TIMEOUT


def test_a_stall_before_the_guest_is_killed_is_the_outcome() -> None:
    assert judged([*RAN, ended(40.0, KILLED)]).kind is OutcomeKind.NO_PROGRESS


def test_a_later_lockup_with_the_signature_corroborates_the_first_report() -> None:
    first = lockup(
        14.0,
        "worker_thread",
        cls="BUG: workqueue lockup - pool cpus=1 node=0 flags=0x0 nice=0 stuck for 31s!",
    )
    outcome = judged([*RAN, first, lockup(15.5, *SPIN), ended(19.0, STOPPED)])
    assert outcome.kind is OutcomeKind.WORKQUEUE_LOCKUP and outcome.is_bug
    alone = judged([*RAN, first, ended(19.0, STOPPED)])
    assert alone.kind is OutcomeKind.WORKQUEUE_LOCKUP and not alone.is_bug


def test_a_lockup_whose_stack_was_lost_is_named_by_the_next() -> None:
    assert judged([*RAN, lockup(15.0), lockup(28.0, *SPIN)]).is_bug
    assert not judged([*RAN, lockup(15.0), lockup(28.0, "_raw_spin_lock")]).is_bug
    assert not judged([*RAN, lockup(15.0, "_raw_spin_lock"), lockup(28.0, *SPIN)]).is_bug


# -- splats and data ---------------------------------------------------------------------------------------


def test_a_panic_at_boot_is_a_panic() -> None:
    panic = "[    1.300000][    T1] Kernel panic - not syncing: No working init found."
    outcome = judged([console(0.4, BANNER), console(1.3, panic), ended(1.4, EXITED)])
    assert outcome.kind is OutcomeKind.PANIC and "No working init" in outcome.title and outcome.is_answer


def test_data_that_changed() -> None:
    bad = say(3.0, type="corruption", t=2.0, address="0x7f0000000000", page=3, expected=17, found=0)
    events = [*RAN, bad, say(3.1, type="exit", path="/hmm-stressor", status=1), ended(4.0, EXITED)]
    outcome = judged(events)
    assert outcome.kind is OutcomeKind.CORRUPTION and outcome.is_failure and not outcome.is_bug
    assert judged(events, replace(ORACLE, corrupts=True)).is_bug
    splat = "[    2.000000][    T1] BUG: Bad rss-counter state mm:0 type:MM_ANONPAGES val:-512"
    damaged = [*RAN, console(3.0, splat), ended(4.0, EXITED)]
    assert judged(damaged).kind is OutcomeKind.CORRUPTION and not judged(damaged).is_bug
    assert judged(damaged, replace(ORACLE, corrupts=True)).is_bug
    assert "page 3" in outcome.title and "found 0" in outcome.title
    assert isinstance(outcome.decided_by, AgentMessage)


def test_an_unexpected_reboot_is_a_lost_target() -> None:
    outcome = judged([*RAN, console(6.0, BANNER), ended(7.0, STOPPED)])
    assert outcome.kind is OutcomeKind.TARGET_LOST and not outcome.is_answer and outcome.signature is None


def test_signature_leaves_out_how_it_was_printed_and_how_a_task_sleeps() -> None:
    hung = "INFO: task stress:52 blocked for more than 10 seconds."
    stack = (
        "__schedule",
        "schedule",
        "schedule_timeout",
        "__flush_work",
        "lru_add_drain_all",
        "migrate_vma_setup",
    )
    outcome = judged([*RAN, lockup(15.0, *stack, cls=hung)])
    assert outcome.signature == Signature("hung_task", ("migrate_vma_setup",)) and outcome.is_bug
    other = judged([*RAN, lockup(15.0, *stack[:-1], cls=hung)])
    assert other.signature == Signature("hung_task", ("__flush_work", "lru_add_drain_all"))
    assert not other.is_bug


def test_samples_of_one_loop_have_one_signature() -> None:
    samples = [SPIN, ("pte_offset_map_rw_nolock", *SPIN[1:]), ("hmm_vma_walk_pmd", *SPIN[2:])]
    assert {str(judged([*RAN, lockup(15.0, *stack)]).signature) for stack in samples} == {
        "soft_lockup < hmm_range_fault_locked < hmm_range_fault"
    }


def test_an_event_counts_once_as_last_read() -> None:
    watcher = Watcher(Thresholds(stall_s=20.0))
    watcher.observe(lockup(15.0, *SPIN))
    assert len(watcher.observations) == 3
    _, event = latest(watcher.observations)
    assert isinstance(event, ConsoleEvent) and event.complete and event.frames == SPIN


@pytest.mark.parametrize("name", ["none", "voluntary"])
def test_the_recorded_lockups_are_the_bug(name: str) -> None:
    data = (DATA / f"7.3-unfixed-preempt-{name}-soft-lockup.log").read_bytes()
    outcome = judged([ConsoleData(0.5, data), ended(40.0, STOPPED)])
    assert outcome.kind is OutcomeKind.SOFT_LOCKUP and outcome.is_bug
    assert outcome.title == f"soft lockup - CPU#1 stuck for 13s [stress:{53 if name == 'none' else 52}]"


def test_every_kind_of_outcome_is_either_an_answer_or_none() -> None:
    assert {kind.value for kind in OutcomeKind if not kind.is_answer} == {
        "not_exercised", "timeout", "target_lost", "infra_error"
    }  # fmt: skip
    assert [kind.value for kind in OutcomeKind if kind.is_answer and not kind.is_failure] == ["completed"]


METRIC_ORACLE = Oracle(
    (),
    needs_windows=False,
    metrics=(
        MetricLimit("wait", "ms", above=100),
        MetricLimit("rounds", "/s", below=2, help="of the slower one"),
    ),
)


@pytest.mark.parametrize(
    ("metrics", "kind", "title"),
    [
        ({"wait": 100, "rounds": 2.0}, "completed", "20 iterations, wait 100 ms, rounds 2 /s"),
        ({"wait": 100.5, "rounds": 1}, "starved", "wait 100.5 ms, more than 100"),
        ({"wait": 0, "rounds": 1.5}, "starved", "rounds 1.5 /s, less than 2: of the slower one"),
        ({"wait": 500.0}, "not_exercised", "20 iterations, but nothing to measure: no rounds"),
    ],
)
def test_a_guest_that_lives_is_starved_once_a_metric_crosses_its_limit(
    metrics: dict[str, float], kind: str, title: str
) -> None:
    end = say(9.0, type="end", t=8.0, iterations=20, metrics=metrics)
    outcome = judged([*RAN, end, ended(9.5, EXITED)], METRIC_ORACLE)
    assert (outcome.kind, outcome.title, outcome.is_bug) == (kind, title, kind == "starved")
    assert outcome.metrics == metrics


def test_a_hang_is_a_hang_whatever_was_measured() -> None:
    end = say(9.0, type="end", t=8.0, iterations=20, metrics={"wait": 500.0, "rounds": 5.0})
    outcome = judged([*RAN, lockup(8.5, *SPIN), end, ended(9.5, EXITED)], METRIC_ORACLE)
    assert (outcome.kind, outcome.is_bug) == (OutcomeKind.SOFT_LOCKUP, False)


def test_what_a_check_of_the_stressor_finds_is_the_kernels_failure() -> None:
    leak = say(8.9, type="error", t=8.9, what="leak", errno=0, text="3 pages in use")
    outcome = judged([*RAN, leak, *done(2, host_s=9.0, status=4)])
    assert (outcome.kind, str(outcome.signature)) == (OutcomeKind.TEST_FAILED, "test_failed < check")
    assert "leak: 3 pages in use" in outcome.title and outcome.is_failure and not outcome.is_bug
