# SPDX-License-Identifier: GPL-2.0-only
"""How often the bug showed in each arm, with its interval, on one scale."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup

from harness.results.html.svg import Axis, drawing, level, rect, upright, words
from harness.results.summary import Arm

_ROW = 46
_TOP = 6
_AXIS = 24


def rates_svg(arms: Sequence[Arm]) -> Markup:
    """A row an arm: its name, its interval as a bar, its rate as a mark (a square for a control)."""
    axis = Axis(0.0, 1.0)
    bottom = _TOP + _ROW * len(arms)
    shapes = [upright(axis, tick, _TOP, bottom, "grid") for tick in _TICKS]
    for number, arm in enumerate(arms):
        shapes += _arm(axis, arm, _TOP + _ROW * number)
    shapes.append(level(axis, 0.0, 1.0, bottom, "axis"))
    shapes += [words(axis, tick, bottom + 16, f"{tick:g}", "small") for tick in _TICKS]
    said = "; ".join(f"{arm.name}: {_words(arm)}" for arm in arms)
    return drawing(bottom + _AXIS, f"rate of the bug with its 95 % interval: {said}", shapes)


_TICKS = (0.0, 0.25, 0.5, 0.75, 1.0)


_SQUARE = Markup('<rect class="mark" x="-6" y="-6" width="12" height="12"/>')
_CIRCLE = Markup('<circle class="mark" r="6.5"/>')


def _arm(axis: Axis, arm: Arm, top: float) -> list[Markup]:
    middle = top + 32
    rate = arm.tally.rate
    shapes = [
        Markup('<text class="label" x="1.5%" y="{:.1f}">{}</text>').format(
            top + 16, f"{arm.name}: {_words(arm)}"
        ),
        rect(axis, arm.ci95.low, arm.ci95.high, middle - 4, 8, f"interval {arm.role}"),
        upright(axis, arm.ci95.low, middle - 7, middle + 7, "whisker"),
        upright(axis, arm.ci95.high, middle - 7, middle + 7, "whisker"),
    ]
    if rate is not None:
        shape = _SQUARE if arm.role == "control" else _CIRCLE
        place = Markup('<svg x="{:.3f}%" y="{:.1f}" overflow="visible">{}</svg>')
        shapes.append(place.format(axis.at(rate), middle, shape))
    return shapes


def _words(arm: Arm) -> str:
    counted = arm.tally
    if not counted.answered:
        return "no answer"
    return f"{counted.reproduced} of {counted.answered} ({arm.ci95.low:.2f} to {arm.ci95.high:.2f})"
