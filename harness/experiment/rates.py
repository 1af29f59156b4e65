# SPDX-License-Identifier: GPL-2.0-only
"""What trials say of an unknown rate of reproduction, as weights on a grid of rates. Pure.

The prior is that of Jeffreys (1961) for trials that go on to a reproduction, density p^-1 (1-p)^-1/2 (Box and
Tiao 1973, 1.3), cut off below `LOWEST_RATE`. With p = 1/cosh(u/2)^2 it is flat in u: evenly spaced u of equal
weight give rates that are evenly spaced in their logarithm where they are small, and dense near 1.
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.special import xlog1py, xlogy

Floats = NDArray[np.float64]

#: Rates below this are taken for it.
LOWEST_RATE: Final = 0.01
_POINTS: Final = 64


def _grid() -> Floats:
    step = 2.0 * math.acosh(LOWEST_RATE**-0.5) / _POINTS
    grid: Floats = np.cosh((np.arange(_POINTS) + 0.5) * step / 2.0) ** -2.0
    grid.flags.writeable = False
    return grid


#: Rates from nearly 1 down to `LOWEST_RATE`, equally likely before any trial.
RATES: Final = _grid()


def seen_rates(false_rate: float) -> Floats:
    """By `RATES`, how often a trial reports the bug at a kernel that has it: it shows, or seems to."""
    seen: Floats = RATES + (1.0 - RATES) * false_rate
    return seen


def log_likelihood(reproduced: float, clean: float, rates: Floats) -> Floats:
    """The logarithm of the probability of one such sequence of trials, at each of the rates.

    When the trials were ended does not matter (the likelihood principle: Birnbaum 1962), as long as nothing
    but their outcomes decided it.
    """
    return np.asarray(xlogy(reproduced, rates) + xlog1py(clean, -rates), np.float64)


def normalised(log_weights: Floats) -> Floats:
    """Weights that add up to 1 over all axes, from logarithms of any scale."""
    weights = np.exp(log_weights - np.max(log_weights))
    shares: Floats = weights / np.sum(weights)
    return shares


def clean_factor(clean: float, weights: Floats, false_rate: float) -> float:
    """The Bayes factor of so many clean trials: has the bug, to has it not.

    weights: of `RATES`, 1 in all. The same as the odds if both were as likely before.
    """
    return float(weights @ np.exp(clean * _clean_logs(false_rate)))


def _clean_logs(false_rate: float) -> Floats:
    """By `RATES`, the logarithm of what one clean trial says: has the bug, to has it not."""
    logs: Floats = np.log1p(-seen_rates(false_rate)) - math.log1p(-false_rate)
    return logs


def clean_needed(factor: float, weights: Floats, false_rate: float) -> float:
    """How many clean trials bring the Bayes factor down to this; not rounded. 0 for a factor of 1 or more.

    ValueError for a factor that no number reaches: 0 or less.
    """
    if factor <= 0.0:
        raise ValueError(f"Bayes factor {factor}")
    logs = _clean_logs(false_rate)

    def too_few(clean: float) -> bool:
        return float(weights @ np.exp(clean * logs)) > factor

    low, high = 0.0, 1.0
    while too_few(high):
        low, high = high, 2.0 * high
    while high - low > 1e-3 * high and high > 1e-6:
        middle = (low + high) / 2.0
        low, high = (middle, high) if too_few(middle) else (low, middle)
    return high if factor < 1.0 else 0.0


def quantiles(weights: Floats, shares: tuple[float, ...]) -> list[float]:
    """The rates below which these shares of the weight lie."""
    below = np.cumsum(weights[::-1])
    places = np.minimum(np.searchsorted(below, shares), len(RATES) - 1)
    return [float(rate) for rate in RATES[::-1][places]]
