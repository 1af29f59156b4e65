# SPDX-License-Identifier: GPL-2.0-only
"""Control against candidate: alternating trials, a tally of each arm, and a verdict."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.config import Experiment
from harness.display import about
from harness.errors import InfraError
from harness.experiment.kernels import BootableKernel, check_preempt, make_kernel, workshop_for
from harness.experiment.options import Workshop
from harness.experiment.runner import OneByOne, Runner
from harness.experiment.sequential import e_value
from harness.experiment.statistics import ArmTally, Counted, Sequential, Verdict, VerdictKind, decide, tally
from harness.experiment.trial import INITRAMFS, Stage, TrialPlan, boot_plan, fingerprint, plan_trial
from harness.kernel.tree import KernelTree
from harness.process import command_line
from harness.results.estimate import Estimate
from harness.results.runfolder import EXPERIMENT, TrialResult, finished_trials, program
from harness.scenario.catalogue import scenario_values
from harness.target.protocol import Machine
from harness.target.repro import write_repro
from harness.watch.kinds import OutcomeKind

HEADER = ("trial", "arm", "kernel", "seed", "outcome", "windows", "iterations", "seconds")


@dataclass(frozen=True)
class Comparison:
    """A finished comparison: everything its reports need."""

    folder: Path
    experiment: Experiment
    stage: Stage
    kernels: Mapping[str, BootableKernel]
    results: tuple[TrialResult, ...]
    tallies: Mapping[str, ArmTally]
    verdict: Verdict
    #: What the verdict rests on if the number of trials was not fixed before.
    sequential: Sequential | None
    #: The command that does it again.
    reproduce: str

    def of(self, arm: str) -> list[TrialResult]:
        """The trials of an arm, in order."""
        return [result for result in self.results if result.arm == arm]


def arm_kernels(
    experiment: Experiment, tree: KernelTree, machine: Machine, workshop: Workshop
) -> dict[str, BootableKernel]:
    """Each arm's kernel with the arm's own patches, built or taken from the cache.

    UserError if one of them does not offer the preemption model that the guests are to run under.
    """
    workshop = workshop_for(experiment, workshop)
    kernels = {}
    for name, arm in experiment.arms.items():
        kernel = make_kernel(tree, experiment.kernels[arm.kernel], arm.patches, machine, workshop)
        check_preempt(tree, arm.kernel, kernel.build, experiment.boot.preempt)
        kernels[name] = kernel
    return kernels


def compare(
    experiment: Experiment,
    kernels: Mapping[str, BootableKernel],
    stage: Stage,
    folder: Path,
    workshop: Workshop,
    reproduce: str,
    runner: Runner | None = None,
) -> Comparison:
    """Run all trials and judge. Trials that the folder holds already are not run again.

    `runner` runs them; without one they run one by one. The number of trials is fixed beforehand, as
    stopping early would spoil the intervals; or else, of an experiment with an `error`, it stops as soon as
    its verdict stands. Raises InfraError when the first trial of an arm ends as `infra_error`, for all others
    would too.
    """
    scenario, _ = scenario_values(experiment)
    plans = [
        plan_trial(experiment, arm, index, kernels[arm], stage, trial_command(experiment, arm, index, folder))
        for index, arm in alternate(experiment)
    ]
    done = finished_trials(folder, {arm: fingerprint(kernel) for arm, kernel in kernels.items()})
    results: list[TrialResult] = []
    at_most = "at most " if experiment.error else ""
    estimate = Estimate.of(workshop.store)
    kinds = {arm: (scenario.name, experiment.arms[arm].label) for arm in kernels}

    def missing() -> Iterator[TrialPlan]:
        for number, plan in enumerate(plans, start=1):
            if (plan.arm, plan.index) not in done:
                left = [kinds[later.arm] for later in plans[len(results) :]]
                at_once = number - len(results)
                running = f"trial {number} of {at_most}{len(plans)}: {plan.arm}"
                if left_s := estimate.left_s(left) / at_once:
                    running += f", {at_most}{about(left_s)}"
                workshop.progress.table(HEADER, [_row(r, experiment) for r in results], running=running)
                yield plan

    with contextlib.closing((runner or OneByOne()).run(missing(), folder)) as ran:
        for plan in plans:
            result = done.get((plan.arm, plan.index)) or next(ran).get()
            results.append(result)
            estimate.add(kinds[plan.arm], result.seconds)
            workshop.progress.table(HEADER, [_row(result, experiment) for result in results])
            if plan.index == 1 and result.kind is OutcomeKind.INFRA_ERROR:
                raise InfraError(
                    f"the first trial of {plan.arm}: {result.title}", hint=f"see {folder / result.folder}"
                )
            if experiment.error and stands(*judged(experiment, results, scenario.counted)[1:]):
                break
    for plan in plans[len(results) :]:  # begun beside the one that made it sure: they count for nothing
        shutil.rmtree(folder / plan.folder, ignore_errors=True)
    return concluded(experiment, kernels, stage, folder, plans[: len(results)], results, reproduce)


def concluded(
    experiment: Experiment,
    kernels: Mapping[str, BootableKernel],
    stage: Stage,
    folder: Path,
    plans: Sequence[TrialPlan],
    results: Sequence[TrialResult],
    reproduce: str,
) -> Comparison:
    """The comparison that these trials are, judged; a trial of it is left for somebody with QEMU only."""
    if not stage.box:
        _write_repro(folder, plans, results)
    counted = scenario_values(experiment)[0].counted
    tallies, verdict, sequential = judged(experiment, results, counted)
    return Comparison(
        folder, experiment, stage, kernels, tuple(results), tallies, verdict, sequential, reproduce
    )


def judged(
    experiment: Experiment, results: Sequence[TrialResult], counted: Counted
) -> tuple[dict[str, ArmTally], Verdict, Sequential | None]:
    """The tally of each arm, the verdict, and what it rests on if the number of trials is not fixed."""
    tallies = {name: tally(name, [r for r in results if r.arm == name], counted) for name in experiment.arms}
    control, candidate = experiment.arm_of("control"), experiment.arm_of("candidate")
    sequential = None
    if experiment.error:
        showed = {name: [r.is_bug for r in results if r.arm == name and r.kind.is_answer] for name in tallies}
        sequential = Sequential(experiment.error, e_value(showed[control], showed[candidate]))
    return tallies, decide(tallies[control], tallies[candidate], sequential), sequential


def stands(verdict: Verdict, sequential: Sequential | None) -> bool:
    """Whether no more trials are needed: the candidate shows the bug, or all that is asked for is there."""
    if verdict.kind is VerdictKind.NOT_FIXED:
        return True
    return sequential is not None and sequential.sure and verdict.kind is not VerdictKind.INCONCLUSIVE


def trial_command(experiment: Experiment, arm: str, index: int, folder: Path) -> str:
    """The command that runs one trial again."""
    chosen = experiment.arms[arm]
    argv = [program(), "run", "--experiment", str(folder / EXPERIMENT), "--kernel", chosen.kernel]
    argv += ["--seed", str(experiment.seed + index - 1)]
    argv += [word for patch in chosen.patches for word in ("--patch", patch)]
    return command_line(argv)


def alternate(experiment: Experiment) -> Iterator[tuple[int, str]]:
    """(trial from 1, arm): the arms take turns, also in who goes first, so that a drift hits both alike."""
    order: list[str] = [experiment.arm_of("control"), experiment.arm_of("candidate")]
    for index in range(1, experiment.trials + 1):
        yield from ((index, arm) for arm in (order if index % 2 else reversed(order)))


def _row(result: TrialResult, experiment: Experiment) -> tuple[str, ...]:
    bug = " (the bug)" if result.is_bug else ""
    return (
        str(result.index),
        result.arm,
        experiment.arms[result.arm].label,
        str(result.seed),
        f"{result.kind}{bug}",
        str(result.windows),
        str(result.iterations),
        f"{result.seconds:.1f}",
    )


def _write_repro(folder: Path, plans: Sequence[TrialPlan], results: Sequence[TrialResult]) -> None:
    """Leave a trial that showed the bug, or else failed, for somebody with QEMU only."""
    pairs = list(zip(plans, results, strict=True))
    plan, result = max(pairs, key=lambda pair: (pair[1].is_bug, pair[1].kind.is_failure))
    title = f"{plan.kernel.build.release}, preempt={plan.boot.preempt}: {result.title}"
    image = folder / result.folder / INITRAMFS
    boot = boot_plan(plan.kernel, plan.boot, plan.stage, image, words=plan.scenario.cmdline)
    write_repro(folder / "repro", boot, title=title, seconds=result.seconds)
