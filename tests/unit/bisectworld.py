# SPDX-License-Identifier: GPL-2.0-only
"""A simulated history whose kernels fail as they are told."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

from harness.bisect.model import BAD, GOOD, History, Place, UnusableError
from harness.experiment.kernels import BootableKernel
from harness.experiment.options import Workshop
from harness.experiment.trial import TrialPlan, fingerprint
from harness.kernel.product import KernelBuild
from harness.kmod import GuestPrograms
from harness.results.runfolder import TrialResult, open_record
from harness.watch.kinds import OutcomeKind

COUNT = 16
NAMES = tuple(f"{number:02x}" * 20 for number in range(1, COUNT + 1))
GOOD_NAME = "00" * 20
LINE = History(NAMES, tuple((place - 1,) if place else () for place in range(COUNT)))
CULPRIT = 9


@dataclass
class World:
    """A subject whose trials end as `ending` says, and who counts what is asked of it."""

    ending: Callable[[str, int], TrialResult] = field(default=lambda name, index: outcome("completed"))
    broken: frozenset[str] = frozenset()
    reverts: bool = True
    history: History = LINE
    made: list[str] = field(default_factory=list)
    ran: list[tuple[str, int]] = field(default_factory=list)
    #: Trials after which somebody presses Ctrl-C.
    patience: float = float("inf")

    def name(self, place: Place) -> str:
        return {BAD: NAMES[-1], GOOD: GOOD_NAME}.get(place) or NAMES[place]

    def label(self, place: Place) -> str:
        return f"{self.name(place)[:12]} change {place + 1}"

    def kernel(self, place: Place, workshop: Workshop) -> BootableKernel:
        return self.kernel_of(self.name(place))

    def without(self, culprit: int, workshop: Workshop) -> BootableKernel | None:
        return self.kernel_of("reverted") if self.reverts else None

    def kernel_of(self, name: str) -> BootableKernel:
        self.made.append(name)
        if name in self.broken:
            raise UnusableError("it does not compile: memory.c:1: error")
        build = SimpleNamespace(key=name, cached=False)
        programs = SimpleNamespace(module=Path("/m/a.ko"), stressor=Path("/m/s"))
        return BootableKernel(cast(KernelBuild, build), cast(GuestPrograms, programs))

    def run_trial(self, plan: TrialPlan, folder: Path) -> TrialResult:
        if len(self.ran) >= self.patience:
            raise KeyboardInterrupt
        name = plan.kernel.build.key
        self.ran.append((plan.arm, plan.index))
        own = folder / "trials" / f"{plan.index:03d}-{plan.arm}"
        own.mkdir(parents=True)
        result = replace(
            self.ending(name, plan.index),
            arm=plan.arm,
            index=plan.index,
            seed=plan.seed,
            folder=str(own.relative_to(folder)),
        )
        with open_record(own, {"fingerprint": fingerprint(plan.kernel)}) as update:
            update("finished", result=result.as_json())
        return result


class Quiet:
    def table(self, *words: object, **more: object) -> None:
        """Nobody looks."""

    def note(self, text: str) -> None:
        """Nobody looks."""


def outcome(kind: str, *, bug: bool = False, signature: str = "") -> TrialResult:
    return TrialResult(
        arm="", index=0, seed=0, kind=OutcomeKind(kind), title=f"the {kind}", signature=signature, is_bug=bug,
        windows=3, iterations=3, seconds=1.0, preempt="none", folder="",
    )  # fmt: skip


def bug_from(culprit: int) -> Callable[[str, int], TrialResult]:
    """Every kernel with the culprit in it fails, at once and always."""

    def ending(name: str, index: int) -> TrialResult:
        has_it = name in NAMES and NAMES.index(name) >= culprit
        return outcome("livelock", bug=True) if has_it else outcome("completed")

    return ending


def but(
    name: str, result: TrialResult, ending: Callable[[str, int], TrialResult]
) -> Callable[[str, int], TrialResult]:
    """As `ending`, but for one kernel."""
    return lambda asked, index: result if asked == name else ending(asked, index)


def world(**more: Any) -> World:
    return World(**{"ending": bug_from(CULPRIT), **more})
