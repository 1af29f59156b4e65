# SPDX-License-Identifier: GPL-2.0-only
"""Who runs trials: one after another in this process, or several at once. The results come in order."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from harness.errors import HarnessError
from harness.experiment.lane import Lanes
from harness.experiment.placement import Host, need_of
from harness.experiment.trial import TrialPlan, run_trial
from harness.results.runfolder import TrialResult

#: Between two looks at whether those who run trials are still there, s.
_LOOK_S = 1.0


@dataclass(frozen=True)
class Ran:
    """A trial that is over: its result, or why there is none."""

    plan: TrialPlan
    outcome: TrialResult | HarnessError

    def get(self) -> TrialResult:
        """The result; raises the error if there is none."""
        if isinstance(self.outcome, HarnessError):
            raise self.outcome
        return self.outcome


class Runner(Protocol):
    """Runs trials."""

    def run(self, plans: Iterable[TrialPlan], folder: Path) -> Generator[Ran, None, None]:
        """Run the plans as `run_trial` does, below `folder`; yields in their order whatever ends first.

        Plans are taken from `plans` as places become free, so that later ones can be decided by what came of
        earlier ones: of a runner of one, by all of them. Closing it (or Ctrl-C) ends all that run.
        """


class OneByOne:
    """Each trial in this process, when the one before has been looked at."""

    def run(self, plans: Iterable[TrialPlan], folder: Path) -> Generator[Ran, None, None]:
        """See `Runner.run`."""
        for plan in plans:
            try:
                ran = Ran(plan, run_trial(plan, folder))
            except HarnessError as error:
                ran = Ran(plan, error)
            yield ran


@dataclass(frozen=True)
class SideBySide:
    """At most so many trials at once on this machine, and never more than its cores and memory hold."""

    jobs: int
    host: Host

    def run(self, plans: Iterable[TrialPlan], folder: Path) -> Generator[Ran, None, None]:
        """See `Runner.run`."""
        lanes, ending = Lanes(), threading.Event()
        with ThreadPoolExecutor(self.jobs, thread_name_prefix="lane") as threads:
            try:
                yield from in_order(
                    plans, lambda plan: threads.submit(lanes.run, plan, folder, ending.is_set), self._room
                )
            finally:
                ending.set()
                threads.shutdown(cancel_futures=True)
                lanes.close()

    def _room(self, plans: list[TrialPlan]) -> bool:
        return len(plans) <= self.jobs and self.host.holds([need_of(plan.boot) for plan in plans])


def in_order(
    plans: Iterable[TrialPlan],
    submit: Callable[[TrialPlan], Future[TrialResult]],
    room: Callable[[list[TrialPlan]], bool],
    look: Callable[[], None] = lambda: None,
) -> Generator[Ran, None, None]:
    """Submit each plan, in order, as soon as there is room for it beside those that run; yield them in order.

    `look` is called now and then while trials run; what it raises ends this.
    """
    waiting: deque[tuple[TrialPlan, Future[TrialResult]]] = deque()
    coming = iter(plans)
    upcoming = next(coming, None)
    while waiting or upcoming:
        running = [(plan, future) for plan, future in waiting if not future.done()]
        if waiting and waiting[0][1].done():
            yield _ran(*waiting.popleft())
        elif upcoming and room([*(plan for plan, _ in running), upcoming]):
            waiting.append((upcoming, submit(upcoming)))
            upcoming = next(coming, None)
        else:
            wait([future for _, future in running], timeout=_LOOK_S, return_when=FIRST_COMPLETED)
            look()


def _ran(plan: TrialPlan, future: Future[TrialResult]) -> Ran:
    try:
        return Ran(plan, future.result())
    except HarnessError as error:
        return Ran(plan, error)
