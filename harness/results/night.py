# SPDX-License-Identifier: GPL-2.0-only
"""What `nightly` came to, as a model: the object that it prints with --json, and keeps in its `run.json`."""

from __future__ import annotations

from typing import Literal

from harness.results.matrix import CellFacts
from harness.results.schema import Facts, Record

NightVerdict = Literal["nothing_new", "regression", "not_judged"]


class NightCell(CellFacts):
    """One scenario on one kernel of one tree, in one guest: what is compared from night to night."""

    tree: str
    """Its name in the night's file."""
    source: str
    """Where the source is from, in words."""
    revision: str
    """A commit's 40 digits, or a kernel version."""
    role: Literal["control", "candidate"]
    clock: str
    """`host`, or `virtual`: there figures are those of the kernel alone."""
    series: str
    """Equal in nights in which the same was asked of the same kernel of the same tree."""
    values: dict[str, tuple[float, ...]]
    """What each answering trial measured."""
    run: str
    """The folder of its matrix."""
    judged: bool = False
    """It has answers, and the control showed the bug tonight."""
    why: str = ""
    """Why it is not judged."""

    @property
    def where(self) -> str:
        """`mainline/trylock-starvation: fixed, preempt=none, 2 CPUs`."""
        guest = f"preempt={self.preempt}, {self.cpus} CPU{'s' * (self.cpus > 1)}"
        return f"{self.tree}/{self.label}: {self.kernel}, {guest}"


class Finding(Facts):
    """Something that differs from the nights before."""

    kind: Literal["new_failure", "expired", "build", "rate", "figure", "control", "still"]
    """A signature not seen before; one whose known issue has expired; a kernel that does not build or come
    up; a rate or a figure that moved; a control that shows its bug less often; one that was there before."""
    worse: bool
    """A regression; else it moved for the better."""
    tree: str
    where: str
    series: str
    signature: str = ""
    said: str
    """A sentence with the figures."""
    p_value: float | None = None
    """Fisher's exact, two-sided, corrected for the number of rates (Holm)."""
    good: str = ""
    """The revision of the last night that was clean."""
    bad: str = ""
    bisect: str = ""
    """The command that finds the commit."""
    no_bisect: str = ""
    """Why there is none."""
    bisected: str = ""
    """What that came to, if it was run."""


class KnownSeen(Facts):
    """A failure that somebody knows of already."""

    signature: str
    link: str
    where: str
    trials: int
    answered: int


class NightTreeFacts(Facts):
    """A tree of the night."""

    name: str
    source: str
    revision: str
    error: str = ""
    """Why it could not be had."""


class UnitFacts(Facts):
    """One scenario on one tree, all kernels: what is run or left as a whole."""

    name: str
    state: Literal["done", "left", "cut", "failed"]
    """left: the budget had no room, it comes first next night. cut: the budget ended it. failed: the machine
    or the input."""
    reason: str = ""
    seconds: float = 0.0
    run: str = ""
    """Its matrix's folder."""


class DetectorFacts(Facts):
    """How the self-test went."""

    good: int
    cases: int
    missed: tuple[str, ...]
    error: str
    """Why it did not come to its end."""
    seconds: float
    run: str


class NightResult(Record):
    """What a night came to."""

    name: str
    night: str
    """The date of its evening: a night lasts from noon to noon."""
    target: str
    verdict: NightVerdict
    reason: str
    findings: tuple[Finding, ...]
    still: tuple[Finding, ...]
    """Failures that earlier nights had too."""
    known: tuple[KnownSeen, ...]
    complaints: tuple[str, ...]
    """About the file of known issues, and the budget."""
    detectors: DetectorFacts | None
    trees: tuple[NightTreeFacts, ...]
    units: tuple[UnitFacts, ...]
    cells: tuple[NightCell, ...]
    compared: tuple[str, ...]
    """The nights that tonight is compared with, the newest first."""
    nights: int
    false_alarm: float
    budget_minutes: float
    seconds: float
    evidence: str
    reproduce: str
