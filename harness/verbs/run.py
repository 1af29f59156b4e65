# SPDX-License-Identifier: GPL-2.0-only
"""`hmm-harness run`: 0 if the trial completed, 3 if the machine failed, else 1."""

from __future__ import annotations

import argparse
import contextlib
import json

from harness.arguments import command_of, patch_files
from harness.display import Display, elapsed
from harness.experiment.report import trial_json
from harness.experiment.stage import box_of, check_target
from harness.experiment.trial import fingerprint, plan_trial, run_trial
from harness.results.estimate import Estimate
from harness.results.repeats import repeated
from harness.results.runfolder import keep_patches, make_run_folder, run_facts, write_experiment
from harness.scenario.catalogue import scenario_values
from harness.verbs.common import (
    conclude,
    experiment_with_kernel,
    kept_in,
    ready,
    recorded_in,
    with_patches,
)
from harness.watch.kinds import OutcomeKind


def main(arguments: argparse.Namespace, display: Display) -> int:
    """Carry the verb out; its exit status."""
    experiment = experiment_with_kernel(arguments)
    check_target(experiment)
    scenario, _ = scenario_values(experiment)
    patches = patch_files(arguments.patch)
    folder = make_run_folder(arguments.out.resolve(), experiment.scenario)
    again = command_of(arguments)
    write_experiment(folder, keep_patches(folder, with_patches(experiment, arguments.kernel, patches)))
    repeats = repeated(arguments)
    facts = run_facts("run", again, kernel=arguments.kernel, **repeats.facts)
    with recorded_in(folder, facts, arguments.store) as update, contextlib.ExitStack() as stack:
        update("building")
        box = stack.enter_context(box_of(experiment, folder))
        kernel, stage = ready(arguments, experiment, patches, display, box)
        repeats.check_tree(kernel.build.tree)
        repeats.check({arguments.kernel: fingerprint(kernel)})
        plan = plan_trial(experiment, arguments.kernel, 1, kernel, stage, again)
        update("running", tree=kernel.build.tree)
        usual_s = Estimate.of(arguments.store).left_s([(scenario.name, arguments.kernel)])
        title = f"trial of {scenario.name} on {arguments.kernel}"
        with kept_in(folder, display), display.step(title) as step:
            if usual_s:
                step.update(f"earlier ones took {elapsed(usual_s)}")
            result = run_trial(plan, folder)
        report = conclude(folder, "run", result.as_json(), [result], update)
    display.result(*report)
    if arguments.json:
        print(json.dumps(trial_json(result, str(folder / result.folder))), flush=True)
    if result.kind in (OutcomeKind.INFRA_ERROR, OutcomeKind.TARGET_LOST):
        return 3
    return 0 if result.kind is OutcomeKind.COMPLETED else 1
