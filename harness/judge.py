# SPDX-License-Identifier: GPL-2.0-only
"""From what was observed of a trial to its outcome: a pure function, live or replayed from disk.

Precedence: the earliest hang, splat, out-of-memory kill or data corruption decides; what follows it is
consequence. Without one, what the stressor and the guest's init said; without that, how the guest ended.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

from harness.guest.protocol import (
    Corruption,
    End,
    ErrorMessage,
    Exit,
    Hello,
    Iteration,
    ProgressMessage,
    Start,
)
from harness.watch.console import ConsoleEvent
from harness.watch.kinds import OutcomeKind
from harness.watch.observation import AgentMessage, ConsoleBegan, Ended, Observation, ProgressMark, Stall

__all__ = ["Oracle", "Outcome", "OutcomeKind", "Signature", "StackRule", "deciding_event", "judge", "latest"]

#: Functions of a signature's stack.
SIGNATURE_FRAMES = 5
#: Innermost frames that all reports of a kind share: how it was printed, or how the task went to sleep.
_COMMON = (
    "dump_stack*", "show_stack", "print_report", "kasan_report", "__asan_*", "kasan_check*",
    "__warn*", "report_bug", "vpanic", "panic", "__schedule_bug",
    "__schedule", "schedule*", "io_schedule*", "__might_resched", "__might_sleep",
)  # fmt: skip


@dataclass(frozen=True)
class StackRule:
    """One way a bug shows itself: an outcome, with functions that are and are not on the stack.

    Functions are shell patterns (`hmm_range_fault*`). One of `frames` must be there, none of `not_frames`,
    which tells the bug from another that comes the same way: a spinner that waits for a lock it holds, say.
    """

    kinds: frozenset[OutcomeKind]
    frames: tuple[str, ...]
    not_frames: tuple[str, ...] = ()

    def matches(self, event: ConsoleEvent) -> bool:
        """Whether the event shows the bug."""
        return (
            event.outcome in self.kinds
            and _on_stack(self.frames, event.frames)
            and not _on_stack(self.not_frames, event.frames)
        )


@dataclass(frozen=True)
class Oracle:
    """What a scenario knows of its bug."""

    #: The bug's own signature: one of these.
    rules: tuple[StackRule, ...]
    #: A trial that ran to its end without a window says nothing.
    needs_windows: bool
    #: Outcomes that do not name the bug themselves, but are it when a later event matches a rule. A hang that
    #: no console names (`no_progress`) is not among them: nothing says what hung.
    corroborated: frozenset[OutcomeKind] = field(
        default=frozenset({OutcomeKind.HUNG_TASK, OutcomeKind.WORKQUEUE_LOCKUP})
    )

    def names(self, event: ConsoleEvent) -> bool:
        """Whether an event has the bug's own signature."""
        return any(rule.matches(event) for rule in self.rules)


@dataclass(frozen=True)
class Signature:
    """What two equal failures have in common: the class, and where. No offsets, no CPU numbers."""

    cls: str
    frames: tuple[str, ...]

    def __str__(self) -> str:
        return " < ".join([self.cls, *self.frames])


@dataclass(frozen=True)
class Outcome:
    """How a trial ended."""

    kind: OutcomeKind
    title: str
    #: None unless the kernel failed.
    signature: Signature | None = None
    #: The failure has the scenario's own signature.
    is_bug: bool = False
    #: Iterations in which the window was hit, and iterations, both as far as the guest reported them.
    windows: int = 0
    iterations: int = 0
    #: Host seconds since power-on: a hang began at the last sign of progress, the rest when reported.
    onset_s: float | None = None
    decided_by: Observation | None = None
    #: Later events that could have decided, had they come first.
    consequences: tuple[Observation, ...] = ()

    @property
    def is_answer(self) -> bool:
        """Whether the trial says anything about the kernel."""
        return self.kind.is_answer

    @property
    def is_failure(self) -> bool:
        """Whether the trial says that the kernel failed."""
        return self.kind.is_failure


