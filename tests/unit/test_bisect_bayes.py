# SPDX-License-Identifier: GPL-2.0-only
"""The posterior of a bisection, against sums over all hypotheses; what it chooses, and how often it errs."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest

from harness.bisect.bayes import MAX_END_TRIALS, Bayes
from harness.bisect.model import (
    BAD,
    GOOD,
    Action,
    Costs,
    Evidence,
    Found,
    History,
    Knowledge,
    Place,
    Stop,
    Try,
)
from harness.bisect.posterior import Posterior, reach
from harness.experiment.rates import LOWEST_RATE, RATES, clean_factor, clean_needed
from harness.experiment.statistics import rate_lower_bound

FALSE = 1e-3
DIAMOND = History(tuple("abcdef"), ((), (0,), (0,), (1, 2), (3,), (2,)))


def linear(count: int) -> History:
    return History(tuple(f"c{n}" for n in range(count)), tuple((n - 1,) if n else () for n in range(count)))


def merged(count: int, seed: int) -> History:
    """A history of side branches, each merged into the trunk before the next one starts."""
    draw = random.Random(seed)
    parents: list[tuple[int, ...]] = [()]
    trunk = 0
    while len(parents) < count:
        side = trunk
        for _ in range(draw.randrange(1, 12)):
            parents.append((side,))
            side = len(parents) - 1
        for _ in range(draw.randrange(4)):
            parents.append((trunk,))
            trunk = len(parents) - 1
        parents.append((trunk, side))
        trunk = len(parents) - 1
    return History(tuple(f"c{n}" for n in range(count)), tuple(parents[:count]))


def after(history: History, tested: Mapping[Place, tuple[int, int]], **more: object) -> Knowledge:
    """What is known after (reproduced, clean) trials."""
    evidence = {place: Evidence(clean, reproduced) for place, (reproduced, clean) in tested.items()}
    return replace(Knowledge(history, evidence, ready=frozenset({BAD, GOOD})), **more)  # type: ignore[arg-type]


def by_hand(known: Knowledge, older: float) -> list[float]:
    """The mass of each candidate, and that the bug is older, one product at a time."""
    count = len(known.history)
    masses = []
    for culprit in range(count + 1):
        mass = 0.0
        for rate in RATES:
            likelihood = older if culprit == count else (1 - older) / count
            for place, evidence in known.tested.items():
                has_bug = place == BAD or (
                    culprit == count
                    if place == GOOD
                    else culprit == count or bool(known.history.ancestors[place] >> culprit & 1)
                )
                shows = rate + (1 - rate) * FALSE if has_bug else FALSE
                likelihood *= shows**evidence.reproduced * (1 - shows) ** evidence.clean
            mass += likelihood
        masses.append(mass)
    return [mass / math.fsum(masses) for mass in masses]


@pytest.mark.parametrize(
    "tested",
    [
        {},
        {BAD: (5, 3)},
        {BAD: (2, 2), GOOD: (0, 4), 3: (0, 3), 1: (1, 0)},
        {BAD: (9, 0), GOOD: (1, 9), 2: (1, 2), 4: (0, 1), 5: (2, 0)},
    ],
)
def test_posterior_is_the_sum_over_all_hypotheses(tested: dict[Place, tuple[int, int]]) -> None:
    known = after(DIAMOND, tested)
    posterior = Posterior.of(known, FALSE, 0.05)
    assert posterior.mass == pytest.approx(by_hand(known, 0.05))
    assert posterior.joint.sum() == pytest.approx(1.0)


@pytest.mark.parametrize("history", [DIAMOND, linear(9), merged(70, 1)])
def test_reach_is_the_ancestors(history: History) -> None:
    table = reach(history)
    for place, candidate in itertools.product(range(len(history)), repeat=2):
        assert table[place, candidate] == (history.ancestors[place] >> candidate & 1)


def test_candidates_that_only_skipped_places_divide_are_one_group() -> None:
    posterior = Posterior.of(after(linear(6), {}, skipped=frozenset({1, 2, 5})), FALSE, 0.05)
    assert sorted(posterior.groups) == [(0,), (1, 2, 3), (4,), (5,)]
    assert posterior.mass[:-1] == pytest.approx(0.95 * np.array([1, 3, 1, 1]) / 6)


def test_rates_are_dense_near_one_and_near_the_lowest() -> None:
    assert all(np.diff(RATES) < 0)
    assert LOWEST_RATE < RATES[-1] < 1.06 * LOWEST_RATE and 0.999 < RATES[0] < 1.0
    # Twice the trials at half the rate: the prior takes neither for the likelier.
    low, lower = np.count_nonzero((RATES > 0.04) & (RATES < 0.08)), np.count_nonzero(RATES < 0.04) / 2
    assert low == pytest.approx(lower, abs=2)


@pytest.mark.parametrize("factor", [0.5, 0.01, 1e-4])
@pytest.mark.parametrize("rate", [0.05, 0.4, 0.95])
def test_clean_needed_at_a_known_rate_has_its_closed_form(factor: float, rate: float) -> None:
    place = int(np.argmin(np.abs(RATES - rate)))
    weights = np.zeros_like(RATES)
    weights[place] = 1.0
    shows = RATES[place] + (1 - RATES[place]) * FALSE
    needed = clean_needed(factor, weights, FALSE)
    assert needed == pytest.approx(math.log(factor) / math.log((1 - shows) / (1 - FALSE)), rel=2e-3)
    assert clean_factor(needed, weights, FALSE) == pytest.approx(factor, rel=2e-2)


def test_clean_needed_of_what_is_there_already_and_of_what_never_is() -> None:
    weights = np.full_like(RATES, 1 / len(RATES))
    assert clean_needed(1.0, weights, FALSE) == 0.0
    with pytest.raises(ValueError):
        clean_needed(0.0, weights, FALSE)


class Bench:
    """A bisection whose trials are drawn: the culprit and the rate are known."""

    def __init__(
        self, history: History, culprit: int, rate: float, seed: int, broken: frozenset[int] = frozenset()
    ) -> None:
        self.known = Knowledge(history, ready=frozenset({BAD, GOOD}))
        self.culprit, self.rate, self.broken = culprit, rate, broken
        self.draw = random.Random(seed)
        self.builds = 0

    def has_bug(self, place: Place) -> bool:
        if place < 0:
            return place == BAD
        return bool(self.known.history.ancestors[place] >> self.culprit & 1)

    def carry_out(self, wanted: Try) -> None:
        place = wanted.place
        if place not in self.known.ready:
            self.builds += 1
            if place in self.broken:
                self.known = replace(self.known, skipped=self.known.skipped | {place})
                return
            self.known = replace(self.known, ready=self.known.ready | {place})
        shows = self.rate + (1 - self.rate) * FALSE if self.has_bug(place) else FALSE
        evidence = self.known.at(place)
        for _ in range(wanted.trials):
            reproduced = self.draw.random() < shows
            evidence = Evidence(evidence.clean + (not reproduced), evidence.reproduced + reproduced)
            if reproduced and place != BAD:
                break
        self.known = replace(self.known, tested={**self.known.tested, place: evidence})

    def bisect(self, method: Bayes) -> Action:
        for _ in range(2000):
            action = method.next(self.known)
            if not isinstance(action, Try):
                return action
            assert action.trials >= 1 and action.place not in self.known.skipped
            self.carry_out(action)
        raise AssertionError("it never ends")


@pytest.mark.parametrize("culprit", [0, 1, 30, 62, 63])
def test_a_bug_that_always_shows_takes_a_build_for_each_halving(culprit: int) -> None:
    bench = Bench(linear(64), culprit, 1.0, seed=culprit)
    found = bench.bisect(Bayes())
    assert isinstance(found, Found) and found.suspects == (culprit,)
    assert 0.99 <= found.confidence <= 1.0 and "64 candidates" in found.how
    assert bench.builds <= 8


@pytest.mark.parametrize("seed", range(8))
def test_a_merged_history_ends_with_the_culprit(seed: int) -> None:
    history = merged(60, seed)
    culprit = random.Random(seed).randrange(60)
    # The bad end holds all candidates, also those that were never merged.
    found = Bench(history, culprit, 0.7, seed).bisect(Bayes(confidence=0.9999))
    assert isinstance(found, Found) and found.suspects == (culprit,)


@pytest.mark.parametrize("culprit", [4, 5, 6])
def test_candidates_that_cannot_be_told_apart_are_named_together(culprit: int) -> None:
    bench = Bench(linear(10), culprit, 1.0, seed=1, broken=frozenset({4, 5}))
    found = bench.bisect(Bayes())
    assert isinstance(found, Found) and found.suspects == (4, 5, 6)


def test_nothing_can_be_tested_but_the_ends() -> None:
    found = Bench(linear(3), 1, 1.0, seed=1, broken=frozenset({0, 1, 2})).bisect(Bayes())
    assert isinstance(found, Found) and found.suspects == (0, 1, 2)


def test_the_same_knowledge_gives_the_same_action() -> None:
    bench = Bench(merged(40, 2), 17, 0.4, seed=2)
    for _ in range(40):
        action = Bayes().next(bench.known)
        rebuilt = Knowledge(merged(40, 2), *(getattr(bench.known, n) for n in ("tested", "skipped", "ready")))
        assert Bayes().next(rebuilt) == action
        if isinstance(action, Try):
            bench.carry_out(action)


def test_a_single_candidate_needs_no_build() -> None:
    bench = Bench(linear(1), 0, 0.5, seed=3)
    found = bench.bisect(Bayes())
    assert isinstance(found, Found) and found.suspects == (0,) and bench.builds == 0


def test_one_false_reproduction_is_doubted_and_outweighed() -> None:
    ends = {BAD: (12, 0), GOOD: (0, 4)}
    once = {**ends, 7: (0, 2), 8: (4, 0), 3: (1, 0)}
    assert isinstance(Bayes().next(after(linear(16), once)), Try)
    often = Bayes().next(after(linear(16), {**once, 3: (1, 8), 7: (0, 8)}))
    assert isinstance(often, Found) and often.suspects == (8,)


def test_an_unlucky_good_place_is_tried_again_when_its_descendant_is_doubted() -> None:
    # By luck the rate was measured as 1; then it is seen to be lower.
    lucky = {BAD: (5, 0), GOOD: (0, 8), 3: (0, 6), 4: (1, 0)}
    unlucky = {**lucky, 4: (1, 11), 5: (2, 13)}
    sure = Bayes().next(after(linear(8), lucky, ready=frozenset({3})))
    doubtful = Bayes().next(after(linear(8), unlucky, ready=frozenset({3})))
    assert isinstance(sure, Found) and sure.suspects == (4,)
    assert isinstance(doubtful, Try) and doubtful.place == 3


def test_a_place_with_trials_to_go_is_finished_first() -> None:
    known = after(linear(64), {BAD: (10, 8), GOOD: (0, 12)})
    first = Bayes().next(known)
    assert isinstance(first, Try) and 20 < first.place < 44 and first.trials > 3
    evidence = {**known.tested, first.place: Evidence(2, 0)}
    killed = replace(known, tested=evidence, ready=known.ready | {first.place})
    then = Bayes().next(killed)
    assert isinstance(then, Try) and then.place == first.place


def test_what_is_built_is_preferred_and_the_more_the_longer_a_build_takes() -> None:
    known = after(linear(64), {BAD: (8, 0), GOOD: (0, 4)}, ready=frozenset({BAD, GOOD, 22}))
    slow = Bayes().next(replace(known, costs=Costs(build_s=60.0, trial_s=1.0)))
    fast = Bayes().next(replace(known, costs=Costs(build_s=0.0, trial_s=1.0)))
    assert isinstance(slow, Try) and slow.place == 22
    assert isinstance(fast, Try) and 28 <= fast.place <= 35


def test_a_longer_build_is_worth_more_trials() -> None:
    known = after(linear(64), {BAD: (8, 12), GOOD: (0, 12)})
    trials = [
        action.trials
        for build_s in (0.0, 30.0, 600.0)
        if isinstance(action := Bayes().next(replace(known, costs=Costs(build_s, 2.0))), Try)
    ]
    assert len(trials) == 3 and trials[0] < trials[1] < trials[2]


def test_a_smaller_rate_takes_more_clean_trials() -> None:
    needed = [Bayes().clean_trials(after(linear(8), {BAD: (8, clean)})) for clean in (0, 8, 72)]
    assert 1 < needed[0] < needed[1] < needed[2]
    known = after(linear(8), {BAD: (8, 8)})
    assert Bayes(0.9).clean_trials(known) < Bayes(0.99).clean_trials(known) < Bayes(0.999).clean_trials(known)
    # Eight reproductions in sixteen trials say nearly what a rate of 1/2 would.
    assert math.log2(100) < Bayes().clean_trials(known) < 2 * math.log2(100)


def test_a_bad_end_without_the_bug_ends_it() -> None:
    known = Knowledge(linear(8))
    tried = {BAD: 0, GOOD: 0}
    while isinstance(action := Bayes().next(known), Try):
        tried[action.place] += action.trials
        clean = known.at(action.place).clean + action.trials
        known = replace(known, tested={**known.tested, action.place: Evidence(clean, 0)})
    assert isinstance(action, Stop) and "the bad end does not show the bug" in action.reason
    assert "below 0.030" in action.reason and action.hint
    assert tried == {BAD: MAX_END_TRIALS, GOOD: 10}


@pytest.mark.parametrize(("rate", "most"), [(1.0, 24), (0.5, 40)])
def test_swapped_ends_are_noticed_early(rate: float, most: int) -> None:
    bench = Bench(linear(8), 0, rate, seed=5)
    bench.has_bug = lambda place: place == GOOD  # type: ignore[method-assign]
    stop = bench.bisect(Bayes())
    assert isinstance(stop, Stop) and "swapped" in stop.reason and stop.hint
    assert sum(evidence.trials for evidence in bench.known.tested.values()) <= most


def test_a_good_end_with_the_bug_ends_it_before_anything_is_built() -> None:
    bench = Bench(linear(8), 0, 0.6, seed=5)
    bench.has_bug = lambda place: True  # type: ignore[method-assign]
    stop = bench.bisect(Bayes())
    assert isinstance(stop, Stop) and "the good end shows the bug too" in stop.reason and stop.hint
    assert bench.builds == 0


def test_one_false_reproduction_at_the_good_end_is_outweighed() -> None:
    ends = {BAD: (12, 0), GOOD: (1, 0)}
    assert isinstance(action := Bayes().next(after(linear(8), ends)), Try) and action.place == GOOD
    settled = Bayes().next(after(linear(8), {**ends, GOOD: (1, 12)}))
    assert isinstance(settled, Try) and settled.place >= 0


def test_the_named_one_is_wrong_no_more_often_than_declared() -> None:
    runs, confidence, wrong = 120, 0.9, 0
    for seed in range(runs):
        history = linear(12) if seed % 2 else merged(12, seed % 16)
        bench = Bench(history, random.Random(seed).randrange(12), 0.3, seed)
        # Trials come one by one where builds cost nothing: no more of them than the confidence takes.
        bench.known = replace(bench.known, costs=Costs(build_s=0.0))
        found = bench.bisect(Bayes(confidence))
        wrong += isinstance(found, Found) and bench.culprit not in found.suspects
    assert wrong > 0 and rate_lower_bound(wrong, runs, 0.99) <= 1 - confidence


def test_a_long_history_is_searched_in_few_builds() -> None:
    history = merged(2048, 7)
    bench = Bench(history, 1234, 1.0, seed=1)
    found = bench.bisect(Bayes())
    assert isinstance(found, Found) and found.suspects == (1234,)
    assert bench.builds <= 16
