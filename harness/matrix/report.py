# SPDX-License-Identifier: GPL-2.0-only
"""From a session's cells to what `matrix` came to: counts, exact intervals, signatures, medians."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from statistics import median

from harness.config import KernelConfig
from harness.experiment.statistics import tally
from harness.kernel.patches import Catalogue
from harness.matrix.model import Matrix, ScenarioEntry
from harness.matrix.session import CellResult
from harness.results.matrix import (
    CellFacts,
    KernelRow,
    MatrixResult,
    MetricFacts,
    ScenarioRow,
    SignatureCount,
)
from harness.results.runfolder import TrialResult
from harness.scenario.catalogue import load_scenario


def matrix_result(
    matrix: Matrix,
    found: Sequence[CellResult],
    *,
    tree: str,
    guest: str,
    day: str,
    seconds: float,
    reproduce: str,
    evidence: str,
) -> MatrixResult:
    """What there is of a matrix, finished or not. seconds: that it took so far."""
    cells = tuple(_cell(each) for each in found)
    wanted = [cell for cell in cells if cell.state != "not applicable"]
    return MatrixResult(
        tree=tree,
        guest=guest,
        kernels=tuple(_kernel(name, kernel) for name, kernel in matrix.kernels.items()),
        scenarios=tuple(_scenario(entry) for entry in matrix.scenarios),
        relative_to=matrix.relative_to,
        cells=cells,
        complete=all(cell.state == "done" and cell.answered for cell in wanted),
        day=day,
        seconds=round(seconds, 1),
        reproduce=reproduce,
        evidence=evidence,
    )


def _kernel(name: str, kernel: KernelConfig) -> KernelRow:
    entries = {entry.id: entry for entry in Catalogue.load().entries}
    fixes = [entries[patch] for patch in kernel.patches if patch in entries and entries[patch].role == "fix"]
    return KernelRow(
        name=name,
        patches=tuple(patch if patch in entries else Path(patch).name for patch in kernel.patches),
        config=(*kernel.fragments, *kernel.config),
        idea="; ".join(entry.idea for entry in fixes),
        against="; ".join(entry.against for entry in fixes),
    )


def _scenario(entry: ScenarioEntry) -> ScenarioRow:
    metrics = load_scenario(entry.scenario).oracle.metrics
    return ScenarioRow(
        label=entry.name,
        scenario=entry.scenario,
        set=entry.set,
        metrics={
            name: MetricFacts(unit=m.unit, help=m.help, above=m.above, below=m.below)
            for name, m in metrics.items()
        },
    )


def _cell(found: CellResult) -> CellFacts:
    cell, results = found.cell, found.results
    counted = tally(cell.arm, results, cell.scenario.counted)
    failures = Counter((r.kind, r.signature, r.is_bug) for r in results if r.kind.is_failure)
    return CellFacts(
        scenario=cell.entry.scenario,
        label=cell.entry.name,
        set=cell.entry.set,
        kernel=cell.kernel,
        preempt=cell.preempt,
        cpus=cell.cpus,
        state=found.state,
        reason=found.reason,
        trials=counted.trials,
        answered=counted.answered,
        outcomes=dict(counted.outcomes),
        reproduced=counted.reproduced,
        failed_otherwise=counted.failed_otherwise,
        windows=counted.windows,
        rate=counted.rate,
        ci95=(counted.ci95.low, counted.ci95.high),
        failures=tuple(
            SignatureCount(outcome=kind, signature=signature, is_bug=is_bug, trials=count)
            for (kind, signature, is_bug), count in failures.items()
        ),
        metrics=medians(results),
        evidence=tuple(result.folder for result in results),
    )


def medians(results: Sequence[TrialResult]) -> dict[str, float]:
    """Each metric's median over the trials that have it."""
    names = dict.fromkeys(name for result in results for name in result.metrics)
    return {
        name: median(result.metrics[name] for result in results if name in result.metrics) for name in names
    }
