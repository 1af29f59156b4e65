# SPDX-License-Identifier: GPL-2.0-only
"""From the outcomes of two arms to a verdict: counts, exact intervals, and a rule. Pure.

Only trials that answer are counted: `not_exercised`, `timeout`, `target_lost` and `infra_error` say nothing
about a kernel, neither good nor bad.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal, Protocol

import numpy as np
from scipy.special import betaincinv

from harness.watch.kinds import OutcomeKind

#: What shows how often an arm was tried: windows, where a scenario has them, else what it goes through.
Counted = Literal["windows", "iterations", "cases"]

#: Coverage of every interval.
CONFIDENCE = 0.95


class VerdictKind(StrEnum):
    """What a comparison says of the candidate."""

    FIXED = "fixed"
    NOT_FIXED = "not_fixed"
    NOT_REPRODUCED = "not_reproduced"
    OTHER_FAILURE = "other_failure"
    INCONCLUSIVE = "inconclusive"


class Judged(Protocol):
    """A trial that has its outcome: a `harness.judge.Outcome`, or the record of one."""

    @property
    def kind(self) -> OutcomeKind: ...

    @property
    def is_bug(self) -> bool: ...

    @property
    def windows(self) -> int: ...

    @property
    def iterations(self) -> int: ...


@dataclass(frozen=True)
class Interval:
    """A closed interval of probabilities."""

    low: float
    high: float

    def overlaps(self, other: Interval) -> bool:
        """Whether the two have a point in common."""
        return self.low <= other.high and other.low <= self.high


@dataclass(frozen=True)
class ArmTally:
    """The trials of one arm, counted.

    `reproduced`: failures with the bug's own signature; `failed_otherwise`: failures without it. `windows`:
    how often it was hit in trials that answered, as the guest reported it. `windows_to_hang`: those in
    the reproducing trials, at least one each: how often the window was hit until the bug showed. Where
    `counted` is not windows, both are of that.
    """

    name: str
    outcomes: tuple[tuple[OutcomeKind, int], ...]
    reproduced: int
    failed_otherwise: int
    windows: int
    windows_to_hang: int
    counted: Counted = "windows"

    @property
    def trials(self) -> int:
        """All trials."""
        return sum(count for _, count in self.outcomes)

    @property
    def answered(self) -> int:
        """Trials that say something about the kernel."""
        return sum(count for kind, count in self.outcomes if kind.is_answer)

    @property
    def rate(self) -> float | None:
        """Share of the answering trials that reproduced the bug; None without an answer."""
        return self.reproduced / self.answered if self.answered else None

    @property
    def ci95(self) -> Interval:
        """Exact interval of that share; all of [0, 1] without an answer."""
        return clopper_pearson(self.reproduced, self.answered)


@dataclass(frozen=True)
class Verdict:
    """The comparison's answer, with the reason in words."""

    kind: VerdictKind
    reason: str
    #: Fisher's exact, two-sided; None if an arm has no answer, or the number of trials was not fixed before.
    p_value: float | None


@dataclass(frozen=True)
class Sequential:
    """What a comparison rests on that may stop at any trial; `harness.experiment.sequential` computes it.

    error: how often, at most, a candidate as bad as the control may be called fixed. e_value: the evidence
    against that it is; 1/error is enough.
    """

    error: float
    e_value: float

    @property
    def sure(self) -> bool:
        """Whether the evidence is enough."""
        return self.e_value >= 1.0 / self.error


def tally(name: str, outcomes: Iterable[Judged], counted: Counted = "windows") -> ArmTally:
    """Count an arm's trials, and what they went through."""
    counts: dict[OutcomeKind, int] = {}
    reproduced = failed_otherwise = windows = windows_to_hang = 0
    for outcome in outcomes:
        counts[outcome.kind] = counts.get(outcome.kind, 0) + 1
        if outcome.kind.is_answer:
            hit = outcome.windows if counted == "windows" else outcome.iterations
            windows += hit
            windows_to_hang += max(1, hit) if outcome.is_bug else 0
            reproduced += outcome.is_bug
            failed_otherwise += outcome.kind.is_failure and not outcome.is_bug
    return ArmTally(
        name, tuple(sorted(counts.items())), reproduced, failed_otherwise, windows, windows_to_hang, counted
    )


def clopper_pearson(successes: int, trials: int, confidence: float = CONFIDENCE) -> Interval:
    """The exact two-sided interval of a binomial proportion (Clopper and Pearson 1934); [0, 1] for no trials.

    It never covers less than `confidence`; for all n of n its lower end is (alpha/2)^(1/n).
    """
    if trials == 0:
        return Interval(0.0, 1.0)
    tail = (1.0 - confidence) / 2.0
    return Interval(
        _lower_bound(successes, trials, tail), 1.0 - _lower_bound(trials - successes, trials, tail)
    )


def rate_lower_bound(successes: int, trials: int, confidence: float) -> float:
    """The exact one-sided lower bound of a proportion (Clopper and Pearson 1934); 0 without a success.

    The same number bounds the rate where one went on to the n-th success: then the trials vary, not they.
    """
    return _lower_bound(successes, trials, 1.0 - confidence)


def _lower_bound(successes: int, trials: int, error: float) -> float:
    """The rate at which so many successes or more come with probability `error`."""
    return float(betaincinv(successes, trials - successes + 1, error)) if successes else 0.0


def clean_trials_needed(confidence: float, rate: float) -> int:
    """How many trials in a row without the bug rule out, at `confidence`, that it shows at `rate` or more.

    n = ceil(ln(1 - confidence) / ln(1 - rate)), as all n are clean by chance with (1 - rate)^n; at least 1.
    Assumes that trials are independent and the rate is the same at every kernel that has the bug. ValueError
    for a rate of 0: no number is enough.
    """
    if not 0.0 < rate <= 1.0 or not 0.0 <= confidence < 1.0:
        raise ValueError(f"rate {rate}, confidence {confidence}")
    return 1 if rate == 1.0 else max(1, math.ceil(math.log(1.0 - confidence) / math.log1p(-rate)))


