# SPDX-License-Identifier: GPL-2.0-only
"""From a matrix to its cells in the order they are run, each kernel's together; and why some cannot be."""

from __future__ import annotations

import itertools
import textwrap
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from harness.config import BootConfig, Preempt
from harness.deadline import Deadline
from harness.errors import UserError
from harness.experiment.kernels import kernel_request, resolve_patches
from harness.experiment.options import BUILD_LIMIT_S, Workshop
from harness.kernel.build import BuildRequest, resolved_config
from harness.kernel.preemption import HINTS, offered_models
from harness.kernel.tree import KernelTree
from harness.matrix.model import Matrix, ScenarioEntry
from harness.scenario.catalogue import Scenario, Value, load_scenario
from harness.target.protocol import Machine


@dataclass(frozen=True)
class PlannedKernel:
    """A kernel of the matrix. Without a `request` it cannot be built from this tree, for the `reason`."""

    name: str
    version: str
    request: BuildRequest | None
    #: The .config it would be built with.
    config: str = ""
    #: The preemption models it offers.
    models: frozenset[str] = frozenset()
    reason: str = ""


@dataclass(frozen=True)
class Cell:
    """One scenario on one kernel under one preemption model with so many CPUs."""

    entry: ScenarioEntry
    #: The catalogue's entry.
    scenario: Scenario
    kernel: str
    preempt: Preempt
    cpus: int
    trials: int
    #: Why it cannot be, or is not wanted; empty: it is run.
    reason: str = ""

    @property
    def arm(self) -> str:
        """Names the cell among the trials of a run."""
        return f"{self.entry.name}.{self.kernel}.{self.preempt}.{self.cpus}"

    def boot(self, matrix: Matrix) -> BootConfig:
        """Its guest."""
        clock = self.entry.clock or matrix.boot.clock
        return matrix.boot.model_copy(update={"preempt": self.preempt, "cpus": self.cpus, "clock": clock})

    def values(self) -> dict[str, Value]:
        """All parameters of its scenario."""
        return self.scenario.values(self.entry.set)


def plan_kernels(
    matrix: Matrix, tree: KernelTree, machine: Machine, workshop: Workshop
) -> dict[str, PlannedKernel]:
    """What each kernel is built from, and with which configuration; nothing is compiled."""
    planned = {}
    for name, wanted in matrix.kernels.items():
        try:
            request = kernel_request(tree, resolve_patches(wanted.patches, tree), wanted, machine)
            deadline = Deadline.after(BUILD_LIMIT_S)
            config = resolved_config(request, workshop.cache, workshop.progress, deadline)
        except UserError as error:
            planned[name] = PlannedKernel(name, tree.version, None, reason=one_line(error.message))
        else:
            models = offered_models(tree.path, config)
            planned[name] = PlannedKernel(name, tree.version, request, config, models)
    return planned


def one_line(message: str) -> str:
    """An error's message for a table's note."""
    return textwrap.shorten(message, 300, placeholder=" ...")


def plan_cells(matrix: Matrix, kernels: Mapping[str, PlannedKernel]) -> tuple[Cell, ...]:
    """All cells, in the order they are run. UserError if none of them can be."""
    cells = tuple(_cells(matrix, build_order(kernels), kernels))
    if all(cell.reason for cell in cells):
        reasons = dict.fromkeys(cell.reason for cell in cells)
        raise UserError(
            "no cell of the matrix can be run: " + "; ".join(reasons),
            hint="change its kernels, scenarios or preemption models",
        )
    return cells


def build_order(kernels: Mapping[str, PlannedKernel]) -> list[str]:
    """The names, so that each kernel is built once: those of one configuration follow one another (what
    differs between them is a file or two), those of the most frequent one first."""
    counts = Counter(kernel.config for kernel in kernels.values())
    first = {config: number for number, config in enumerate(counts)}
    return sorted(kernels, key=lambda name: (-counts[kernels[name].config], first[kernels[name].config]))


def _cells(matrix: Matrix, order: Sequence[str], kernels: Mapping[str, PlannedKernel]) -> Iterator[Cell]:
    scenarios = [(entry, load_scenario(entry.scenario)) for entry in matrix.scenarios]
    for name, (entry, scenario) in itertools.product(order, scenarios):
        if name not in (entry.kernels or matrix.kernels):
            continue
        for place in itertools.product(entry.preempt or matrix.preempt, entry.cpus or matrix.cpus):
            cell = Cell(entry, scenario, name, *place, trials=entry.trials or matrix.trials)
            yield replace(cell, reason=_why_not(matrix, cell, kernels[name]))


def _why_not(matrix: Matrix, cell: Cell, kernel: PlannedKernel) -> str:
    """Why a cell cannot be; empty if it can."""
    for exclusion in matrix.exclude:
        if exclusion.covers(cell.entry.name, cell.kernel, cell.preempt, cell.cpus):
            return f"left out: {exclusion.why}"
    if kernel.request is None:
        return kernel.reason
    if cell.preempt not in kernel.models:
        return f"no preempt={cell.preempt} on this kernel: {HINTS[cell.preempt]}"
    if matrix.target and cell.boot(matrix).clock == "virtual":
        return "the virtual clock needs QEMU, not a box"
    try:
        cell.scenario.check(cell.boot(matrix), cell.values())
        cell.scenario.check_kernel(kernel.version, kernel.config)
    except UserError as error:
        return error.message
    return ""
