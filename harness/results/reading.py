# SPDX-License-Identifier: GPL-2.0-only
"""A run read back from its folder: everything that reports, exports and the store are made from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.config import Experiment
from harness.errors import UserError
from harness.results.lock import at_work
from harness.results.runfolder import EXPERIMENT, RECORD, TrialResult, read_record
from harness.target.recording import CONSOLE
from harness.watch.kinds import OutcomeKind
from harness.yamlfile import load_yaml

#: The folder of a trial's evidence, which every outcome but `completed` has.
_EVIDENCE = "evidence"


@dataclass(frozen=True)
class TrialRecord:
    """One trial of a run. `result` is None unless it came to its end."""

    folder: Path
    #: running, finished, interrupted or failed.
    state: str
    arm: str
    index: int
    seed: int
    result: TrialResult | None
    #: All of its `run.json`: scenario, parameters, kernel, boot, command, provenance.
    facts: Mapping[str, Any]

    @property
    def lost(self) -> bool:
        """It left a console or evidence that is gone, and nobody pruned it."""
        if self.result is None or self.facts.get("pruned"):
            return False
        names = [CONSOLE] if self.result.kind is OutcomeKind.COMPLETED else [CONSOLE, _EVIDENCE]
        return not all((self.folder / name).exists() for name in names)


@dataclass(frozen=True)
class RunRecord:
    """One run: finished, or as far as it came."""

    folder: Path
    verb: str
    #: building, running, finished, interrupted or failed.
    state: str
    #: The command that does it again.
    reproduce: str
    #: The source tree, in words; empty where that is not known (yet).
    tree: str
    #: None for a run that keeps none.
    experiment: Experiment | None
    #: In the order in which they were run.
    trials: tuple[TrialRecord, ...]
    #: What the run came to, as `--json` of its verb prints it; None unless it is finished.
    result: Mapping[str, Any] | None
    #: All of its `run.json`.
    facts: Mapping[str, Any]
    #: Why it failed; empty if it did not.
    error: str = ""
    #: A harness is at work there just now.
    at_work: bool = False
    #: What should be there and cannot be read, in words; a report says so.
    damaged: tuple[str, ...] = ()

    @property
    def pruned(self) -> str:
        """When its evidence was removed (UTC); empty if it was not."""
        return str(self.facts.get("pruned") or "")

    @property
    def removed(self) -> str:
        """What of its evidence is not there any more, in words; empty if all of it is."""
        if self.pruned:
            return f"the evidence was removed on {self.pruned[:10]}"
        lost = [trial.folder.name for trial in self.trials if trial.lost]
        of = f"{lost[0]} and {len(lost) - 1} more trials" if len(lost) > 1 else "".join(lost)
        return f"console or evidence of {of} is not there any more" if lost else ""

    @property
    def standing(self) -> str:
        """How far it came, in a word: its state; `killed` if it stopped without a word."""
        begun = self.state in ("building", "running")
        return "killed" if begun and not self.at_work else self.state


def load_run(folder: Path) -> RunRecord:
    """The run in `folder`, finished or not.

    UserError if it is no run, if its record is cut short, or if a newer version wrote it. A trial that
    cannot be read is left out and named in `damaged`.
    """
    folder = folder.resolve()
    facts = read_record(folder)
    verb, state, reproduce = (facts.get(name) for name in ("verb", "state", "reproduce"))
    if not isinstance(verb, str) or not isinstance(state, str) or not isinstance(reproduce, str):
        trial = "arm" in facts and (folder.parent.parent / RECORD).is_file()
        hint = f"that is a trial of {folder.parent.parent}" if trial else "as in runs/20261123-180000-NAME"
        raise UserError(f"{folder} is not the folder of a run", hint=hint)
    result = facts.get("result") if state == "finished" else None
    if state == "finished" and not isinstance(result, dict):
        raise UserError(f"{folder / RECORD} is damaged: it is finished without a result")
    damaged: list[str] = []
    return RunRecord(
        folder=folder,
        verb=verb,
        state=state,
        reproduce=reproduce,
        tree=str(facts.get("tree", "")),
        experiment=_experiment(folder, damaged),
        trials=_trials(folder, result or {}, damaged),
        result=result,
        facts=facts,
        error=str(facts.get("error", "")) if state == "failed" else "",
        at_work=at_work(folder),
        damaged=tuple(damaged),
    )


def _experiment(folder: Path, damaged: list[str]) -> Experiment | None:
    if not (folder / EXPERIMENT).is_file():
        return None
    try:
        return load_yaml(folder / EXPERIMENT, Experiment)
    except UserError as error:
        damaged.append(error.message)
        return None


def _trials(folder: Path, result: Mapping[str, Any], damaged: list[str]) -> tuple[TrialRecord, ...]:
    """Those that can be read; in the order that the result has them, if it has."""
    listed = result.get("evidence")
    places = listed if isinstance(listed, list) else []
    order = {Path(str(place)).name: number for number, place in enumerate(places)}
    found = []
    for path in folder.glob("trials/*/"):
        try:
            found.append(load_trial(path))
        except UserError as error:
            damaged.append(error.message)
    missing = set(order) - {path.name for path in folder.glob("trials/*/")}
    damaged += [f"{folder / 'trials' / name} is not there any more" for name in sorted(missing)]

    def turn(trial: TrialRecord) -> tuple[int, str, str]:
        name = trial.folder.name
        return order.get(name, len(order)), trial.facts.get("begun", ""), name

    return tuple(sorted(found, key=turn))


def load_trial(folder: Path) -> TrialRecord:
    """The trial in `folder`, finished or not. UserError if there is none, or its record is damaged."""
    facts = read_record(folder)
    try:
        finished = facts["state"] == "finished"
        return TrialRecord(
            folder=folder,
            state=facts["state"],
            arm=facts["arm"],
            index=facts["index"],
            seed=facts["seed"],
            result=TrialResult.from_json(facts["result"]) if finished else None,
            facts=facts,
        )
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{folder / RECORD} is not the record of a trial: {error!r}") from error
