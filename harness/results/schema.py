# SPDX-License-Identifier: GPL-2.0-only
"""What the verbs come to, as models: the objects that `--json` prints and `run.json` keeps.

They are a promise to whoever reads run folders or `--json`: a key is added without notice, a key that goes or
changes its meaning raises `SCHEMA`. The JSON Schema files beside this module are generated from them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from harness.config import BootConfig
from harness.errors import UserError
from harness.results.runfolder import SCHEMA
from harness.watch.kinds import OutcomeKind

Model = TypeVar("Model", bound=BaseModel)


class Facts(BaseModel):
    """Read whatever a later version added; never changed afterwards."""

    model_config = ConfigDict(frozen=True, extra="ignore", use_attribute_docstrings=True)


class Record(Facts):
    """An object that says which schema it has."""

    model_config = ConfigDict(serialize_by_alias=True)

    schema_: Annotated[Literal[1], Field(alias="schema")] = SCHEMA
    """Raised when a key goes or changes its meaning."""


class PatchFacts(Facts):
    """A change to the kernel, and whether it is in."""

    name: str
    """Its id in patches/catalogue.yaml, or the name of a file."""
    title: str
    role: str
    """introduces, fix, enabler, build-fix, test, or what a user's own patch is."""
    status: str
    """applied, or absent: the tree has it already."""
    note: str
    sha256: str
    """Of the diff, in hexadecimal."""


class KernelFacts(Facts):
    """A kernel by its content."""

    name: str = ""
    """What the experiment calls it."""
    release: str
    """uname -r."""
    tree: str
    """Where the source is from, in words."""
    commit: str = ""
    """Of a tree from git, the full id; empty: it is none."""
    patches: tuple[PatchFacts, ...]
    config_sha: str
    """SHA-256 of the .config, in hexadecimal."""
    build: str
    """Names the build: source, patches, configuration and compiler."""


class BootFacts(BootConfig):
    """How guests were started: `boot` of an experiment, with what `auto` came to."""

    model_config = ConfigDict(extra="ignore", strict=False, use_attribute_docstrings=True)

    box: str = ""
    """The name of a machine of its own, which `machine` and `accel` say nothing of."""

    @property
    def where(self) -> str:
        """`microvm on tcg`, or `box lab1`."""
        return f"box {self.box}" if self.box else f"{self.machine} on {self.accel}"


class OnsetToVerdict(Facts):
    """From the last moment any counter moved to the outcome, over all hangs, s."""

    median: float
    max: float


class MetricRange(Facts):
    """What an arm's trials measured."""

    unit: str
    median: float
    min: float
    max: float
    limit: str = ""
    """Beyond which a trial is starved, as `above 50`; empty: none."""


class ArmResult(Facts):
    """One side of a comparison."""

    name: str
    role: Literal["control", "candidate"]
    label: str = ""
    """The kernel with the arm's own patches, as tables show it."""
    kernel: KernelFacts
    boot: BootFacts
    """`preempt` is what the running kernel said."""
    trials: int
    answered: int
    """Trials that say something about the kernel, good or bad."""
    outcomes: dict[OutcomeKind, int]
    reproduced: int
    """Trials that failed with the bug's own signature."""
    windows: int
    """Iterations in which all conditions of the bug met, in trials that answered."""
    rate: float | None
    """reproduced / answered; null without an answer."""
    ci95: tuple[float, float]
    """Exact (of an experiment with `error`: at any time valid) 95 % interval of the rate."""
    proofs: dict[Literal["cycle", "partial", "none"], int]
    """How many of the hangs were proven from the guest's memory."""
    onset_to_verdict_s: OnsetToVerdict | None
    """null without a hang."""
    metrics: dict[str, MetricRange] = {}
    """By the names of the scenario's catalogue entry; without those that no trial has."""


class SequentialFacts(Facts):
    """What a verdict rests on if the number of trials was not fixed before."""

    error: float
    """How often, at most, a candidate as bad as the control may be called fixed."""
    e_value: float
    stopped_after: int
    """Trials of both arms."""
    most: int = 0
    """Trials of both arms that there could have been."""


