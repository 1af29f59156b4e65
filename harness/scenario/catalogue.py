# SPDX-License-Identifier: GPL-2.0-only
"""The scenarios: what each needs, its parameters, and what says that the bug was met."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from harness.config import VERSIONS, BootConfig, Experiment, Frozen, Preempt, Words
from harness.errors import UserError
from harness.kernel.patches import in_range
from harness.outcome import MetricLimit, Oracle, StackRule
from harness.suggest import did_you_mean
from harness.watch.kinds import OutcomeKind
from harness.watch.thresholds import Thresholds
from harness.yamlfile import load_yaml

CATALOGUE = Path(__file__).resolve().parent

Value = int | str


class UnfitKernelError(UserError):
    """A kernel that cannot run the scenario: it is too old, or was built without what it takes."""


class IntParameter(Frozen):
    """A whole number, with its unit and the range the stressor takes."""

    type: Literal["int"]
    default: int
    minimum: int
    maximum: int
    unit: str = ""
    help: str

    def read(self, value: Value) -> int:
        """The value, from YAML or as typed on a command line; ValueError says what is allowed."""
        try:
            number = int(value)
        except ValueError:
            raise ValueError("must be a whole number") from None
        if not self.minimum <= number <= self.maximum:
            raise ValueError(f"must be from {self.minimum} to {self.maximum} {self.unit}".rstrip())
        return number


class ChoiceParameter(Frozen):
    """One word of a few."""

    type: Literal["choice"]
    default: str
    choices: Words
    help: str

    def read(self, value: Value) -> str:
        """The word; ValueError names the words there are."""
        if value not in self.choices:
            raise ValueError(
                f"must be one of {', '.join(self.choices)}{did_you_mean(str(value), self.choices)}"
            )
        return str(value)


class TextParameter(Frozen):
    """Any text without white space; also none."""

    type: Literal["text"]
    default: str
    help: str

    def read(self, value: Value) -> str:
        """The text; ValueError if it would not survive being one word."""
        text = str(value)
        if not text.isprintable() or any(letter.isspace() for letter in text):
            raise ValueError("must be one word")
        return text


Parameter = Annotated[IntParameter | ChoiceParameter | TextParameter, Field(discriminator="type")]


class Needs(Frozen):
    """What the guest must have, or the scenario tests nothing."""

    cpus: int = 1
    preempt: Annotated[tuple[Preempt, ...], Field(strict=False)]
    #: MB of the guest.
    memory_mb: int = 0
    #: Kernel versions, as in ">=7.0"; empty: any.
    versions: Annotated[str, Field(pattern=VERSIONS)] = ""
    #: Symbols that the kernel must have been built with, as in CONFIG_TRANSPARENT_HUGEPAGE.
    config: Words = ()
    #: Huge pages for whoever asks for them by madvise().
    huge_pages: bool = False


class RuleConfig(Frozen):
    """One way the bug shows; functions are shell patterns. See `harness.judge.StackRule`."""

    kinds: tuple[Annotated[OutcomeKind, Field(strict=False)], ...] = Field(strict=False)
    frames: Words
    not_frames: Words = ()
    entry: str = ""


class MetricConfig(Frozen):
    """A figure that the stressor measures, and the limit beyond which the trial is `starved`."""

    unit: str = ""
    above: float | None = None
    below: float | None = None
    help: str

    @property
    def limit(self) -> str:
        """`above 50`; empty if there is none."""
        limits = (("above", self.above), ("below", self.below))
        return " or ".join(f"{where} {limit:g}" for where, limit in limits if limit is not None)


class OracleConfig(Frozen):
    """The bug's own signature, and what a trial must have done to answer anything."""

    rules: tuple[RuleConfig, ...] = Field(strict=False)
    #: Shell patterns of the functions that a CPU in the bug's loop is seen in.
    spin_functions: Words = ()
    #: A trial without a window (the conditions met at once) answers nothing.
    windows: bool
    #: Host seconds that the guest had without an iteration or a counter that moves, after which it is hung.
    stall_s: int
    #: Data found changed, or a structure of the kernel's found damaged, is the bug itself.
    corrupts: bool = False
    #: By the names that the stressor's `end` gives.
    metrics: dict[str, MetricConfig] = Field(default={})


