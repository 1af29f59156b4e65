# SPDX-License-Identifier: GPL-2.0-only
"""One case: a trial whose guest fails on purpose, and what was reported against what should have been."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.config import BootConfig
from harness.diagnose.image import SymbolFiles
from harness.experiment.kernels import BootableKernel
from harness.experiment.trial import Stage, TrialPlan, run_trial
from harness.guest.plan import Exec, Insmod, PowerOff, Step, Write
from harness.judge import deciding_event, latest
from harness.results.runfolder import TrialResult
from harness.selftest.cases import Case, Expected
from harness.target.recording import CONSOLE, TIMES
from harness.watch.console import ConsoleEvent, ConsoleParser
from harness.watch.kinds import OutcomeKind

#: The process that is there while the guest fails; its name as the kernel has it.
PROGRAM = "hmm-stressor"
_CHUNK = 1 << 16


@dataclass(frozen=True)
class CasePlan(TrialPlan):
    """A trial in which the module is told to fail, once the process that counts is there."""

    #: What is written to /dev/hmm_selftest.
    provoke: str = ""

    def symbols(self) -> SymbolFiles:
        """What the guest's memory is read with."""
        module = self.kernel.programs.selftest_debug
        return SymbolFiles(self.kernel.build.vmlinux, (module,) if module else ())

    def steps(self) -> list[Step]:
        """What the guest's init does."""
        words = [f"{name}={value}" for name, value in self.values.items()]
        return [
            Insmod("/hmm_selftest.ko", (f"program={PROGRAM}",)),
            Write("/dev/hmm_selftest", self.provoke),
            Exec("/hmm-stressor", (self.scenario.name, *words)),
            PowerOff(),
        ]

    def record(self) -> dict[str, Any]:
        """What the trial's `run.json` holds before anything has run."""
        return {**super().record(), "provoke": self.provoke}


@dataclass(frozen=True)
class CaseResult:
    """What came of one case."""

    case: Case
    reported: Expected
    #: The outcome in words.
    title: str
    #: Wall time from power-on to the end, s.
    seconds: float
    #: The trial's folder.
    evidence: Path

    @property
    def as_expected(self) -> bool:
        """Whether exactly that was reported which had to be."""
        expected = self.case.expect
        return (
            self.reported.outcome is expected.outcome
            and self.reported.console == expected.console
            and expected.cpu in (None, self.reported.cpu)
        )

    @property
    def machine_failed(self) -> bool:
        """Whether this says nothing about the detector: the harness or the machine failed."""
        return self.reported.outcome is OutcomeKind.INFRA_ERROR

    def as_json(self) -> dict[str, Any]:
        """One element of `cases` in `selftest --json`."""
        return {
            "name": self.case.name,
            "provokes": self.case.provokes,
            "expected": self.case.expect.model_dump(mode="json"),
            "reported": self.reported.model_dump(mode="json"),
            "as_expected": self.as_expected,
            "title": self.title,
            "seconds": self.seconds,
            "evidence": str(self.evidence),
        }


def run_case(
    case: Case, index: int, kernel: BootableKernel, boot: BootConfig, stage: Stage, folder: Path, command: str
) -> CaseResult:
    """Run a case as trial `index` of the run's folder. UserError if the guest cannot have it (one CPU)."""
    scenario = case.scenario()
    boot = case.boot_from(boot)
    values = scenario.values({"seconds": case.lives_s})
    scenario.check(boot, values)
    plan = CasePlan(
        arm=case.name,
        index=index,
        seed=0,
        scenario=scenario,
        values=values,
        kernel=kernel,
        boot=boot,
        stage=stage,
        timeout_s=case.limit_s,
        command=command,
        image_mb=0,
        provoke=case.name,
    )
    result = run_trial(plan, folder)
    return CaseResult(case, _reported(result, folder), result.title, result.seconds, folder / result.folder)


def _reported(result: TrialResult, folder: Path) -> Expected:
    """The outcome, and what the console alone says by then, read again from the record."""
    first = deciding_event(_console_events(folder / result.folder, result.judged_until_s))
    if first is None:
        return Expected(outcome=result.kind)
    return Expected(outcome=result.kind, console=first.cls, cpu=first.cpu)


def _console_events(folder: Path, until_s: float | None) -> list[ConsoleEvent]:
    parser = ConsoleParser()
    events: list[ConsoleEvent] = []
    left = _bytes_until(folder, until_s)
    with (folder / CONSOLE).open("rb") as log:
        while data := log.read(min(_CHUNK, left)):
            left -= len(data)
            events += parser.feed(data, 0.0)
    events += parser.close()
    return [event for event in latest(events) if isinstance(event, ConsoleEvent)]


def _bytes_until(folder: Path, until_s: float | None) -> int:
    """How much the console had said by then."""
    if until_s is not None:
        with (folder / TIMES).open(encoding="ascii") as marks:
            for mark in marks:
                offset, host_s = mark.split()
                if float(host_s) > until_s:
                    return int(offset)
    return (folder / CONSOLE).stat().st_size
