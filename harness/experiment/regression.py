# SPDX-License-Identifier: GPL-2.0-only
"""What differs tonight from the nights before, over many series at once, with a bound on false alarms. Pure.

Rates: Fisher's exact test of tonight's trials against all of the compared nights together, two-sided, and
Holm's correction (1979) for the number of series: if none has moved, a night calls one wrongly with a
probability of `error` at most, whatever the rates are and however few the trials. Two exact intervals of
confidence 1 - e without a common point have p <= e too (so for all counts of up to 10 against 84 trials): the
interval that does not overlap any more is what the test shows, not a second chance to be wrong.

Figures: called where the ranges of both samples have no common point. Of exchangeable values that happens
with a probability of 2 / C(n + m, n); compared with `error` over the number of figures (Bonferroni).

Both take trials to be independent, with one rate in all nights. What a loaded host does to every trial of a
night is not covered: that is why figures count only on the virtual clock.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Count:
    """Trials that answered, and how many of these failed."""

    failed: int
    answered: int

    def __add__(self, other: Count) -> Count:
        return Count(self.failed + other.failed, self.answered + other.answered)

    def __str__(self) -> str:
        return f"{self.failed}/{self.answered}"


@dataclass(frozen=True)
class Move:
    """How one rate of tonight lies to the one before. adjusted: the p-value times what Holm asks for."""

    p_value: float
    adjusted: float
    up: bool


def moves(pairs: Sequence[tuple[Count, Count]]) -> list[Move | None]:
    """Of each (tonight, before): how far it has moved. None where either has no answer: it is not tested."""
    tested = [(place, pair) for place, pair in enumerate(pairs) if all(count.answered for count in pair)]
    values = [_fisher(*now_and_before) for _, now_and_before in tested]
    found: list[Move | None] = [None] * len(pairs)
    for (place, (now, before)), p_value, adjusted in zip(tested, values, holm(values), strict=True):
        up = now.failed * before.answered > before.failed * now.answered
        found[place] = Move(p_value, adjusted, up)
    return found


def holm(values: Sequence[float]) -> list[float]:
    """P-values adjusted so that each may be compared with the error of all together."""
    order = sorted(range(len(values)), key=values.__getitem__)
    adjusted = [1.0] * len(values)
    least = 0.0
    for rank, place in enumerate(order):
        least = max(least, min(1.0, (len(values) - rank) * values[place]))
        adjusted[place] = least
    return adjusted


def _table(now: Count, before: Count) -> NDArray[np.int64]:
    return np.array([[count.failed, count.answered - count.failed] for count in (now, before)])


@lru_cache(maxsize=65536)
def _fisher(now: Count, before: Count) -> float:
    from scipy.stats import fisher_exact  # takes half a second

    table = _table(now, before)
    return float(fisher_exact(table).pvalue)


def apart(now: Sequence[float], before: Sequence[float], error: float) -> bool:
    """Whether two samples have ranges without a common point, where chance does that less than `error`."""
    if not now or not before or 2.0 / math.comb(len(now) + len(before), len(now)) > error:
        return False
    return min(now) > max(before) or max(now) < min(before)


def gone(now: Count, before: Count) -> float:
    """How likely it is to see as few failures as tonight, if they still come as often as before."""
    from scipy.stats import fisher_exact

    table = _table(now, before)
    return float(fisher_exact(table, alternative="less").pvalue)
