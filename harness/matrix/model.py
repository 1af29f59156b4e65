# SPDX-License-Identifier: GPL-2.0-only
"""A matrix's file to frozen values: scenarios x kernels x preemption models x CPUs, all errors at once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import Field, field_validator, model_validator

from harness.arguments import patch_files
from harness.config import (
    VERSIONS,
    ArmConfig,
    BootConfig,
    DebianTree,
    Experiment,
    FolderTree,
    Frozen,
    KernelConfig,
    Preempt,
    TarballTree,
    TreeConfig,
    check_no_qemu,
    load_named,
    validated,
)
from harness.disk import write_atomically
from harness.errors import UserError
from harness.kernel.patches import in_range
from harness.scenario.catalogue import load_scenario
from harness.suggest import did_you_mean
from harness.target.protocol import Clock

BUILTIN = Path(__file__).resolve().parent / "builtin"
#: The matrix as it was run, in the run's folder.
MATRIX = "matrix.yaml"

#: Names that become part of a trial's folder.
_NAME = r"^[A-Za-z0-9][A-Za-z0-9_.+-]*$"
Name = Annotated[str, Field(pattern=_NAME)]
Names = Annotated[tuple[str, ...], Field(strict=False)]
Preempts = Annotated[tuple[Preempt, ...], Field(strict=False, min_length=1)]
Cpus = Annotated[tuple[Annotated[int, Field(ge=1, le=8)], ...], Field(strict=False, min_length=1)]
Trials = Annotated[int, Field(ge=1, le=10000)]


class ScenarioEntry(Frozen):
    """A scenario of the matrix; the lists it gives stand in place of the matrix's own."""

    scenario: str
    #: Scenario parameters that differ from their defaults.
    set: dict[str, int | str] = Field(default={})
    #: What reports call it; needed where a scenario is there twice. Empty: the scenario's name.
    label: Annotated[str, Field(pattern=rf"^$|{_NAME}")] = ""
    kernels: Names | None = None
    preempt: Preempts | None = None
    cpus: Cpus | None = None
    trials: Trials | None = None
    #: Instead of that of `boot`.
    clock: Clock | None = None

    @model_validator(mode="before")
    @classmethod
    def _name_alone(cls, value: Any) -> Any:
        return {"scenario": value} if isinstance(value, str) else value

    @field_validator("scenario")
    @classmethod
    def _known(cls, name: str) -> str:
        try:
            load_scenario(name)
        except UserError as error:
            raise ValueError(f"{error.message}; {error.hint}") from None
        return name

    @model_validator(mode="after")
    def _settable(self) -> ScenarioEntry:
        try:
            load_scenario(self.scenario).values(self.set)
        except UserError as error:
            raise ValueError(error.message) from None
        return self

    @property
    def name(self) -> str:
        """What reports call it."""
        return self.label or self.scenario


class Exclusion(Frozen):
    """Cells that are left out: those that meet every list which is given."""

    scenarios: Names = ()
    kernels: Names = ()
    preempt: Annotated[tuple[Preempt, ...], Field(strict=False)] = ()
    cpus: Annotated[tuple[int, ...], Field(strict=False)] = ()
    why: Annotated[str, Field(min_length=1)]

    def covers(self, scenario: str, kernel: str, preempt: Preempt, cpus: int) -> bool:
        """Whether a cell is left out."""
        pairs: tuple[tuple[tuple[object, ...], object], ...] = (
            (self.scenarios, scenario),
            (self.kernels, kernel),
            (self.preempt, preempt),
            (self.cpus, cpus),
        )
        return all(not wanted or have in wanted for wanted, have in pairs)


class Matrix(Frozen):
    """What `matrix` does: trials of every scenario on every kernel, under every preemption model, with every
    number of CPUs, unless that cannot be or is excluded."""

    #: Kernel versions this file is meant for, as in ">=7.0"; empty: any.
    versions: Annotated[str, Field(pattern=VERSIONS)] = ""
    tree: TreeConfig = DebianTree()
    #: Used instead of the Debian source package on a host that is not Debian.
    tarball: TarballTree | None = None
    kernels: Annotated[dict[Name, KernelConfig], Field(min_length=1)]
    scenarios: Annotated[tuple[ScenarioEntry, ...], Field(strict=False, min_length=1)]
    preempt: Preempts = ("none",)
    cpus: Cpus = (2,)
    exclude: Annotated[tuple[Exclusion, ...], Field(strict=False)] = ()
    #: The guest, but for its preemption model and its CPUs.
    boot: BootConfig = BootConfig()
    #: The file of a box that trials run on instead of QEMU.
    target: str = ""
    trials: Trials = 3
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 1
    #: Metrics are also shown as multiples of this kernel's; empty: as they are only.
    relative_to: str = ""
    #: The largest image of its memory (compressed) kept of a trial that does not complete, MB; 0: none.
    memory_image_mb: Annotated[int, Field(ge=0, le=65536)] = 0
    #: Wall time of one trial, s.
    trial_timeout_s: Annotated[int, Field(ge=5, le=86400)] = 120

    @field_validator("boot")
    @classmethod
    def _once(cls, boot: BootConfig) -> BootConfig:
        given = sorted(boot.model_fields_set & {"preempt", "cpus"})
        if given:
            raise ValueError(f"{' and '.join(given)}: a matrix has a list of them, outside of boot")
        return boot

    @model_validator(mode="after")
    def _consistent(self) -> Matrix:
        defects = [
            f"{where} names the {kind} {name}, which is not among {kind}s{did_you_mean(name, known)}"
            for where, kind, name, known in self._references()
            if name not in known
        ]
        if self.target:
            check_no_qemu(self.boot)
        counts = Counter(entry.name for entry in self.scenarios)
        defects += [
            f"two scenarios are called {n}: give one a label" for n, count in counts.items() if count > 1
        ]
        if defects:
            raise ValueError("; ".join(defects))
        return self

    def _references(self) -> Iterable[tuple[str, str, str, list[str]]]:
        kernels, scenarios = list(self.kernels), [entry.name for entry in self.scenarios]
        for entry in self.scenarios:
            yield from ((f"scenario {entry.name}", "kernel", name, kernels) for name in entry.kernels or ())
        for exclusion in self.exclude:
            yield from (("exclude", "kernel", name, kernels) for name in exclusion.kernels)
            yield from (("exclude", "scenario", name, scenarios) for name in exclusion.scenarios)
        if self.relative_to:
            yield "relative_to", "kernel", self.relative_to, kernels

    def entry(self, name: str) -> ScenarioEntry:
        """The scenario that reports call so."""
        return next(entry for entry in self.scenarios if entry.name == name)

    def as_experiment(self) -> Experiment:
        """The kernels as `run` and `compare` take them: the first against the last."""
        first, *_, last = [*self.kernels, *self.kernels]
        entry = self.scenarios[0]
        return Experiment(
            versions=self.versions,
            scenario=entry.scenario,
            set=entry.set,
            tree=self.tree,
            tarball=self.tarball,
            kernels=self.kernels,
            arms={
                "first": ArmConfig(kernel=first, role="control"),
                "last": ArmConfig(kernel=last, role="candidate"),
            },
            boot=self.boot,
            target=self.target,
            trials=self.trials,
            seed=self.seed,
            memory_image_mb=self.memory_image_mb,
            trial_timeout_s=self.trial_timeout_s,
        )


