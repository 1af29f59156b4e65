# SPDX-License-Identifier: GPL-2.0-only
"""`hmm-harness compare`: 0 if the verdict is `fixed`, else 1."""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

from harness.arguments import changed_by, command_of, experiment_from, experiment_named
from harness.config import Experiment
from harness.display import Display
from harness.errors import UserError
from harness.experiment.compare import arm_kernels, compare
from harness.experiment.kernels import check_version, experiment_for, get_tree
from harness.experiment.options import Workshop
from harness.experiment.report import comparison_json
from harness.experiment.stage import box_of, check_stage, check_target, machine_of, set_stage
from harness.experiment.statistics import VerdictKind
from harness.experiment.trial import fingerprint
from harness.results.repeats import repeated
from harness.results.runfolder import (
    EXPERIMENT,
    keep_patches,
    make_run_folder,
    read_record,
    resumed_facts,
    run_facts,
    write_experiment,
)
from harness.scenario.catalogue import scenario_values
from harness.verbs.common import check_same_tree, conclude, kept_in, recorded_in
from harness.verbs.runners import boot_on, check_places, resumption, runner_for

#: An experiment whose only use is to say which tree is wanted when none was named.
DEFAULT_EXPERIMENT = "linux-7"


def main(arguments: argparse.Namespace, display: Display) -> int:
    """Carry the verb out; its exit status."""
    begin = time.monotonic()
    check_places(arguments)
    workshop = Workshop.at(arguments.cache, display, arguments.make_jobs, arguments.store)
    repeats = repeated(arguments)
    if arguments.resume:
        folder, experiment, record = _to_resume(arguments)
        again = record["reproduce"]
        facts = resumed_facts(record)
        tree = get_tree(experiment.tree, workshop, experiment.tarball)
        check_same_tree(folder, record, tree)
    else:
        again = command_of(arguments)
        experiment = experiment_from(arguments, experiment_named(arguments.experiment or DEFAULT_EXPERIMENT))
        scenario_values(experiment)
        check_target(experiment)
        tree = get_tree(experiment.tree, workshop, experiment.tarball)
        repeats.check_tree(tree.description)
        if not arguments.experiment:
            name, builtin = experiment_for(tree.version, arguments.scenario)
            display.note(f"{tree.description}: experiment {name}")
            experiment = experiment_from(arguments, builtin)
        folder = make_run_folder(arguments.out.resolve(), experiment.scenario)
        experiment = keep_patches(folder, experiment)
        write_experiment(folder, experiment)
        facts = run_facts("compare", again, tree=tree.description, **repeats.facts)
    with recorded_in(folder, facts, arguments.store) as update:
        with kept_in(folder, display, resumption(arguments, folder)):
            update("building")
            check_version(experiment, tree)
            check_stage(experiment)
            with box_of(experiment, folder) as box:
                machine = machine_of(experiment)
                kernels = arm_kernels(experiment, tree, machine, workshop)
                repeats.check({arm: fingerprint(kernel) for arm, kernel in kernels.items()})
                some = next(iter(kernels.values())).build
                boot = boot_on(arguments, experiment.boot)
                stage = set_stage(boot, machine, some, workshop, experiment.qemu, box)
                update("running")
                only = experiment.qemu.vfio or (arguments.scheduler and experiment.qemu.userland)
                with runner_for(arguments, [boot], display, only or experiment.target) as runner:
                    done = compare(experiment, kernels, stage, folder, workshop, again, runner)
        result = comparison_json(done, time.monotonic() - begin)
        report = conclude(folder, "compare", result, done.results, update)
    display.result(*report)
    if arguments.json:
        print(json.dumps(result), flush=True)
    return 0 if done.verdict.kind is VerdictKind.FIXED else 1


def _to_resume(arguments: argparse.Namespace) -> tuple[Path, Experiment, dict[str, Any]]:
    """The folder, the experiment and the record of an interrupted comparison."""
    folder: Path = arguments.resume.resolve()
    record = read_record(folder)
    if record.get("verb") != "compare":
        raise UserError(
            f"{folder} is not the folder of a comparison",
            hint="give the one that holds report.txt or trials/",
        )
    if record["state"] == "finished":
        raise UserError(
            f"{folder} is finished: {record['result']['verdict']}", hint=f"see {folder}/report.txt"
        )
    changed = changed_by(arguments)
    if changed:
        raise UserError(f"--resume takes the experiment as it was, not {', '.join(changed)}")
    return folder, experiment_named(str(folder / EXPERIMENT)), record
