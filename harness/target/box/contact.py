# SPDX-License-Identifier: GPL-2.0-only
"""A box that went silent: is it the kernel, the network, or the box?"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Literal

from harness import process
from harness.deadline import Deadline
from harness.errors import HarnessError
from harness.target.box.machine import Box
from harness.target.box.ssh import greets

#: For one question, s.
_ASK_S = 3.0

Finding = Literal["hang", "network", "dead"]
Answer = bool | None
"""Yes, no, or nobody can be asked."""


@dataclass(frozen=True)
class Signs:
    """What answers on a box that SSH does not reach."""

    ping: Answer
    sshd: Answer
    """It says who it is, and then nothing more."""
    kernel: Answer
    """SysRq over the console: interrupts are taken."""
    user_space: Answer
    """A program behind the console."""
    power: Answer

    @property
    def finding(self) -> Finding:
        """What that means.

        A box that nothing can be got from is dead; whether its kernel hung or a fuse blew, nobody can say,
        and the kernel is not blamed for what it may not have done.
        """
        if self.power is False:
            return "dead"
        if self.user_space:
            return "network"
        if self.kernel or self.ping or self.sshd:
            return "hang"
        return "dead"

    def __str__(self) -> str:
        words = {True: "yes", False: "no", None: "cannot be asked"}
        asked = (
            ("ping", self.ping),
            ("sshd", self.sshd),
            ("kernel on the console", self.kernel),
            ("user space on the console", self.user_space),
            ("power", self.power),
        )
        return ", ".join(f"{what}: {words[answer]}" for what, answer in asked)


def signs_of(box: Box) -> Signs:
    """Ask everything that can be asked, at once; takes some seconds. Never raises for what it finds."""
    with ThreadPoolExecutor() as pool:
        ping = pool.submit(_ask, lambda: _ping(box.ssh.host))
        sshd = pool.submit(_ask, lambda: greets(box.ssh, _ASK_S))
        power = pool.submit(_ask, lambda: _power(box))
        # One after the other: what follows a break is a key.
        kernel = _ask(lambda: box.console.kernel_answers(_ASK_S) if box.console else None)
        user_space = _ask(lambda: box.console.user_space_answers(_ASK_S) if box.console else None)
        return Signs(ping.result(), sshd.result(), kernel, user_space, power.result())


def _ask(question: Callable[[], Answer]) -> Answer:
    try:
        return question()
    except HarnessError:
        return None


def _ping(host: str) -> Answer:
    if not shutil.which("ping"):
        return None
    argv = ["ping", "-n", "-c", "2", "-i", "0.5", "-W", "1", host]
    return process.run(argv, deadline=Deadline.after(_ASK_S), check=False).ok


def _power(box: Box) -> Answer:
    state = box.power.status() if box.power else "unknown"
    return {"on": True, "off": False, "unknown": None}[state]
