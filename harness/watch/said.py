# SPDX-License-Identifier: GPL-2.0-only
"""What the guest's init and the stressor said in a trial, taken together."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from harness.guest.protocol import (
    End,
    ErrorMessage,
    Exit,
    Hello,
    IgtLine,
    IgtResults,
    Iteration,
    Ktap,
    ProgramEnd,
    ProgressMessage,
    Start,
)
from harness.igt.reader import IgtReader
from harness.watch.ktap import KtapReader
from harness.watch.observation import AgentMessage, Observation, ProgressMark


@dataclass
class Said:
    """Everything that came over the agent's channel, as far as an outcome depends on it."""

    hello: bool = False
    started: bool = False
    reported: int = 0
    #: The iteration that runs has hit its window, as the last progress message said.
    open_hit: bool = False
    iterations: int = 0
    end: AgentMessage | None = None
    exit: AgentMessage | None = None
    error: AgentMessage | None = None
    #: What did not work after the stressor had ended: a step of the plan behind it.
    undone: AgentMessage | None = None
    errors: list[str] = field(default_factory=list)
    #: What the stressor measured, as its end said.
    metrics: dict[str, float] = field(default_factory=dict)
    #: What a suite of tests said, and how its program ended.
    tests: KtapReader | IgtReader = field(default_factory=KtapReader)
    program: ProgramEnd | None = None
    #: When the stressor last got on, by the host's clock.
    moves: list[float] = field(default_factory=list)

    @classmethod
    def of(cls, observations: Iterable[Observation]) -> Said:
        """From all observations of a trial, in order."""
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
            case Ktap():
                self.tests.feed(message.line)
                self.iterations = self.tests.done
            case IgtLine() | IgtResults():
                self._take_igt(message)
            case End():
                self.end = observation
                self.program = message.program
                self.metrics = dict(message.metrics)
                self.iterations = max(self.iterations, message.iterations)
                self.reported = max(self.reported, message.windows)
                self.open_hit = False
            case Exit():
                self.exit = observation
            case ErrorMessage():
                self.error = self.error or observation
                if self.end:
                    self.undone = self.undone or observation
                self.errors.append(": ".join(part for part in (message.what, message.text) if part))
            case _:
                pass

    def _take_igt(self, message: IgtLine | IgtResults) -> None:
        if not isinstance(self.tests, IgtReader):
            self.tests = IgtReader()
        if isinstance(message, IgtLine):
            self.tests.feed(message.line)
        else:
            self.tests.results(message.text, message.left)
        self.iterations = self.tests.done

    @property
    def windows(self) -> int:
        """Windows hit, with the one that a hang keeps open."""
        return self.reported + self.open_hit

    def last_move(self, until_s: float) -> float | None:
        """The last sign of progress until then."""
        return max((move for move in self.moves if move <= until_s), default=None)

    def moved_after(self, host_s: float) -> bool:
        """Whether the stressor got on later than that."""
        return any(move > host_s for move in self.moves)
