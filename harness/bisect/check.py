# SPDX-License-Identifier: GPL-2.0-only
"""The last test of a culprit that a method has named: it must fail, and what is right before it must not."""

from __future__ import annotations

from harness.bisect.model import GOOD, Knowledge, Place, Try


def before(culprit: int, known: Knowledge) -> tuple[Place, ...]:
    """The candidates right before one; the good end stands for parents that are none."""
    return known.history.parents[culprit] or (GOOD,)


def suspects(known: Knowledge, need: int) -> int:
    """How many candidates may still be the culprit, if so many clean trials make a place good."""
    ancestors = known.history.ancestors
    left = (1 << len(known.history)) - 1
    for place, seen in known.tested.items():
        if place >= 0 and seen.reproduced:
            left &= ancestors[place]
    for place, seen in known.tested.items():
        if place >= 0 and not seen.reproduced and seen.clean >= need:
            left &= ~ancestors[place]
    return left.bit_count()


def doubt(culprit: int, known: Knowledge, need: int) -> Try | None:
    """What is still to be tried before the culprit can be believed: itself, then what is right before it.

    need: how many clean trials make a place good.
    """
    for place in (culprit, *before(culprit, known)):
        seen = known.at(place)
        if not seen.reproduced and seen.clean < need and place not in known.skipped:
            return Try(place, need - seen.clean)
    return None


def confirmed(culprit: int, known: Knowledge, need: int) -> bool:
    """Whether the culprit failed, and what is right before it passed as many trials as a good place needs."""
    parents = [known.at(parent) for parent in before(culprit, known)]
    return known.at(culprit).reproduced > 0 and all(
        not seen.reproduced and seen.clean >= need for seen in parents
    )
