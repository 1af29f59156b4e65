# SPDX-License-Identifier: GPL-2.0-only
"""How much of the host's time a guest could use: a silence counts only as far as it could have spoken."""

from __future__ import annotations

from collections import deque

from harness.target.protocol import Sample, VcpuSample

#: Intervals between samples that are remembered: two minutes at five samples a second.
_REMEMBERED = 600


def effective_s(before: Sample, after: Sample, late_s: float) -> float:
    """Seconds between two samples in which the guest could run.

    None of it if the guest was paused. Else all of it (waiting for a timer is waiting), less what the CPU
    worst off lost.
    """
    if not (before.running and after.running):
        return 0.0
    wall_s = after.host_s - before.host_s
    were = {cpu.cpu: cpu for cpu in before.cpus}
    pairs = [(were[cpu.cpu], cpu) for cpu in after.cpus if cpu.cpu in were]
    had_s = max(0.0, wall_s - max((_lost_s(was, cpu, wall_s) for was, cpu in pairs), default=0.0))
    if wall_s > late_s:
        return min(had_s, max((cpu.run_s - was.run_s for was, cpu in pairs), default=0.0))
    return had_s


def _lost_s(was: VcpuSample, cpu: VcpuSample, wall_s: float) -> float:
    """Time that a CPU was ready to run and the host did not let it, s.

    A thread that neither runs nor waits for a CPU of the host is blocked inside QEMU, on a device's lock say:
    that is the guest's own doing. Where the host does not count the waiting, all that a CPU which was not
    halted did not run counts as lost.
    """
    waited_s, ran_s = cpu.wait_s - was.wait_s, cpu.run_s - was.run_s
    busy = not (was.halted or cpu.halted)
    # The host counts a wait when it is over: neither run nor waited is a wait that goes on.
    if cpu.wait_s > 0 and (waited_s > 0 or ran_s > 0 or not busy):
        return waited_s
    return wall_s - ran_s if busy else 0.0


class QuietTime:
    """Counts the time that a guest had since a counter last moved. Without samples it is the host's time."""

    def __init__(self) -> None:
        #: When a counter last moved, s since power-on; None: nothing is expected to move.
        self.since_s: float | None = None
        self.seconds = 0.0
        self._sampled_s: float | None = None

    def moved(self, host_s: float) -> None:
        """A counter moved: begin again."""
        self.since_s = host_s
        self.seconds = 0.0

    def stop(self) -> None:
        """Nothing is expected to move any more."""
        self.since_s = None

    def sample(self, host_s: float, effective: float) -> None:
        """Until `host_s` the guest had `effective` seconds since the last sample."""
        before, self._sampled_s = self._sampled_s, host_s
        if self.since_s is None:
            return
        if before is None:
            self.seconds = host_s - self.since_s
        elif host_s > before:
            # What was there before the counter moved does not count.
            self.seconds += effective * (host_s - max(before, self.since_s)) / (host_s - before)

    def due_s(self, limit_s: float) -> float | None:
        """When the quiet time comes, or came, to `limit_s`, s since power-on; None: not known."""
        if self.since_s is None:
            return None
        if self._sampled_s is None:
            return self.since_s + limit_s
        return self._sampled_s if self.seconds >= limit_s else None


class HostShare:
    """How much of the time the host let the guest run, over the whole trial and over the last two minutes."""

    def __init__(self) -> None:
        #: Seconds that the guest was not paused, and how many of them it could run.
        self.total = (0.0, 0.0)
        self._intervals: deque[tuple[float, float]] = deque(maxlen=_REMEMBERED)

    def add(self, wall_s: float, effective: float) -> None:
        """The guest was not paused for another `wall_s`, and could run for `effective` of it."""
        self.total = self.total[0] + wall_s, self.total[1] + effective
        self._intervals.append((wall_s, effective))

    def last(self, seconds: float) -> tuple[float, float]:
        """The same of about the last `seconds`."""
        wall_s = run_s = 0.0
        for wall, effective in reversed(self._intervals):
            if wall_s >= seconds:
                break
            wall_s += wall
            run_s += effective
        return wall_s, run_s
