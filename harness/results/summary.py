# SPDX-License-Identifier: GPL-2.0-only
"""A run as its reports see it: what it came to, and its trials by arm. Of a run cut short, what is there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from harness.errors import UserError
from harness.experiment.statistics import ArmTally, Counted, Interval, VerdictKind, tally
from harness.results.matrix import MatrixResult
from harness.results.night import NightResult
from harness.results.reading import RunRecord, TrialRecord
from harness.results.runfolder import RECORD, TrialResult
from harness.results.schema import (
    ArmResult,
    BisectResult,
    BootFacts,
    CompareResult,
    KernelFacts,
    PatchFacts,
    SelftestResult,
    read_as,
)
from harness.scenario.catalogue import load_scenario
from harness.watch.kinds import OutcomeKind

#: What a run says of what was tested: nothing wrong, something wrong, or nothing.
Standing = Literal["good", "bad", "open"]

#: Of the table of arms.
COLUMNS = ("arm", "kernel", "trials", "bug", "rate", "95 % interval", "windows", "outcomes")

#: What a trial is to somebody who counts red cases. `expected`: a failure that it was there to show;
#: `skipped`: it never came to what it is about; `silent`: it says nothing about the kernel.
Mark = Literal["passed", "expected", "failed", "skipped", "silent"]

_COMPARED: Mapping[str, Standing] = {
    VerdictKind.FIXED: "good",
    VerdictKind.NOT_FIXED: "bad",
    VerdictKind.OTHER_FAILURE: "bad",
}


_NIGHTS: Mapping[str, Standing] = {"nothing_new": "good", "regression": "bad", "not_judged": "open"}


@dataclass(frozen=True)
class Arm:
    """The finished trials of one kernel, counted."""

    name: str
    #: `control` (it is meant to fail) or `candidate`; `probe`: a kernel of a bisection; `case`: one of a
    #: self-test; empty where there is no such thing.
    role: str
    #: The kernel with its patches as tables name it.
    label: str
    #: None of an arm that was not built.
    kernel: KernelFacts | None
    boot: BootFacts | None
    trials: tuple[TrialRecord, ...]
    results: tuple[TrialResult, ...]
    tally: ArmTally
    ci95: Interval
    #: Of a self-test's case: whether it was reported as what it is.
    as_expected: bool | None = None

    def mark(self, result: TrialResult) -> Mark:
        """What a trial of this arm is to somebody who counts red cases."""
        kind = result.kind
        if self.role == "case" and self.as_expected is not None:
            return "failed" if not self.as_expected else "expected" if kind.is_failure else "passed"
        if kind.is_failure:
            return "expected" if self.role in ("control", "probe") and result.is_bug else "failed"
        if kind is OutcomeKind.NOT_EXERCISED:
            return "skipped"
        return "passed" if kind.is_answer else "silent"

    @property
    def outcomes(self) -> str:
        """`5 completed, 1 livelock`."""
        return ", ".join(f"{count} {kind}" for kind, count in self.tally.outcomes)

    @property
    def patches(self) -> tuple[PatchFacts, ...]:
        """In the order in which they were put on."""
        return self.kernel.patches if self.kernel else ()

    @property
    def guest(self) -> str:
        """`microvm on tcg, 2 CPUs, 1024 MB, preempt=none`."""
        boot = self.boot
        if boot is None:
            return ""
        return f"{boot.where}, {boot.cpus} CPUs, {boot.memory_mb} MB, preempt={boot.preempt}"

    @property
    def guest_in_full(self) -> str:
        """The same for who does not know this program: `QEMU microvm on tcg, ...`, or `box lab1, ...`."""
        return self.guest if self.boot is None or self.boot.box else f"QEMU {self.guest}"

    @property
    def row(self) -> tuple[str, ...]:
        """A row of the table with the columns COLUMNS."""
        counted = self.tally
        return (
            self.name,
            self.label,
            str(counted.trials),
            str(counted.reproduced),
            "-" if counted.rate is None else f"{counted.rate:.2f}",
            f"{self.ci95.low:.2f} to {self.ci95.high:.2f}",
            str(counted.windows),
            self.outcomes or "-",
        )


@dataclass(frozen=True)
class Summary:
    """What every format is made from."""

    run: RunRecord
    #: One word or a few: the verdict, a trial's outcome, a culprit, how far the run came.
    headline: str
    reason: str
    standing: Standing
    scenario: str
    #: Scenario parameters that differ from their defaults, as words of a command line.
    settings: str
    arms: tuple[Arm, ...]
    #: Of a comparison, a matrix or a night that has come to its end.
    compared: CompareResult | None
    matrix: MatrixResult | None
    night: NightResult | None

    @property
    def shown(self) -> TrialResult | None:
        """The trial whose evidence is shown where there is room for one: the bug, or else a failure."""
        failed = [result for arm in self.arms for result in arm.results if result.kind.is_failure]
        return next((result for result in failed if result.is_bug), next(iter(failed), None))

    @property
    def tree(self) -> str:
        """Where the source is from, in words; empty where nothing says so."""
        trees = (arm.kernel.tree for arm in self.arms if arm.kernel)
        return self.run.tree or next(trees, "")


def summarize(run: RunRecord) -> Summary:
    """The summary of any verb's run, finished or not. UserError for a damaged record."""
    where = f"{run.folder / RECORD}: result"
    result = run.result
    compared = read_as(CompareResult, result, where) if run.verb == "compare" and result is not None else None
    matrix = read_as(MatrixResult, result, where) if run.verb == "matrix" and result is not None else None
    night = read_as(NightResult, result, where) if run.verb == "nightly" and result is not None else None
    headline, reason, standing = _end(run, compared or matrix or night, where)
    scenario = next((str(trial.facts.get("scenario", "")) for trial in run.trials), "")
    if not scenario and run.experiment:
        scenario = run.experiment.scenario
    given = run.experiment.set if run.experiment else {}
    settings = " ".join(f"{name}={value}" for name, value in given.items())
    arms = _arms(run, compared, scenario)
    return Summary(run, headline, reason, standing, scenario, settings, arms, compared, matrix, night)


