# SPDX-License-Identifier: GPL-2.0-only
"""A night from its first self-test to its last bisection. Whatever it knows is in its folder's record."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import Any

from harness.deadline import Deadline
from harness.disk import disk_errors
from harness.display import elapsed
from harness.nightly.child import Ran, Runner
from harness.nightly.detectors import try_detectors
from harness.nightly.judge import Judgement, Past, judge
from harness.nightly.known import Known
from harness.nightly.model import QEMU, Nightly
from harness.nightly.suggest import bisection
from harness.nightly.units import MOST, Unit, behind_controls, in_turn, in_vain, took
from harness.process import command_line
from harness.progress import Progress
from harness.results.matrix import MatrixResult
from harness.results.night import (
    DetectorFacts,
    Finding,
    NightCell,
    NightResult,
    NightTreeFacts,
    NightVerdict,
    UnitFacts,
)
from harness.results.runfolder import program
from harness.results.schema import read_as

#: A verb's own clock.
_STAMP = re.compile(r"^\[ *[\d.]+s\] ")
#: Files that the verbs are given, and what they said, in the night's folder.
JOBS, LOGS = "jobs", "log"


@dataclass(frozen=True)
class Setting:
    """What a night is given. places: where its verbs read and write, as words of a command line."""

    night: Nightly
    day: date
    trees: tuple[NightTreeFacts, ...]
    units: tuple[Unit, ...]
    past: Past
    known: Known
    folder: Path
    places: tuple[str, ...]
    reproduce: str


class Session:
    """Runs a night."""

    def __init__(
        self,
        setting: Setting,
        progress: Progress,
        update: Callable[..., None],
        begun: Mapping[str, Any],
        runner: Runner,
        begin: float,
    ) -> None:
        """update: keeps facts in the record. begun: what an earlier start of this night kept there.

        begin: when this start was, s on the monotonic clock: fetching the trees counts, too.
        """
        self._setting = setting
        self._progress = progress
        self._update = update
        self._runner = runner
        self._units = {unit["name"]: UnitFacts.model_validate(unit) for unit in begun.get("units", ())}
        self._cells = [NightCell.model_validate(cell) for cell in begun.get("cells", ())]
        detectors = begun.get("detectors")
        self._detectors = DetectorFacts.model_validate(detectors) if detectors else None
        #: The unit whose turn it is tonight: it is begun, whatever it took.
        self._leader = ""
        self._spent_s = float(begun.get("seconds", 0.0))
        self._begin = begin
        self._budget_s = setting.night.budget_minutes * 60.0
        self._deadline = Deadline(begin + self._budget_s - self._spent_s)
        for name in (JOBS, LOGS):
            with disk_errors(setting.folder / name):
                (setting.folder / name).mkdir(exist_ok=True)

    @property
    def _seconds(self) -> float:
        return round(self._spent_s + time.monotonic() - self._begin, 1)

    def run(self) -> NightResult:
        """Self-test, units in turn, judgement, bisections. InfraError if the disk fails."""
        if self._detectors is None or self._detectors.error or self._detectors.missed:
            night, units = self._setting.night, self._setting.units
            jobs = self._setting.folder / JOBS
            self._detectors = try_detectors(night, units, jobs, self._verb)
            self._keep()
        if not self._detectors.error and not self._detectors.missed:
            for unit in self._turns():
                self._units[unit.name] = self._run(unit)
                self._keep()
        judged = judge(self._cells, self._setting.past, self._setting.known, self._setting.night.false_alarm)
        findings = [self._followed(finding, self._setting.night.auto_bisect) for finding in judged.findings]
        still = [self._followed(finding, False) for finding in judged.still]
        complaints = (*judged.complaints, *self._too_long())
        return self._result(
            replace(judged, findings=tuple(findings), still=tuple(still), complaints=complaints)
        )

    def _keep(self) -> None:
        self._update(
            "running",
            detectors=self._detectors.model_dump(mode="json") if self._detectors else None,
            units=[unit.model_dump(mode="json") for unit in self._units.values()],
            cells=[cell.model_dump(mode="json") for cell in self._cells],
            seconds=self._seconds,
        )

    def _verb(self, title: str, words: Sequence[str]) -> Ran:
        log = self._setting.folder / LOGS / f"{title.replace('/', '.').replace(' ', '-')}.log"
        with self._progress.step(title) as step:

            def say(line: str) -> None:
                step.update(_STAMP.sub("", line))

            return self._runner([*words, *self._setting.places], log, self._deadline, say)

    # The units

    def _turns(self) -> list[Unit]:
        """Those that are not done yet, the ones first that waited longest, each behind a control."""
        past, by_name = self._setting.past.nights, {unit.name: unit for unit in self._setting.units}
        turns = [by_name[name] for name in in_turn(list(by_name), past, self._budget_s)]
        self._leader = turns[0].name if turns else ""
        done = [unit.name for unit in self._units.values() if unit.state == "done"]
        return behind_controls(turns, past, self._budget_s, done)

    def _too_long(self) -> Iterator[str]:
        past = self._setting.past.nights
        for unit in self._units.values():
            spent_s = unit.seconds if unit.state == "cut" else 0.0
            longest_s = max(spent_s, in_vain(unit.name, past)) if unit.state != "done" else 0.0
            if longest_s > MOST * self._budget_s:
                yield (
                    f"{unit.name} did not end in {elapsed(longest_s)}: it comes last from now on; a higher "
                    "budget_minutes, or fewer trials, would make room for it"
                )

    def _run(self, unit: Unit) -> UnitFacts:
        left_s = self._deadline.remaining
        usual_s = took(unit.name, self._setting.past.nights)
        # A control that was run for it took nothing of its turn.
        first = unit.name == self._leader or not any(each.state == "done" for each in self._units.values())
        if not left_s:
            return UnitFacts(name=unit.name, state="left", reason="the budget was over")
        if usual_s > left_s and not first:
            reason = f"it took {elapsed(usual_s)} last time, {elapsed(left_s)} were left"
            return UnitFacts(name=unit.name, state="left", reason=reason)
        begin = time.monotonic()
        path = unit.write(self._setting.folder / JOBS)
        ran = self._verb(unit.name, ["matrix", str(path)])
        seconds = round(time.monotonic() - begin, 1)
        if ran.status is None:
            reason = f"the budget was over after {elapsed(seconds)} of it"
            return UnitFacts(name=unit.name, state="cut", reason=reason, seconds=seconds)
        if ran.status not in (0, 1) or not ran.result:
            reason = ran.error or f"matrix ended with {ran.status}"
            return UnitFacts(name=unit.name, state="failed", reason=reason, seconds=seconds)
        result = read_as(MatrixResult, ran.result, f"the result of {unit.name}")
        self._cells += unit.cells(result)
        return UnitFacts(name=unit.name, state="done", seconds=seconds, run=result.evidence)

    # What follows

    def _followed(self, finding: Finding, run_it: bool) -> Finding:
        """A finding with the command that finds its commit, and with what that came to if it is run."""
        cell = next(each for each in self._cells if each.series == finding.series)
        tree = self._setting.night.trees[cell.tree]
        words, why_not = bisection(finding, cell, tree, self._setting.night.target, self._setting.places)
        command = command_line([program(), *words]) if words else ""
        said = ""
        if words and run_it:
            kept = words[: len(words) - len(self._setting.places)]
            said = _culprit(self._verb(f"bisect {cell.tree} {cell.label} {cell.kernel} {cell.preempt}", kept))
        return finding.model_copy(update={"bisect": command, "no_bisect": why_not, "bisected": said})

    def _result(self, judged: Judgement) -> NightResult:
        setting = self._setting
        assert self._detectors
        units = tuple(self._units.get(unit.name) or _untried(unit) for unit in setting.units)
        lost = [
            UnitFacts(name=f"{tree.name}/*", state="failed", reason=tree.error)
            for tree in setting.trees
            if tree.error
        ]
        verdict, reason = verdict_of(judged, self._detectors, [*units, *lost])
        return NightResult(
            name=setting.night.name,
            night=setting.day.isoformat(),
            target=setting.night.target if setting.night.target == QEMU else Path(setting.night.target).name,
            verdict=verdict,
            reason=reason,
            findings=judged.findings,
            still=judged.still,
            known=judged.known,
            complaints=judged.complaints,
            detectors=self._detectors,
            trees=setting.trees,
            units=(*units, *lost),
            cells=judged.cells,
            compared=tuple(night.night for night in setting.past.nights),
            nights=setting.night.nights,
            false_alarm=setting.night.false_alarm,
            budget_minutes=setting.night.budget_minutes,
            seconds=self._seconds,
            evidence=str(setting.folder),
            reproduce=setting.reproduce,
        )


def _untried(unit: Unit) -> UnitFacts:
    return UnitFacts(name=unit.name, state="left", reason="nothing is judged without the self-test")


def _culprit(ran: Ran) -> str:
    if ran.status is None:
        return "the budget was over: the same command goes on where this was ended"
    culprit = ran.result.get("culprit")
    if culprit:
        named = ran.result.get("labels", {}).get(culprit, culprit)
        return f"culprit: {named} (see {ran.result.get('evidence')})"
    return f"no culprit: {ran.result.get('reason') or ran.error or f'bisect ended with {ran.status}'}"


def verdict_of(
    judged: Judgement, detectors: DetectorFacts, units: Sequence[UnitFacts]
) -> tuple[NightVerdict, str]:
    """The night in a word, and why."""
    worse = [finding for finding in judged.findings if finding.worse]
    silent = [f"{cell.where}: {cell.why}" for cell in judged.silent]
    silent += [f"{unit.name}: {unit.reason}" for unit in units if unit.state == "failed"]
    answers = [cell for cell in judged.cells if cell.judged and cell.role == "candidate"]
    if detectors.error:
        return "not_judged", f"the self-test did not come to its end: {detectors.error}"
    if detectors.missed:
        return "not_judged", f"the self-test missed {', '.join(detectors.missed)}"
    if worse:
        more = f", and {len(worse) - 1} more" if len(worse) > 1 else ""
        return "regression", f"{worse[0].where}: {worse[0].signature or worse[0].said}{more}"
    if silent:
        more = f", and {len(silent) - 1} more" if len(silent) > 1 else ""
        return "not_judged", f"{silent[0]}{more}"
    if not answers:
        return "not_judged", "the budget left no time for anything"
    failing = sum(bool(cell.failures) for cell in answers)
    often = f"{failing} of them fail as before or are known" if failing else "none fails"
    return "nothing_new", f"{len(answers)} cells are judged, {often}"
