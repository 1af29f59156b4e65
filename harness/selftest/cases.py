# SPDX-License-Identifier: GPL-2.0-only
"""The failures that the harness must notice, and what it has to say of each."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, field_validator, model_validator

from harness.config import BootConfig, Frozen, validated
from harness.errors import UserError
from harness.kernel.patches import in_range
from harness.scenario.catalogue import Scenario
from harness.suggest import did_you_mean
from harness.watch.kinds import OutcomeKind
from harness.yamlfile import load_yaml

HERE = Path(__file__).resolve().parent
CASES = HERE / "cases.yaml"
#: What the guest does meanwhile.
BACKGROUND = HERE / "idle.yaml"


class Expected(Frozen):
    """What has to be reported, and nothing else."""

    outcome: Annotated[OutcomeKind, Field(strict=False)]
    #: Class and CPU of the first failure on the console, read offline; None: it says nothing that is one, or
    #: the CPU is of no interest.
    console: str | None = None
    cpu: int | None = None


class Thresholds(Frozen):
    """When the kernel's own watchdogs speak, s; see `BootConfig`."""

    watchdog_thresh_s: int | None = None
    rcu_stall_s: int | None = None
    workqueue_thresh_s: int | None = None
    hung_task_s: int | None = None


class Case(Frozen):
    """One failure, provoked in a guest of its own."""

    name: Annotated[str, Field(pattern=r"^[a-z][a-z-]*$", max_length=31)]
    provokes: str
    expect: Expected
    versions: str = ""
    boot: Thresholds = Thresholds()
    #: Host seconds without a sign of life.
    stall_s: Annotated[int, Field(ge=1, le=60)] = 20
    #: Seconds of the guest.
    lives_s: Annotated[int, Field(ge=1, le=600)] = 60
    #: Host seconds from power-on.
    limit_s: Annotated[int, Field(ge=5, le=600)] = 40

    @field_validator("versions")
    @classmethod
    def _is_a_range(cls, versions: str) -> str:
        try:
            return versions if not versions or in_range("0", versions) is not None else ""
        except UserError as error:
            raise ValueError(error.message) from error

    def happens_on(self, version: str) -> bool:
        """Whether a kernel of this version (`7.3.4`) fails in the way described."""
        return not self.versions or in_range(version, self.versions)

    def boot_from(self, boot: BootConfig) -> BootConfig:
        """`boot` with the case's own thresholds."""
        changes = self.boot.model_dump(exclude_none=True)
        return validated(BootConfig, {**boot.model_dump(mode="json"), **changes}, f"case {self.name}")

    def scenario(self) -> Scenario:
        """What the guest does, as trials take it."""
        scenario = load_yaml(BACKGROUND, Scenario)
        oracle = scenario.oracle.model_copy(update={"stall_s": self.stall_s})
        return scenario.model_copy(update={"oracle": oracle})


class CaseFile(Frozen):
    """`cases.yaml`."""

    cases: Annotated[tuple[Case, ...], Field(strict=False)]

    @model_validator(mode="after")
    def _named_once(self) -> CaseFile:
        names = [case.name for case in self.cases]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"two cases of one name: {', '.join(twice)}")
        return self


def load_cases(path: Path = CASES) -> tuple[Case, ...]:
    """The cases of a file, in its order; UserError with every defect and its line."""
    return load_yaml(path, CaseFile).cases


def choose_cases(names: Sequence[str], cases: Sequence[Case]) -> tuple[Case, ...]:
    """The cases named, each once and in the order of `cases`; all if none is named. UserError else."""
    known = [case.name for case in cases]
    unknown = [f"no case {name!r}{did_you_mean(name, known)}" for name in names if name not in known]
    if unknown:
        raise UserError("; ".join(unknown), hint=f"cases: {', '.join(known)}")
    return tuple(case for case in cases if not names or case.name in names)


def case_json(case: Case) -> dict[str, Any]:
    """A case as `--list --json` and the records show it."""
    return case.model_dump(mode="json", exclude_none=True)
