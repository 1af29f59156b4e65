# SPDX-License-Identifier: GPL-2.0-only
"""A process that runs one trial after another for somebody else, and can be ended at any moment.

A trial wants a process of its own: what ends it (Ctrl-C) is a signal, which reaches no other thread than
the first, and its guest dies with the thread that booted it.
"""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable
from concurrent.futures import CancelledError
from multiprocessing.connection import Connection, Pipe
from pathlib import Path
from types import FrameType

from harness import process
from harness.errors import HarnessError, InfraError
from harness.experiment.trial import TrialPlan, run_trial
from harness.results.runfolder import TrialResult

#: How often somebody who waits for a trial is asked whether he still wants it, s.
_ASK_S = 0.1
#: A trial that is ended stops its guest within 2 s and writes its record; then the process is killed.
_GRACE_S = 5.0


class Lane:
    """One such process, seen from the thread that started it and with which it ends."""

    def __init__(self) -> None:
        self._connection, theirs = Pipe()
        argv = [sys.executable, "-P", "-m", "harness.experiment.lane", str(theirs.fileno())]
        with theirs:
            self._process = process.start(argv, pass_fds=[theirs.fileno()], stderr=None)

    def run(self, plan: TrialPlan, folder: Path, unwanted: Callable[[], bool]) -> TrialResult:
        """As `run_trial`. CancelledError as soon as it is unwanted: its guest and this process are gone then.

        InfraError if the process dies. After either of these this lane is over.
        """
        try:
            self._connection.send((plan, folder))
            while not self._connection.poll(_ASK_S):
                if unwanted():
                    self.close()
                    raise CancelledError
            answer: TrialResult | HarnessError = self._connection.recv()
        except (EOFError, OSError) as error:
            status = self.close()
            raise InfraError(
                f"the process that ran trial {plan.index} of {plan.arm} ended with status {status}",
                hint="what ended it (the kernel, for want of memory?) is in the system's log",
            ) from error
        if isinstance(answer, HarnessError):
            raise answer
        return answer

    def close(self) -> int:
        """End it, whatever it does; its exit status."""
        self._connection.close()
        return process.stop(self._process, grace_s=_GRACE_S)

    @property
    def closed(self) -> bool:
        return self._connection.closed


class Lanes:
    """A lane for each thread that runs trials, kept for its next one."""

    def __init__(self) -> None:
        self._own = threading.local()
        self._all: list[Lane] = []

    def run(self, plan: TrialPlan, folder: Path, unwanted: Callable[[], bool]) -> TrialResult:
        """See `Lane.run`."""
        lane: Lane | None = getattr(self._own, "lane", None)
        if lane is None or lane.closed:
            lane = self._own.lane = Lane()
            self._all.append(lane)
        return lane.run(plan, folder, unwanted)

    def close(self) -> None:
        """End all of them; no thread may be running a trial."""
        for lane in self._all:
            if not lane.closed:
                lane.close()


def main(descriptor: int) -> int:
    """The process: runs what comes, answers with the result or the error, ends with whoever asks."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _end)
    try:
        with Connection(descriptor) as connection:
            while True:
                plan, folder = connection.recv()
                try:
                    answer: TrialResult | HarnessError = run_trial(plan, folder)
                except HarnessError as error:
                    answer = error
                connection.send(answer)
    except (EOFError, KeyboardInterrupt, BrokenPipeError, ConnectionResetError):
        return 0


def _end(number: int, frame: FrameType | None) -> None:
    signal.signal(number, signal.SIG_IGN)  # once is enough: the guest is stopped and the record closed
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1])))