def judge(observations: Sequence[Observation], oracle: Oracle) -> Outcome:
    """The outcome of a trial from everything that was observed of it, in order."""
    seen = latest(observations)
    said = _Said.of(seen)
    failures = [observation for observation in seen if _is_failure(observation)]
    if failures:
        return _failed(failures[0], tuple(failures[1:]), said, oracle)
    kind, title, decided_by = _without_failure(seen, said, oracle)
    if isinstance(decided_by, Stall):
        return Outcome(
            kind,
            title,
            Signature(kind, ()),
            windows=said.windows,
            iterations=said.iterations,
            onset_s=decided_by.since_s,
            decided_by=decided_by,
        )
    return Outcome(kind, title, windows=said.windows, iterations=said.iterations, decided_by=decided_by)


def latest(observations: Iterable[Observation]) -> list[Observation]:
    """The observations with each console event once, as last read, where it was first seen."""
    places: dict[int, int] = {}
    seen: list[Observation] = []
    for observation in observations:
        if isinstance(observation, ConsoleEvent):
            if observation.number in places:
                seen[places[observation.number]] = observation
                continue
            places[observation.number] = len(seen)
        seen.append(observation)
    return seen


def deciding_event(events: Iterable[ConsoleEvent]) -> ConsoleEvent | None:
    """The event that decides what a console alone tells: the earliest failure."""
    return next((event for event in events if event.is_failure), None)


@dataclass
class _Said:
    """What the guest said over the agent's channel."""

    hello: bool = False
    started: bool = False
    reported: int = 0
    #: The iteration that runs has hit its window, as the last progress message said.
    open_hit: bool = False
    iterations: int = 0
    end: AgentMessage | None = None
    exit: AgentMessage | None = None
    error: AgentMessage | None = None
    errors: list[str] = field(default_factory=list)
    #: When the stressor last got on, by the host's clock.
    moves: list[float] = field(default_factory=list)

    @classmethod
    def of(cls, observations: Iterable[Observation]) -> _Said:
        said, mark = cls(), ProgressMark()
        for observation in observations:
            if isinstance(observation, AgentMessage):
                said._take(observation, mark)
        return said

    def _take(self, observation: AgentMessage, mark: ProgressMark) -> None:
        message = observation.message
        if mark.moved(message):
            self.moves.append(observation.host_s)
        match message:
            case Hello():
                self.hello = True
            case Start():
                self.hello = self.started = True
            case Iteration():
                self.iterations += 1
                self.reported += bool(message.window and message.window.hit)
                self.open_hit = False
            case ProgressMessage():
                self.open_hit = bool(message.window and message.window.hit)
            case End():
                self.end = observation
                self.iterations = max(self.iterations, message.iterations)
                self.reported = max(self.reported, message.windows)
                self.open_hit = False
            case Exit():
                self.exit = observation
            case ErrorMessage():
                self.error = self.error or observation
                self.errors.append(": ".join(part for part in (message.what, message.text) if part))
            case _:
                pass

    @property
    def windows(self) -> int:
        """Windows hit, with the one that a hang keeps open."""
        return self.reported + self.open_hit

    def last_move(self, until_s: float) -> float | None:
        return max((move for move in self.moves if move <= until_s), default=None)


def _is_failure(observation: Observation) -> bool:
    match observation:
        case ConsoleEvent():
            return observation.is_failure
        case AgentMessage():
            return isinstance(observation.message, Corruption)
        case _:
            return False


def _failed(first: Observation, later: tuple[Observation, ...], said: _Said, oracle: Oracle) -> Outcome:
    if isinstance(first, ConsoleEvent) and first.outcome is not None:
        onset = said.last_move(first.host_s) if first.kind == "hang" else None
        return Outcome(
            kind=first.outcome,
            title=first.title,
            signature=_signature(first, oracle) if first.outcome.is_answer else None,
            is_bug=_is_bug(first, later, oracle),
            windows=said.windows,
            iterations=said.iterations,
            onset_s=first.host_s if onset is None else onset,
            decided_by=first,
            consequences=later,
        )
    return Outcome(
        kind=OutcomeKind.CORRUPTION,
        title=f"the stressor found data changed: {_words(first)}",
        signature=Signature("data_corruption", ()),
        windows=said.windows,
        iterations=said.iterations,
        onset_s=first.host_s,
        decided_by=first,
        consequences=later,
    )


