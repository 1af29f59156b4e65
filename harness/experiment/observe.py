# SPDX-License-Identifier: GPL-2.0-only
"""From power-on to a decided trial: events go to the watcher, who may ask for a look into the memory."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from harness.deadline import Deadline
from harness.diagnose.diagnosis import Diagnosis, diagnose
from harness.diagnose.image import SymbolFiles, open_live
from harness.diagnose.text import cycle_text
from harness.errors import HarnessError, InfraError
from harness.guest.protocol import Hello
from harness.interrupts import interrupts_deferred
from harness.target.protocol import Clock, Guest, GuestEnded
from harness.watch.console import ConsoleEvent
from harness.watch.examination import Examination, record_examination
from harness.watch.observation import AgentMessage, Observation
from harness.watch.watcher import Watcher

#: How often the watcher is told the time when the guest says nothing, s.
TICK_S = 0.1


@dataclass(frozen=True)
class Observed:
    """What a guest did until its trial was decided, or its time was up."""

    observations: tuple[Observation, ...]
    hello: Hello | None
    #: The guest is gone.
    ended: bool
    #: Everything until then is in `observations`, s since power-on.
    until_s: float
    #: The last look into its memory.
    diagnosis: Diagnosis | None


class Observer:
    """Watches one running guest, and freezes it for a look when the watcher wants one."""

    def __init__(
        self, guest: Guest, watcher: Watcher, symbols: SymbolFiles, folder: Path, clock: Clock = "host"
    ) -> None:
        """`folder` gets a line for each look.

        A guest on the virtual clock is watched to its own end: a repeat is compared with all of it.
        """
        self._guest = guest
        self._clock = clock
        self._watcher = watcher
        self._symbols = symbols
        self._folder = folder
        self._until_s = 0.0
        self._hello: Hello | None = None
        self._looked_s = 0.0
        self._ended = False
        #: The kernel itself has reported a hang on the console.
        self._reported = False
        self._diagnosis: Diagnosis | None = None

    def observe(
        self,
        deadline: Deadline,
        hello_by: Deadline,
        on_hello: Callable[[Hello], None],
        confirm_s: float = 0.0,
    ) -> Observed:
        """Watch until the trial is decided, its time is up, or the guest is gone.

        `on_hello` checks the guest as soon as it has said what it is; what it raises ends the trial. With
        `confirm_s` a hang is watched for so many seconds more, or until the console has reported it too.
        """
        while not (deadline.expired or self._ended or self._decided):
            new = self._step(deadline)
            if self._hello is None:
                self._hello = _hello(new)
                if self._hello:
                    on_hello(self._hello)
                elif hello_by.expired:
                    break
        confirmed_by = deadline.sooner(confirm_s)
        while not (confirmed_by.expired or self._ended or self._reported):
            self._step(confirmed_by)
        self._catch_up()
        self._watcher.close()
        return Observed(self._watcher.observations, self._hello, self._ended, self._until_s, self._diagnosis)

    @property
    def _decided(self) -> bool:
        to_its_end = self._clock == "virtual"
        return self._watcher.fatal and not self._watcher.reading and not to_its_end

    def _step(self, deadline: Deadline) -> list[Observation]:
        asked_s = self._guest.now_s
        event = self._guest.next_event(deadline.sooner(TICK_S))
        if event:
            self._until_s = event.host_s
            new = self._watcher.observe(event)
            self._ended = isinstance(event, GuestEnded)
        else:
            # What is stamped by now may still be on its way to the disk, not what was by then.
            self._until_s = max(self._until_s, asked_s)
            new = self._watcher.tick(self._until_s)
        self._reported = self._reported or any(isinstance(o, ConsoleEvent) and o.kind == "hang" for o in new)
        if self._watcher.wants_examination and not self._ended and self._guest.capabilities.memory_image:
            self._look()
        return new

    def _catch_up(self) -> None:
        """What came by the time of the last look belongs to what was observed, however late it is read."""
        while self._until_s < self._looked_s and not self._ended:
            event = self._guest.next_event(Deadline.after(0))
            if event is None or event.host_s > self._looked_s:
                self._until_s = self._looked_s
                break
            self._until_s = event.host_s
            self._watcher.observe(event)
            self._ended = isinstance(event, GuestEnded)

    def _look(self) -> None:
        since_s = self._watcher.since_s
        try:
            self._diagnosis = self._diagnose()
        except HarnessError as error:
            # The monitor or the memory cannot be read: what the console says has to do.
            why = f"no look into the memory: {error.message}"
            found = Examination(self._guest.now_s, since_s, "none", why)
        else:
            found = _examination(self._diagnosis, self._guest.now_s, since_s)
        self._looked_s = found.host_s
        record_examination(self._folder, found)
        self._watcher.examined(found)

    def _diagnose(self) -> Diagnosis:
        try:
            self._guest.pause()
            with (
                interrupts_deferred(),
                open_live(self._guest.memory_address, self._guest.registers(), self._symbols) as image,
            ):
                return diagnose(image)
        finally:
            # Also a guest that did not seem to obey: it may have, too late.
            with contextlib.suppress(InfraError):
                self._guest.resume()


def _examination(diagnosis: Diagnosis, host_s: float, since_s: float) -> Examination:
    return Examination(
        host_s=host_s,
        since_s=since_s,
        proof=diagnosis.proof,
        title=diagnosis.title,
        frames=diagnosis.frames,
        text=cycle_text(diagnosis),
        gaps=diagnosis.gaps,
        entry=diagnosis.entry,
    )


def _hello(observations: Iterable[Observation]) -> Hello | None:
    messages = (o.message for o in observations if isinstance(o, AgentMessage))
    return next((message for message in messages if isinstance(message, Hello)), None)
