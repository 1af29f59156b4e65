# SPDX-License-Identifier: GPL-2.0-only
"""Bisection by a posterior over the culprit: the next trials are those that tell most about it per second.

Every candidate is as likely as another before the trials; the rate at which the bug shows is unknown too, one
for all kernels that have it. A trial at a good kernel may show the bug's signature all the same, rarely: so
no single trial decides anything, and one that contradicts the others is outweighed. Bisection that way is due
to Horstein (1963) and Burnashev and Zigangirov (1974); to choose an experiment by the information it is
expected to give, to Lindley (1956).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np

from harness.bisect.model import BAD, GOOD, Action, Evidence, Found, History, Knowledge, Stop, Try
from harness.bisect.posterior import Posterior
from harness.experiment.rates import clean_needed, log_likelihood, normalised, quantiles, seen_rates

#: The bad end has not shown the bug in so many trials: there is nothing to bisect with.
MAX_END_TRIALS: Final = 100
#: After so many at the bad end without it, so many at the good end may tell that the two are swapped.
SWAP_CHECK: Final = (20, 10)
#: A posterior errs as often as it says on average over the rates that its prior holds possible. At the one
#: rate that is true it may err more often, so its error is taken for so many times what it says.
MARGIN: Final = 2.0


@dataclass(frozen=True)
class Bayes:
    """A `Method`. Ends when the posterior is on one candidate, or on some that no testable place tells apart.

    confidence: that the culprit is named, at any rate of reproduction (hence `MARGIN`). false_rate: how often
    a trial of a kernel without the bug shows its signature. older: how likely it is, before the trials, that
    the good end has the bug.
    """

    confidence: float = 0.99
    false_rate: float = 1e-3
    older: float = 0.05

    def next(self, known: Knowledge) -> Action:
        return self._bad_end(known) or self._good_end(known) or self._search(known)

    def clean_trials(self, known: Knowledge) -> int:
        """So many that their own Bayes factor is below 1 - confidence, by all that is known of the rate."""
        return self._clean(1.0 - self.confidence, self._posterior(known))

    def _posterior(self, known: Knowledge) -> Posterior:
        return Posterior.of(known, self.false_rate, self.older)

    def _clean(self, factor: float, posterior: Posterior) -> int:
        return max(1, math.ceil(clean_needed(factor, posterior.rates, self.false_rate)))

    def _bad_end(self, known: Knowledge) -> Action | None:
        """What to do at the bad end; None once the bug has shown and its rate is known well enough."""
        bad, good = known.at(BAD), known.at(GOOD)
        if bad.reproduced:
            return Try(BAD, 1) if self._worth_measuring(bad, len(known.history)) else None
        swapped = Stop(
            f"good and bad seem swapped: the good end shows the bug ({good.reproduced} of {good.trials} "
            f"trials), the bad end does not (none of {bad.trials})",
            hint="give them the other way round",
        )
        if bad.trials >= SWAP_CHECK[0]:
            if good.reproduced > 1:
                return swapped
            if good.trials < SWAP_CHECK[1]:
                return Try(GOOD, SWAP_CHECK[1] - good.trials)
        if bad.trials < MAX_END_TRIALS:
            return Try(BAD, 1)
        if good.reproduced:
            return swapped
        return Stop(
            f"the bad end does not show the bug: none of {bad.trials} trials, so its rate there is below "
            f"{1.0 - 0.05 ** (1.0 / bad.trials):.3f} (at 95 %)",
            hint="name another bad end, or parameters of the scenario that make it more frequent",
        )

    def _worth_measuring(self, bad: Evidence, candidates: int) -> bool:
        """Whether one more reproduction at the bad end saves more trials at good places than it takes."""
        needed, rate = self._needed(bad.reproduced, bad.clean)
        then, _ = self._needed(bad.reproduced + 1, bad.clean + 1.0 / rate - 1.0)
        expected_good = 1.0 + math.log2(max(2, candidates)) / 2.0
        return expected_good * (needed - then) > 1.0 / rate

    def _needed(self, reproduced: float, clean: float) -> tuple[float, float]:
        """How many clean trials a good place takes after these of the bad end; and the rate to expect."""
        seen = seen_rates(self.false_rate)
        weights = normalised(log_likelihood(reproduced, clean, seen))
        return clean_needed(1.0 - self.confidence, weights, self.false_rate), float(weights @ seen)

    def _good_end(self, known: Knowledge) -> Action | None:
        """What to do at the good end before anything is built; None once its own trials settle it.

        Like the bad end, it is judged by the trials of the two ends alone: later ones do not reopen it here
        (they may in the search, where it is a place as others are).
        """
        ends = {place: known.at(place) for place in (BAD, GOOD)}
        posterior = self._posterior(Knowledge(History(("any",), ((),)), ends))
        older, share = float(posterior.mass[-1]), (1.0 - self.confidence) / 4.0
        if older >= self.confidence:
            return self._older(known, older)
        if older <= share:
            return None
        return Try(GOOD, self._clean(share * (1.0 - older) / (older * (1.0 - share)), posterior))

    def _search(self, known: Knowledge) -> Action:
        posterior = self._posterior(known)
        mass = posterior.mass
        best = int(np.argmax(mass))
        confidence = 1.0 - MARGIN * (1.0 - float(mass[best]))
        if confidence < self.confidence:
            return posterior.most_informative()
        if best == len(posterior.groups):
            return self._older(known, confidence)
        low, middle, high = quantiles(posterior.rates, (0.025, 0.5, 0.975))
        how = (
            f"posterior over {len(known.history)} candidates, all as likely before the trials; the bug shows "
            f"at one rate at all kernels that have it, {middle:.2g} ({low:.2g} to {high:.2g} at 95 %), and "
            f"its signature at others with {self.false_rate:g}; the error is {MARGIN:g} times the "
            "posterior's, which holds on average over rates"
        )
        return Found(posterior.groups[best], confidence, how)

    def _older(self, known: Knowledge, probability: float) -> Stop:
        good = known.at(GOOD)
        return Stop(
            f"the good end shows the bug too: {good.reproduced} of {good.trials} trials, it has the bug with "
            f"probability {min(probability, 0.9999):.4g}",
            hint="name an older good end",
        )