def restricted(matrix: Matrix, scenarios: Sequence[str], kernels: Sequence[str]) -> Matrix:
    """The matrix with these scenarios and kernels only; none named stands for all. UserError: none left."""
    left = [name for name in matrix.kernels if not kernels or name in kernels]
    entries = [
        entry.model_copy(update={"kernels": tuple(k for k in entry.kernels if k in left)})
        if entry.kernels is not None
        else entry
        for entry in matrix.scenarios
        if not scenarios or entry.name in scenarios
    ]
    entries = [entry for entry in entries if entry.kernels != ()]
    if not entries:
        raise UserError("none of these scenarios is for one of these kernels", hint="see --plan")
    names = [entry.name for entry in entries]
    exclude = []
    for exclusion in matrix.exclude:
        of_kernels = tuple(name for name in exclusion.kernels if name in left)
        of_scenarios = tuple(name for name in exclusion.scenarios if name in names)
        if bool(of_kernels) == bool(exclusion.kernels) and bool(of_scenarios) == bool(exclusion.scenarios):
            exclude.append(exclusion.model_copy(update={"kernels": of_kernels, "scenarios": of_scenarios}))
    return matrix.model_copy(
        update={
            "kernels": {name: matrix.kernels[name] for name in left},
            "scenarios": tuple(entries),
            "exclude": tuple(exclude),
            "relative_to": matrix.relative_to if matrix.relative_to in left else "",
        }
    )


def builtin_matrices() -> dict[str, Path]:
    """The matrices that come with the harness, by name."""
    return {path.stem: path for path in sorted(BUILTIN.glob("*.yaml"))}


def matrix_named(reference: str) -> Matrix:
    """A built-in matrix, or one in a file, whose paths are relative to it; UserError with every defect."""
    builtin = builtin_matrices()
    matrix = load_named("no matrix", reference, builtin, Matrix)
    if reference in builtin:
        return matrix
    path = Path(reference)
    values = matrix_values(matrix)
    defects: list[str] = []
    for name, kernel in values["kernels"].items():
        try:
            kernel["patches"] = patch_files(kernel["patches"], path.resolve().parent)
        except UserError as error:
            defects.append(f"{reference}: kernels.{name}.patches: {error.message}")
    if defects:
        raise UserError("\n".join(defects))
    if isinstance(matrix.tree, FolderTree):
        values["tree"]["path"] = str((path.resolve().parent / matrix.tree.path).resolve())
    if matrix.target:
        values["target"] = str((path.resolve().parent / matrix.target).resolve())
    return validated(Matrix, values, reference)


def matrix_for(version: str) -> tuple[str, Matrix]:
    """The built-in matrix of fixes for a kernel version; UserError if there is none."""
    loaded = {name: matrix_named(name) for name in builtin_matrices() if name.startswith("fixes-")}
    for name, matrix in loaded.items():
        if in_range(version, matrix.versions):
            return name, matrix
    ranges = ", ".join(f"{name} ({matrix.versions})" for name, matrix in loaded.items())
    raise UserError(
        f"no built-in matrix for kernel {version}: {ranges}",
        hint="write one (see harness/matrix/README.md) and give it as the argument",
    )


def matrix_values(matrix: Matrix) -> dict[str, Any]:
    """The matrix as its file would say it."""
    return matrix.model_dump(mode="json", exclude={"boot": {"preempt", "cpus"}}, exclude_none=True)


def write_matrix(folder: Path, matrix: Matrix) -> None:
    """Leave the matrix in the folder of its run, in the form that `matrix` takes; the folder can be moved."""
    values = matrix_values(matrix)
    for kernel in values["kernels"].values():
        kernel["patches"] = [name.removeprefix(f"{folder}/") for name in kernel["patches"]]
    write_atomically(folder / MATRIX, yaml.safe_dump(values, sort_keys=False).encode())
