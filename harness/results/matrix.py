# SPDX-License-Identifier: GPL-2.0-only
"""What `matrix` came to, as a model: the object that it prints with --json, and keeps in its `run.json`."""

from __future__ import annotations

from typing import Literal

from harness.results.runfolder import top_frames
from harness.results.schema import Facts, Record
from harness.watch.kinds import OutcomeKind

#: How far a cell came. `not applicable`: it cannot be, or was left out. `failed`: its kernel cannot be built,
#: or does not come up as asked. `open`: the matrix did not come to it.
CellState = Literal["done", "not applicable", "failed", "open"]


class KernelRow(Facts):
    """A kernel of the matrix."""

    name: str
    patches: tuple[str, ...]
    config: tuple[str, ...]
    """Settings beyond those that all kernels have, names of fragments included."""
    idea: str
    """Whose idea its fix is; empty if it has none of the catalogue."""
    against: str
    """What was said, or can be read, against it."""


class MetricFacts(Facts):
    """What a scenario measures."""

    unit: str
    help: str
    above: float | None
    below: float | None
    """Beyond these a guest is starved."""


class ScenarioRow(Facts):
    """A scenario of the matrix."""

    label: str
    """Names it in this matrix."""
    scenario: str
    set: dict[str, int | str]
    """Parameters that differ from their defaults."""
    metrics: dict[str, MetricFacts]


class SignatureCount(Facts):
    """One way in which a cell's trials failed."""

    outcome: OutcomeKind
    signature: str
    is_bug: bool
    """It is the scenario's own bug."""
    trials: int

    @property
    def shown(self) -> str:
        """Its signature; of a failure without one, what it is."""
        return self.signature or str(self.outcome)

    @property
    def same(self) -> str:
        """Equal for failures that are one: the scenario's own bug in any form, or one class and place."""
        return "the bug" if self.is_bug else " < ".join([self.outcome, *top_frames(self.signature)])


class CellFacts(Facts):
    """One scenario on one kernel under one preemption model with so many CPUs."""

    scenario: str
    label: str
    set: dict[str, int | str]
    kernel: str
    preempt: str
    cpus: int
    state: CellState
    reason: str
    """Why it has no trials, or not all of them."""
    trials: int
    answered: int
    """Trials that say something about the kernel, good or bad."""
    outcomes: dict[OutcomeKind, int]
    reproduced: int
    """Trials that failed with the scenario's own bug."""
    failed_otherwise: int
    """Trials that failed in another way."""
    windows: int
    rate: float | None
    """reproduced / answered; null without an answer."""
    ci95: tuple[float, float]
    """Exact 95 % interval of the rate."""
    failures: tuple[SignatureCount, ...]
    metrics: dict[str, float]
    """Medians of what the stressor measured."""
    evidence: tuple[str, ...]
    """The trials' folders, below the run's."""

    @property
    def place(self) -> tuple[str, int]:
        """Its column: the preemption model and the number of CPUs."""
        return self.preempt, self.cpus


class MatrixResult(Record):
    """What `matrix` came to."""

    tree: str
    guest: str
    """What all guests have in common, in words."""
    kernels: tuple[KernelRow, ...]
    scenarios: tuple[ScenarioRow, ...]
    relative_to: str
    """The kernel whose metrics the others' are compared with; empty: none."""
    cells: tuple[CellFacts, ...]
    """In the order in which they were run."""
    complete: bool
    """Every cell that can be has an answer."""
    day: str
    seconds: float
    reproduce: str
    evidence: str = ""
    """The run's folder."""
