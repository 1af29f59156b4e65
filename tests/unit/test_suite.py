# SPDX-License-Identifier: GPL-2.0-only
"""A trial whose program is a suite of tests: what its output says decides, and a hang names the case."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from harness.config import BootConfig
from harness.errors import UserError
from harness.outcome import Oracle, Outcome, StackRule
from harness.scenario.catalogue import load_scenario
from harness.target.protocol import RawEvent
from harness.watch.kinds import OutcomeKind
from tests.unit.test_judge import BANNER, BOOT, EXITED, SPIN, console, ended, judged, lockup, say
from tests.unit.test_ktap import RECORDED
from tests.unit.watching import Host

ORACLE = Oracle(
    (
        StackRule(frozenset({OutcomeKind.SOFT_LOCKUP}), ("hmm_range_fault*",)),
        StackRule(frozenset({OutcomeKind.TEST_FAILED}), ("*livelock*",)),
    ),
    needs_windows=False,
    suite=True,
)


def lines(said: Sequence[str], begin_s: float = 2.0) -> list[RawEvent]:
    return [say(begin_s + 0.01 * n, type="ktap", t=1.0, line=line) for n, line in enumerate(said)]


def over(status: int = 0, signal: int = 0) -> list[RawEvent]:
    program = {"status": status, "signal": signal}
    return [
        say(9.0, type="end", t=8.0, iterations=1, status=0, program=program),
        say(9.1, type="exit", path="/hmm-stressor", status=0, signal=0),
        ended(9.5, EXITED),
    ]


def of_suite(said: Sequence[str], status: int = 0, signal: int = 0) -> Outcome:
    return judged([*BOOT, *lines(said), *over(status, signal)], ORACLE)


def test_a_whole_suite_without_a_failure_completes_with_its_counts() -> None:
    outcome = of_suite(RECORDED)
    assert outcome.kind is OutcomeKind.COMPLETED
    assert outcome.title == "39 passed, 0 failed, 39 skipped (39 DEVICE_COHERENT not available)"
    assert outcome.metrics == {"passed": 39, "failed": 0, "skipped": 39}
    assert outcome.tests and len(outcome.tests.cases) == 78


def test_a_failed_case_is_a_failure_though_the_program_exits_with_0() -> None:
    turned = ["not " + line if line.startswith("ok 12 ") else line for line in RECORDED]
    outcome = of_suite(turned)
    assert outcome.kind is OutcomeKind.TEST_FAILED and outcome.is_failure and not outcome.is_bug
    assert str(outcome.signature) == "test_failed < hmm.hmm_device_private.migrate"
    assert outcome.title.startswith("hmm.hmm_device_private.migrate failed; 38 passed, 1 failed, 39 skipped")


def test_the_names_of_cases_stand_for_a_stack_in_the_oracle() -> None:
    said = ["TAP version 13", "1..1", "not ok 1 hmm2.hmm2_device_private.migrate_mixed_livelock"]
    assert of_suite(said, status=1).is_bug


@pytest.mark.parametrize(
    ("said", "status", "signal", "title"),
    [
        (RECORDED[:100], 0, 0, "of the 78 planned results"),
        (RECORDED, 1, 0, "the program ended with status 1"),
        (RECORDED, 0, 11, "the program was killed by signal 11"),
        ([*RECORDED[:40], "Bail out! cannot fork"], 1, 0, "bail out: cannot fork"),
    ],
)
def test_what_is_not_whole_never_passes(said: Sequence[str], status: int, signal: int, title: str) -> None:
    outcome = of_suite(said, status, signal)
    assert outcome.kind is OutcomeKind.TEST_FAILED
    assert title in outcome.title


def test_a_suite_that_never_ran_says_nothing_of_the_kernel() -> None:
    outcome = of_suite(["# /hmm-tests: No such file or directory"], status=127)
    assert outcome.kind is OutcomeKind.INFRA_ERROR
    assert "No such file" in outcome.title


def test_a_suite_that_skipped_all_tested_nothing() -> None:
    said = ["TAP version 13", "1..2", "ok 1 a # SKIP no device", "ok 2 b # SKIP no device"]
    outcome = of_suite(said)
    assert outcome.kind is OutcomeKind.NOT_EXERCISED
    assert "2 no device" in outcome.title


BEGUN = RECORDED[
    : 1 + next(n for n, line in enumerate(RECORDED) if "RUN" in line and "anon_teardown" in line)
]


def test_a_hang_names_the_case_that_ran() -> None:
    outcome = judged([*BOOT, *lines(BEGUN), lockup(30.0, *SPIN)], ORACLE)
    assert outcome.kind is OutcomeKind.SOFT_LOCKUP and outcome.is_bug
    assert outcome.title.endswith(", while hmm.hmm_device_private.anon_teardown ran")


def test_a_splat_names_the_case_that_ran_then_and_not_the_last() -> None:
    splat = console(
        4.0, "[    4.000000][   T50] WARNING: lib/test_hmm.c:700 at dmirror_fault+0x1/0x2, CPU#0: t/50"
    )
    before = lines(BEGUN)
    after = lines(RECORDED[len(BEGUN) :], begin_s=4.5)
    outcome = judged([*BOOT, *before, splat, *after, *over()], ORACLE)
    assert outcome.kind is OutcomeKind.WARNING
    assert outcome.title.endswith(", while hmm.hmm_device_private.anon_teardown ran")
    assert outcome.metrics["passed"] == 39, "it went on, and what it did is counted"


def test_out_of_time_says_how_far_it_came() -> None:
    outcome = judged([console(0.4, BANNER), *BOOT[1:], *lines(BEGUN), ended(15.0, (0, "stopped"))], ORACLE)
    assert outcome.kind is OutcomeKind.TIMEOUT
    assert outcome.metrics["passed"] == 18
    assert outcome.title == "out of time after 18 iterations, the guest alive"


def test_the_scenario_is_judged_as_a_suite() -> None:
    scenario = load_scenario("upstream-hmm-tests")
    assert scenario.judge_by().suite
    longest = 120  # TEST_F_TIMEOUT(hmm, benchmark_thp_migration, 120)
    assert scenario.oracle.stall_s > longest
    assert not load_scenario("trylock-starvation").judge_by().suite


def test_coherent_devices_need_memory_that_the_kernel_is_kept_off() -> None:
    scenario = load_scenario("upstream-hmm-tests-coherent")
    # lib/test_hmm.c: DEVMEM_CHUNK_SIZE, each device's part of the memory above the kernel's.
    chunk_mb, kernel_mb = 256, int(scenario.cmdline[0].removeprefix("mem=").removesuffix("M"))
    addresses = [kernel_mb << 20, (kernel_mb + chunk_mb) << 20]
    assert list(scenario.module.values()) == addresses
    assert scenario.needs.memory_mb == kernel_mb + 2 * chunk_mb
    with pytest.raises(UserError, match="needs 2048 MB of memory, the guest has 1024"):
        scenario.check(BootConfig(memory_mb=1024), scenario.values({}))
    scenario.check(BootConfig(memory_mb=2048), scenario.values({}))


@pytest.mark.parametrize(
    ("said", "share", "kind"),
    [
        ("# slow: Test terminated by timeout", 0.2, OutcomeKind.INFRA_ERROR),
        ("# slow: Test terminated by timeout", 1.0, OutcomeKind.TEST_FAILED),
        ("# slow: Test terminated by assertion", 0.2, OutcomeKind.TEST_FAILED),
    ],
)
def test_a_time_limit_that_the_host_broke_says_nothing(said: str, share: float, kind: OutcomeKind) -> None:
    host = Host(now=1.5, share=share)
    head, tail = ["TAP version 13", "1..1", "#  RUN           slow ..."], [said, "not ok 1 slow"]
    events = [
        *BOOT,
        *lines(head, 1.2),
        *host.samples(6.0, "user", "user"),
        *lines(tail, 7.6),
        *over(status=1),
    ]
    assert judged(events, ORACLE).kind is kind
