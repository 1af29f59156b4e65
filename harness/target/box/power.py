# SPDX-License-Identifier: GPL-2.0-only
"""The power switch of a box: commands with time limits and further attempts. Their words are never shown."""

from __future__ import annotations

import re
import time
from typing import Literal, Protocol

from harness import process
from harness.deadline import Deadline
from harness.errors import InfraError
from harness.target.box.config import Power, masked

State = Literal["on", "off", "unknown"]
_SHOWN = 200


class PowerSwitch(Protocol):
    """Whatever can take a box's power away and give it back."""

    def cycle(self) -> str:
        """Off and on again. Says how often it was tried. InfraError if it cannot be done."""

    def turn_on(self) -> str:
        """Switch a box on that is off. As `cycle`."""

    def status(self) -> State:
        """Whether it has power; `unknown` if nobody can say. InfraError if the question failed."""


class CommandSwitch:
    """A switch of commands, `Power`."""

    def __init__(self, name: str, power: Power) -> None:
        """`name`: of the box, for messages."""
        self._name = name
        self._power = power

    def cycle(self) -> str:
        """See `PowerSwitch.cycle`; `off` and `on` where there is no `cycle`."""
        if self._power.cycle:
            return self._do("cycle", self._power.cycle)
        assert self._power.off and self._power.on
        off = self._do("off", self._power.off)
        time.sleep(self._power.settle_s)
        return f"{off}, {self._do('on', self._power.on)}"

    def turn_on(self) -> str:
        """See `PowerSwitch.turn_on`; a `cycle` where there is no `on`."""
        return self._do("on", self._power.on) if self._power.on else self.cycle()

    def status(self) -> State:
        """See `PowerSwitch.status`."""
        if self._power.status is None:
            return "unknown"
        said = self._run("status", self._power.status).output
        words = re.findall(r"\b(on|off)\b", said.lower())
        if not words:
            raise InfraError(f"box {self._name}: power status says neither `on` nor `off`")
        return "on" if words[-1] == "on" else "off"

    def _do(self, what: str, command: tuple[str, ...]) -> str:
        last: InfraError | None = None
        for attempt in range(self._power.retries + 1):
            if attempt:
                time.sleep(self._power.settle_s)
            try:
                self._run(what, command)
            except InfraError as error:
                last = error
                continue
            return what if not attempt else f"{what} at attempt {attempt + 1} ({last})"
        assert last
        raise InfraError(
            f"{last.message}, {self._power.retries + 1} times", hint="try the command by hand"
        ) from last

    def _run(self, what: str, command: tuple[str, ...]) -> process.Completed:
        late = False
        deadline = Deadline.after(self._power.timeout_s)
        try:
            done = process.run(command, deadline=deadline, check=False)
        except InfraError:
            # It names the whole command, which may hold a password.
            late = deadline.expired
            done = None
        if done is None:
            how = f"took more than {self._power.timeout_s:g} s" if late else "cannot be started"
            raise InfraError(f"box {self._name}: power {what} {how}")
        if not done.ok:
            lines = masked(done.output.strip(), command).splitlines()
            said = f": {lines[-1][:_SHOWN]}" if lines else ""
            raise InfraError(f"box {self._name}: power {what} failed with status {done.status}{said}")
        return done
