# SPDX-License-Identifier: GPL-2.0-only
"""Evidence that stays valid however often one looks at it: a comparison may stop when it is enough. Pure.

The answers of both arms are taken in pairs, in order. The null is that in each pair the candidate shows the
bug at the control's rate or a higher one. Against it one bets that the control shows it at a rate c and the
candidate never: a pair multiplies the stake by

    P(control's answer; c) P(candidate's; 0) / (P(control's; c/2) P(candidate's; c/2))

which at equal rates is 1 on average at most (Turner, Ly and Gruenwald 2021, blocks of one trial of each arm),
and less the higher the candidate's rate. The product over the pairs, averaged over c, is the e-value; that it
ever exceeds 1/error has a probability of `error` at most under the null (Ville 1939).

Trials an arm that it takes at an error of 0.05 if the candidate never shows the bug: 3 if the control shows
it at a rate of 1.0; 6 at 0.6 (median; 11 are enough in 90 %); 15 at 0.3 (28); 57 at 0.1 (103). A fixed number
of trials that gives `fixed` in 90 %: 6, 17, 37, 128 (`trials_needed`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

import numpy as np
from scipy.special import betaln, xlog1py, xlogy

from harness.experiment.statistics import CONFIDENCE, Interval

#: Rates that the control may have; the same is staked on each.
_RATES: Final = (np.arange(200) + 0.5) / 200


def e_value(control: Sequence[bool], candidate: Sequence[bool]) -> float:
    """What a stake of 1 has become; each answer of an arm says whether the bug showed.

    Answers without a partner count nothing; 0 once the candidate has shown the bug in a pair.
    """
    pairs = min(len(control), len(candidate))
    if any(candidate[:pairs]):
        return 0.0
    shown = sum(control[:pairs])
    clean = pairs - shown
    half = np.log1p(-_RATES / 2.0)
    logs = shown * (math.log(2.0) - half) + clean * (np.log1p(-_RATES) - 2.0 * half)
    return float(np.exp(np.minimum(logs, 700.0)).mean())  # the next factor may be no number any more


def interval_at_any_time(successes: int, trials: int, confidence: float = CONFIDENCE) -> Interval:
    """A confidence sequence of a proportion: with `confidence`, all of its intervals cover (Robbins 1970).

    It holds the rates at which the outcomes are not 1/(1 - confidence) times less likely than on average over
    all rates alike. Wider than the exact interval of a number of trials that was fixed before.
    """
    from scipy.optimize import brentq  # takes half a second, which most uses of this module need not wait for

    if trials == 0:
        return Interval(0.0, 1.0)
    level = float(betaln(successes + 1, trials - successes + 1)) + math.log(1.0 - confidence)

    def excess(rate: float) -> float:
        return float(xlogy(successes, rate) + xlog1py(trials - successes, -rate)) - level

    best = successes / trials
    low = float(brentq(excess, 1e-300, best)) if successes else 0.0
    high = float(brentq(excess, best, 1.0 - 1e-16)) if successes < trials else 1.0
    return Interval(low, high)
