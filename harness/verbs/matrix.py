# SPDX-License-Identifier: GPL-2.0-only
"""`hmm-harness matrix`: 0 if every cell that can be has an answer, else 1."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from harness.arguments import command_of
from harness.config import parse_tree, validated
from harness.disk import write_atomically
from harness.display import Display
from harness.errors import UserError
from harness.experiment.kernels import get_tree
from harness.experiment.options import Workshop
from harness.experiment.stage import box_of, check_target, machine_of
from harness.kernel.patches import in_range
from harness.kernel.tree import KernelTree
from harness.layout import Table
from harness.matrix.model import (
    MATRIX,
    Matrix,
    matrix_for,
    matrix_named,
    matrix_values,
    restricted,
    write_matrix,
)
from harness.matrix.plan import Cell, plan_cells, plan_kernels
from harness.matrix.report import matrix_result
from harness.matrix.session import Session
from harness.results.matrix import MatrixResult
from harness.results.repeats import repeated
from harness.results.runfolder import (
    keep_patches,
    make_run_folder,
    read_record,
    resumed_facts,
    run_facts,
    write_experiment,
)
from harness.results.tables import matrix_markdown
from harness.suggest import did_you_mean
from harness.verbs.common import check_same_tree, conclude, kept_in, recorded_in
from harness.verbs.runners import boot_on, check_places, resumption, runner_for

#: The report for patches/, in the run's folder.
MARKDOWN = "report.md"
#: A matrix whose only use is to say which tree is wanted when none was named.
DEFAULT_MATRIX = "fixes-7"


def main(arguments: argparse.Namespace, display: Display) -> int:
    """Carry the verb out; its exit status."""
    begin = time.monotonic()
    check_places(arguments)
    workshop = Workshop.at(arguments.cache, display, arguments.make_jobs, arguments.store)
    folder = record = None
    repeats = repeated(arguments)
    if arguments.resume:
        folder, matrix, record = _to_resume(arguments)
        tree = get_tree(matrix.tree, workshop, matrix.tarball)
        check_same_tree(folder, record, tree)
    else:
        matrix, tree = _to_run(arguments, workshop, display)
        repeats.check_tree(tree.description)
    machine = machine_of(matrix.as_experiment())
    kernels = plan_kernels(matrix, tree, machine, workshop)
    cells = plan_cells(matrix, kernels)
    if arguments.plan:
        return _show_plan(cells, arguments, display)
    if folder is None:
        folder, matrix = _new_folder(arguments, matrix)
    if record is None:
        facts = run_facts(
            "matrix", command_of(arguments), tree=tree.description, seconds=0.0, **repeats.facts
        )
    else:
        facts = resumed_facts(record)
    matrix = matrix.model_copy(update={"boot": boot_on(arguments, matrix.boot)})
    guests = [cell.boot(matrix) for cell in cells if not cell.reason]

    def result() -> MatrixResult:
        """What there is by now; another start adds its time."""
        return matrix_result(
            matrix,
            session.found,
            tree=tree.description,
            guest=f"box {box.config.name}" if box else f"{machine}, {matrix.boot.memory_mb} MB",
            day=time.strftime("%Y-%m-%d"),
            seconds=facts["seconds"] + time.monotonic() - begin,
            reproduce=facts["reproduce"],
            evidence=str(folder),
        )

    def keep(update: Callable[..., None]) -> None:
        done = result()
        write_atomically(folder / MARKDOWN, matrix_markdown(done).encode())
        update("running", seconds=done.seconds)

    with (
        runner_for(arguments, guests, display, matrix.target) as runner,
        recorded_in(folder, facts, arguments.store) as update,
    ):
        with (
            kept_in(folder, display, resumption(arguments, folder)),
            box_of(matrix.as_experiment(), folder) as box,
        ):
            session = Session(matrix, cells, folder, workshop, machine, repeats, runner, box)
            session.run(kernels, lambda: keep(update))
        done = result()
        values = done.model_dump(mode="json")
        report = conclude(folder, "matrix", values, [], update)
    display.result(*report)
    if arguments.json:
        print(json.dumps(values), flush=True)
    return 0 if done.complete else 1


def _to_run(arguments: argparse.Namespace, workshop: Workshop, display: Display) -> tuple[Matrix, KernelTree]:
    """The matrix that is asked for, with the command line's changes, and its tree."""
    matrix = _changed(matrix_named(arguments.matrix or DEFAULT_MATRIX), arguments)
    check_target(matrix.as_experiment())
    tree = get_tree(matrix.tree, workshop, matrix.tarball)
    if not arguments.matrix:
        name, builtin = matrix_for(tree.version)
        display.note(f"{tree.description}: matrix {name}")
        matrix = _changed(builtin, arguments)
    if matrix.versions and not in_range(tree.version, matrix.versions):
        raise UserError(
            f"the matrix is for kernels {matrix.versions}, {tree.description} is {tree.version}",
            hint="choose another tree (--tree) or another matrix",
        )
    return matrix, tree


