# SPDX-License-Identifier: GPL-2.0-only
"""`hmm-harness show RUN --rerun`: the run once more, from what its folder keeps; its verb's exit status."""

from __future__ import annotations

import argparse
import importlib
import shlex
from collections.abc import Sequence
from pathlib import Path

from harness.cli import grammar
from harness.display import Display
from harness.errors import UserError
from harness.matrix.model import MATRIX
from harness.results.reading import RunRecord, load_run
from harness.results.repeats import Repeats
from harness.results.runfolder import EXPERIMENT, RECORD, read_record


def rerun(run: RunRecord, arguments: argparse.Namespace, display: Display) -> int:
    """Carry the run's verb out again. UserError if it would not be the same."""
    words = [*_words(run), *places(arguments), *(["--json"] if arguments.json else [])]
    again = grammar().parse_args(words, argparse.Namespace(argv=words))
    again.repeats = Repeats.of(run)
    before = set(arguments.out.glob("*"))
    status = int(importlib.import_module(f"harness.verbs.{run.verb}").main(again, display))
    for folder in sorted(set(arguments.out.glob(f"*/{RECORD}")), reverse=True):
        if folder.parent not in before and read_record(folder.parent).get("rerun_of") == str(run.folder):
            display.result(agreement(run, load_run(folder.parent)))
            break
    return status


def places(arguments: argparse.Namespace) -> list[str]:
    """Where this one writes, as words of a command line, as far as that is not where any run does."""
    usual = grammar().parse_args(["show", "RUN"])
    here = {name: getattr(arguments, name) for name in ("out", "cache", "store")}
    others = {name: place for name, place in here.items() if place != getattr(usual, name)}
    return [word for name, place in others.items() for word in (f"--{name}", str(place))]


def _words(run: RunRecord) -> Sequence[str]:
    """The command line that does the same, with the experiment as it was kept."""
    kept, kernel = str(run.folder / EXPERIMENT), str(run.facts.get("kernel"))
    if run.verb != "bisect" and run.experiment is None:
        raise UserError(f"{run.folder} keeps no {EXPERIMENT}", hint=f"this was its command: {run.reproduce}")
    match run.verb:
        case "compare":
            return ["compare", kept]
        case "run":
            return ["run", "--experiment", kept, "--kernel", kernel]
        case "matrix":
            return ["matrix", str(run.folder / MATRIX)]
        case "selftest":
            given = grammar().parse_args(shlex.split(run.reproduce)[1:])
            cases = [word for name in given.cases for word in ("--case", name)]
            file = ["--cases-file", str(_cwd(run) / given.cases_file)] if given.cases_file else []
            return ["selftest", "--experiment", kept, "--kernel", kernel, *cases, *file]
        case "bisect":
            if _cwd(run) != Path.cwd():
                raise UserError(f"a bisection is repeated where it was begun, in {_cwd(run)}")
            return _without_places(shlex.split(run.reproduce)[1:])
    raise UserError(f"{run.verb} cannot be repeated", hint=f"this was its command: {run.reproduce}")


def _cwd(run: RunRecord) -> Path:
    return Path(str(run.facts.get("cwd", ".")))


def _without_places(words: Sequence[str]) -> list[str]:
    """Without where that run wrote: this one is another."""
    kept: list[str] = []
    rest = iter(words)
    for word in rest:
        if word in ("--out", "--cache", "--store"):
            next(rest, None)
        elif word != "--json" and not word.startswith(("--out=", "--cache=", "--store=")):
            kept.append(word)
    return kept


def agreement(before: RunRecord, after: RunRecord) -> str:
    """In how many of its trials the repetition ended as the run did, and which did not."""
    was = {(trial.arm, trial.index): trial.result for trial in before.trials if trial.result}
    now = {(trial.arm, trial.index): trial.result for trial in after.trials if trial.result}
    both = [key for key in was if key in now]
    other = [key for key in both if (was[key].kind, was[key].is_bug) != (now[key].kind, now[key].is_bug)]
    lines = [f"  repeated     {before.folder}: {len(both) - len(other)} of {len(both)} trials ended alike"]
    lines += [
        f"    {arm}, trial {index}: {was[arm, index].kind} then, {now[arm, index].kind} now"
        for arm, index in other
    ]
    return "\n".join(lines)
