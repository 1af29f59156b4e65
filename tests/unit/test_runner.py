# SPDX-License-Identifier: GPL-2.0-only
"""Several trials at once come to the same as one after another: results, order, folders, end."""

from __future__ import annotations

import threading
from collections.abc import Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from harness.cache import Cache
from harness.config import validated
from harness.errors import InfraError
from harness.experiment import runner
from harness.experiment.options import Workshop
from harness.experiment.runner import OneByOne, Ran, Runner, in_order
from harness.experiment.trial import Stage, TrialPlan, run_trial
from harness.kernel.build import BuildRequest
from harness.matrix import session
from harness.matrix.model import Matrix
from harness.matrix.plan import PlannedKernel, plan_cells
from harness.results.runfolder import all_finished
from tests.unit.runroom import Quiet, RecordedTarget, comparison, kernel

PLANS = cast("list[TrialPlan]", [SimpleNamespace(number=number) for number in range(6)])


@dataclass(frozen=True)
class Threads:
    """Trials at once, without the processes that real guests need."""

    number: int

    def run(self, plans: Iterable[TrialPlan], folder: Path) -> Generator[Ran, None, None]:
        with ThreadPoolExecutor(self.number) as threads:
            yield from in_order(
                plans,
                lambda plan: threads.submit(run_trial, plan, folder),
                lambda plans: len(plans) <= self.number,
            )


def outcomes(done: Iterable[Ran]) -> list[Any]:
    return [ran.outcome for ran in done]


def test_they_come_in_the_order_of_the_plans_whatever_ends_first() -> None:
    futures: list[Future[Any]] = [Future() for _ in PLANS]
    at_most: list[int] = []

    def submit(plan: Any) -> Any:
        if plan.number == 3:  # its predecessors end in the order 2, 1, 0
            for number in (2, 1, 0):
                futures[number].set_result(number)
        if plan.number == 5:
            for number in (5, 4, 3):
                futures[number].set_result(number)
        return futures[plan.number]

    def room(plans: list[Any]) -> bool:
        at_most.append(len(plans))
        return len(plans) <= 4

    assert outcomes(in_order(PLANS, submit, room)) == [0, 1, 2, 3, 4, 5]
    assert max(at_most) <= 5


def test_what_does_not_fit_waits_until_something_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "_LOOK_S", 0.05)
    gate, started = threading.Event(), []

    def work(plan: Any) -> Any:
        started.append(plan.number)
        gate.wait(60)
        return plan.number

    looks: list[list[int]] = []

    def look() -> None:
        if len(started) > 1:  # a busy machine takes its time
            looks.append(list(started))
            gate.set()

    with ThreadPoolExecutor(6) as threads:
        done = in_order(PLANS, lambda plan: threads.submit(work, plan), lambda p: len(p) <= 2, look)
        assert outcomes(done) == [0, 1, 2, 3, 4, 5]
    assert sorted(looks[0]) == [0, 1], "two at once, and no third"


def test_an_error_is_a_trials_own_and_a_defect_ends_all() -> None:
    def submit(plan: Any) -> Future[Any]:
        future: Future[Any] = Future()
        if plan.number == 1:
            future.set_exception(InfraError("no disk"))
        elif plan.number == 4:
            future.set_exception(ZeroDivisionError())
        else:
            future.set_result(plan.number)
        return future

    ran = in_order(PLANS, submit, lambda plans: True)
    assert next(ran).outcome == cast(Any, 0)
    with pytest.raises(InfraError, match="no disk"):
        next(ran).get()
    assert [next(ran).outcome, next(ran).outcome] == cast(Any, [2, 3])
    with pytest.raises(ZeroDivisionError):
        next(ran)


@pytest.mark.parametrize(("trials", "error"), [(3, None), (5, 0.05)])
def test_a_comparison_comes_to_the_same(tmp_path: Path, trials: int, error: float | None) -> None:
    def of(name: str, by: Runner) -> tuple[Any, ...]:
        room = tmp_path / "room"
        folder, _, done = comparison(tmp_path / name, room, trials=trials, error=error, runner=by)
        results = [(r.arm, r.index, r.seed, r.kind, r.signature) for r in done.results]
        found = sorted(path.name for path in (folder / "trials").iterdir())
        files = sorted(path.name for path in (folder / "trials" / found[0]).iterdir())
        return results, found, files, done.verdict.kind, done.sequential

    alone = of("alone", OneByOne())
    assert len(alone[0]) == len(alone[1]) == 6  # all there are, or sure after three pairs
    assert of("beside", Threads(4)) == alone


def test_a_matrix_comes_to_the_same_and_a_cell_that_fails_has_no_further_trials(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = kernel(tmp_path / "room", "base")
    monkeypatch.setattr(session, "finish_kernel", lambda *rest: made)
    monkeypatch.setattr(
        session, "set_stage", lambda *rest, **named: Stage(RecordedTarget("none"), "microvm", "tcg")
    )
    values = {
        "kernels": {"base": {}},
        "preempt": ["full", "none"],  # the guest that was recorded ran none
        "scenarios": [{"scenario": "trylock-starvation"}],
        "trials": 3,
        "memory_image_mb": 0,
    }
    matrix = validated(Matrix, values, "here")
    everything = frozenset({"none", "full"})
    config = made.build.config.read_text()
    planned = {"base": PlannedKernel("base", "7.3.4", cast(BuildRequest, object()), config, everything)}
    cells = plan_cells(matrix, planned)

    def of(name: str, by: Runner) -> tuple[Any, ...]:
        folder, workshop = tmp_path / name, Workshop(Cache(tmp_path), Quiet())
        run = session.Session(matrix, cells, folder, workshop, "microvm", runner=by)
        run.run(planned, lambda: None)
        found = [(f.cell.arm, f.state, f.reason, [(r.index, r.kind) for r in f.results]) for f in run.found]
        whole = [trial for _, trial in all_finished(folder)]
        return found, [(trial.arm, trial.index) for trial in whole]

    alone = of("alone", OneByOne())
    failed, done = alone[0]
    assert failed[1] == "failed" and "runs none" in failed[2] and failed[3] == []
    assert done[1] == "done" and len(done[3]) == len(alone[1]) == 3
    for number in (2, 5):
        assert of(f"beside-{number}", Threads(number)) == alone