def _is_bug(first: ConsoleEvent, later: tuple[Observation, ...], oracle: Oracle) -> bool:
    if oracle.names(first):
        return True
    # A report whose stack was lost on the way names nothing either.
    mute = first.kind == "hang" and (first.outcome in oracle.corroborated or not first.frames)
    return mute and any(isinstance(event, ConsoleEvent) and oracle.names(event) for event in later)


def _signature(event: ConsoleEvent, oracle: Oracle) -> Signature:
    """From the function that names the bug outwards: what a spinner was in just then is chance."""
    rule = next((rule for rule in oracle.rules if rule.matches(event)), None)
    frames = list(event.frames)
    while frames and (not _on_stack(rule.frames, frames[:1]) if rule else _on_stack(_COMMON, frames[:1])):
        frames.pop(0)
    return Signature(event.cls, tuple(frames[:SIGNATURE_FRAMES]))


def _words(observation: Observation) -> str:
    """The fields of an agent's message as a person would list them."""
    assert isinstance(observation, AgentMessage)
    fields = observation.message.model_dump(exclude={"type", "t"})
    return ", ".join(f"{name} {value}" for name, value in fields.items()) or "no details"


def _on_stack(patterns: Iterable[str], frames: Sequence[str]) -> bool:
    return any(fnmatchcase(frame, pattern) for pattern in patterns for frame in frames)


def _without_failure(
    seen: list[Observation], said: _Said, oracle: Oracle
) -> tuple[OutcomeKind, str, Observation | None]:
    status = said.exit.message if said.exit else None
    bad_exit = isinstance(status, Exit) and (status.status != 0 or status.signal != 0)
    # The stressor may hang in exit(): what it was going to exit with counts as well.
    bad_end = said.end is not None and isinstance(said.end.message, End) and said.end.message.status != 0
    if said.end and not bad_exit and not bad_end:
        if oracle.needs_windows and said.windows == 0:
            title = f"the window was hit in none of {said.iterations} iterations"
            return OutcomeKind.NOT_EXERCISED, title, said.end
        return OutcomeKind.COMPLETED, f"{said.iterations} iterations, {said.windows} windows hit", said.end
    if said.error:
        return OutcomeKind.INFRA_ERROR, f"the guest says: {'; '.join(said.errors)}", said.error
    if bad_end and said.end and isinstance(said.end.message, End):
        return OutcomeKind.INFRA_ERROR, f"the stressor ended with status {said.end.message.status}", said.end
    if isinstance(status, Exit):
        how = f"ended with status {status.status}"
        if status.signal:
            how = f"was killed by signal {status.signal}"
        return OutcomeKind.INFRA_ERROR, f"{status.path} {how} before it was done", said.exit
    stall = next((observation for observation in reversed(seen) if isinstance(observation, Stall)), None)
    if stall and max(said.moves, default=stall.since_s) <= stall.host_s:
        title = f"no progress for {stall.limit_s:g} s, and the kernel says nothing"
        return OutcomeKind.NO_PROGRESS, title, stall
    return _by_end(seen, said)


def _by_end(seen: list[Observation], said: _Said) -> tuple[OutcomeKind, str, Observation | None]:
    ended = next((observation for observation in reversed(seen) if isinstance(observation, Ended)), None)
    if ended and ended.how == "killed":
        by = f" by signal {-ended.status}" if ended.status < 0 else ""
        return OutcomeKind.TARGET_LOST, f"the guest was killed from outside{by}", ended
    if not said.hello and not any(isinstance(observation, ConsoleBegan) for observation in seen):
        return OutcomeKind.INFRA_ERROR, "the kernel said nothing at all", ended
    if ended and ended.how == "exited":
        return OutcomeKind.TARGET_LOST, "the guest ended without a word", ended
    if not said.hello:
        return OutcomeKind.INFRA_ERROR, "the kernel came up, but its init never said hello", ended
    if not said.started:
        return OutcomeKind.INFRA_ERROR, "the guest came up, but the stressor never started", ended
    return OutcomeKind.TIMEOUT, f"out of time after {said.iterations} iterations, the guest alive", ended
