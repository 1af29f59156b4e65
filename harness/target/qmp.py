# SPDX-License-Identifier: GPL-2.0-only
"""QEMU's monitor (QMP) for callers that wait: one session, on a loop in a thread of its own."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import logging
import socket
import threading
from collections.abc import Coroutine
from typing import Any, TypeVar

from qemu.qmp import EventListener, ExecuteError, QMPClient, QMPError

from harness.deadline import Deadline
from harness.errors import InfraError

#: A monitor that is asked answers in a millisecond; longer than this, QEMU or its host stands still.
ANSWER_S = 10.0

#: The library logs an ending of QEMU as an error; here it is an exception, and often no error at all.
logging.getLogger("qemu.qmp").addHandler(logging.NullHandler())

_T = TypeVar("_T")


class MonitorGone(InfraError):
    """The connection to QEMU has ended: QEMU is dead, or about to be."""


class Monitor:
    """A QMP session over a connected Unix socket, which it takes over. Safe for several threads.

    It connects in the background, so that it may be made before QEMU listens; the first command waits for
    that. Every method raises MonitorGone when QEMU ends, InfraError when it does not answer in time.

    With `quits`, it ends a QEMU that waits (-no-shutdown) when its guest has shut down. A QEMU that ends by
    itself while a command is under way may stand still for ever instead: 7.2 did in 27 of 270 boots sampled
    every millisecond (monitor_cleanup() of monitor/monitor.c waits for the command, which waits for the main
    loop), in none of 270 that were ended like this.
    """

    def __init__(self, connection: socket.socket, *, quits: bool = False) -> None:
        self._client = QMPClient()
        self._running = True
        self._over = False
        self._loop = asyncio.new_event_loop()
        self._shutdown = EventListener("SHUTDOWN")
        self._client.register_listener(self._shutdown)
        self._connected = self._loop.create_task(self._client.connect(connection))
        if quits:
            self._quitter = self._loop.create_task(self._quit_after_shutdown())
        self._thread = threading.Thread(target=self._loop.run_forever, name="monitor", daemon=True)
        self._thread.start()

    @property
    def running(self) -> bool:
        """Whether the guest's CPUs were on their way when the last command was answered.

        By QEMU's STOP and RESUME events, whoever caused them.
        """
        return self._running

    def execute(self, command: str, deadline: Deadline | None = None, **arguments: object) -> Any:
        """The answer to a QMP command, as JSON has it. Waits until `deadline`, by default `ANSWER_S`.

        InfraError with QEMU's own words if it refuses.
        """
        return self._wait(self.begin(command, **arguments), command, deadline or Deadline.after(ANSWER_S))

    def begin(self, command: str, **arguments: object) -> concurrent.futures.Future[Any]:
        """Send a command without waiting for its answer; see `answer`."""
        return self._submit(self._execute(command, arguments))

    def answer(self, future: concurrent.futures.Future[Any], command: str, deadline: Deadline) -> Any:
        """The answer to what `begin` sent, with the errors of `execute`."""
        return self._wait(future, command, deadline)

    def hmp(self, line: str, deadline: Deadline | None = None) -> str:
        """What the human monitor prints for a line."""
        return str(self.execute("human-monitor-command", deadline, **{"command-line": line}))

    def give(self, name: str, descriptor: int) -> None:
        """Hand a copy of a file descriptor to QEMU, which knows it by `name` until a command uses it."""
        deadline = Deadline.after(ANSWER_S)
        self._wait(self._submit(self._give(name, descriptor)), "getfd", deadline)

    def close(self) -> None:
        """End the session; commands that still wait raise MonitorGone."""
        if self._loop.is_closed():
            return
        with contextlib.suppress(concurrent.futures.TimeoutError):
            self._submit(self._end()).result(ANSWER_S)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _quit_after_shutdown(self) -> None:
        with contextlib.suppress(QMPError, OSError, EOFError):  # QEMU has ended otherwise
            await self._connection()
            status: Any = await self._client.execute("query-status")
            # One that came before the session is in no event.
            if status["status"] != "shutdown":
                await self._shutdown.get()
            # Commands are done in order: those under way before it, and from here on none after it.
            self._over = True
            await self._client.execute("quit")

    async def _execute(self, command: str, arguments: dict[str, object]) -> Any:
        await self._connection()
        if self._over:
            raise EOFError
        answer = await self._client.execute(command, arguments or None)
        # What happened before the answer was read before it.
        for event in self._client.events.clear():
            if event["event"] in ("STOP", "RESUME"):
                self._running = event["event"] == "RESUME"
        return answer

    async def _give(self, name: str, descriptor: int) -> None:
        await self._connection()
        self._client.send_fd_scm(descriptor)
        await self._client.execute("getfd", {"fdname": name})

    async def _connection(self) -> None:
        await asyncio.wait([self._connected])
        if self._connected.cancelled() or self._connected.exception():
            raise EOFError

    async def _end(self) -> None:
        """Leave nothing on the loop that would have to be ended without it."""
        self._connected.cancel()
        await asyncio.wait([self._connected])
        # What ended the session, if it has ended already: those who waited know.
        with contextlib.suppress(QMPError, EOFError, OSError):
            await self._client.disconnect()
        rest = asyncio.all_tasks() - {asyncio.current_task()}
        for task in rest:
            task.cancel()
        if rest:
            await asyncio.wait(rest)
        if not self._connected.cancelled():
            self._connected.exception()

    def _submit(self, work: Coroutine[Any, Any, _T]) -> concurrent.futures.Future[_T]:
        try:
            return asyncio.run_coroutine_threadsafe(work, self._loop)
        except RuntimeError as error:  # the loop is closed
            work.close()
            raise MonitorGone("QEMU's monitor is closed") from error

    def _wait(self, future: concurrent.futures.Future[_T], command: str, deadline: Deadline) -> _T:
        try:
            return future.result(deadline.remaining)
        except concurrent.futures.TimeoutError as error:
            future.cancel()
            raise InfraError(
                f"QEMU's monitor does not answer ({command})",
                hint="QEMU or this machine stands still; see qemu.log beside the record",
            ) from error
        except ExecuteError as error:
            raise InfraError(f"QEMU refuses {command}: {error.error.error.desc}") from error
        except (QMPError, OSError, EOFError, concurrent.futures.CancelledError) as error:
            raise MonitorGone(f"QEMU's monitor does not answer ({command}): QEMU has ended") from error
