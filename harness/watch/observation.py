# SPDX-License-Identifier: GPL-2.0-only
"""What was seen of a trial: one stream, whether it happens now or is read back from disk."""

from __future__ import annotations

from dataclasses import dataclass

from harness.guest.protocol import Iteration, Message, ProgressMessage, Start
from harness.target.protocol import Ending
from harness.watch.console import ConsoleEvent
from harness.watch.examination import Examination
from harness.watch.histogram import VcpuHistogram


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

    `since_s` is the last sign of progress, `host_s` the moment the limit was passed: `limit_s` later, or as
    much more as the guest could not run in between. `heard_s` is when the agent last said anything at all:
    the guest's user space was alive then. `cpus`: where the CPUs were seen since, if anybody looked.
    """

    host_s: float
    since_s: float
    limit_s: float
    heard_s: float
    cpus: tuple[VcpuHistogram, ...] = ()


@dataclass(frozen=True)
class Suspicion:
    """A CPU has stayed in the kernel and no counter has moved since `since_s`; it proves nothing yet.

    `functions`: where it was seen in that time, and how often. `in_fault_path`: that these are the
    functions in which the scenario's bug spins; None if the symbols, or those functions, are not known.
    """

    host_s: float
    since_s: float
    cpu: int
    functions: tuple[tuple[str, int], ...]
    in_fault_path: bool | None


@dataclass(frozen=True)
class Starved:
    """The host did not let the guest run: of the `wall_s` seconds before `host_s` it had `run_s`.

    `about`: the number of the console event whose time this is; None: the whole trial.
    """

    host_s: float
    wall_s: float
    run_s: float
    about: int | None = None


@dataclass(frozen=True)
class Ended:
    """The guest is gone: by itself (`exited`), by a signal (`killed`), or by the harness (`stopped`).

    `lost`: nobody can reach it any more; `why`: what is known of that.
    """

    host_s: float
    status: int
    how: Ending
    why: str = ""


Observation = (
    ConsoleBegan
    | ConsoleEvent
    | AgentMessage
    | AgentGarbage
    | Suspicion
    | Examination
    | Stall
    | Starved
    | Ended
)  # fmt: skip


class ProgressMark:
    """Tells messages that show progress from those that only show life."""

    def __init__(self) -> None:
        self._at: tuple[int, str, dict[str, int]] | None = None

    def moved(self, message: Message) -> bool:
        """Whether the stressor has got on since the message before this one."""
        if isinstance(message, Start | Iteration):
            return True
        if not isinstance(message, ProgressMessage):
            return False
        at = message.iteration, message.phase, {thread.name: thread.count for thread in message.threads}
        moved = at != self._at
        self._at = at
        return moved