class Scenario(Frozen):
    """One entry of the catalogue, from its YAML file."""

    name: str
    title: str
    bug: str
    description: str
    needs: Needs
    #: What runs: the stressor with hmm_harness.ko, the tree's own hmm-tests with its test_hmm.ko, or IGT's
    #: runner with the IGT of the system that it runs on.
    program: Literal["stressor", "hmm-tests", "igt"] = "stressor"
    #: Wall time that a trial is given at least, s, whatever the experiment says.
    trial_s: int = 0
    #: Parameters of the module.
    module: dict[str, int] = Field(default={})
    #: Words for the kernel's command line.
    cmdline: Words = ()
    parameters: dict[str, Parameter]
    oracle: OracleConfig

    @property
    def module_words(self) -> tuple[str, ...]:
        """The module's parameters as insmod takes them."""
        return tuple(f"{name}={value}" for name, value in self.module.items())

    @property
    def counted(self) -> Literal["windows", "iterations", "cases"]:
        """What a trial goes through, and by which it is seen how much was tried."""
        if self.oracle.windows:
            return "windows"
        return "iterations" if self.program == "stressor" else "cases"

    def values(self, given: Mapping[str, Value]) -> dict[str, Value]:
        """All parameters, defaults filled in; UserError names every one that is unknown or out of range."""
        defects = []
        values: dict[str, Value] = {name: parameter.default for name, parameter in self.parameters.items()}
        for name, value in given.items():
            if name not in self.parameters:
                defects.append(f"{name}: no such parameter{did_you_mean(name, self.parameters)}")
                continue
            try:
                values[name] = self.parameters[name].read(value)
            except ValueError as error:
                defects.append(f"{name}={value}: {error}")
        if defects:
            raise UserError(
                f"scenario {self.name}: " + "; ".join(defects),
                hint="parameters: "
                + ", ".join(f"{name}={p.default}" for name, p in self.parameters.items())
                + f"; `hmm-harness list {self.name}` tells what they are",
            )
        return values

    def judge_by(self) -> Oracle:
        """The oracle as `harness.judge` takes it."""
        rules = tuple(
            StackRule(frozenset(rule.kinds), rule.frames, rule.not_frames, rule.entry)
            for rule in self.oracle.rules
        )
        metrics = tuple(
            MetricLimit(name, metric.unit, metric.above, metric.below, metric.help)
            for name, metric in self.oracle.metrics.items()
        )
        suite = self.program != "stressor"
        return Oracle(
            rules,
            needs_windows=self.oracle.windows,
            metrics=metrics,
            corrupts=self.oracle.corrupts,
            suite=suite,
        )

    def limits(self, boot: BootConfig) -> Thresholds:
        """What the watcher takes a silence of this guest for."""
        return Thresholds.of(self.oracle.stall_s, boot.watchdog_thresh_s)

    def check(self, boot: BootConfig, values: Mapping[str, Value], userland: bool = False) -> None:
        """UserError if the guest as planned cannot run this scenario.

        `userland`: a system is around it, not only what the harness brings.
        """
        if self.program == "igt" and not userland:
            raise UserError(
                f"scenario {self.name} needs a system that has IGT: a guest has only what the harness brings",
                hint="a box as target; or `qemu: {userland: FOLDER, vfio: ADDRESS}` in the experiment "
                "(harness/igt/README.md)",
            )
        if boot.cpus < self.needs.cpus:
            raise UserError(
                f"scenario {self.name} needs {self.needs.cpus} CPUs, the guest has {boot.cpus}",
                hint=f"--cpus {self.needs.cpus}",
            )
        if boot.preempt not in self.needs.preempt:
            raise UserError(
                f"scenario {self.name} does not run under preempt={boot.preempt}",
                hint=f"one of: {', '.join(self.needs.preempt)}",
            )
        if boot.memory_mb < self.needs.memory_mb:
            raise UserError(
                f"scenario {self.name} needs {self.needs.memory_mb} MB of memory, "
                f"the guest has {boot.memory_mb}",
                hint=f"--memory-mb {self.needs.memory_mb}",
            )
        # Of several the last one counts: setup_transparent_hugepage() in mm/huge_memory.c.
        huge = [word for word in (*self.cmdline, *boot.cmdline) if word.startswith("transparent_hugepage=")]
        if self.needs.huge_pages and huge and huge[-1].endswith("=never"):
            raise UserError(
                f"scenario {self.name} needs huge pages, the guest boots with {huge[-1]}",
                hint="take it out of boot.cmdline, or say transparent_hugepage=madvise",
            )
        taken: dict[Value, str] = {}
        for name, value in values.items():
            if not name.endswith("_cpu") or not isinstance(value, int):
                continue
            if value >= boot.cpus:
                raise UserError(f"{name}={value}, but the guest has CPUs 0 to {boot.cpus - 1}")
            if value in taken:
                raise UserError(f"{name}={value} must differ from {taken[value]}")
            taken[value] = name

    def check_version(self, version: str) -> None:
        """UnfitKernelError if a kernel of this version has nothing that the scenario is about."""
        if self.needs.versions and not in_range(version, self.needs.versions):
            raise UnfitKernelError(
                f"scenario {self.name} is for kernels {self.needs.versions}, this is {version}",
                hint="choose another tree (--tree) or another scenario",
            )

    def check_kernel(self, version: str, config: str) -> None:
        """UnfitKernelError if a kernel of this version and .config cannot run the scenario."""
        self.check_version(version)
        lines = set(config.splitlines())
        missing = [name for name in self.needs.config if not {f"{name}=y", f"{name}=m"} & lines]
        if missing:
            raise UnfitKernelError(
                f"scenario {self.name} needs {', '.join(missing)}, which the kernel was built without",
                hint="the kernel's `config` in the experiment switches it off",
            )


def scenario_names() -> list[str]:
    """The names in the catalogue."""
    return sorted(path.stem for path in CATALOGUE.glob("*.yaml"))


@cache
def load_scenario(name: str) -> Scenario:
    """A scenario by name; UserError if there is none."""
    names = scenario_names()
    if name not in names:
        raise UserError(
            f"no scenario {name!r}{did_you_mean(name, names)}", hint=f"scenarios: {', '.join(names)}"
        )
    return load_yaml(CATALOGUE / f"{name}.yaml", Scenario)


def scenario_values(experiment: Experiment) -> tuple[Scenario, dict[str, Value]]:
    """An experiment's scenario and its parameters; UserError for what is unknown or cannot run."""
    scenario = load_scenario(experiment.scenario)
    values = scenario.values(experiment.set)
    userland = bool(experiment.target or experiment.qemu.userland)
    scenario.check(experiment.boot, values, userland=userland)
    return scenario, values


def parse_settings(settings: list[str]) -> dict[str, Value]:
    """`key=value` words of a command line as a mapping; UserError for a word without `=`."""
    values: dict[str, Value] = {}
    for setting in settings:
        key, equals, value = setting.partition("=")
        if not equals or not key:
            raise UserError(
                f"cannot read --set {setting!r}", hint="--set key=value, as in --set iterations=50"
            )
        values[key] = value
    return values
