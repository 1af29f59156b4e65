# SPDX-License-Identifier: GPL-2.0-only
"""Shapes of the page's drawings. Places along the axis are shares of the width: a drawing fits any screen.

Only rectangles, lines, circles and text take percentages, so there is nothing else; text keeps its size.
"""

from __future__ import annotations

from dataclasses import dataclass

from markupsafe import Markup

#: What is left free at both ends of an axis, % of the width.
_EDGE = 1.5


@dataclass(frozen=True)
class Axis:
    """A scale from `low` to `high`."""

    low: float
    high: float

    def at(self, value: float) -> float:
        """Where a value is, % of the width; what is beyond the ends is at them."""
        span = self.high - self.low or 1.0
        share = min(max((value - self.low) / span, 0.0), 1.0)
        return _EDGE + share * (100.0 - 2 * _EDGE)


def rect(axis: Axis, begin: float, end: float, y: float, height: float, style: str) -> Markup:
    """From one value to another; never too thin to be seen."""
    x, width = axis.at(begin), axis.at(end) - axis.at(begin)
    return Markup('<rect class="{}" x="{:.3f}%" y="{:.1f}" width="{:.3f}%" height="{:.1f}"/>').format(
        style, x, y, max(width, 0.15), height
    )


def upright(axis: Axis, value: float, top: float, bottom: float, style: str) -> Markup:
    """A line across."""
    x = axis.at(value)
    return Markup('<line class="{}" x1="{:.3f}%" x2="{:.3f}%" y1="{:.1f}" y2="{:.1f}"/>').format(
        style, x, x, top, bottom
    )


def level(axis: Axis, begin: float, end: float, y: float, style: str) -> Markup:
    """A line along the axis."""
    return Markup('<line class="{}" x1="{:.3f}%" x2="{:.3f}%" y1="{:.1f}" y2="{:.1f}"/>').format(
        style, axis.at(begin), axis.at(end), y, y
    )


def words(axis: Axis, value: float, y: float, text: str, style: str = "") -> Markup:
    """Text at a value, turned inwards where it would leave the drawing."""
    x = axis.at(value)
    anchor = "start" if x < 12 else "end" if x > 88 else "middle"
    return Markup('<text class="{}" x="{:.3f}%" y="{:.1f}" text-anchor="{}">{}</text>').format(
        style, x, y, anchor, text
    )


def drawing(height: float, title: str, shapes: list[Markup]) -> Markup:
    """The whole, as wide as there is room."""
    return Markup(
        '<svg class="drawing" role="img" width="100%" height="{:.0f}"><title>{}</title>{}</svg>'
    ).format(height, title, Markup("").join(shapes))