class CompareResult(Record):
    """What `compare` came to."""

    verdict: Literal["fixed", "not_fixed", "other_failure", "not_reproduced", "inconclusive"]
    reason: str
    scenario: str
    counted: Literal["windows", "iterations", "cases"] = "windows"
    """What `windows` of the arms counts: all that this scenario has."""
    set: dict[str, int | str]
    """Scenario parameters that differ from their defaults."""
    arms: tuple[ArmResult, ...]
    p_value: float | None
    """Fisher's exact, two-sided; null if an arm has no answer, or the number of trials was not fixed."""
    sequential: SequentialFacts | None
    evidence: tuple[str, ...]
    """The trials' folders, in the order in which they were run."""
    repro: str
    """A folder that boots the same hang with QEMU only; empty of a box."""
    seconds: float
    reproduce: str
    """The command that does it again."""


class TestedKernel(Facts):
    """A kernel that a bisection had, or wanted."""

    commit: str
    """A commit's 40 digits, a Kconfig symbol, a patch's file, or `reverted`."""
    title: str
    trials: int
    reproduced: int
    verdict: Literal["good", "bad", "skip", "open"]
    reason: str
    """Why it is skipped."""
    build_s: float
    """To have it, module included."""
    cached: bool
    evidence: tuple[str, ...]
    """Its trials' folders, below the run's."""


class RevertedFacts(Facts):
    """The bad end without the culprit's change."""

    fails: bool | None
    """null: it could not be tried."""
    trials: int
    reason: str


class BisectResult(Record):
    """What `bisect` came to."""

    culprit: str | None
    """Name of the one candidate that is left."""
    suspects: tuple[str, ...]
    """All that cannot be told apart."""
    confidence: float | None
    reason: str
    """How the confidence was computed, or why the search could not go on."""
    hint: str = ""
    checked: bool
    """The culprit was seen to fail and its parents were not."""
    checks: str = ""
    """What was done to check it, as a sentence."""
    reverted: RevertedFacts | None
    method: Literal["classic", "bayes"]
    scenario: str
    set: dict[str, int | str]
    boot: BootFacts | None = None
    patches: tuple[str, ...] = ()
    """What was on every kernel."""
    bug: str | None
    """The failure that is bisected, in words."""
    good: str = ""
    bad: str = ""
    """Names of both ends."""
    labels: dict[str, str] = {}
    """The suspects as tables show them."""
    shown: str = ""
    """Folder of the trial whose evidence the report shows, below the run's."""
    tested: tuple[TestedKernel, ...]
    builds: int
    seconds: float
    evidence: str
    reproduce: str
    git_bisect_log: str | None = None
    regression: str | None = None


class CaseFacts(Facts):
    """What a detector reported, or should have."""

    outcome: OutcomeKind
    console: str | None = None
    """Class of the first failure on the console."""
    cpu: int | None = None


class CaseOutcome(Facts):
    """One failure that was provoked."""

    name: str
    provokes: str
    expected: CaseFacts
    reported: CaseFacts
    as_expected: bool
    title: str
    seconds: float
    evidence: str


class SelftestResult(Record):
    """What `selftest` came to."""

    kernel: KernelFacts
    cases: tuple[CaseOutcome, ...]
    missed: tuple[str, ...]
    """Cases that were reported as something else."""
    skipped: tuple[str, ...]
    """Cases that do not happen on this kernel."""
    only_on: dict[str, str] = {}
    """The versions on which the skipped ones happen."""
    evidence: str
    seconds: float


def read_as(model: type[Model], value: Mapping[str, Any], where: str) -> Model:
    """A record as its model. UserError with what does not fit."""
    try:
        return model.model_validate(value)
    except ValidationError as error:
        defects = [f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors()[:3]]
        raise UserError(f"{where} is damaged, or not of this program: " + "; ".join(defects)) from error
