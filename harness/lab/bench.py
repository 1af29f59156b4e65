# SPDX-License-Identifier: GPL-2.0-only
"""Kernels, the place where they boot, and the folders of the runs that a session of pytest makes."""

from __future__ import annotations

import contextlib
import time
from argparse import Namespace
from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property
from pathlib import Path

from harness.arguments import experiment_from
from harness.cache import default_cache_folder
from harness.config import Experiment
from harness.display import Display
from harness.errors import HarnessError
from harness.experiment.compare import Comparison, alternate, concluded, judged, stands, trial_command
from harness.experiment.kernels import (
    BootableKernel,
    check_preempt,
    check_version,
    get_tree,
    kernel_of,
    make_kernel,
    workshop_for,
)
from harness.experiment.options import Workshop
from harness.experiment.report import comparison_json
from harness.experiment.stage import box_of, check_stage, machine_of, set_stage
from harness.experiment.trial import Stage, TrialPlan, plan_trial, run_trial
from harness.kernel.tree import KernelTree
from harness.lab.outcomes import properties
from harness.layout import laid_out
from harness.process import command_line
from harness.results.database import default_store
from harness.results.runfolder import (
    TrialResult,
    keep_patches,
    make_run_folder,
    program,
    run_facts,
    write_experiment,
)
from harness.scenario.catalogue import scenario_values
from harness.target.box.target import BoxTarget
from harness.target.protocol import Machine, Target
from harness.verbs.common import conclude, recorded_in

#: For the evidence of a trial, s.
EVIDENCE_S = 180


class Bench:
    """Makes and boots what tests want, each kernel once a session."""

    properties = staticmethod(properties)

    def __init__(
        self, config: str, experiment: Experiment, out: Path, command: str, display: Display
    ) -> None:
        """`config`: the experiment's file. `command`: what runs the whole session again."""
        self._config = config
        self.experiment = experiment
        self.out = out.resolve()
        self.command = command
        self.display = display
        self._workshop = Workshop.at(default_cache_folder(), display)
        self._open = contextlib.ExitStack()
        self._unfit: HarnessError | None = None
        self._kernels: dict[tuple[str, tuple[str, ...], bool], BootableKernel] = {}

    @cached_property
    def tree(self) -> KernelTree:
        """The experiment's source."""
        tree = get_tree(self.experiment.tree, self._workshop, self.experiment.tarball)
        check_version(self.experiment, tree)
        check_stage(self.experiment)
        return tree

    @cached_property
    def machine(self) -> Machine:
        """What guests boot on."""
        return machine_of(self.experiment)

    def kernel(self, name: str, patches: tuple[str, ...] = (), scenario: str = "") -> BootableKernel:
        """A kernel of the experiment, with these patches too, and what that scenario runs on it."""
        wanted = self.experiment.model_copy(update={"scenario": scenario or self.experiment.scenario})
        workshop = workshop_for(wanted, self._workshop)
        key = (name, patches, workshop.hmm_tests)
        if key not in self._kernels:
            kernel = make_kernel(self.tree, kernel_of(wanted, name), patches, self.machine, workshop)
            check_preempt(self.tree, name, kernel.build, self.experiment.boot.preempt)
            self._kernels[key] = kernel
        return self._kernels[key]

    @cached_property
    def stage(self) -> Stage:
        """Where trials happen; an arm's kernel says whether KVM runs here."""
        box = self._box()
        arm = next(iter(self.experiment.arms.values()))
        build = self.kernel(arm.kernel, arm.patches).build
        boot, qemu = self.experiment.boot, self.experiment.qemu
        return set_stage(boot, self.machine, build, self._workshop, qemu, box)

    def _box(self) -> BoxTarget | None:
        """The box, if it is one. One that is not fit is so for every test: it is not tried again."""
        if self._unfit:
            raise self._unfit
        try:
            return self._open.enter_context(box_of(self.experiment, self.out))
        except HarnessError as error:
            self._unfit = error
            raise

    def close(self) -> None:
        """Give the box back, if it is one."""
        self._open.close()

    @property
    def target(self) -> Target:
        """Where kernels boot."""
        return self.stage.target

    def trial(self, kernel: str, scenario: str, seed: int, settings: Mapping[str, int | str]) -> TrialResult:
        """One trial, as `hmm-harness run` does it; the result's folder is an absolute path."""
        words = ["--scenario", scenario or self.experiment.scenario, "--seed", str(seed)]
        given = [f"{name}={value}" for name, value in settings.items()]
        words += [word for setting in given for word in ("--set", setting)]
        again = command_line([program(), "run", "--experiment", self._config, "--kernel", kernel, *words])
        changes = Namespace(scenario=words[1], seed=seed, settings=given)
        experiment = experiment_from(changes, self.experiment)
        made = self.kernel(kernel, scenario=experiment.scenario)
        plan = plan_trial(experiment, kernel, 1, made, self.stage, again)
        folder = make_run_folder(self.out, experiment.scenario)
        write_experiment(folder, keep_patches(folder, experiment))
        facts = run_facts("run", again, kernel=kernel)
        with recorded_in(folder, facts, default_store()) as update:
            update("running", tree=made.build.tree)
            result = run_trial(plan, folder)
            conclude(folder, "run", result.as_json(), [result], update)
        return replace(result, folder=str(folder / result.folder))


