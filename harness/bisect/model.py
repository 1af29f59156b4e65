# SPDX-License-Identifier: GPL-2.0-only
"""The words of a bisection: candidates in their order, what trials said of them, and what to do next."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Final, Protocol

from harness.errors import HarnessError

#: Where a trial can happen beside the candidates: the two ends the user named.
BAD: Final = -1
GOOD: Final = -2
#: A candidate's position in its `History`, or one of the two ends.
Place = int


class UnusableError(HarnessError):
    """A candidate that cannot be tested (does not build, does not boot): it is skipped, with the reason."""


@dataclass(frozen=True)
class History:
    """All that may have brought the bug, and what comes before what. Exactly one of them is the culprit.

    names: what each is called (a commit's 40 hex digits, a Kconfig symbol, a patch's file), parents before
    children. parents: positions in `names`; those outside are left out, they are good by the good end. A
    kernel at a candidate has the bug if the culprit is the candidate itself or one of its ancestors. The bad
    end need not be among the candidates (it is not if paths limit them and it touches none).
    """

    names: tuple[str, ...]
    parents: tuple[tuple[int, ...], ...]

    def __len__(self) -> int:
        return len(self.names)

    @cached_property
    def ancestors(self) -> tuple[int, ...]:
        """A bit mask for each candidate: bit i is set if i is one of its ancestors, or itself."""
        masks: list[int] = []
        for position, parents in enumerate(self.parents):
            mask = 1 << position
            for parent in parents:
                mask |= masks[parent]
            masks.append(mask)
        return tuple(masks)


@dataclass(frozen=True)
class Evidence:
    """Trials of one place that answered: `clean` hit the window (where it is counted) and did not fail."""

    clean: int = 0
    reproduced: int = 0

    @property
    def trials(self) -> int:
        return self.clean + self.reproduced


#: Of a place that was never tried.
_NONE = Evidence()


@dataclass(frozen=True)
class Costs:
    """What it costs to find out, s: a kernel that is not built yet, and a trial."""

    build_s: float = 30.0
    trial_s: float = 2.0


@dataclass(frozen=True)
class Knowledge:
    """All that trials have said so far. What is done next follows from it alone: a killed bisection goes on.

    tested: by place, both ends included. skipped: candidates that cannot be tested. ready: places whose
    kernel is built already. costs: as measured so far.
    """

    history: History
    tested: Mapping[Place, Evidence] = field(default_factory=dict)
    skipped: frozenset[int] = frozenset()
    ready: frozenset[Place] = frozenset()
    costs: Costs = Costs()

    def at(self, place: Place) -> Evidence:
        """The evidence of a place."""
        return self.tested.get(place, _NONE)


@dataclass(frozen=True)
class Try:
    """Run so many more trials at a place; but for the bad end, the first reproduction ends them early."""

    place: Place
    trials: int


@dataclass(frozen=True)
class Found:
    """The end of the search: one suspect is the culprit; several cannot be told apart, as some are skipped.

    confidence: that the culprit is among them. how: how that was computed, in words a report can print.
    """

    suspects: tuple[int, ...]
    confidence: float
    how: str


@dataclass(frozen=True)
class Stop:
    """The search cannot go on: the bad end does not show the bug, or the good end does."""

    reason: str
    hint: str = ""


Action = Try | Found | Stop


class Method(Protocol):
    """How to search. Pure: the same knowledge gives the same action."""

    def next(self, known: Knowledge) -> Action: ...

    def clean_trials(self, known: Knowledge) -> int:
        """How many clean trials it takes to call one more place good, such as the culprit's parent; >= 1."""
