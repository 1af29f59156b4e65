# SPDX-License-Identifier: GPL-2.0-only
"""A bisection from its ends to a checked culprit: kernels, trials, and what a method makes of them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from statistics import median

from harness.bisect.check import confirmed, doubt, suspects
from harness.bisect.failure import Bug, Reading, read
from harness.bisect.model import (
    BAD,
    GOOD,
    Costs,
    Evidence,
    Found,
    Knowledge,
    Method,
    Place,
    Stop,
    Try,
    UnusableError,
)
from harness.bisect.records import KernelFact, Records
from harness.bisect.subject import Subject
from harness.config import Experiment
from harness.errors import InfraError, UserError
from harness.experiment.kernels import BootableKernel
from harness.experiment.options import Workshop
from harness.experiment.trial import Stage, TrialPlan, fingerprint, run_trial
from harness.guest.preempt import PreemptionError
from harness.results.runfolder import TrialResult, arm_of
from harness.scenario.catalogue import Scenario, UnfitKernelError, Value

#: Trials in a row that gave no answer, after which none is expected.
SILENT_TRIALS = 10
#: Trials in a row that the machine failed, after which it is asked whether the kernel is to blame.
FAILED_TRIALS = 2
#: Names of kernels that are no candidate: the bad end without the culprit's change, and a boot that shows
#: whether the machine is well.
REVERTED = "reverted"
CONTROL = "control"

HEADER = ("trial", "kernel", "seed", "outcome", "windows", "iterations", "seconds")


@dataclass(frozen=True)
class Setup:
    """How every trial is run."""

    experiment: Experiment
    scenario: Scenario
    values: Mapping[str, Value]
    #: Where a kernel boots; asked once there is one.
    stage: Callable[[BootableKernel], Stage]
    #: The command that repeats one trial, from the kernel's name and the seed.
    command: Callable[[str, int], str]
    #: What goes on every kernel, for the reports.
    patches: tuple[str, ...] = ()


@dataclass(frozen=True)
class Reverted:
    """The bad end without the culprit's change: does it still fail? None: it could not be tried, and why."""

    fails: bool | None
    trials: int
    reason: str = ""


@dataclass(frozen=True)
class Conclusion:
    """What a bisection came to."""

    end: Found | Stop
    bug: Bug | None
    known: Knowledge
    #: True once the culprit was seen to fail and its parents were not, each as often as a good one needs.
    checked: bool = False
    reverted: Reverted | None = None

    @property
    def culprit(self) -> int | None:
        """The one candidate that is named."""
        match self.end:
            case Found(suspects=(culprit,)):
                return culprit
        return None

    @property
    def proven(self) -> bool:
        """Whether the culprit was checked, and nothing speaks against it."""
        return self.checked and not (self.reverted and self.reverted.fails)