class Run:
    """A comparison of one scenario whose trials are tests: its folder is as `compare` leaves it."""

    def __init__(self, bench: Bench, experiment: Experiment) -> None:
        self.experiment = experiment
        self._bench = bench
        self._begun = time.monotonic()
        self._open = contextlib.ExitStack()
        self._results: dict[tuple[str, int], TrialResult] = {}

    @cached_property
    def folder(self) -> Path:
        """The run's folder, which is there from the first time that somebody asks."""
        folder = make_run_folder(self._bench.out, self.experiment.scenario)
        self._kept = keep_patches(folder, self.experiment)
        write_experiment(folder, self._kept)
        facts = run_facts("compare", self._bench.command, tree=self._bench.tree.description)
        self._update = self._open.enter_context(recorded_in(folder, facts, default_store()))
        self._update("running")
        return folder

    def prepare(self, arm: str) -> BootableKernel:
        """The arm's kernel, and the stage: what takes long, once."""
        chosen = self.experiment.arms[arm]
        _ = self._bench.stage
        return self._bench.kernel(chosen.kernel, chosen.patches, self.experiment.scenario)

    def trial(self, arm: str, index: int) -> TrialResult:
        """Run a trial of an arm, numbered from 1."""
        result = run_trial(self._plan(arm, index), self.folder)
        self._results[arm, index] = result
        return result

    def _plan(self, arm: str, index: int) -> TrialPlan:
        again = trial_command(self.experiment, arm, index, self.folder)
        return plan_trial(self._kept, arm, index, self.prepare(arm), self._bench.stage, again)

    @property
    def guard_s(self) -> float:
        """When whoever guards a trial from outside may end it, s; asked when the stage is known.

        That is what it may take by itself, then the evidence; and a box is brought back in up to three ways,
        before and after.
        """
        scenario = scenario_values(self.experiment)[0]
        own_s = max(self.experiment.trial_timeout_s, scenario.trial_s)
        return own_s + EVIDENCE_S + 7 * self._bench.target.start_s

    @property
    def stands(self) -> bool:
        """Of an experiment with an `error`: whether its verdict needs no further trial."""
        if not self.experiment.error:
            return False
        counted = scenario_values(self.experiment)[0].counted
        return stands(*judged(self.experiment, list(self._results.values()), counted)[1:])

    @property
    def missing(self) -> int:
        """Trials that have no result; a verdict that stands needs none."""
        return 0 if self.stands else 2 * self.experiment.trials - len(self._results)

    def verdict(self) -> tuple[Comparison, str]:
        """Conclude the run: the comparison, and its report."""
        order = [(arm, index) for index, arm in alternate(self.experiment) if (arm, index) in self._results]
        done = concluded(
            self._kept,
            {arm: self.prepare(arm) for arm in self.experiment.arms},
            self._bench.stage,
            self.folder,
            [self._plan(*key) for key in order],
            [self._results[key] for key in order],
            self._bench.command,
        )
        result = comparison_json(done, time.monotonic() - self._begun)
        report = conclude(self.folder, "compare", result, done.results, self._update)
        self.close()
        return done, "\n".join(laid_out(report)).strip()

    def close(self, error: BaseException | None = None) -> None:
        """Leave the folder; one without a verdict can be gone on with by `compare --resume`."""
        if error is None:
            self._open.close()
        else:
            self._open.__exit__(type(error), error, None)
