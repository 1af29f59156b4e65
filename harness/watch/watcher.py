# SPDX-License-Identifier: GPL-2.0-only
"""Raw events of a guest to observations, live or replayed: time is what the events say."""

from __future__ import annotations

from harness.guest.protocol import Corruption, End, Exit, Garbage, Message, Start, parse_line
from harness.target.protocol import AgentLine, ConsoleData, GuestEnded, RawEvent
from harness.watch.console import ConsoleEvent, ConsoleParser
from harness.watch.kinds import OutcomeKind
from harness.watch.observation import (
    AgentGarbage,
    AgentMessage,
    ConsoleBegan,
    Ended,
    Observation,
    ProgressMark,
    Stall,
)


class Watcher:
    """Watches one guest.

    The observations do not depend on how often `tick` is called: what a silence means is dated by when it
    became true, so a replay of the raw events gives what the live run gave.
    """

    def __init__(self, stall_s: float) -> None:
        """`stall_s`: host seconds the stressor may take without an iteration or a counter that moves."""
        self._stall_s = stall_s
        self._console = ConsoleParser()
        self._console_began = False
        self._mark = ProgressMark()
        #: Since when the stressor has not moved; None: it does not run, or its stall has been reported.
        self._still_since: float | None = None
        self._running = False
        self._heard_s = 0.0
        self._seen: list[Observation] = []
        self._fatal = False

    @property
    def observations(self) -> tuple[Observation, ...]:
        """Everything observed so far, in order."""
        return tuple(self._seen)

    @property
    def reading(self) -> bool:
        """Whether a report has begun on the console that has not come to its end."""
        return self._console.reading

    @property
    def fatal(self) -> bool:
        """Whether something was observed after which the trial cannot end well: stop once `reading` is false.

        A warning is not among them; the stressor goes on after it.
        """
        return self._fatal

    def observe(self, event: RawEvent) -> list[Observation]:
        """What the event shows; first of all, that time has passed until it came."""
        new = self._pass_time(event.host_s)
        match event:
            case ConsoleData():
                new += self._console.feed(event.data, event.host_s)
                first = self._console.first_line
                if first is not None and not self._console_began:
                    self._console_began = True
                    new.insert(0, ConsoleBegan(event.host_s, first.text))
            case AgentLine():
                new.append(self._agent(event))
            case GuestEnded():
                new += self._console.close()
                new.append(Ended(event.host_s, event.status, event.how))
                self._running = False
        return self._add(new)

    def tick(self, host_s: float) -> list[Observation]:
        """What the passing of time shows, with nothing heard until `host_s`."""
        return self._add(self._pass_time(host_s))

    def close(self) -> list[Observation]:
        """No more events will come: completes the reports that are open."""
        return self._add(list(self._console.close()))

    def _pass_time(self, host_s: float) -> list[Observation]:
        new: list[Observation] = []
        since = self._still_since
        if self._running and since is not None and host_s > since + self._stall_s:
            due_s = since + self._stall_s
            new += [*self._console.tick(due_s), Stall(due_s, since, self._stall_s, self._heard_s)]
            self._still_since = None
        return [*new, *self._console.tick(host_s)]

    def _agent(self, event: AgentLine) -> Observation:
        message = parse_line(event.text)
        self._heard_s = event.host_s
        if isinstance(message, Garbage):
            return AgentGarbage(event.host_s, message.text, message.why)
        self._track(message, event.host_s)
        return AgentMessage(event.host_s, message)

    def _track(self, message: Message, host_s: float) -> None:
        if isinstance(message, Start):
            self._running = True
        elif isinstance(message, End | Exit | Corruption):
            self._running = False
        if self._mark.moved(message):
            self._still_since = host_s

    def _add(self, new: list[Observation]) -> list[Observation]:
        self._seen += new
        self._fatal = self._fatal or any(_is_fatal(observation) for observation in new)
        return new


def _is_fatal(observation: Observation) -> bool:
    match observation:
        case ConsoleEvent():
            return observation.is_failure and observation.outcome is not OutcomeKind.WARNING
        case AgentMessage():
            return isinstance(observation.message, Corruption)
        case Stall() | Ended():
            return True
        case _:
            return False
