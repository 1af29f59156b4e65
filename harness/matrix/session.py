# SPDX-License-Identifier: GPL-2.0-only
"""A matrix from its plan to its last trial: kernel after kernel, and on each its cells."""

from __future__ import annotations

import contextlib
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import mean

from harness.display import elapsed
from harness.errors import UserError
from harness.experiment.kernels import BootableKernel, finish_kernel
from harness.experiment.options import Workshop
from harness.experiment.runner import OneByOne, Ran, Runner
from harness.experiment.stage import set_stage
from harness.experiment.trial import Stage, TrialPlan, fingerprint
from harness.guest.preempt import PreemptionError
from harness.kernel.make import BuildError
from harness.matrix.model import Matrix
from harness.matrix.plan import Cell, PlannedKernel, one_line
from harness.process import command_line
from harness.results.estimate import Estimate
from harness.results.matrix import CellState
from harness.results.repeats import NOTHING, Repeats
from harness.results.runfolder import EXPERIMENT, TrialResult, finished_trials, program
from harness.target.box.target import BoxTarget
from harness.target.protocol import Clock, Machine
from harness.watch.kinds import OutcomeKind

HEADER = ("trial", "scenario", "kernel", "preempt", "cpus", "outcome", "windows", "seconds")


@dataclass(frozen=True)
class CellResult:
    """A cell, and what came of it."""

    cell: Cell
    state: CellState
    results: tuple[TrialResult, ...] = ()
    #: Why it has no trials, or not all of them.
    reason: str = ""


class Session:
    """Runs a matrix. What it knows is in the run's folder, so that it can be ended at any moment."""

    def __init__(
        self,
        matrix: Matrix,
        cells: Sequence[Cell],
        folder: Path,
        workshop: Workshop,
        machine: Machine,
        repeats: Repeats = NOTHING,
        runner: Runner | None = None,
        box: BoxTarget | None = None,
    ) -> None:
        """`runner`: who runs the trials; without one they run one by one. `box`: where, if not in QEMU."""
        self._matrix = matrix
        self._folder = folder
        self._repeats = repeats
        self._runner = runner or OneByOne()
        self._workshop = workshop
        self._progress = workshop.progress
        self._machine = machine
        self._box = box
        self._stages: dict[Clock, Stage] = {}
        #: By the cell's arm.
        self._found = {cell.arm: _untried(cell) for cell in cells}
        self._rows: list[tuple[str, ...]] = []
        self._spent = _Spent()
        self._past = Estimate.of(workshop.store)

    @property
    def found(self) -> tuple[CellResult, ...]:
        """All cells as far as they came."""
        return tuple(self._found.values())

    def run(self, kernels: Mapping[str, PlannedKernel], after_each: Callable[[], None]) -> None:
        """Go through all cells; `after_each` is called when a kernel is done.

        A kernel that cannot be built fails its cells, and the others go on; the tree's own suite, where it
        cannot be built, fails those that run it. InfraError: the machine fails.
        """
        names = dict.fromkeys(cell.kernel for cell in self._open())
        for number, name in enumerate(names, start=1):
            mine = [cell for cell in self._open() if cell.kernel == name]
            self._progress.note(f"kernel {number} of {len(names)}: {name}, {self._left()}")
            own = [cell for cell in mine if cell.scenario.program != "hmm-tests"]
            suite = [cell for cell in mine if cell not in own]
            if self._built(name, kernels[name], mine, own) and suite:
                self._built(f"hmm-tests of {name}", kernels[name], suite, suite)
            after_each()

    def _built(
        self, what: str, planned: PlannedKernel, at_stake: Sequence[Cell], cells: Sequence[Cell]
    ) -> bool:
        """Build a kernel with what these cells run on it, and run them; else fail those that are at stake."""
        try:
            kernel = self._kernel(planned, cells)
        except (BuildError, UserError) as error:
            reason = f"{what} cannot be built: {one_line(error.message)}"
            self._found |= {cell.arm: CellResult(cell, "failed", (), reason) for cell in at_stake}
            self._progress.note(reason)
            return False
        marks = {cell.arm: fingerprint(kernel) for cell in cells}
        self._repeats.check(marks)
        done = {
            key: result
            for key, result in finished_trials(self._folder, marks).items()
            if result.kind is not OutcomeKind.INFRA_ERROR  # the machine may be well by now
        }
        self._run_cells(cells, kernel, done)
        return True

    def _open(self) -> list[Cell]:
        return [found.cell for found in self._found.values() if found.state == "open"]

    def _kernel(self, planned: PlannedKernel, cells: Sequence[Cell]) -> BootableKernel:
        """The kernel, and what the guests of its cells run."""
        assert planned.request
        begin = time.monotonic()
        tests = any(cell.scenario.program == "hmm-tests" for cell in cells)
        kernel = finish_kernel(planned.request, replace(self._workshop, hmm_tests=tests))
        self._spent.builds.append(time.monotonic() - begin)
        return kernel

    def _run_cells(
        self, cells: Sequence[Cell], kernel: BootableKernel, done: Mapping[tuple[str, int], TrialResult]
    ) -> None:
        """Run what is missing of a kernel's cells; a cell that fails has no further trials."""
        for boot in {cell.boot(self._matrix).clock: cell.boot(self._matrix) for cell in cells}.values():
            if boot.clock not in self._stages:
                self._stages[boot.clock] = set_stage(
                    boot, self._machine, kernel.build, self._workshop, box=self._box
                )

        def missing() -> Iterator[TrialPlan]:
            for cell in cells:
                for index in range(1, cell.trials + 1):
                    if (cell.arm, index) not in done and self._found[cell.arm].state != "failed":
                        running = f"{cell.arm}, trial {index}; {self._left()}"
                        self._progress.table(HEADER, self._rows, running=running)
                        yield self._plan(cell, index, kernel)

        self._spent.begin()
        with contextlib.closing(self._runner.run(missing(), self._folder)) as ran:
            for cell in cells:
                self._found[cell.arm] = self._cell(cell, done, self._wanted(ran))
            for _ in self._wanted(ran):
                pass

    def _wanted(self, ran: Iterator[Ran]) -> Iterator[Ran]:
        """Without what was begun of a cell beside the trial that failed it: it counts for nothing."""
        for one in ran:
            if self._found[one.plan.arm].state != "failed":
                yield one
            else:
                shutil.rmtree(self._folder / one.plan.folder, ignore_errors=True)

    def _cell(
        self, cell: Cell, done: Mapping[tuple[str, int], TrialResult], ran: Iterator[Ran]
    ) -> CellResult:
        """A cell of what is done and what comes. Its first trial tells if the others can say anything."""
        results: list[TrialResult] = []
        for index in range(1, cell.trials + 1):
            result = done.get((cell.arm, index))
            if result is None:
                try:
                    result = next(ran).get()
                except PreemptionError as error:
                    return CellResult(cell, "failed", tuple(results), error.message)
                self._spent.trial(cell.entry.name, result.seconds)
            results.append(result)
            self._rows.append(_row(cell, result))
            self._progress.table(HEADER, self._rows)
            if index == 1 and result.kind is OutcomeKind.INFRA_ERROR:
                return CellResult(cell, "failed", (result,), f"the first trial: {result.title}")
        return CellResult(cell, "done", tuple(results))

    def _plan(self, cell: Cell, index: int, kernel: BootableKernel) -> TrialPlan:
        boot = cell.boot(self._matrix)
        seed = self._matrix.seed + index - 1
        return TrialPlan(
            arm=cell.arm,
            index=index,
            seed=seed,
            scenario=cell.scenario,
            values=cell.values(),
            kernel=kernel,
            boot=boot,
            stage=self._stages[boot.clock],
            timeout_s=self._matrix.trial_timeout_s,
            image_mb=self._matrix.memory_image_mb,
            command=trial_command(cell, seed, self._folder),
        )

    def _left(self) -> str:
        cells = self._open()
        names = {cell.kernel for cell in cells}
        wanted = [cell.entry.name for cell in cells for _ in range(cell.trials)]
        left_s = self._spent.left_s(wanted, len(names))
        if left_s is None:  # as long as the last times, with kernels that are there
            kinds = [(cell.entry.scenario, cell.kernel) for cell in cells for _ in range(cell.trials)]
            left_s = self._past.left_s(kinds) or None
        about = f", about {elapsed(left_s)}" if left_s is not None else ""
        return f"{len(cells)} cells left{about}"


