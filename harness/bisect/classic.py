# SPDX-License-Identifier: GPL-2.0-only
"""The frequentist search: one reproduction makes a place bad, enough clean trials make it good.

The allowed error, 1 - confidence, is shared out before the first trial, from the number of candidates.
One part is for the rate measured at the bad end being taken for higher than it is; the rest goes in equal
shares to the "good" verdicts that can be wrong. Those are verdicts on kernels that have the bug, and up to
the first wrong one each such kernel is found bad: there are no more of them than bad places in a search,
which `most_bad` bounds, and the culprit itself. (The good end is not counted: its verdict is wrong only
if all candidates have the bug, and then no other verdict matters.)
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from scipy.special import gammaincinv

from harness.bisect.model import BAD, GOOD, Action, Evidence, Found, Knowledge, Stop, Try
from harness.experiment.statistics import clean_trials_needed, rate_lower_bound

#: Share of the allowed error that is for the measured rate: what the trials cost in all is flat around it.
RATE_SHARE: Final = 0.4
#: Trials of the good end that tell a bad end without the bug from ends that are swapped.
SWAP_TRIALS: Final = 20
#: Coverage of the bound on the rate that is given when the bad end never shows the bug.
RULED_OUT: Final = 0.95
#: Looked for numerically, and the same at every step of a search.
_lower_bound = lru_cache(rate_lower_bound)


@dataclass(frozen=True)
class Plan:
    """What is fixed before the first trial.

    reproductions: at the bad end, after which the rate counts as measured. rate_error, verdict_error: how
    often the rate's bound may be too high, and one "good" wrong. verdicts: how many of those can be.
    """

    reproductions: int
    rate_error: float
    verdict_error: float
    verdicts: int


def most_bad(candidates: int) -> int:
    """How many places a search among so many candidates finds bad, at most: `Classic` keeps to it.

    One for each halving is enough. A bad place leaves its ancestors; if all that can be tested have more
    than half of the candidates as ancestors, then a bad one with the fewest has none left to test below it,
    and the search is over.
    """
    return max(candidates, 1).bit_length() - 1


@lru_cache
def plan_for(confidence: float, candidates: int) -> Plan:
    """The plan with the fewest trials expected.

    If the bug shows at a small rate p, r reproductions take r/p trials, and the lower bound of p is p q/r
    with q the quantile of a gamma distribution of shape r: the total is a multiple of 1/p, and the best r is
    the same for every p. At higher rates, 1 included, it costs some 5 % more than the best. As r is fixed
    before the first trial (inverse sampling), looking at the trials while they run does not spoil the bound.
    """
    error = 1.0 - confidence
    rate_error = RATE_SHARE * error
    verdicts = most_bad(candidates) + 1
    verdict_error = (error - rate_error) / verdicts
    goods = candidates.bit_length() / 2 + 1

    def trials(r: int) -> float:
        return r - goods * math.log(verdict_error) * r / float(gammaincinv(r, rate_error))

    return Plan(min(range(2, 100), key=trials), rate_error, verdict_error, verdicts)


@dataclass(frozen=True)
class Classic:
    """The method. confidence: that the culprit is the one that is named.

    max_end_trials: how many trials of the bad end may pass before it has shown the bug once.
    """

    confidence: float = 0.99
    max_end_trials: int = 100

    def plan(self, known: Knowledge) -> Plan:
        """The plan for a history."""
        return plan_for(self.confidence, len(known.history))

    def clean_trials(self, known: Knowledge) -> int:
        """How many clean trials make a place good; `max_end_trials` if the bad end has not shown the bug.

        Follows from the history's size and the bad end's trials alone: the same all through the search.
        """
        bad, plan = known.at(BAD), self.plan(known)
        if not bad.reproduced:
            return self.max_end_trials
        return clean_trials_needed(1.0 - plan.verdict_error, self._rate(bad, plan))

    def next(self, known: Knowledge) -> Action:
        """First both ends, then the candidates that can still be the culprit."""
        if not len(known.history):
            return Stop("there is no candidate between good and bad")
        bad, good, plan = known.at(BAD), known.at(GOOD), self.plan(known)
        if not bad.reproduced:
            return self._first_reproduction(bad, good, plan.reproductions)
        if good.reproduced:
            return Stop(
                f"the good end shows the bug too, in {good.reproduced} of {good.trials} trials",
                "take an older good end",
            )
        missing = plan.reproductions - bad.reproduced
        if missing > 0:
            return Try(BAD, missing)
        clean = self.clean_trials(known)
        if good.clean < clean:
            return Try(GOOD, clean - good.clean)
        return self._search(known, clean)

    def _rate(self, bad: Evidence, plan: Plan) -> float:
        return _lower_bound(bad.reproduced, bad.trials, 1.0 - plan.rate_error)

    def _first_reproduction(self, bad: Evidence, good: Evidence, reproductions: int) -> Action:
        if bad.trials < self.max_end_trials:
            return Try(BAD, min(self.max_end_trials - bad.trials, reproductions))
        if good.reproduced:
            return Stop(
                f"the bad end never showed the bug in {bad.trials} trials, the good end did in "
                f"{good.reproduced} of {good.trials}: good and bad seem to be swapped",
                "give them the other way round",
            )
        if good.trials < SWAP_TRIALS:
            return Try(GOOD, SWAP_TRIALS - good.trials)
        # The upper bound of none of n is what the lower bound of n of n leaves.
        most = 1.0 - _lower_bound(bad.trials, bad.trials, RULED_OUT)
        return Stop(
            f"the bad end never showed the bug in {bad.trials} trials: it shows in less than "
            f"{100 * most:.1f} % of them (at {100 * RULED_OUT:.0f} %)",
            "take a scenario, or parameters of it, that show it more often",
        )

    def _search(self, known: Knowledge, clean: int) -> Action:
        ancestors = known.history.ancestors
        bad = [place for place, seen in known.tested.items() if place >= 0 and seen.reproduced]
        suspects = (1 << len(known.history)) - 1
        for found in bad:
            suspects &= ancestors[found]
        if not suspects:
            names = ", ".join(known.history.names[place] for place in sorted(bad))
            return Stop(
                f"the bug shows at places that have no candidate in common: {names}",
                "it came in twice, or something else looks like it",
            )
        # A reproduction outweighs all clean trials, at a place itself and at those that come after it.
        good = [
            place
            for place, seen in known.tested.items()
            if place >= 0 and seen.clean >= clean
            if not any(ancestors[place] >> other & 1 for other in bad)
        ]
        left = suspects & ~_union(ancestors[place] for place in good)
        if not left:
            return _doubt(known, [place for place in good if ancestors[place] & suspects], 2 * clean)
        if left.bit_count() > 1 and (place := self._choose(known, left, len(bad), clean)) is not None:
            return Try(place, clean - known.at(place).clean)
        return Found(_positions(left), self.confidence, self._how(known, clean))

    def _choose(self, known: Knowledge, left: int, found_bad: int, clean: int) -> int | None:
        """The place to test next, among those left; None if none tells them apart.

        A place begun is finished. Else it is the one that promises most information a second, all that are
        left being equally likely, among those that keep the number of bad places below its bound. If there
        are none, the one with the fewest ancestors left (see `most_bad`).
        """
        total = left.bit_count()
        ancestors = known.history.ancestors
        weights = {
            place: weight
            for place in _positions(left)
            if place not in known.skipped and (weight := (ancestors[place] & left).bit_count()) < total
        }
        if not weights:
            return None
        begun = [place for place in weights if known.at(place).trials]
        if begun:
            return max(begun, key=lambda place: (known.at(place).clean, -place))
        bound = most_bad(len(known.history)) - found_bad - 1
        cheap = [place for place, weight in weights.items() if most_bad(weight) <= bound]
        if not cheap:
            return min(weights, key=lambda place: (weights[place], place))
        bad, costs = known.at(BAD), known.costs
        rate = bad.reproduced / bad.trials
        until_bad = -math.expm1(clean * math.log1p(-rate)) / rate if rate < 1.0 else 1.0
        skipped = sorted(known.skipped & set(_positions(left)))

        def promise(place: int) -> tuple[float, int]:
            share = weights[place] / total
            seconds = (share * until_bad + (1.0 - share) * clean) * costs.trial_s
            usable = 1.0 if place in known.ready else _usable(place, skipped)
            build_s = 0.0 if place in known.ready else costs.build_s
            return usable * _entropy(share) / max(usable * seconds + build_s, 1e-9), -place

        return max(cheap, key=promise)

    def _how(self, known: Knowledge, clean: int) -> str:
        bad, plan = known.at(BAD), self.plan(known)
        rate = self._rate(bad, plan)
        missed = (1.0 - rate) ** clean
        return (
            f"The bad end showed the bug in {bad.reproduced} of {bad.trials} trials: its rate is above "
            f"{rate:.3g}, with an error of {plan.rate_error:.2g}. A place is good after {clean} clean "
            f"trials: one with the bug passes them by chance with {missed:.2g} at most, and no more than "
            f"{plan.verdicts} such places are judged. The errors add up to "
            f"{plan.rate_error + plan.verdicts * missed:.2g}, allowed are {1.0 - self.confidence:.2g}. "
            "Assumed: trials are independent, the rate is the same wherever the bug is, and the bug never "
            "shows where it is not."
        )


def _doubt(known: Knowledge, good: list[int], clean: int) -> Action:
    """All that may be the culprit seem good: the last good ones are tried again, to so many clean trials."""
    ancestors = known.history.ancestors
    last = [
        place for place in good if not any(ancestors[other] >> place & 1 for other in good if other != place)
    ]
    for place in sorted(last):
        if place not in known.skipped and known.at(place).clean < clean:
            return Try(place, clean - known.at(place).clean)
    return Stop(
        "the bad end shows the bug, and no candidate does",
        "the culprit may be outside the given paths, or the bug shows less often before the bad end",
    )


def _usable(place: int, skipped: list[int]) -> float:
    """How likely a place can be tested, by its distance from the next one that cannot: those come in ranges.

    A guess that has no scale of its own: the more are skipped, the further away a place is looked for.
    """
    if not skipped:
        return 1.0
    index = bisect_left(skipped, place)
    distance = min(abs(place - other) for other in skipped[max(0, index - 1) : index + 1])
    return distance / (distance + len(skipped))


def _union(masks: Iterable[int]) -> int:
    union = 0
    for mask in masks:
        union |= mask
    return union


def _positions(mask: int) -> tuple[int, ...]:
    return tuple(position for position, bit in enumerate(reversed(f"{mask:b}")) if bit == "1")


def _entropy(share: float) -> float:
    return -share * math.log2(share) - (1.0 - share) * math.log2(1.0 - share)
