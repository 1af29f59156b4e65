# SPDX-License-Identifier: GPL-2.0-only
"""What was seen of a trial: one stream, whether it happens now or is read back from disk."""

from __future__ import annotations

from dataclasses import dataclass

from harness.guest.protocol import Iteration, Message, ProgressMessage, Start
from harness.target.protocol import Ending
from harness.watch.console import ConsoleEvent


@dataclass(frozen=True)
class ConsoleBegan:
    """The first text on the console: the machine is alive."""

    host_s: float
    text: str


@dataclass(frozen=True)
class AgentMessage:
    """The guest's init or the stressor said something; `host_s` is when it was read, s since power-on."""

    host_s: float
    message: Message


@dataclass(frozen=True)
class AgentGarbage:
    """A line on the agent's channel that is no message."""

    host_s: float
    text: str
    why: str


@dataclass(frozen=True)
class Stall:
    """No iteration ended and no counter moved for longer than the scenario allows.

    `since_s` is the last sign of progress, `host_s` the moment the limit was passed (`since_s + limit_s`),
    `heard_s` when the agent last said anything at all: the guest's user space was alive then.
    """

    host_s: float
    since_s: float
    limit_s: float
    heard_s: float


@dataclass(frozen=True)
class Ended:
    """The guest is gone: by itself (`exited`), by a signal (`killed`), or by the harness (`stopped`)."""

    host_s: float
    status: int
    how: Ending


Observation = ConsoleBegan | ConsoleEvent | AgentMessage | AgentGarbage | Stall | Ended


class ProgressMark:
    """Tells messages that show progress from those that only show life."""

    def __init__(self) -> None:
        self._counters: tuple[int, dict[str, int]] | None = None

    def moved(self, message: Message) -> bool:
        """Whether the stressor has got on since the message before this one."""
        if isinstance(message, Start | Iteration):
            return True
        if not isinstance(message, ProgressMessage):
            return False
        counters = message.iteration, {thread.name: thread.count for thread in message.threads}
        moved = counters != self._counters
        self._counters = counters
        return moved