class Session:
    """Drives a method. All it knows is in its records, so that it can be ended at any moment."""

    def __init__(
        self, subject: Subject, method: Method, setup: Setup, records: Records, workshop: Workshop
    ) -> None:
        self._subject = subject
        self._method = method
        self._setup = setup
        self._records = records
        self._workshop = workshop
        self._progress = workshop.progress
        self._stage: Stage | None = None
        self._kernels: dict[Place | str, BootableKernel] = {}
        self._rows: list[tuple[str, ...]] = []

    def run(self) -> Conclusion:
        """Go on from what the records say to the end.

        UserError: an end that cannot be tested. InfraError: the machine fails; the same run can go on later.
        """
        self._catch_up()
        while True:
            known = self.known()
            action = self._method.next(known)
            match action:
                case Stop():
                    return Conclusion(action, self.bug(), known)
                case Try():
                    self._try(action)
                    self._say(action.place)
                case Found(suspects=(culprit,)):
                    need, all_known = self._method.clean_trials(known), self._everything()
                    more = doubt(culprit, all_known, need)
                    if more:
                        self._try(more)
                        self._say(more.place)
                    else:
                        checked = confirmed(culprit, all_known, need)
                        reverted = self._without(culprit, need) if checked else None
                        return Conclusion(action, self.bug(), self.known(), checked, reverted)
                case Found():
                    return Conclusion(action, self.bug(), known)

    def _catch_up(self) -> None:
        """Skip what the trial of a run that was killed right after it says is to be skipped."""
        bug = self.bug()
        ends = (self._subject.name(BAD), self._subject.name(GOOD))
        for name in sorted(set(self._records.kernels) & set(self._subject.history.names) - set(ends)):
            for result in self._records.trials(arm_of(name)):
                if read(result, bug) is Reading.OTHER and not self._records.kernels[name].skip:
                    self._records.skip(name, _another(result).message)

    def _say(self, place: Place) -> None:
        """Where the search stands, once something was tried at a place."""
        known = self.known()
        seen, need = known.at(place), self._method.clean_trials(known)
        shown = f"{seen.reproduced} of {seen.trials} trials show the bug"
        if place == BAD:
            self._progress.note(f"bad end: {shown}; a kernel is good after {need} clean trials")
        elif place == GOOD:
            self._progress.note(f"good end: {shown}")
        elif place not in known.skipped:
            verdict = "bad" if seen.reproduced else "good" if seen.clean >= need else "open"
            self._progress.note(
                f"{verdict}: {self._subject.label(place)}: {shown}; {suspects(known, need)} candidates left"
            )

    def bug(self) -> Bug | None:
        """The failure that is bisected, once the bad end has shown it."""
        return Bug.shown_by(self._records.trials(self._arm(BAD)))

    def known(self) -> Knowledge:
        """What the records say, each trial once: the bad end may be the last candidate as well."""
        known = self._everything()
        bad = self._subject.name(BAD)
        tested = {
            place: seen
            for place, seen in known.tested.items()
            if place not in known.skipped and (place < 0 or known.history.names[place] != bad)
        }
        return replace(known, tested=tested)

    def _everything(self) -> Knowledge:
        """What the records say, by place."""
        history = self._subject.history
        places = (BAD, GOOD, *range(len(history)))
        facts = {place: self._records.kernels.get(self._subject.name(place)) for place in places}
        return Knowledge(
            history,
            tested={place: self._evidence(self._arm(place)) for place, fact in facts.items() if fact},
            skipped=frozenset(place for place, fact in facts.items() if place >= 0 and fact and fact.skip),
            ready=frozenset(place for place, fact in facts.items() if fact and not fact.skip),
            costs=self._costs(),
        )

    def _arm(self, place: Place) -> str:
        return arm_of(self._subject.name(place))

    def _evidence(self, arm: str) -> Evidence:
        bug = self.bug()
        readings = [read(result, bug) for result in self._records.trials(arm)]
        return Evidence(readings.count(Reading.CLEAN), readings.count(Reading.REPRODUCED))

    def _costs(self) -> Costs:
        built = [fact.seconds for fact in self._records.kernels.values() if not fact.cached]
        # The first build of a tree compiles all of it, the later ones what differs.
        later = built[1:] or built
        ran = [result.seconds for arm in self._arms() for result in self._records.trials(arm)]
        given = Costs()
        return Costs(median(later) if later else given.build_s, median(ran) if ran else given.trial_s)

    def _arms(self) -> Iterator[str]:
        return (arm_of(name) for name in self._records.kernels)

    def _without(self, culprit: int, need: int) -> Reverted:
        """Whether the bad end is cured by taking the culprit's change out of it."""
        try:
            kernel = self._obtain(REVERTED, lambda: self._subject.without(culprit, self._workshop))
            if kernel is None:
                return Reverted(None, 0, "its change cannot be taken out of the bad end: it conflicts")
            seen = self._evidence(REVERTED)
            if not seen.reproduced and seen.clean < need:
                self._run_trials(kernel, REVERTED, need - seen.clean, until_bug=True)
        except (UnusableError, InfraError) as error:
            # The culprit is known by now, and must not be lost.
            return Reverted(None, 0, error.message)
        seen = self._evidence(REVERTED)
        return Reverted(seen.reproduced > 0, seen.trials)

    # Kernels

    def _kernel(self, place: Place) -> BootableKernel:
        name = self._subject.name(place)
        kernel = self._obtain(name, lambda: self._subject.kernel(place, self._workshop))
        assert kernel is not None
        return kernel

    def _obtain(self, name: str, make: Callable[[], BootableKernel | None]) -> BootableKernel | None:
        """A kernel, and on record what it took. UnusableError as from `make`, at once if on record."""
        if name in self._kernels:
            return self._kernels[name]
        fact = self._records.kernels.get(name)
        if fact and fact.skip:
            raise UnusableError(fact.skip)
        begin = time.monotonic()
        try:
            kernel = make()
        except UnusableError as error:
            self._records.add_kernel(KernelFact(name, _since(begin), False, error.message))
            raise
        if kernel is None:
            return None
        self._records.check(arm_of(name), fingerprint(kernel))
        if not fact:
            self._records.add_kernel(KernelFact(name, _since(begin), kernel.build.cached))
        # The rest are in the cache, at hand within a second.
        self._kernels = {name: kernel}
        return kernel

    # Trials

    def _try(self, action: Try) -> None:
        """Do what the method asks. A candidate that cannot be tested is skipped, an end is an error."""
        place = action.place
        try:
            kernel = self._kernel(place)
            self._run_trials(kernel, self._arm(place), action.trials, until_bug=place != BAD)
        except UnusableError as error:
            if place in (BAD, GOOD):
                end = "bad" if place == BAD else "good"
                raise UserError(
                    f"the {end} end, {self._subject.label(place)}, cannot be tested: {error.message}",
                    hint=f"choose another {end} revision, or mend it with --patch",
                ) from error
            if self._subject.name(place) in self._records.kernels:
                self._records.skip(self._subject.name(place), error.message)
            self._progress.note(f"skipped: {self._subject.label(place)}: {error.message.splitlines()[0]}")

    def _run_trials(self, kernel: BootableKernel, arm: str, answers: int, *, until_bug: bool) -> None:
        """Run trials until so many more have answered, or, with `until_bug`, one has shown the bug.

        UnusableError: another failure, no answers, or a kernel that does not come up.
        """
        bad = arm == self._arm(BAD)
        other = (r for r in self._records.trials(arm) if read(r, self.bug()) is Reading.OTHER)
        if not bad and (result := next(other, None)):
            raise _another(result)
        before = self._evidence(arm)
        silent = failed = 0
        while (seen := self._evidence(arm)).trials - before.trials < answers:
            if until_bug and seen.reproduced > before.reproduced:
                return
            result = self._trial(kernel, arm)
            reading = read(result, self.bug())
            if reading is Reading.OTHER and not bad:
                raise _another(result)
            silent = 0 if reading in (Reading.CLEAN, Reading.REPRODUCED) else silent + 1
            failed = failed + 1 if reading is Reading.INFRA else 0
            if silent >= SILENT_TRIALS:
                self._blame(arm, f"{silent} trials in a row gave no answer, the last one: {result.title}")
            if failed >= FAILED_TRIALS:
                self._blame(arm, f"it does not come as far as the scenario: {result.title} ({result.folder})")

    def _blame(self, arm: str, what: str) -> None:
        """Whose fault it is that trials say nothing: the kernel's if the bad end still answers.

        UnusableError if it is the kernel's, else InfraError.
        """
        if arm != self._arm(BAD):
            answer = self._trial(self._kernel(BAD), CONTROL)
            if answer.kind.is_answer:
                raise UnusableError(what)
        elif any(result.kind.is_answer for result in self._records.trials(arm)):
            pass  # it did answer: the machine is not what it was
        elif "no answer" in what:
            raise UnusableError(what)
        raise InfraError(f"{arm}: {what}", hint=f"see {self._records.folder}")

    def _trial(self, kernel: BootableKernel, arm: str) -> TrialResult:
        """One more trial of a kernel, on record.

        UnusableError if the kernel lacks the preemption model or what the scenario needs.
        """
        done = self._records.trials(arm)
        index = max((result.index for result in done), default=0) + 1
        setup = self._setup
        seed = setup.experiment.seed + index - 1
        self._stage = self._stage or setup.stage(kernel)
        plan = TrialPlan(
            arm=arm,
            index=index,
            seed=seed,
            scenario=setup.scenario,
            values=setup.values,
            kernel=kernel,
            boot=setup.experiment.boot,
            stage=self._stage,
            timeout_s=setup.experiment.trial_timeout_s,
            # One image of each kernel's failure is enough.
            image_mb=0 if self._evidence(arm).reproduced else setup.experiment.memory_image_mb,
            command=setup.command(arm, seed),
        )
        self._progress.table(HEADER, self._rows, running=f"trial {index} of {arm}")
        try:
            result = run_trial(plan, self._records.folder)
        except (PreemptionError, UnfitKernelError) as error:
            raise UnusableError(error.message, hint=error.hint) from error
        self._records.add_trial(fingerprint(kernel), result)
        self._rows.append(self._row(result))
        self._progress.table(HEADER, self._rows)
        return result

    def _row(self, result: TrialResult) -> tuple[str, ...]:
        the_bug = " (the bug)" if read(result, self.bug()) is Reading.REPRODUCED else ""
        numbers = (str(result.windows), str(result.iterations), f"{result.seconds:.1f}")
        return (str(result.index), result.arm, str(result.seed), f"{result.kind}{the_bug}", *numbers)


def _another(result: TrialResult) -> UnusableError:
    return UnusableError(f"it fails, but in another way: {result.title} ({result.folder})")


def _since(begin: float) -> float:
    return round(time.monotonic() - begin, 1)
