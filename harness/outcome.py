# SPDX-License-Identifier: GPL-2.0-only
"""What a scenario knows of its bug, and how a trial ended."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

from harness.watch.console import ConsoleEvent
from harness.watch.examination import Examination, Proof
from harness.watch.kinds import OutcomeKind
from harness.watch.ktap import Report
from harness.watch.observation import Observation


@dataclass(frozen=True)
class StackRule:
    """One way a bug shows itself: an outcome, with functions that are and are not on the stack.

    Functions are shell patterns (`hmm_range_fault*`). One of `frames` must be there, none of `not_frames`,
    which tells the bug from another that comes the same way: a spinner that waits for a lock it holds, say.
    One stack does not tell on what it spins, as the function that does may just have returned; where the
    guest's memory told, by the page table's entry, that must be `entry` (empty: any).
    """

    kinds: frozenset[OutcomeKind]
    frames: tuple[str, ...]
    not_frames: tuple[str, ...] = ()
    entry: str = ""

    def matches(self, kind: OutcomeKind | None, frames: Sequence[str], entry: str = "") -> bool:
        """Whether a failure of this kind with this stack, on this entry if that is known, shows the bug."""
        if kind not in self.kinds or (self.entry and entry and entry != self.entry):
            return False
        return on_stack(self.frames, frames) and not on_stack(self.not_frames, frames)


@dataclass(frozen=True)
class MetricLimit:
    """A figure that the stressor measures, and how far it may go while the guest is well; None: any."""

    name: str
    unit: str
    above: float | None = None
    below: float | None = None
    #: What the figure is, as the end of a sentence; empty: the name says it.
    help: str = ""

    @property
    def timed(self) -> bool:
        """Whether a guest that the host did not let run would cross the limit as well."""
        return self.unit in ("s", "ms", "us", "ns", "/s")

    def crossed(self, value: float) -> str:
        """How a value is beyond the limit, in words; empty if it is not."""
        told = f": {self.help}" if self.help else ""
        if self.above is not None and value > self.above:
            return f"{self.words(value)}, more than {self.above:g}{told}"
        if self.below is not None and value < self.below:
            return f"{self.words(value)}, less than {self.below:g}{told}"
        return ""

    def words(self, value: float) -> str:
        """A value with name and unit."""
        return f"{self.name} {value:.4g} {self.unit}".rstrip()


@dataclass(frozen=True)
class Oracle:
    """What a scenario knows of its bug."""

    #: The bug's own signature: one of these.
    rules: tuple[StackRule, ...]
    #: A trial that ran to its end without a window says nothing.
    needs_windows: bool
    #: What the bug does to a guest that lives on: a figure beyond its limit. Without it a trial says nothing.
    metrics: tuple[MetricLimit, ...] = ()
    #: Data found changed, or a structure of the kernel's found damaged, is the bug itself.
    corrupts: bool = False
    #: The program of the scenario is a suite of tests: what it says in KTAP decides.
    suite: bool = False
    #: Outcomes that do not name the bug themselves, but are it when a later event matches a rule. A hang that
    #: no console names (`no_progress`) is not among them: nothing says what hung.
    corroborated: frozenset[OutcomeKind] = field(
        default=frozenset({OutcomeKind.HUNG_TASK, OutcomeKind.WORKQUEUE_LOCKUP})
    )

    def rule(self, kind: OutcomeKind | None, frames: Sequence[str], entry: str = "") -> StackRule | None:
        """The rule by which a failure of this kind with this stack, on this entry, is the bug."""
        return next((rule for rule in self.rules if rule.matches(kind, frames, entry)), None)

    def names(self, event: ConsoleEvent) -> bool:
        """Whether an event has the bug's own signature."""
        corruption = self.corrupts and event.outcome is OutcomeKind.CORRUPTION
        return corruption or self.rule(event.outcome, event.frames) is not None


@dataclass(frozen=True)
class Signature:
    """What two equal failures have in common: the class, and where. No offsets, no CPU numbers."""

    cls: str
    frames: tuple[str, ...]

    def __str__(self) -> str:
        return " < ".join([self.cls, *self.frames])


@dataclass(frozen=True)
class Outcome:
    """How a trial ended."""

    kind: OutcomeKind
    title: str
    #: None unless the kernel failed.
    signature: Signature | None = None
    #: The failure has the scenario's own signature.
    is_bug: bool = False
    #: Iterations in which the window was hit, and iterations, both as far as the guest reported them.
    windows: int = 0
    iterations: int = 0
    #: What the stressor measured, by name.
    metrics: Mapping[str, float] = field(default_factory=dict)
    #: Host seconds since power-on: a hang began at the last sign of progress, the rest when reported.
    onset_s: float | None = None
    decided_by: Observation | None = None
    #: Other events that could have decided, had they come first.
    consequences: tuple[Observation, ...] = ()
    #: The look into the guest's memory that tells most of a hang; None if nobody looked.
    examination: Examination | None = None
    #: What a suite of tests said, case by case, as far as it came.
    tests: Report | None = None

    @property
    def is_answer(self) -> bool:
        """Whether the trial says anything about the kernel."""
        return self.kind.is_answer

    @property
    def is_failure(self) -> bool:
        """Whether the trial says that the kernel failed."""
        return self.kind.is_failure

    @property
    def proof(self) -> Proof | None:
        """What the guest's memory proved of a hang; None if nobody looked."""
        return self.examination.proof if self.examination else None

    @property
    def decided_s(self) -> float | None:
        """When what decided was there, s since power-on; a report of the console when it began."""
        return self.decided_by.host_s if self.decided_by else None


def on_stack(patterns: Iterable[str], frames: Sequence[str]) -> bool:
    """Whether a function of the stack matches one of the shell patterns."""
    return any(fnmatchcase(frame, pattern) for pattern in patterns for frame in frames)
