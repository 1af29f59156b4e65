# SPDX-License-Identifier: GPL-2.0-only
"""What one trial says in a bisection: the bug, nothing of it, another failure, or no answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from harness.results.runfolder import TrialResult, top_frames
from harness.watch.kinds import OutcomeKind


class Reading(StrEnum):
    """What a trial says of the bug that is bisected."""

    REPRODUCED = "reproduced"
    CLEAN = "clean"
    #: A failure, but not this one.
    OTHER = "other"
    NO_ANSWER = "no answer"
    #: The harness or the machine failed; or a kernel that never comes as far as the scenario.
    INFRA = "infra"


@dataclass(frozen=True)
class Bug:
    """The failure that is bisected, as the bad end showed it.

    Either the scenario's own bug, whose oracle knows it in all its forms, or else the class of a splat with
    the functions on top of its stack.
    """

    own: bool
    kind: OutcomeKind
    frames: tuple[str, ...] = ()

    @classmethod
    def shown_by(cls, results: Sequence[TrialResult]) -> Bug | None:
        """What trials of the bad end showed first, the scenario's own bug before all else; None: nothing."""
        failures = [result for result in results if result.kind.is_failure]
        first = min(failures, key=lambda result: (not result.is_bug, result.index), default=None)
        return cls(first.is_bug, first.kind, top_frames(first.signature)) if first else None

    def is_in(self, result: TrialResult) -> bool:
        """Whether a trial failed with this bug."""
        if self.own:
            return result.is_bug
        return result.kind is self.kind and top_frames(result.signature) == self.frames

    def __str__(self) -> str:
        return (
            f"{self.kind} with the scenario's own signature"
            if self.own
            else " < ".join([self.kind, *self.frames])
        )


def read(result: TrialResult, bug: Bug | None) -> Reading:
    """A trial's word on `bug`."""
    if result.kind is OutcomeKind.INFRA_ERROR:
        return Reading.INFRA
    if not result.kind.is_answer:
        return Reading.NO_ANSWER
    if result.kind is OutcomeKind.COMPLETED:
        return Reading.CLEAN
    return Reading.REPRODUCED if bug and bug.is_in(result) else Reading.OTHER