class _Spent:
    """What builds and trials took since the matrix was begun or resumed, s."""

    def __init__(self) -> None:
        self.builds: list[float] = []
        self.trials: list[tuple[str, float]] = []
        #: By the clock, while trials ran; several may run at once.
        self._wall_s = 0.0
        self._last = 0.0

    def begin(self) -> None:
        """Trials are run from now on."""
        self._last = time.monotonic()

    def trial(self, scenario: str, seconds: float) -> None:
        """One of them is over."""
        self.trials.append((scenario, seconds))
        now = time.monotonic()
        self._wall_s += now - self._last
        self._last = now

    def left_s(self, trials: Sequence[str], builds: int) -> float | None:
        """What so many builds and trials, by the names of their scenarios, will take; None: nobody knows."""
        if not self.trials:
            return None
        every = [seconds for _, seconds in self.trials]
        total = 0.0
        for name in dict.fromkeys(trials):
            own = [seconds for scenario, seconds in self.trials if scenario == name]
            total += trials.count(name) * mean(own or every)
        at_once = self._wall_s / sum(every) if sum(every) else 1.0
        return total * at_once + (builds * mean(self.builds) if self.builds else 0.0)


def trial_command(cell: Cell, seed: int, folder: Path) -> str:
    """The command that runs one trial again."""
    argv = [program(), "run", "--experiment", str(folder / EXPERIMENT), "--kernel", cell.kernel]
    argv += ["--scenario", cell.entry.scenario]
    argv += [word for name, value in cell.entry.set.items() for word in ("--set", f"{name}={value}")]
    argv += ["--clock", cell.entry.clock] if cell.entry.clock else []
    return command_line([*argv, "--preempt", cell.preempt, "--cpus", str(cell.cpus), "--seed", str(seed)])


def _untried(cell: Cell) -> CellResult:
    return CellResult(cell, "not applicable" if cell.reason else "open", (), cell.reason)


def _row(cell: Cell, result: TrialResult) -> tuple[str, ...]:
    bug = " (the bug)" if result.is_bug else ""
    place = (cell.entry.name, cell.kernel, cell.preempt, str(cell.cpus))
    return (str(result.index), *place, f"{result.kind}{bug}", str(result.windows), f"{result.seconds:.1f}")
