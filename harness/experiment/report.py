# SPDX-License-Identifier: GPL-2.0-only
"""A comparison as one JSON object: all that is recorded of it, and that its report is made from."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import astuple
from statistics import median
from typing import Any, get_args

from harness.experiment.compare import Comparison
from harness.experiment.sequential import interval_at_any_time
from harness.experiment.statistics import Interval
from harness.experiment.trial import kernel_json
from harness.results.runfolder import SCHEMA, TrialResult
from harness.results.schema import (
    ArmResult,
    BootFacts,
    CompareResult,
    KernelFacts,
    MetricRange,
    OnsetToVerdict,
    SequentialFacts,
)
from harness.scenario.catalogue import Scenario, load_scenario
from harness.watch.examination import Proof
from harness.watch.kinds import HANGS


def comparison_json(done: Comparison, seconds: float) -> dict[str, Any]:
    """The object that `compare --json` prints; its keys are a promise."""
    return CompareResult(
        verdict=done.verdict.kind.value,
        reason=done.verdict.reason,
        scenario=done.experiment.scenario,
        counted=load_scenario(done.experiment.scenario).counted,
        set=dict(done.experiment.set),
        arms=tuple(_arm(done, name) for name in done.experiment.arms),
        p_value=done.verdict.p_value,
        sequential=_sequential(done),
        evidence=tuple(str(done.folder / result.folder) for result in done.results),
        repro="" if done.stage.box else str(done.folder / "repro"),
        seconds=round(seconds, 1),
        reproduce=done.reproduce,
    ).model_dump(mode="json")


def _sequential(done: Comparison) -> SequentialFacts | None:
    if not done.sequential:
        return None
    return SequentialFacts(
        error=done.sequential.error,
        e_value=done.sequential.e_value,
        stopped_after=len(done.results),
        most=done.experiment.trials * len(done.experiment.arms),
    )


def _ci95(done: Comparison, name: str) -> Interval:
    """The exact interval, or one that holds however often somebody looked before the trials were ended."""
    counted = done.tallies[name]
    return interval_at_any_time(counted.reproduced, counted.answered) if done.sequential else counted.ci95


def _arm(done: Comparison, name: str) -> ArmResult:
    counted = done.tallies[name]
    results = done.of(name)
    boot = done.experiment.boot.model_dump(mode="json")
    # What the running kernel said, which every trial checks against what was asked for.
    preempt = next((result.preempt for result in results if result.preempt), boot["preempt"])
    times = onset_to_verdict(results)
    return ArmResult(
        name=name,
        role=done.experiment.arms[name].role,
        label=done.experiment.arms[name].label,
        kernel=KernelFacts.model_validate(
            {"name": done.experiment.arms[name].kernel, **kernel_json(done.kernels[name].build)}
        ),
        boot=BootFacts.model_validate({**boot, **done.stage.facts, "preempt": preempt}),
        trials=counted.trials,
        answered=counted.answered,
        outcomes=dict(counted.outcomes),
        reproduced=counted.reproduced,
        windows=counted.windows,
        rate=counted.rate,
        ci95=astuple(_ci95(done, name)),
        proofs=proofs(results),
        onset_to_verdict_s=OnsetToVerdict(**times) if times else None,
        metrics=metric_ranges(load_scenario(done.experiment.scenario), results),
    )


def metric_ranges(scenario: Scenario, results: Sequence[TrialResult]) -> dict[str, MetricRange]:
    """What the trials that measured anything measured; a figure that none has is left out."""
    ranges = {}
    for name, metric in scenario.oracle.metrics.items():
        values = [result.metrics[name] for result in results if name in result.metrics]
        if values:
            ranges[name] = MetricRange(
                unit=metric.unit, median=median(values), min=min(values), max=max(values), limit=metric.limit
            )
    return ranges


def proofs(results: Sequence[TrialResult]) -> dict[Proof, int]:
    """How many of the hangs were proven by a cycle of waiters, by one with gaps, and not at all."""
    counts = Counter(result.proof or "none" for result in _hangs(results))
    return {proof: counts[proof] for proof in get_args(Proof)}


def onset_to_verdict(results: Sequence[TrialResult]) -> dict[str, float] | None:
    """Seconds from the last moment any counter moved to the outcome, over all hangs; None without one."""
    times = [
        result.decided_s - result.onset_s
        for result in _hangs(results)
        if result.decided_s is not None and result.onset_s is not None
    ]
    if not times:
        return None
    return {"median": round(median(times), 3), "max": round(max(times), 3)}


def _hangs(results: Sequence[TrialResult]) -> list[TrialResult]:
    return [result for result in results if result.kind in HANGS]


def trial_json(result: TrialResult, folder: str) -> dict[str, Any]:
    """The object that `run --json` prints."""
    return {"schema": SCHEMA, **result.as_json(), "evidence": folder}
