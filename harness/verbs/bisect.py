# SPDX-License-Identifier: GPL-2.0-only
"""`hmm-harness bisect`: 0 if one culprit was found and checked, else 1."""

from __future__ import annotations

import argparse
import contextlib
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from harness.arguments import command_of
from harness.bisect.bayes import Bayes
from harness.bisect.classic import Classic
from harness.bisect.model import BAD, Method
from harness.bisect.records import KernelFact, Records
from harness.bisect.report import Bisection, bisection_json
from harness.bisect.session import Session, Setup
from harness.cache import digest
from harness.display import Display
from harness.errors import UserError
from harness.experiment.kernels import BootableKernel, workshop_for
from harness.experiment.options import Workshop
from harness.experiment.stage import set_stage
from harness.experiment.trial import Stage
from harness.process import command_line
from harness.results.lock import alone_in
from harness.results.repeats import Repeats, repeated
from harness.results.runfolder import (
    EXPERIMENT,
    RECORD,
    keep_patches,
    make_run_folder,
    open_record,
    program,
    read_record,
    resumed_facts,
    run_facts,
    unfinished_run,
    write_experiment,
)
from harness.scenario.catalogue import scenario_values
from harness.verbs.bisected import Asked, asked_for
from harness.verbs.common import conclude, kept_in, told_to

METHODS: dict[str, Callable[[float], Method]] = {"classic": Classic, "bayes": Bayes}


def main(arguments: argparse.Namespace, display: Display) -> int:
    """Carry the verb out; its exit status."""
    begin = time.monotonic()
    workshop = Workshop.at(arguments.cache, display, arguments.make_jobs)
    again = command_of(arguments)
    with contextlib.ExitStack() as stack:
        asked = asked_for(arguments, workshop, stack)
        key, repeats = _key(arguments, asked), repeated(arguments)
        if repeats.folder and read_record(repeats.folder)["key"] != key:
            raise UserError(f"{repeats.folder} was of other commits, patches or settings than there are now")
        folder = _folder(arguments, key, asked, display)
        stack.enter_context(alone_in(folder))
        records = _records(folder, asked, repeats)
        method = METHODS[arguments.method](arguments.confidence)
        stack.enter_context(told_to(arguments.store, folder))
        update = stack.enter_context(open_record(folder, _facts(folder, again, key, repeats)))
        stack.enter_context(kept_in(folder, display, [program(), *arguments.argv]))
        spent_s = records.seconds()
        setup = _setup(asked, folder, workshop, again)
        subject = asked.subject
        display.note(
            f"{len(subject.history)} candidates from {subject.label(0)} to {subject.label(BAD)}; "
            f"{setup.scenario.name}, preempt={setup.experiment.boot.preempt}, {arguments.method}, confidence "
            f"{arguments.confidence:g}; {folder}"
        )
        conclusion = Session(subject, method, setup, records, workshop_for(asked.experiment, workshop)).run()
        done = Bisection(
            folder=folder,
            subject=subject,
            setup=setup,
            records=records,
            conclusion=conclusion,
            method=arguments.method,
            clean_trials=method.clean_trials(conclusion.known) if conclusion.bug else 0,
            seconds=spent_s + time.monotonic() - begin,
            reproduce=again,
        )
        kept = asked.keep(done)
        result = bisection_json(done) | {name: str(path) for name, path in kept.items()}
        trials = [trial for name in records.kernels for trial in done.trials(name)]
        report = conclude(folder, "bisect", result, trials, update)
    display.result(*report)
    if arguments.json:
        print(json.dumps(result), flush=True)
    return 0 if conclusion.proven else 1


def _key(arguments: argparse.Namespace, asked: Asked) -> str:
    """Names the question: the same command with the same revisions goes on where an earlier one was ended."""
    values = [asked.experiment.model_dump_json(), arguments.method, repr(arguments.confidence)]
    return digest([*asked.identity, *values])[:20]


def _folder(arguments: argparse.Namespace, key: str, asked: Asked, display: Display) -> Path:
    """The folder of this bisection: one that was begun and not ended, or a new one."""
    out: Path = arguments.out.resolve()
    begun = unfinished_run(out, key)
    if begun:
        display.note(f"going on with {begun}")
        return begun
    folder = make_run_folder(out, "bisect")
    write_experiment(folder, keep_patches(folder, asked.experiment))
    return folder


def _facts(folder: Path, again: str, key: str, repeats: Repeats) -> dict[str, Any]:
    """What the record says from the start: a bisection that goes on is the same run."""
    if (folder / RECORD).is_file():
        return resumed_facts(read_record(folder))
    return run_facts("bisect", again, key=key, **repeats.facts)


def _records(folder: Path, asked: Asked, repeats: Repeats) -> Records:
    records = Records(folder, repeats)
    for name in asked.skips:
        if name not in records.kernels or not records.kernels[name].skip:
            records.add_kernel(KernelFact(name, 0.0, True, "not to be tested (--skip)"))
    return records


def _setup(asked: Asked, folder: Path, workshop: Workshop, again: str) -> Setup:
    scenario, values = scenario_values(asked.experiment)
    boot = asked.experiment.boot

    def command(name: str, seed: int) -> str:
        words = asked.trial_words(name)
        if not words:
            return again
        argv = [program(), "run", "--experiment", str(folder / EXPERIMENT), *words, "--seed", str(seed)]
        return command_line(argv)

    def stage(kernel: BootableKernel) -> Stage:
        return set_stage(boot, asked.machine, kernel.build, workshop, asked.experiment.qemu)

    return Setup(asked.experiment, scenario, values, stage, command, asked.patches)
