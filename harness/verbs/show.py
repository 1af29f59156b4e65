# SPDX-License-Identifier: GPL-2.0-only
"""`hmm-harness show`: 0 if the run is shown as it was recorded, 2 if something of it cannot be read."""

from __future__ import annotations

import argparse
import importlib
import json
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from harness.display import Display
from harness.errors import UserError
from harness.layout import Part, Table, Whole
from harness.results.naming import Stored, run_named
from harness.results.reading import RunRecord, TrialRecord, load_run
from harness.results.report import report_parts, trial_lines
from harness.results.runfolder import SCHEMA


def main(arguments: argparse.Namespace, display: Display) -> int:
    """Carry the verb out; its exit status."""
    place = run_named(arguments.run, arguments.store)
    if isinstance(place, Stored):
        return _show_stored(place, arguments, display)
    run = load_run(place)
    if arguments.rerun:
        for what in run.damaged:
            print(f"warning: not compared: {what}", file=sys.stderr)
        # Only this takes all that the verbs work with.
        return int(importlib.import_module("harness.verbs.rerun").rerun(run, arguments, display))
    if arguments.trial:
        chosen = trials_named(run, arguments.trial)
        for trial in chosen:
            if arguments.json:
                print(_trial_json(trial))
            else:
                display.result(*_trial_parts(trial))
    elif arguments.json:
        print(json.dumps(_run_json(run)))
    else:
        display.result(*run_parts(run))
    if run.removed:
        print(f"note: {run.removed}", file=sys.stderr)
    for what in run.damaged:
        print(f"error: {what}", file=sys.stderr)
    return UserError.exit_code if run.damaged else 0


def _show_stored(stored: Stored, arguments: argparse.Namespace, display: Display) -> int:
    """What the store has of a run whose folder is gone."""
    if arguments.rerun or arguments.trial:
        raise UserError(f"{stored.folder} is not there any more", hint="without it, only its report is")
    record = json.loads(stored.record)
    if arguments.json:
        print(json.dumps(record.get("result", record)))
    else:
        display.result("", stored.report.strip())
    print(f"note: {stored.folder} is not there any more; this is from the store", file=sys.stderr)
    return 0


def run_parts(run: RunRecord) -> list[Part]:
    """The report as it was printed at the run's end; of a run that did not come to it, how far it came."""
    if run.result is not None:
        results = [trial.result for trial in run.trials if trial.result]
        return report_parts(run.verb, run.result, results, run.folder)
    lines: list[Part] = ["", f"{run.verb}: {run.standing}", *(f"  {line}" for line in run.error.splitlines())]
    done = [trial for trial in run.trials if trial.result]
    lines += [f"  {len(done)} trials finished", ""]
    rows = [("trial", "outcome", "windows", "seconds", "")]
    for trial in done:
        assert trial.result
        bug = " (the bug)" if trial.result.is_bug else ""
        numbers = (str(trial.result.windows), f"{trial.result.seconds:.1f}")
        rows.append((trial.folder.name, f"{trial.result.kind}{bug}", *numbers, trial.result.title))
    lines += [Table(rows)] if done else []
    return [*lines, "", Whole("  evidence     ", str(run.folder)), Whole("  again        ", run.reproduce)]


def _run_json(run: RunRecord) -> Mapping[str, Any]:
    """What `--json` of the verb printed at the run's end; else the record as it is."""
    if run.result is None:
        return run.facts
    if run.verb == "run":
        return {"schema": SCHEMA, **run.result, "evidence": str(run.folder / run.result["folder"])}
    return run.result


def trials_named(run: RunRecord, name: str) -> Sequence[TrialRecord]:
    """The trials of a number (one an arm), or the one of that name. UserError if there is none."""
    found = [trial for trial in run.trials if name in (trial.folder.name, str(trial.index))]
    if not found:
        names = ", ".join(trial.folder.name for trial in run.trials[:6])
        more = f", ... ({len(run.trials)})" if len(run.trials) > 6 else ""
        raise UserError(f"{run.folder} has no trial {name!r}", hint=f"trials: {names}{more}")
    return found


def _trial_parts(trial: TrialRecord) -> list[Part]:
    head: list[Part] = ["", f"trial {trial.index} of {trial.arm}, seed {trial.seed}"]
    if trial.result is None:
        why = trial.facts.get("error", "it did not come to its end")
        return [*head, f"  {trial.state}: {why}"]
    body = trial_lines(trial.result, str(trial.folder))
    return [*head, *body, Whole("  again: ", str(trial.facts.get("command", "")))]


def _trial_json(trial: TrialRecord) -> str:
    return json.dumps({**trial.facts, "evidence": str(trial.folder)})
