# SPDX-License-Identifier: GPL-2.0-only
"""What the verbs share that work on one kernel of an experiment."""

from __future__ import annotations

import argparse
import contextlib
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from harness.arguments import experiment_from, experiment_named
from harness.config import Experiment
from harness.disk import write_atomically
from harness.display import Display
from harness.errors import InfraError, UserError
from harness.experiment.kernels import (
    BootableKernel,
    check_preempt,
    check_version,
    experiment_with,
    get_tree,
    kernel_of,
    make_kernel,
    workshop_for,
)
from harness.experiment.options import Workshop
from harness.experiment.stage import check_stage, machine_of, set_stage
from harness.experiment.trial import Stage
from harness.kernel.tree import KernelTree
from harness.layout import Part, laid_out
from harness.process import command_line
from harness.results.lock import alone_in
from harness.results.report import REPORT, report_parts
from harness.results.runfolder import RECORD, TrialResult, all_finished, open_record
from harness.results.store import fed
from harness.target.box.target import BoxTarget


def experiment_with_kernel(arguments: argparse.Namespace) -> Experiment:
    """The experiment that defines the kernel which is named, with what the arguments change."""
    named = arguments.experiment
    experiment = experiment_from(
        arguments, experiment_named(named) if named else experiment_with(arguments.kernel)
    )
    kernel_of(experiment, arguments.kernel)
    return experiment


def with_patches(experiment: Experiment, kernel: str, patches: Sequence[str]) -> Experiment:
    """The experiment whose kernel of that name has these patches too, as it is kept with a run."""
    own = experiment.kernels[kernel]
    more = own.model_copy(update={"patches": (*own.patches, *patches)})
    return experiment.model_copy(update={"kernels": {**experiment.kernels, kernel: more}})


def ready(
    arguments: argparse.Namespace,
    experiment: Experiment,
    patches: Sequence[str],
    display: Display,
    box: BoxTarget | None = None,
) -> tuple[BootableKernel, Stage]:
    """The kernel that is named, built, and the stage to boot it on: the box, or QEMU."""
    workshop = workshop_for(experiment, Workshop.at(arguments.cache, display, arguments.make_jobs))
    tree = get_tree(experiment.tree, workshop, experiment.tarball)
    check_version(experiment, tree)
    check_stage(experiment)
    machine = machine_of(experiment)
    kernel = make_kernel(tree, kernel_of(experiment, arguments.kernel), patches, machine, workshop)
    check_preempt(tree, arguments.kernel, kernel.build, experiment.boot.preempt)
    return kernel, set_stage(experiment.boot, machine, kernel.build, workshop, experiment.qemu, box)


def check_same_tree(folder: Path, record: Mapping[str, Any], tree: KernelTree) -> None:
    """UserError if a run that is gone on with was of another tree."""
    if tree.description != record["tree"]:
        raise UserError(
            f"{folder} is of {record['tree']}; the tree is {tree.description} by now",
            hint="start a new run, or name the tree with --tree",
        )


@contextlib.contextmanager
def recorded_in(folder: Path, facts: Mapping[str, Any], store: Path) -> Iterator[Callable[..., None]]:
    """A run's record while it runs, alone in its folder, and then in the store; see `open_record`.

    A new run that bad input ends before its first trial leaves nothing behind.
    """
    with contextlib.ExitStack() as stack:
        stack.enter_context(alone_in(folder))
        stack.enter_context(told_to(store, folder))
        if not (folder / RECORD).exists():
            stack.enter_context(_nothing_if_refused(folder))
        yield stack.enter_context(open_record(folder, facts))


@contextlib.contextmanager
def _nothing_if_refused(folder: Path) -> Iterator[None]:
    try:
        yield
    except UserError as error:
        # What was done to a box, or in a trial, stays on record.
        if (folder / "trials").exists() or any(folder.glob("*.jsonl")):
            raise
        shutil.rmtree(folder, ignore_errors=True)
        # A patch is not to be looked for where it was copied to.
        message = error.message.replace(f"{folder / 'patches'}/", "")
        raise UserError(message, hint=error.hint) from error


@contextlib.contextmanager
def told_to(store: Path, folder: Path) -> Iterator[None]:
    """However the block ends, the store has the run in `folder` then, or somebody is told that it has not."""
    try:
        yield
    finally:
        problem = fed(store, folder) if folder.is_dir() else ""
        if problem:
            print(f"warning: {problem}", file=sys.stderr)


def conclude(
    folder: Path,
    verb: str,
    result: Mapping[str, Any],
    trials: Sequence[TrialResult],
    update: Callable[..., None],
) -> list[Part]:
    """The run is finished: leave its report and its result in the folder. Returns the report."""
    parts = report_parts(verb, result, trials, folder)
    text = "\n".join(laid_out(parts))
    write_atomically(folder / REPORT, f"{text.strip()}\n".encode())
    update("finished", result=result)
    return parts


@contextlib.contextmanager
def kept_in(folder: Path, display: Display, go_on: Sequence[str] = ()) -> Iterator[None]:
    """Should somebody interrupt the block, say where its evidence is, and by which command it goes on.

    The same if a fault of the machine ends it when there are results of trials.
    """
    try:
        yield
    except (KeyboardInterrupt, InfraError) as error:
        if isinstance(error, InfraError) and not all_finished(folder):
            raise
        display.close()
        print(f"what was measured is in {folder}", file=sys.stderr)
        if go_on:
            print(f"go on with: {command_line(go_on)}", file=sys.stderr)
        raise
