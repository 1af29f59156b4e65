# SPDX-License-Identifier: GPL-2.0-only
"""What each verb of the command line does, and the exit status it ends with."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from harness.arguments import changed_by, command_of, experiment_from, experiment_named, patch_files
from harness.cache import Cache
from harness.config import Experiment
from harness.disk import write_atomically
from harness.display import Display
from harness.doctor import Finding, as_json, findings, healthy
from harness.errors import InfraError, UserError
from harness.experiment.compare import arm_kernels, set_stage
from harness.experiment.compare import compare as run_comparison
from harness.experiment.kernels import (
    BootableKernel,
    check_version,
    experiment_for,
    experiment_with,
    get_tree,
    kernel_of,
    make_kernel,
)
from harness.experiment.options import Workshop
from harness.experiment.report import comparison_json, comparison_text, trial_json, trial_text
from harness.experiment.statistics import VerdictKind
from harness.experiment.trial import Stage, TrialPlan, boot_plan, program_entries, run_trial
from harness.process import command_line
from harness.results.runfolder import (
    EXPERIMENT,
    keep_patches,
    make_run_folder,
    open_record,
    program,
    read_record,
    write_experiment,
)
from harness.scenario.catalogue import scenario_values
from harness.target.accel import known_answer
from harness.target.machine import pick_machine
from harness.target.shell import run_shell
from harness.watch.classify import classify_file
from harness.watch.kinds import OutcomeKind

#: An experiment whose only use is to say which tree is wanted when none was named.
DEFAULT_EXPERIMENT = "linux-7"


def compare(arguments: argparse.Namespace, display: Display) -> int:
    """`hmm-harness compare`: 0 if the verdict is `fixed`, else 1."""
    begin = time.monotonic()
    workshop = Workshop.at(arguments.cache, display, arguments.jobs)
    if arguments.resume:
        folder, experiment, record = _to_resume(arguments)
        again = record["reproduce"]
        tree = get_tree(experiment.tree, workshop, experiment.tarball)
        if tree.description != record["tree"]:
            raise UserError(
                f"{folder} is of {record['tree']}; the tree is {tree.description} by now",
                hint="start a new comparison, or name the tree with --tree",
            )
    else:
        again = command_of(arguments)
        experiment = experiment_from(arguments, experiment_named(arguments.experiment or DEFAULT_EXPERIMENT))
        scenario_values(experiment)
        tree = get_tree(experiment.tree, workshop, experiment.tarball)
        if not arguments.experiment:
            name, builtin = experiment_for(tree.version)
            display.note(f"{tree.description}: experiment {name}")
            experiment = experiment_from(arguments, builtin)
        folder = make_run_folder(arguments.out.resolve(), experiment.scenario)
        experiment = keep_patches(folder, experiment)
        write_experiment(folder, experiment)
    with open_record(folder, {"verb": "compare", "tree": tree.description, "reproduce": again}) as update:
        try:
            update("building")
            check_version(experiment, tree)
            machine = pick_machine(experiment.boot.machine)
            kernels = arm_kernels(experiment, tree, machine, workshop)
            stage = set_stage(experiment.boot, machine, next(iter(kernels.values())).build, workshop)
            update("running")
            done = run_comparison(experiment, kernels, stage, folder, workshop, again)
        except KeyboardInterrupt:
            display.close()
            print(f"what was measured is in {folder}", file=sys.stderr)
            print(
                f"go on with: {command_line([program(), 'compare', '--resume', str(folder)])}",
                file=sys.stderr,
            )
            raise
        result = comparison_json(done, time.monotonic() - begin)
        text = comparison_text(done, time.monotonic() - begin)
        write_atomically(folder / "report.txt", f"{text.strip()}\n".encode())
        update("finished", result=result)
    display.close()
    print(text, file=display.stream)
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


def run(arguments: argparse.Namespace, display: Display) -> int:
    """`hmm-harness run`: 0 if the trial completed, 3 if the machine failed, else 1."""
    experiment = _experiment_with_kernel(arguments)
    scenario, values = scenario_values(experiment)
    patches = patch_files(arguments.patch)
    folder = make_run_folder(arguments.out.resolve(), experiment.scenario)
    again = command_of(arguments)
    with open_record(folder, {"verb": "run", "kernel": arguments.kernel, "reproduce": again}) as update:
        update("building")
        kernel, stage = _ready(arguments, experiment, patches, display)
        plan = TrialPlan(
            arm=arguments.kernel,
            index=1,
            seed=experiment.seed,
            scenario=scenario,
            values=values,
            kernel=kernel,
            boot=experiment.boot,
            stage=stage,
            timeout_s=experiment.trial_timeout_s,
            command=again,
        )
        update("running")
        with display.step(f"trial of {scenario.name} on {arguments.kernel}"):
            result = run_trial(plan, folder)
        update("finished", result=result.as_json())
    evidence = str(folder / result.folder)
    display.close()
    print(trial_text(result, evidence), file=display.stream)
    if arguments.json:
        print(json.dumps(trial_json(result, evidence)), flush=True)
    if result.kind in (OutcomeKind.INFRA_ERROR, OutcomeKind.TARGET_LOST):
        return 3
    return 0 if result.kind is OutcomeKind.COMPLETED else 1


def boot(arguments: argparse.Namespace, display: Display) -> int:
    """`hmm-harness boot`: a shell in the guest; 0 when it has ended by itself."""
    if not sys.stdin.isatty():
        raise UserError("boot needs a terminal", hint="use `hmm-harness run` where there is none")
    experiment = _experiment_with_kernel(arguments)
    patches = patch_files(arguments.patch)
    kernel, stage = _ready(arguments, experiment, patches, display)
    # run_shell makes an initramfs of its own; the kernel's own image stands in for one until then.
    plan = boot_plan(kernel, experiment.boot, stage, kernel.build.boot_image)
    display.note(f"{kernel.build.release}: a shell on the guest's console; exit ends it, or Ctrl-A x")
    display.close()
    return 0 if run_shell(plan, kernel.programs.init, program_entries(kernel.programs)) == 0 else 3


def _experiment_with_kernel(arguments: argparse.Namespace) -> Experiment:
    """The experiment that defines the kernel which is named, with what the arguments change."""
    named = arguments.experiment
    experiment = experiment_from(
        arguments, experiment_named(named) if named else experiment_with(arguments.kernel)
    )
    kernel_of(experiment, arguments.kernel)
    return experiment


def _ready(
    arguments: argparse.Namespace, experiment: Experiment, patches: Sequence[str], display: Display
) -> tuple[BootableKernel, Stage]:
    """The kernel that is named, built, and the stage to boot it on."""
    workshop = Workshop.at(arguments.cache, display, arguments.jobs)
    tree = get_tree(experiment.tree, workshop, experiment.tarball)
    check_version(experiment, tree)
    machine = pick_machine(experiment.boot.machine)
    kernel = make_kernel(tree, kernel_of(experiment, arguments.kernel), patches, machine, workshop)
    return kernel, set_stage(experiment.boot, machine, kernel.build, workshop)


def classify(arguments: argparse.Namespace, display: Display) -> int:
    """`hmm-harness classify`: 0 if nothing is found in any file, else 1."""
    found = unreadable = False
    for path in arguments.files:
        try:
            result = classify_file(path)
        except UserError as error:
            unreadable = True
            print(f"error: {error.message}\nhint: {error.hint}", file=sys.stderr)
            continue
        found = found or result.found
        if arguments.json:
            print(json.dumps(result.as_json()))
            continue
        print(f"{path}: {result.outcome}: {result.title}")
        for event in result.events:
            time = "" if event.time_s is None else f" [{event.time_s:.6f}]"
            print(f"  line {event.line}{time} {event.cls}: {event.title}")
    return UserError.exit_code if unreadable else 1 if found else 0


def doctor(arguments: argparse.Namespace, display: Display) -> int:
    """`hmm-harness doctor`: 0 if nothing that is needed is missing, else 3."""
    cache = Cache(arguments.cache.resolve())
    found = findings(cache, arguments.out.resolve(), lambda: _kvm(cache))
    display.close()
    if arguments.json:
        print(json.dumps(as_json(found)))
    else:
        for finding in found:
            mark = {True: "ok     ", False: "MISSING" if finding.needed else "absent ", None: "unknown"}[
                finding.ok
            ]
            mend = f"  -> {finding.mend}" if finding.ok is not True and finding.mend else ""
            print(f"{mark} {finding.what}: {finding.detail}{mend}")
    return 0 if healthy(found) else 3


def _kvm(cache: Cache) -> Finding:
    try:
        answer = known_answer(cache, pick_machine("auto"))
    except InfraError as error:
        return Finding("KVM", None, error.message, error.hint, needed=False)
    if answer is None:
        detail = "no guest has been booted on it yet; a /dev/kvm that opens proves nothing"
        return Finding("KVM", None, detail, "hmm-harness run --kernel base tries it", needed=False)
    return Finding("KVM", answer.works, answer.why, "not needed: TCG serves, slower", needed=False)
