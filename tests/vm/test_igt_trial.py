# SPDX-License-Identifier: GPL-2.0-only
"""Trials of the scenario on kernels with our module: IGT's tests, and a stressor beside them.

Its kernels are those of the box: igt_runner wants sockets, which the kernels of other guests do without. They
have no Xe driver, so the scenario's need of one is left out here.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from harness.config import BootConfig, Preempt, load_experiment
from harness.experiment.kernels import BootableKernel, get_tree, make_kernel
from harness.experiment.options import Workshop
from harness.experiment.stage import set_stage
from harness.experiment.trial import TESTS, Stage, TrialPlan, run_trial
from harness.results.runfolder import TrialResult
from harness.scenario.catalogue import Needs, Value, load_scenario
from harness.target.machine import pick_machine
from harness.watch.kinds import OutcomeKind
from tests.vm.igtroom import every_kind
from tests.vm.userland import IGT

pytestmark = pytest.mark.vm

EXPERIMENT = load_experiment("linux-6.12")


@pytest.fixture(scope="module")
def userland(workshop: Workshop) -> Path:
    return IGT.at(workshop.cache)


def plan_of(kernel: BootableKernel, boot: BootConfig, stage: Stage, **given: Value) -> TrialPlan:
    """A trial of the scenario."""
    scenario = load_scenario("xe-system-allocator")
    scenario = scenario.model_copy(update={"needs": Needs(cpus=2, preempt=scenario.needs.preempt)})
    return TrialPlan(
        arm="igt",
        index=1,
        seed=1,
        scenario=scenario,
        values=scenario.values(given),
        kernel=kernel,
        boot=boot,
        stage=stage,
        timeout_s=120,
        command="none",
    )


def trial(
    workshop: Workshop, folder: Path, userland: Path, name: str, preempt: Preempt, **given: Value
) -> TrialResult:
    """One in a guest, on one of the experiment's kernels, with the fragment `box`."""
    config = EXPERIMENT.kernels[name].model_copy(update={"fragments": ("box",)})
    machine = pick_machine("q35")  # as with a GPU
    kernel = make_kernel(get_tree(EXPERIMENT.tree, workshop), config, (), machine, workshop)
    boot = EXPERIMENT.boot.model_copy(update={"preempt": preempt})
    qemu = EXPERIMENT.qemu.model_copy(update={"userland": str(userland)})
    stage = set_stage(boot, machine, kernel.build, workshop, qemu)
    return run_trial(plan_of(kernel, boot, stage, **given), folder)


def test_tests_are_skipped_beside_churn_on_a_fixed_kernel(
    workshop: Workshop, userland: Path, tmp_path: Path
) -> None:
    include = "^igt@xe_exec_system_allocator@(once|twice)-malloc$"
    result = trial(workshop, tmp_path, userland, "trylock-with-wait", "full", include=include)
    assert result.kind is OutcomeKind.NOT_EXERCISED, result.title
    assert result.title.startswith("no case tested anything; 0 passed, 0 failed, 2 skipped (2 No known gpu")
    lines = (tmp_path / result.folder / "agent.jsonl").read_text().splitlines()
    said = [json.loads(json.loads(line)["line"]) for line in lines]
    assert [message["name"] for message in said if message["type"] == "module"] == ["hmm_harness"]
    beside = [message["parameters"]["beside"] for message in said if message["type"] == "start"]
    assert beside == ["churn"]


def test_a_hang_that_the_stressor_provokes_beside_names_the_test_that_ran(
    workshop: Workshop, userland: Path, tmp_path: Path
) -> None:
    """The test just sleeps: the bug is in the kernel, and met by the stressor."""
    system = every_kind(userland, tmp_path / "system")
    result = trial(
        workshop, tmp_path, system, "trylock", "none",
        include="^igt@meta_test@piglit-timeout$", beside="trylock-starvation",
    )  # fmt: skip
    assert (result.kind, result.proof, result.is_bug) == (OutcomeKind.LIVELOCK, "cycle", True), result.title
    assert result.title.endswith(", while igt@meta_test@piglit-timeout ran")
    assert json.loads((tmp_path / result.folder / TESTS).read_text())["defects"] == ["no results.json"]