def _changed(matrix: Matrix, arguments: argparse.Namespace) -> Matrix:
    """The matrix with the command line's tree, target, trials and choice of rows. UserError: unknown."""
    _known("scenario", arguments.scenarios, [entry.name for entry in matrix.scenarios])
    _known("kernel", arguments.kernels, list(matrix.kernels))
    values = matrix_values(restricted(matrix, arguments.scenarios, arguments.kernels))
    if arguments.tree:
        values["tree"] = parse_tree(arguments.tree).model_dump(mode="json")
    if arguments.target:
        values["target"] = str(arguments.target.resolve())
    if arguments.trials is not None:
        values["trials"] = arguments.trials
        for entry in values["scenarios"]:
            entry.pop("trials", None)
    return validated(Matrix, values, "the command line")


def _known(kind: str, chosen: list[str], known: list[str]) -> None:
    for name in chosen:
        if name not in known:
            raise UserError(
                f"the matrix has no {kind} {name!r}{did_you_mean(name, known)}",
                hint=f"{kind}s: {', '.join(known)}",
            )


def _new_folder(arguments: argparse.Namespace, matrix: Matrix) -> tuple[Path, Matrix]:
    """A folder that holds all that is needed to go on, and the matrix with its patches in it."""
    folder = make_run_folder(arguments.out.resolve(), "matrix")
    experiment = keep_patches(folder, matrix.as_experiment())
    matrix = matrix.model_copy(update={"kernels": experiment.kernels})
    write_experiment(folder, experiment)
    write_matrix(folder, matrix)
    return folder, matrix


def _to_resume(arguments: argparse.Namespace) -> tuple[Path, Matrix, dict[str, Any]]:
    """The folder, the matrix and the record of one that was interrupted."""
    folder: Path = arguments.resume.resolve()
    record = read_record(folder)
    if record.get("verb") != "matrix":
        raise UserError(f"{folder} is not the folder of a matrix", hint=f"give the one that holds {MATRIX}")
    if record["state"] == "finished" and record["result"]["complete"]:
        raise UserError(f"{folder} is finished", hint=f"see {folder}/report.md")
    names = {"matrix": "a matrix", "scenarios": "--scenario", "kernels": "--kernel"}
    given = ("matrix", "tree", "target", "trials", "scenarios", "kernels")
    changed = [names.get(name, f"--{name}") for name in given if getattr(arguments, name)]
    if changed:
        raise UserError(f"--resume takes the matrix as it was, not {', '.join(changed)}")
    return folder, matrix_named(str(folder / MATRIX)), record


def _show_plan(cells: tuple[Cell, ...], arguments: argparse.Namespace, display: Display) -> int:
    """What would be run, in order, and what not."""
    display.close()
    rows = [
        {
            "scenario": cell.entry.name,
            "kernel": cell.kernel,
            "preempt": cell.preempt,
            "cpus": cell.cpus,
            "trials": 0 if cell.reason else cell.trials,
            "reason": cell.reason,
        }
        for cell in cells
    ]
    if arguments.json:
        print(json.dumps({"schema": 1, "plan": rows}), flush=True)
    else:
        display.result(Table([("kernel", "scenario", "guest", "trials"), *map(_plan_row, cells)], indent=0))
    return 0


def _plan_row(cell: Cell) -> tuple[str, ...]:
    what = f"not applicable: {cell.reason}" if cell.reason else str(cell.trials)
    return (cell.kernel, cell.entry.name, f"{cell.preempt}, {cell.cpus} CPUs", what)
