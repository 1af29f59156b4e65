# SPDX-License-Identifier: GPL-2.0-only
"""What each verb of the command line does, and the exit status it ends with."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Mapping
from typing import Any

from harness.arguments import command_of, experiment_from, patch_files
from harness.cache import Cache
from harness.config import Experiment, load_experiment
from harness.display import Display
from harness.doctor import Finding, as_json, findings, healthy
from harness.errors import InfraError
from harness.experiment.compare import Comparison, arm_kernels, set_stage
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
    make_run_folder,
    program,
    read_record,
    write_experiment,
    write_record,
)
from harness.scenario.catalogue import load_scenario
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
        folder = arguments.resume.resolve()
        again = read_record(folder)["reproduce"]
        experiment = load_experiment(str(folder / EXPERIMENT))
        tree = get_tree(experiment.tree, workshop, experiment.tarball)
    else:
        again = command_of(arguments)
        experiment = experiment_from(arguments, load_experiment(arguments.experiment or DEFAULT_EXPERIMENT))
        tree = get_tree(experiment.tree, workshop, experiment.tarball)
        if not arguments.experiment:
            name, builtin = experiment_for(tree.version)
            display.note(f"{tree.description}: experiment {name}")
            experiment = experiment_from(arguments, builtin)
        folder = make_run_folder(arguments.out.resolve(), experiment.scenario)
        write_experiment(folder, experiment.model_dump(mode="json"))
    check_version(experiment, tree)
    record = {"tree": tree.description, "reproduce": again}
    write_record(folder, {"state": "building", **record})
    try:
        machine = pick_machine(experiment.boot.machine)
        kernels = arm_kernels(experiment, tree, machine, workshop)
        stage = set_stage(experiment.boot, machine, next(iter(kernels.values())).build, workshop)
        write_record(folder, {"state": "running", **record})
        done = run_comparison(experiment, kernels, stage, folder, workshop, again)
    except BaseException:
        write_record(folder, {"state": "interrupted", **record})
        display.note(f"what was measured is in {folder}")
        display.note(f"go on with: {command_line([program(), 'compare', '--resume', str(folder)])}")
        raise
    return _report(done, time.monotonic() - begin, record, arguments, display)


def _report(
    done: Comparison,
    seconds: float,
    record: Mapping[str, Any],
    arguments: argparse.Namespace,
    display: Display,
) -> int:
    result = comparison_json(done, seconds)
    text = comparison_text(done, seconds)
    write_record(done.folder, {"state": "finished", **record, "result": result})
    (done.folder / "report.txt").write_text(text.lstrip("\n") + "\n", encoding="utf-8")
    display.close()
    print(text, file=display.stream)
    if arguments.json:
        print(json.dumps(result), flush=True)
    return 0 if done.verdict.kind is VerdictKind.FIXED else 1


def run(arguments: argparse.Namespace, display: Display) -> int:
    """`hmm-harness run`: 0 if the trial completed, 3 if the machine failed, else 1."""
    experiment, kernel, stage = _one_kernel(arguments, display)
    scenario = load_scenario(experiment.scenario)
    folder = make_run_folder(arguments.out.resolve(), experiment.scenario)
    plan = TrialPlan(
        arm=arguments.kernel,
        index=1,
        seed=experiment.seed,
        scenario=scenario,
        values=scenario.values(experiment.set),
        kernel=kernel,
        boot=experiment.boot,
        stage=stage,
        timeout_s=experiment.trial_timeout_s,
        command=command_of(arguments),
    )
    with display.step(f"trial of {scenario.name} on {arguments.kernel}"):
        result = run_trial(plan, folder)
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
    experiment, kernel, stage = _one_kernel(arguments, display)
    # run_shell makes an initramfs of its own; the kernel's own image stands in for one until then.
    plan = boot_plan(kernel, experiment.boot, stage, kernel.build.boot_image)
    display.note(f"{kernel.build.release}: a shell on the guest's console; exit ends it, or Ctrl-A x")
    display.close()
    return 0 if run_shell(plan, kernel.programs.init, program_entries(kernel.programs)) == 0 else 3


def _one_kernel(arguments: argparse.Namespace, display: Display) -> tuple[Experiment, BootableKernel, Stage]:
    """The kernel that is named, ready to boot."""
    workshop = Workshop.at(arguments.cache, display, arguments.jobs)
    named = arguments.experiment
    experiment = experiment_from(
        arguments, load_experiment(named) if named else experiment_with(arguments.kernel)
    )
    config = kernel_of(experiment, arguments.kernel)
    patches = patch_files(arguments.patch)
    tree = get_tree(experiment.tree, workshop, experiment.tarball)
    check_version(experiment, tree)
    machine = pick_machine(experiment.boot.machine)
    kernel = make_kernel(tree, config, patches, machine, workshop)
    return experiment, kernel, set_stage(experiment.boot, machine, kernel.build, workshop)


def classify(arguments: argparse.Namespace, display: Display) -> int:
    """`hmm-harness classify`: 0 if nothing is found in any file, else 1."""
    found = False
    for path in arguments.files:
        result = classify_file(path)
        found = found or result.found
        if arguments.json:
            print(json.dumps(result.as_json()))
            continue
        print(f"{path}: {result.outcome}: {result.title}")
        for event in result.events:
            time = "" if event.time_s is None else f" [{event.time_s:.6f}]"
            print(f"  line {event.line}{time} {event.cls}: {event.title}")
    return 1 if found else 0


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
