# SPDX-License-Identifier: GPL-2.0-only
"""A guest's events, stamped, written to disk and handed out in one order, from several threads."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable

from harness.deadline import Deadline
from harness.errors import HarnessError
from harness.target.protocol import AgentLine, ConsoleData, GuestEnded, RawEvent
from harness.target.recording import Recorder


class EventStream:
    """Events since power-on; every one is on disk before it is handed out."""

    def __init__(self, recorder: Recorder, power_on: float) -> None:
        """`power_on`: on `time.monotonic()`'s axis."""
        self._recorder = recorder
        self._power_on = power_on
        self._events: queue.SimpleQueue[RawEvent | HarnessError] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._last_s = 0.0
        self._over = False

    @property
    def now_s(self) -> float:
        """Seconds since power-on."""
        return round(time.monotonic() - self._power_on, 6)

    def emit(self, event_at: Callable[[float], RawEvent]) -> None:
        """Stamp, write and hand over one event; the lock makes their order the same everywhere."""
        with self._lock:
            # Microseconds, each later than the one before: the record gives them back in this order.
            now = max(self.now_s, round(self._last_s + 1e-6, 6))
            self._last_s = now
            event = event_at(now)
            self._recorder.record(event)
            self._events.put(event)

    def console(self, data: bytes) -> None:
        """Bytes of the console; none is no event."""
        if data:
            self.emit(lambda now: ConsoleData(now, data))

    def line(self, line: bytes) -> None:
        """A line of the agent."""
        text = line.decode("utf-8", errors="backslashreplace")
        self.emit(lambda now: AgentLine(now, text))

    def fail(self, error: HarnessError) -> None:
        """What went wrong is raised where the next event is asked for."""
        self._events.put(error)

    def next(self, deadline: Deadline) -> RawEvent | None:
        """See `Guest.next_event`."""
        if self._over:
            return None
        try:
            event = self._events.get(timeout=deadline.remaining)
        except queue.Empty:
            return None
        if isinstance(event, HarnessError):
            raise event
        self._over = isinstance(event, GuestEnded)
        return event
