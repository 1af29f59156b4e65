# SPDX-License-Identifier: GPL-2.0-only
"""A box as a machine: one connection that is made anew when it breaks, and what it runs just now."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from harness.deadline import Deadline
from harness.errors import HarnessError, InfraError
from harness.target.box.config import BoxConfig, Ssh
from harness.target.box.console import BoxConsole
from harness.target.box.power import PowerSwitch
from harness.target.box.ssh import CONNECT_S, HostKeyError, NotLetIn, Shell, connect

#: On a test kernel's command line: whose boot it is.
TOKEN = "hmm_box"
#: Where the agent writes; gone after a boot, so a box that has it has been used.
RUN_FOLDER = "/run/hmm-harness"
#: Between two attempts to reach a box that boots, s.
_AGAIN_S = 1.0
#: A question that any living box answers at once, s.
ASK_S = 15.0


@dataclass(frozen=True)
class Running:
    """What a box runs."""

    boot_id: str
    """Another one after every boot."""
    release: str
    cmdline: str
    used: bool
    """The agent has been started since it booted."""

    @property
    def token(self) -> str:
        """Whose test kernel this is; empty: it is none."""
        found = re.search(rf"(?:^| ){TOKEN}=(\S+)", self.cmdline)
        return found[1] if found else ""

    @property
    def clean(self) -> bool:
        """Whether it is as a trial may find it: no test kernel, and no trial since it booted."""
        return not self.token and not self.used


class Box:
    """A box that is reached by SSH and, where it has them, by its console and power switch."""

    def __init__(
        self, config: BoxConfig, ssh: Ssh, console: BoxConsole | None, power: PowerSwitch | None
    ) -> None:
        self.config = config
        self.ssh = ssh
        self.console = console
        self.power = power
        self._shell: Shell | None = None
        self._lock = threading.Lock()

    @property
    def name(self) -> str:
        return self.config.name

    def shell(self, timeout_s: float = CONNECT_S) -> Shell:
        """The connection; a new one if there is none or it broke. As `connect`."""
        with self._lock:
            if self._shell is None or not self._shell.alive:
                self._close()
                self._shell = connect(self.name, self.ssh, timeout_s)
            return self._shell

    def disconnect(self) -> None:
        """Give the connection up; the next `shell` makes a new one."""
        with self._lock:
            self._close()

    def close(self) -> None:
        """Leave the box."""
        self.disconnect()
        if self.console:
            self.console.close()

    def _close(self) -> None:
        if self._shell:
            self._shell.close()
        self._shell = None

    def running(self, timeout_s: float = ASK_S) -> Running:
        """What it runs. As `connect`, or InfraError if it does not answer."""
        deadline = Deadline.after(timeout_s)
        shell = self.shell(min(CONNECT_S, timeout_s))
        files = ("/proc/sys/kernel/random/boot_id", "/proc/sys/kernel/osrelease", "/proc/cmdline")
        lines = shell.run(["cat", *files], deadline, root=False).out.splitlines()
        if len(lines) != len(files):
            raise InfraError(f"box {self.name} does not say what it runs")
        used = shell.run(["test", "-d", RUN_FOLDER], deadline, root=False, check=False).ok
        boot_id, release, cmdline = lines
        return Running(boot_id, release, cmdline, used)

    def wait_until(
        self,
        wanted: Callable[[Running], bool],
        deadline: Deadline,
        stop: threading.Event | None = None,
    ) -> Running | None:
        """What it runs as soon as that is what is wanted; None: `stop` was set.

        InfraError at the deadline, with what kept it; HostKeyError if that is a key that is not the box's,
        NotLetIn if ours is not wanted there.
        """
        last: HarnessError = InfraError("it was not asked")
        while not (stop and stop.is_set()):
            try:
                # A connection to a machine that went down stands until somebody misses an answer.
                found = self.running(min(ASK_S, max(1.0, deadline.remaining)))
            except HarnessError as error:
                last = error
                self.disconnect()
            else:
                if wanted(found):
                    return found
                last = InfraError(f"it runs {found.release}" + (" for a trial" if found.token else ""))
            if deadline.expired:
                # What unlocks a disk at boot may have a key of its own; by now, it is another machine.
                certain = isinstance(last, HostKeyError | NotLetIn)
                raise last if certain else InfraError(last.message) from last
            time.sleep(min(_AGAIN_S, deadline.remaining))
        return None
