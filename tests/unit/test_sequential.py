# SPDX-License-Identifier: GPL-2.0-only
"""A comparison that may stop at any trial: its error is kept, and it ends as soon as its verdict stands."""

from __future__ import annotations

import itertools
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from scipy.integrate import quad

from harness.arguments import changed_by, experiment_from
from harness.cli import main
from harness.config import Experiment, load_experiment
from harness.experiment.compare import judged, stands
from harness.experiment.sequential import e_value, interval_at_any_time
from harness.experiment.statistics import (
    ArmTally,
    Interval,
    VerdictKind,
    clopper_pearson,
    fisher_p,
    rate_lower_bound,
)
from harness.results.runfolder import TrialResult
from harness.watch.kinds import OutcomeKind

EXPERIMENT = """\
kernels:
  a: {patches: []}
arms:
  unfixed: {kernel: a, role: control}
  fixed: {kernel: a, role: candidate}
trials: 40
"""


def result(arm: str, index: int, kind: OutcomeKind, windows: int = 20) -> TrialResult:
    is_bug = kind is OutcomeKind.LIVELOCK
    return TrialResult(arm, index, index, kind, "", "", is_bug, windows, 20, 1.0, "none", f"trials/{index}")


def experiment(folder: Path, more: str = "error: 0.05\n") -> Experiment:
    path = folder / "mine.yaml"
    path.write_text(EXPERIMENT + more)
    return load_experiment(str(path))


HUNG, PASSED, LOST = OutcomeKind.LIVELOCK, OutcomeKind.COMPLETED, OutcomeKind.TIMEOUT


@pytest.mark.parametrize(("hung", "clean"), [(0, 1), (1, 0), (3, 0), (2, 5), (0, 30), (10, 40)])
def test_e_value_is_the_mean_over_the_rates_of_the_control(hung: int, clean: int) -> None:
    def at(c: float) -> float:
        return float((2 / (1 - c / 2)) ** hung * ((1 - c) / (1 - c / 2) ** 2) ** clean)

    control = [True] * hung + [False] * clean
    assert e_value(control, [False] * (hung + clean)) == pytest.approx(quad(at, 0, 1)[0], rel=1e-3)


def test_three_pairs_at_a_rate_of_one_are_enough_and_two_are_not() -> None:
    assert e_value([True] * 3, [False] * 3) >= 20 > e_value([True] * 2, [False] * 2)


def test_answers_without_a_partner_count_nothing() -> None:
    assert e_value([True] * 9, [False] * 2) == e_value([True] * 2, [False] * 9)
    assert e_value([], [False]) == 1.0
    assert e_value([True, True], [False, True]) == 0.0
    assert 1e300 < e_value([True] * 10000, [False] * 10000) < float("inf")


@pytest.mark.parametrize("pairs", [1, 2, 4])
def test_e_value_is_one_at_most_on_average_if_the_candidate_is_no_better_by_enumeration(pairs: int) -> None:
    answers = list(itertools.product((False, True), repeat=pairs))
    values = {(a, b): e_value(a, b) for a in answers for b in answers}
    rates = [0.0, 0.05, 0.2, 0.5, 0.8, 1.0]
    for control, candidate in ((c, d) for c in rates for d in rates if d >= c):
        mean = sum(
            value * probability(a, control) * probability(b, candidate) for (a, b), value in values.items()
        )
        assert mean <= 1.0 + 1e-9, (control, candidate)
    assert sum(value * probability(a, 0.9) * probability(b, 0.0) for (a, b), value in values.items()) > 1.0


def probability(answers: Sequence[bool], rate: float) -> float:
    return float(np.prod([rate if shown else 1 - rate for shown in answers]))


def ever_sure(rate: float, error: float, looks: int = 150) -> float:
    """How likely a candidate as bad as the control is once seen without the bug while the evidence is enough.

    By the number of times the control has shown it, after each pair; nobody looks on after the candidate did.
    """
    sure, going_on = 0.0, {0: 1.0}
    for pairs in range(1, looks + 1):
        after: dict[int, float] = {}
        for shown, likely in going_on.items():
            for more, chance in ((1, rate), (0, 1 - rate)):
                after[shown + more] = after.get(shown + more, 0.0) + likely * chance * (1 - rate)
        going_on = {}
        for shown, likely in after.items():
            if e_value([True] * shown + [False] * (pairs - shown), [False] * pairs) >= 1 / error:
                sure += likely
            elif likely > 1e-12:
                going_on[shown] = likely
    return sure


@pytest.mark.parametrize("rate", [0.1, 0.3, 0.5, 0.8])
def test_looking_after_every_pair_keeps_the_error_by_enumeration(rate: float) -> None:
    assert 0.0 < ever_sure(rate, 0.05) <= 0.05
    assert 0.0 < ever_sure(rate, 0.3) <= 0.3


def test_the_error_is_used_and_not_only_kept() -> None:
    assert ever_sure(0.3, 0.05) > 0.02


def test_looking_at_a_p_value_after_every_pair_does_not_keep_the_error() -> None:
    random = np.random.default_rng(1)
    runs, looks, rate = 150, 30, 0.5
    wrong = 0
    for _ in range(runs):
        shown = np.cumsum(random.random((2, looks)) < rate, axis=1).tolist()
        wrong += any(
            (fisher_p(counted(shown[0][n], n + 1), counted(shown[1][n], n + 1), "greater") or 1.0) <= 0.05
            for n in range(looks)
        )
    assert rate_lower_bound(wrong, runs, 0.999) > 0.05


def counted(shown: int, answered: int) -> ArmTally:
    outcomes = ((HUNG, shown), (PASSED, answered - shown))
    return ArmTally("arm", outcomes, shown, 0, answered, shown)