def _end(
    run: RunRecord, read: CompareResult | MatrixResult | NightResult | None, where: str
) -> tuple[str, str, Standing]:
    result = run.result
    if isinstance(read, CompareResult):
        return read.verdict, read.reason, _COMPARED.get(read.verdict, "open")
    if isinstance(read, MatrixResult):
        return _cells(read)
    if isinstance(read, NightResult):
        return read.verdict, read.reason, _NIGHTS[read.verdict]
    if result is None:
        return run.standing, run.error or "the run has not come to its end", "open"
    match run.verb:
        case "run":
            try:
                trial = TrialResult.from_json(result)
            except ValueError as error:
                raise UserError(f"{where} is damaged: {error}") from error
            standing: Standing = (
                "bad" if trial.kind.is_failure else "good" if trial.kind.is_answer else "open"
            )
            return str(trial.kind), trial.title, standing
        case "bisect":
            found = read_as(BisectResult, result, where)
            named = found.labels.get(found.culprit, found.culprit) if found.culprit else "none"
            return f"culprit: {named}", found.reason, "good" if found.culprit and found.checked else "open"
        case "selftest":
            tested = read_as(SelftestResult, result, where)
            good = len(tested.cases) - len(tested.missed)
            missed = (
                f"missed: {', '.join(tested.missed)}"
                if tested.missed
                else "every failure is reported as it is"
            )
            return f"{good} of {len(tested.cases)} as expected", missed, "bad" if tested.missed else "good"
        case _:
            return str(result.get("verdict", run.state)), str(result.get("reason", "")), "open"


def _cells(matrix: MatrixResult) -> tuple[str, str, Standing]:
    """A matrix compares; that some of its cells fail is what it is for."""
    tried = [cell for cell in matrix.cells if cell.answered]
    failing = sum(bool(cell.reproduced or cell.failed_otherwise) for cell in tried)
    silent = sum(cell.state in ("failed", "open") for cell in matrix.cells)
    reason = f"{silent} cells have no answer" if silent else "every cell that can be has an answer"
    word = "incomplete" if silent else "complete"
    return f"{word}: {failing} of {len(tried)} cells fail", reason, "open" if silent else "good"


def _arms(run: RunRecord, compared: CompareResult | None, scenario: str) -> tuple[Arm, ...]:
    """In the result's order, if there is one; then as the trials come."""
    said = {arm.name: arm for arm in compared.arms} if compared else {}
    planned = list(run.experiment.arms) if run.experiment and run.verb == "compare" else []
    names = dict.fromkeys([*said, *planned, *(trial.arm for trial in run.trials)])
    counted = _counted(scenario)
    cases = _cases(run)
    return tuple(_arm(run, name, said.get(name), counted, cases) for name in names)


def _cases(run: RunRecord) -> dict[str, bool]:
    """Which cases of a self-test were reported as what they are."""
    if run.verb != "selftest" or run.result is None:
        return {}
    done = read_as(SelftestResult, run.result, f"{run.folder / RECORD}: result")
    return {case.name: case.as_expected for case in done.cases}


_ROLES: Mapping[str, str] = {"bisect": "probe", "selftest": "case"}


def _arm(
    run: RunRecord, name: str, said: ArmResult | None, counts: Counted, cases: Mapping[str, bool]
) -> Arm:
    trials = tuple(trial for trial in run.trials if trial.arm == name)
    results = tuple(trial.result for trial in trials if trial.result)
    planned = run.experiment.arms.get(name) if run.experiment and run.verb == "compare" else None
    counted = tally(name, results, counts)
    kernel, boot = (said.kernel, said.boot) if said else (None, None)
    if trials and not said:
        where = str(trials[0].folder / RECORD)
        facts = trials[0].facts
        kernel = read_as(KernelFacts, facts["kernel"], f"{where}: kernel") if "kernel" in facts else None
        boot = read_as(BootFacts, facts["boot"], f"{where}: boot") if "boot" in facts else None
    return Arm(
        name=name,
        role=said.role if said else planned.role if planned else _ROLES.get(run.verb, ""),
        label=(said and said.label) or (planned.label if planned else "") or name,
        kernel=kernel,
        boot=boot,
        trials=trials,
        results=results,
        tally=counted,
        ci95=Interval(*said.ci95) if said else counted.ci95,
        as_expected=cases.get(name),
    )


def _counted(scenario: str) -> Counted:
    try:
        return load_scenario(scenario).counted
    except UserError:  # of another version of this program, say
        return "windows"
