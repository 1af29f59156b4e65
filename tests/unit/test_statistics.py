# SPDX-License-Identifier: GPL-2.0-only
"""The comparison's arithmetic, against closed forms and exact enumeration, and its rule."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import pytest

from harness.experiment.statistics import (
    ArmTally,
    Interval,
    Sequential,
    VerdictKind,
    clean_trials_needed,
    clopper_pearson,
    decide,
    fisher_p,
    rate_lower_bound,
    tally,
    trials_needed,
)
from harness.outcome import Outcome
from harness.watch.kinds import OutcomeKind


def hang(windows: int = 0) -> Outcome:
    return Outcome(OutcomeKind.SOFT_LOCKUP, "soft lockup", is_bug=True, windows=windows, iterations=windows)


def self_deadlock() -> Outcome:
    return Outcome(OutcomeKind.SOFT_LOCKUP, "soft lockup", is_bug=False)


def completed(windows: int = 20) -> Outcome:
    return Outcome(OutcomeKind.COMPLETED, "done", windows=windows, iterations=20)


def silent(kind: OutcomeKind) -> Outcome:
    return Outcome(kind, "no answer", windows=7, iterations=7)


def arm(name: str, *outcomes: Outcome) -> ArmTally:
    return tally(name, outcomes)


CONTROL = arm("unfixed", *[hang()] * 6)


@pytest.mark.parametrize("trials", [1, 2, 5, 6, 20, 100])
def test_interval_of_all_and_none_has_its_closed_form(trials: int) -> None:
    low = 0.025 ** (1 / trials)
    every = clopper_pearson(trials, trials)
    none = clopper_pearson(0, trials)
    assert every.low == pytest.approx(low) and every.high == 1.0
    assert none.low == 0.0 and none.high == pytest.approx(1 - low)


def test_interval_known_in_the_literature() -> None:
    # 81 of 263: Agresti and Coull 1998 and many a textbook give .2527 to .3676 for the exact interval.
    interval = clopper_pearson(81, 263)
    assert interval.low == pytest.approx(0.2527, abs=5e-5)
    assert interval.high == pytest.approx(0.3676, abs=5e-5)


@pytest.mark.parametrize("trials", [1, 3, 6, 12])
def test_interval_covers_at_least_what_it_says_by_enumeration(trials: int) -> None:
    intervals = [clopper_pearson(k, trials) for k in range(trials + 1)]
    for p in (step / 200 for step in range(201)):
        covered = sum(
            math.comb(trials, k) * p**k * (1 - p) ** (trials - k)
            for k, interval in enumerate(intervals)
            if interval.low <= p <= interval.high
        )
        assert covered >= 0.95 - 1e-9, (p, covered)


def test_interval_of_nothing_is_everything() -> None:
    assert clopper_pearson(0, 0) == Interval(0.0, 1.0)


def test_intervals_overlap_at_a_common_point() -> None:
    assert Interval(0.1, 0.5).overlaps(Interval(0.5, 0.9))
    assert not Interval(0.1, 0.4).overlaps(Interval(0.5, 0.9))
    assert Interval(0.0, 1.0).overlaps(Interval(0.4, 0.5))


def test_six_of_six_is_the_smallest_comparison_of_equal_arms_that_decides() -> None:
    apart = [n for n in range(1, 12) if not clopper_pearson(n, n).overlaps(clopper_pearson(0, n))]
    assert apart == [6, 7, 8, 9, 10, 11]


def fisher_by_enumeration(a: int, n: int, b: int, m: int) -> tuple[float, float]:
    """Two-sided and one-sided p of a of n against b of m, from the hypergeometric weights."""
    total = a + b
    weights = {
        k: math.comb(n, k) * math.comb(m, total - k) / math.comb(n + m, total)
        for k in range(max(0, total - m), min(n, total) + 1)
    }
    two = sum(weight for weight in weights.values() if weight <= weights[a] * (1 + 1e-9))
    one = sum(weight for k, weight in weights.items() if k >= a)
    return two, one


@pytest.mark.parametrize(("n", "m"), [(6, 6), (4, 7), (1, 3)])
def test_fisher_against_enumeration(n: int, m: int) -> None:
    for a, b in itertools.product(range(n + 1), range(m + 1)):
        control = arm("c", *[hang()] * a, *[completed()] * (n - a))
        candidate = arm("d", *[hang()] * b, *[completed()] * (m - b))
        two, one = fisher_by_enumeration(a, n, b, m)
        assert fisher_p(control, candidate) == pytest.approx(two)
        assert fisher_p(control, candidate, "greater") == pytest.approx(one)


def test_fisher_of_six_against_none() -> None:
    assert fisher_p(CONTROL, arm("fixed", *[completed()] * 6)) == pytest.approx(2 / math.comb(12, 6))
    assert fisher_p(CONTROL, arm("fixed")) is None


def test_tally_counts_answers_alone() -> None:
    no_answers = [silent(kind) for kind in OutcomeKind if not kind.is_answer]
    counted = arm("mixed", hang(3), self_deadlock(), completed(20), *no_answers)
    assert {kind for kind in OutcomeKind if not kind.is_answer} == {
        OutcomeKind.NOT_EXERCISED,
        OutcomeKind.TIMEOUT,
        OutcomeKind.TARGET_LOST,
        OutcomeKind.INFRA_ERROR,
    }
    assert (counted.trials, counted.answered) == (7, 3)
    assert (counted.reproduced, counted.failed_otherwise) == (1, 1)
    assert counted.windows == 23 and counted.windows_to_hang == 3
    assert counted.rate == pytest.approx(1 / 3)
    assert dict(counted.outcomes)[OutcomeKind.SOFT_LOCKUP] == 2


def test_a_suite_goes_through_cases_instead_of_windows() -> None:
    control = tally("a", [replace(hang(), iterations=19)] * 6, "cases")
    candidate = tally("b", [completed(0)] * 6, "cases")
    verdict = decide(control, candidate)
    assert verdict.kind is VerdictKind.FIXED
    assert "after 114 cases;" in verdict.reason and verdict.reason.endswith("in 120 cases")


def test_rate_without_an_answer_is_none() -> None:
    lost = arm("a", silent(OutcomeKind.TARGET_LOST))
    assert lost.rate is None and lost.ci95 == Interval(0.0, 1.0)


def test_fixed() -> None:
    verdict = decide(CONTROL, arm("fixed", *[completed()] * 6))
    assert verdict.kind is VerdictKind.FIXED
    assert "6 of 6 trials of unfixed" in verdict.reason and "0 of 6 trials of fixed" in verdict.reason
    assert "after 6 windows" in verdict.reason and "in 120 windows" in verdict.reason
    assert verdict.p_value == pytest.approx(2 / 924)


def test_one_reproduction_is_enough_for_not_fixed() -> None:
    assert decide(CONTROL, arm("fixed", hang(), *[completed()] * 99)).kind is VerdictKind.NOT_FIXED
    assert decide(arm("unfixed"), arm("fixed", hang())).kind is VerdictKind.NOT_FIXED


@pytest.mark.parametrize(
    "failure",
    [
        self_deadlock(),
        Outcome(OutcomeKind.WARNING, "WARNING at mm/memory.c:1"),
        Outcome(OutcomeKind.CORRUPTION, "data changed"),
        Outcome(OutcomeKind.NO_PROGRESS, "no progress"),
        Outcome(OutcomeKind.OOM, "out of memory"),
    ],
    ids=lambda outcome: str(outcome.kind),
)
def test_another_failure_of_the_candidate_is_its_own_verdict(failure: Outcome) -> None:
    verdict = decide(CONTROL, arm("fixed", failure, *[completed()] * 5))
    assert verdict.kind is VerdictKind.OTHER_FAILURE
    assert str(failure.kind) in verdict.reason


def test_the_bug_goes_before_another_failure() -> None:
    assert decide(CONTROL, arm("fixed", self_deadlock(), hang())).kind is VerdictKind.NOT_FIXED


def test_no_green_without_a_positive_control() -> None:
    passed = arm("fixed", *[completed()] * 6)
    assert decide(arm("unfixed", *[completed()] * 6), passed).kind is VerdictKind.NOT_REPRODUCED
    other = decide(arm("unfixed", *[self_deadlock()] * 6), passed)
    assert other.kind is VerdictKind.NOT_REPRODUCED
    assert "6 failed in another way" in other.reason


@pytest.mark.parametrize("kind", [kind for kind in OutcomeKind if not kind.is_answer])
def test_trials_without_an_answer_never_pass(kind: OutcomeKind) -> None:
    assert decide(CONTROL, arm("fixed", *[silent(kind)] * 6)).kind is VerdictKind.INCONCLUSIVE
    few = decide(CONTROL, arm("fixed", *[completed()] * 3, *[silent(kind)] * 3))
    assert few.kind is VerdictKind.INCONCLUSIVE and f"3 {kind}" in few.reason
    control = decide(arm("unfixed", *[silent(kind)] * 6), arm("fixed", *[completed()] * 6))
    assert control.kind is VerdictKind.INCONCLUSIVE


def test_no_trials_at_all() -> None:
    assert decide(arm("unfixed"), arm("fixed")).kind is VerdictKind.INCONCLUSIVE


def test_too_few_trials_to_tell() -> None:
    verdict = decide(arm("unfixed", *[hang()] * 5), arm("fixed", *[completed()] * 5))
    assert verdict.kind is VerdictKind.INCONCLUSIVE and "overlap" in verdict.reason


def test_a_candidate_that_was_tried_less_than_the_control_is_not_fixed() -> None:
    control = arm("unfixed", *[hang(4)] * 6)
    assert control.windows_to_hang == 24
    verdict = decide(control, arm("fixed", *[completed(3)] * 6))
    assert verdict.kind is VerdictKind.INCONCLUSIVE
    assert "18 windows" in verdict.reason and "24" in verdict.reason
    assert decide(control, arm("fixed", *[completed(4)] * 6)).kind is VerdictKind.FIXED


def fixed_in(n: int, control_rate: float, candidate_rate: float) -> float:
    """How likely `decide` says `fixed` of n trials an arm: all outcomes, each with its probability."""
    candidate = arm("d", *[completed(20)] * n)
    return sum(
        math.comb(n, k) * control_rate**k * (1 - control_rate) ** (n - k) * (1 - candidate_rate) ** n
        for k in range(n + 1)
        if decide(arm("c", *[hang()] * k, *[completed(20)] * (n - k)), candidate).kind is VerdictKind.FIXED
    )


@pytest.mark.parametrize(
    ("control", "candidate", "power"),
    [(1.0, 0.0, 0.9), (0.9, 0.0, 0.9), (0.9, 0.01, 0.8), (0.6, 0.0, 0.5), (0.6, 0.0, 0.9)],
)
def test_trials_needed_is_the_first_number_that_the_rule_is_content_with(
    control: float, candidate: float, power: float
) -> None:
    needed = trials_needed(control, candidate, power)
    assert needed is not None
    powers = [fixed_in(n, control, candidate) for n in range(1, needed + 1)]
    assert powers[-1] >= power and all(value < power for value in powers[:-1])


def test_no_number_of_trials_is_enough_for_a_candidate_that_is_not_fixed() -> None:
    assert trials_needed(0.5, 0.1) is None
    assert trials_needed(0.0) is None
    assert trials_needed(1.0) == 6


@pytest.mark.parametrize("trials", [1, 5, 12])
def test_lower_bound_is_seldom_above_the_rate_by_enumeration(trials: int) -> None:
    bounds = [rate_lower_bound(k, trials, 0.9) for k in range(trials + 1)]
    for p in (step / 100 for step in range(101)):
        above = sum(
            math.comb(trials, k) * p**k * (1 - p) ** (trials - k)
            for k, bound in enumerate(bounds)
            if bound > p
        )
        assert above <= 0.1 + 1e-9, (p, above)
    assert bounds[0] == 0.0 and bounds[trials] == pytest.approx(0.1 ** (1 / trials))


@pytest.mark.parametrize("rate", [0.01, 0.05, 0.3, 0.5, 0.9])
@pytest.mark.parametrize("confidence", [0.5, 0.9, 0.99, 0.999])
def test_clean_trials_needed_is_the_first_number_that_rules_the_rate_out(
    rate: float, confidence: float
) -> None:
    needed = clean_trials_needed(confidence, rate)
    assert (1 - rate) ** needed <= (1 - confidence) * (1 + 1e-9)
    assert needed == 1 or (1 - rate) ** (needed - 1) > (1 - confidence) * (1 - 1e-9)


@pytest.mark.parametrize(("rate", "confidence"), [(0.0, 0.9), (1.1, 0.9), (0.5, 1.0), (0.5, -0.1)])
def test_clean_trials_needed_refuses_what_no_number_answers(rate: float, confidence: float) -> None:
    with pytest.raises(ValueError):
        clean_trials_needed(confidence, rate)


def test_a_sequential_verdict_rests_on_its_evidence_alone() -> None:
    control, candidate = arm("unfixed", *[hang()] * 3), arm("fixed", *[completed()] * 3)
    assert decide(control, candidate).kind is VerdictKind.INCONCLUSIVE
    sure = decide(control, candidate, Sequential(0.05, 20.0))
    assert sure.kind is VerdictKind.FIXED and sure.p_value is None
    many = arm("unfixed", *[hang()] * 50), arm("fixed", *[completed()] * 50)
    unsure = decide(*many, Sequential(0.01, 99.0))
    assert unsure.kind is VerdictKind.INCONCLUSIVE
    assert "the evidence is 99, for an error of 0.01 it takes 100" in unsure.reason


@pytest.mark.parametrize(
    ("control", "candidate", "kind"),
    [
        ([hang()], [hang()], VerdictKind.NOT_FIXED),
        ([hang()], [self_deadlock()], VerdictKind.OTHER_FAILURE),
        ([completed()], [completed()], VerdictKind.NOT_REPRODUCED),
        ([hang(30)], [completed(29)], VerdictKind.INCONCLUSIVE),
        ([hang()], [silent(OutcomeKind.TIMEOUT)], VerdictKind.INCONCLUSIVE),
    ],
)
def test_evidence_does_not_outweigh_the_other_rules(
    control: list[Outcome], candidate: list[Outcome], kind: VerdictKind
) -> None:
    verdict = decide(arm("unfixed", *control), arm("fixed", *candidate), Sequential(0.05, 1e6))
    assert verdict.kind is kind