def test_intervals_at_any_time_all_cover_and_the_exact_ones_do_not() -> None:
    random = np.random.default_rng(2)
    runs, looks = 500, 30
    pairs = [(k, n) for n in range(1, looks + 1) for k in range(n + 1)]
    at_any_time = {pair: interval_at_any_time(*pair) for pair in pairs}
    exact = {pair: clopper_pearson(*pair) for pair in pairs}
    for rate in (0.3, 0.5, 0.7):
        shown = np.cumsum(random.random((runs, looks)) < rate, axis=1).tolist()
        assert rate_lower_bound(missed(shown, at_any_time, rate), runs, 0.999) <= 0.05
        assert rate_lower_bound(missed(shown, exact, rate), runs, 0.999) > 0.05


def missed(runs: list[list[int]], intervals: dict[tuple[int, int], Interval], rate: float) -> int:
    """How many runs have a moment at which the interval does not hold the rate."""
    found = [[intervals[k, n] for n, k in enumerate(run, start=1)] for run in runs]
    return sum(any(not i.low <= rate <= i.high for i in run) for run in found)


def test_interval_at_any_time_of_all_and_of_none() -> None:
    # (n + 1) p^n = 0.05
    assert interval_at_any_time(3, 3).low == pytest.approx((0.05 / 4) ** (1 / 3))
    assert interval_at_any_time(3, 3).high == 1.0
    assert interval_at_any_time(0, 3).high == pytest.approx(1 - (0.05 / 4) ** (1 / 3))
    assert interval_at_any_time(0, 0) == Interval(0.0, 1.0)
    assert interval_at_any_time(9999, 10000).low > 0.99


def verdict_after(plan: Experiment, *kinds: OutcomeKind, windows: int = 20) -> tuple[VerdictKind, bool]:
    """Verdict and whether it stands after the control's and the candidate's trials in turn."""
    arms = ("unfixed", "fixed")
    results = [result(arms[n % 2], n // 2 + 1, kind, windows) for n, kind in enumerate(kinds)]
    _, verdict, sequential = judged(plan, results, counted="windows")
    return verdict.kind, stands(verdict, sequential)


def test_it_ends_with_the_third_pair_of_a_bug_that_always_shows(tmp_path: Path) -> None:
    plan = experiment(tmp_path)
    assert verdict_after(plan, *[HUNG, PASSED] * 2) == (VerdictKind.INCONCLUSIVE, False)
    assert verdict_after(plan, *[HUNG, PASSED] * 2, HUNG) == (VerdictKind.INCONCLUSIVE, False)
    assert verdict_after(plan, *[HUNG, PASSED] * 3) == (VerdictKind.FIXED, True)
    strict = experiment(tmp_path, "error: 0.001\n")
    assert verdict_after(strict, *[HUNG, PASSED] * 3) == (VerdictKind.INCONCLUSIVE, False)
    assert verdict_after(strict, *[HUNG, PASSED] * 9) == (VerdictKind.FIXED, True)


def test_it_ends_at_once_when_the_candidate_shows_the_bug(tmp_path: Path) -> None:
    assert verdict_after(experiment(tmp_path), PASSED, HUNG) == (VerdictKind.NOT_FIXED, True)


def test_trials_that_do_not_answer_are_no_evidence_and_it_goes_on(tmp_path: Path) -> None:
    plan = experiment(tmp_path)
    assert verdict_after(plan, *[HUNG, LOST] * 4) == (VerdictKind.INCONCLUSIVE, False)
    assert verdict_after(plan, *[HUNG, PASSED] * 2, *[LOST, LOST], HUNG, PASSED) == (VerdictKind.FIXED, True)


def test_it_goes_on_until_the_candidate_has_been_tried_as_much(tmp_path: Path) -> None:
    plan = experiment(tmp_path)
    control = [result("unfixed", n, HUNG, windows=5) for n in (1, 2, 3)]
    candidate = [result("fixed", n, PASSED, windows=4) for n in (1, 2, 3, 4)]
    for results, expected in ((control + candidate[:3], False), (control + candidate, True)):
        _, verdict, sequential = judged(plan, results, counted="windows")
        assert sequential is not None and sequential.sure
        assert stands(verdict, sequential) is expected


def test_without_an_error_the_number_of_trials_is_fixed(tmp_path: Path) -> None:
    plan = experiment(tmp_path, "")
    assert plan.error is None
    _, verdict, sequential = judged(plan, [result("unfixed", 1, HUNG), result("fixed", 1, PASSED)], "windows")
    assert sequential is None and verdict.p_value is not None


def test_until_sure_takes_the_usual_error_or_the_one_of_the_experiment(tmp_path: Path) -> None:
    given = Namespace(until_sure=True, try_patch=None, patch=[])
    assert experiment_from(given, experiment(tmp_path, "")).error == 0.05
    assert experiment_from(given, experiment(tmp_path, "error: 0.01\n")).error == 0.01
    without = Namespace(until_sure=False, try_patch=None, patch=[])
    assert experiment_from(without, experiment(tmp_path, "")).error is None
    assert changed_by(given) == ["--until-sure"] and changed_by(without) == []


@pytest.mark.parametrize("word", ["0", "1", "-0.05", "5 %", "true", "[0.05]", ".nan", "1e-9"])
def test_an_error_that_is_none_is_refused(
    tmp_path: Path, word: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(f"{EXPERIMENT}error: {word}\n")
    assert main(["compare", str(path), "--out", str(tmp_path / "runs")]) == 2
    told = capsys.readouterr().err
    assert f"{path}:7: error" in told
    assert not (tmp_path / "runs").exists()