def trials_needed(control_rate: float, candidate_rate: float = 0.0, power: float = 0.9) -> int | None:
    """The fewest trials an arm with which `decide` says `fixed` at these rates, with `power` or more.

    Exact, by enumeration (as Suissa and Shuster 1985 do for two binomials): the candidate never shows the
    bug, and the control so often that the intervals do not overlap. All trials are taken to answer, and the
    candidate to hit enough windows. None if no number up to 1000 does: a candidate that shows the bug now and
    then is the likelier to, the longer it is tried.
    """
    from scipy.stats import binom  # takes half a second, which most uses of this module need not wait for

    trials = np.arange(1, 1001)
    tail = (1.0 - CONFIDENCE) / 2.0
    highest_of_none = 1.0 - tail ** (1.0 / trials)
    # The control's lower bound is above p from the k-th on with P(Bin(n, p) >= k) < tail.
    enough = binom.isf(tail, trials, highest_of_none) + 1
    fixed = binom.sf(enough - 1, trials, control_rate) * (1.0 - candidate_rate) ** trials
    found = np.flatnonzero(fixed >= power)
    return int(trials[found[0]]) if len(found) else None


def fisher_p(
    control: ArmTally, candidate: ArmTally, alternative: Literal["two-sided", "greater"] = "two-sided"
) -> float | None:
    """Fisher's exact p that both arms reproduce the bug at one rate; None if an arm has no answer.

    Reports use the two-sided p: before the trials it is open which arm fails more often, a "fix" may make
    things worse. `greater` is the one-sided p against "the candidate fails as often as the control, or more".
    """
    if not control.answered or not candidate.answered:
        return None
    from scipy.stats import fisher_exact

    table = np.array([[arm.reproduced, arm.answered - arm.reproduced] for arm in (control, candidate)])
    return float(fisher_exact(table, alternative=alternative).pvalue)


def decide(control: ArmTally, candidate: ArmTally, sequential: Sequential | None = None) -> Verdict:
    """The verdict on the candidate arm, of a number of trials that was fixed before, or else `sequential`.

    In this order:

    1. `not_fixed`: the candidate failed with the bug's own signature, once is enough.
    2. `other_failure`: the candidate failed, always in another way.
    3. `inconclusive`: half of an arm's trials or more gave no answer, or an arm has none.
    4. `not_reproduced`: the control never failed with the bug's own signature (there is no positive control).
    5. `inconclusive`: the exact 95 % intervals of both rates overlap (of equal arms, six of six against none
       of six is the smallest comparison in which they do not); of `sequential`: its evidence is not enough.
    6. `inconclusive`: the candidate hit fewer windows than the control did in the trials in which it hung: it
       may have been tried less.
    7. `fixed`.
    """
    kind, reason = _decide(control, candidate, sequential)
    return Verdict(kind, reason, None if sequential else fisher_p(control, candidate))


def _decide(control: ArmTally, candidate: ArmTally, sequential: Sequential | None) -> tuple[VerdictKind, str]:
    if candidate.reproduced:
        return VerdictKind.NOT_FIXED, f"{_share(candidate)} still fail with the bug's own signature"
    if candidate.failed_otherwise:
        ways = ", ".join(f"{count} {kind}" for kind, count in candidate.outcomes if kind.is_failure)
        return VerdictKind.OTHER_FAILURE, f"{candidate.name} fails in another way than the bug: {ways}"
    for arm in (control, candidate):
        if 2 * arm.answered <= arm.trials:
            return VerdictKind.INCONCLUSIVE, (
                f"only {arm.answered} of {arm.trials} trials of {arm.name} gave an answer{_silence(arm)}"
            )
    if not control.reproduced:
        other = f", {control.failed_otherwise} failed in another way" if control.failed_otherwise else ""
        return VerdictKind.NOT_REPRODUCED, (
            f"none of {control.answered} trials of {control.name} failed with the bug's own signature{other}"
        )
    if sequential and not sequential.sure:
        return VerdictKind.INCONCLUSIVE, (
            f"{_share(control)} fail, {_share(candidate)}: the evidence is {sequential.e_value:.2g}, for an "
            f"error of {sequential.error:g} it takes {1.0 / sequential.error:g}: more trials are needed"
        )
    if not sequential and control.ci95.overlaps(candidate.ci95):
        needed = trials_needed(control.reproduced / control.answered)
        about = f" (some {needed} an arm at that rate)" if needed else ""
        return VerdictKind.INCONCLUSIVE, (
            f"{_share(control)} fail, {_share(candidate)}: the 95 % intervals overlap, more trials are "
            f"needed{about}"
        )
    if candidate.windows < control.windows_to_hang:
        return VerdictKind.INCONCLUSIVE, (
            f"{candidate.name} came to {candidate.windows} {candidate.counted}, {control.name} needed "
            f"{control.windows_to_hang} to hang: more iterations are needed"
        )
    return VerdictKind.FIXED, (
        f"{_share(control)} failed with the bug's own signature, after {control.windows_to_hang} "
        f"{control.counted}; {_share(candidate)}, in {candidate.windows} {candidate.counted}"
    )


def _share(arm: ArmTally) -> str:
    return f"{arm.reproduced} of {arm.answered} trials of {arm.name}"


def _silence(arm: ArmTally) -> str:
    ways = ", ".join(f"{count} {kind}" for kind, count in arm.outcomes if not kind.is_answer)
    return f" ({ways})" if ways else ""
