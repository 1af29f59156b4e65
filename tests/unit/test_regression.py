# SPDX-License-Identifier: GPL-2.0-only
"""Whether a rate or a figure has moved: against scipy, by simulation of whole nights, and at the edges."""

from __future__ import annotations

import random

import numpy as np
import pytest
from scipy.stats import fisher_exact

from harness.experiment.regression import Count, apart, gone, holm, moves
from harness.experiment.statistics import clopper_pearson

NIGHTS, TRIALS, ERROR = 7, 6, 0.01


def fisher(table: list[list[int]]) -> float:
    return float(fisher_exact(np.array(table)).pvalue)


def night(rates: list[float], draw: random.Random) -> list[Count]:
    return [Count(sum(draw.random() < rate for _ in range(TRIALS)), TRIALS) for rate in rates]


def called(rates: list[float], tonight: list[float], draw: random.Random) -> list[bool]:
    """Which series a night calls, after seven with other rates."""
    nights = [night(rates, draw) for _ in range(NIGHTS)]
    before = [sum(counts, Count(0, 0)) for counts in zip(*nights, strict=True)]
    found = moves(list(zip(night(tonight, draw), before, strict=True)))
    return [move is not None and move.adjusted <= ERROR for move in found]


def test_a_night_in_which_nothing_moved_seldom_says_so() -> None:
    """Eight series of rates from never to always, 6 trials a night, 7 nights before."""
    draw = random.Random(1)
    rates = [0.0, 0.02, 0.1, 0.3, 0.5, 0.7, 0.95, 1.0]
    nights = 1000
    alarms = sum(any(called(rates, rates, draw)) for _ in range(nights))
    assert alarms <= ERROR * nights
    assert alarms / nights < 0.005, "the test is exact and the trials few: it is well below what is allowed"


@pytest.mark.parametrize(("was", "now", "power"), [(0.0, 0.8, 0.9), (0.1, 1.0, 0.99), (1.0, 0.3, 0.85)])
def test_a_rate_that_moved_far_is_called(was: float, now: float, power: float) -> None:
    draw = random.Random(2)
    rates, tonight = [was, *[0.3] * 7], [now, *[0.3] * 7]
    assert sum(called(rates, tonight, draw)[0] for _ in range(200)) >= 200 * power


def test_the_test_is_fishers_and_the_family_is_those_with_answers() -> None:
    pairs = [(Count(3, 6), Count(1, 42)), (Count(0, 0), Count(1, 9)), (Count(1, 6), Count(2, 42))]
    first, none, last = moves(pairs)
    assert none is None and first is not None and last is not None and first.up
    plain = [fisher([[3, 3], [1, 41]]), fisher([[1, 5], [2, 40]])]
    assert (first.p_value, last.p_value) == pytest.approx(tuple(plain))
    assert (first.adjusted, last.adjusted) == pytest.approx((2 * plain[0], max(2 * plain[0], plain[1])))
    assert moves([]) == []


def test_holm_never_reverses_the_order() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.9, 0.8]) == [1.0, 1.0]


@pytest.mark.parametrize("error", [0.05, 0.001])
def test_intervals_without_a_common_point_are_called_by_the_test_too(error: float) -> None:
    for now in (Count(failed, 6) for failed in range(7)):
        for before in (Count(failed, 42) for failed in range(0, 43, 3)):
            spans = [clopper_pearson(count.failed, count.answered, 1.0 - error) for count in (now, before)]
            if not spans[0].overlaps(spans[1]):
                (move,) = moves([(now, before)])
                assert move is not None and move.p_value <= error


def test_figures_are_apart_only_if_chance_rarely_does_that() -> None:
    many = [float(value) for value in range(21)]
    assert apart([30.0, 31.0, 32.0], many, 0.001)  # 2 / C(24, 3)
    assert not apart([30.0, 31.0, 32.0], many, 0.0009)
    assert not apart([20.0, 31.0, 32.0], many, 0.5), "they have a common point"
    assert apart([-1.0, -2.0, -3.0], many, 0.01)
    assert not apart([], many, 1.0) and not apart([1.0], [], 1.0)


def test_what_is_gone_is_told_from_what_is_rare() -> None:
    assert gone(Count(0, 6), Count(42, 42)) < 1e-6
    assert gone(Count(0, 6), Count(2, 42)) > 0.5
