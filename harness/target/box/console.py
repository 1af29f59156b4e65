# SPDX-License-Identifier: GPL-2.0-only
"""The serial console of a box: a reader that never stops, whatever becomes of the line, and a way to type."""

from __future__ import annotations

import contextlib
import re
import threading
import time
from collections.abc import Callable, Iterator
from typing import cast

import pexpect
from pexpect.fdpexpect import fdspawn

from harness.errors import HarnessError, InfraError
from harness.target.box.config import Console as ConsoleConfig
from harness.target.box.links import Link, open_link

#: Between two attempts to open a console that was closed, s.
_AGAIN_S = 1.0
#: How long it may take until a console that is left is closed, s.
_LOOK_S = 0.02
_CHUNK = 65536
#: The answer to SysRq `h`, whatever keys the kernel has (drivers/tty/sysrq.c).
_HELP = rb"sysrq: HELP"


class ConsoleClosed(InfraError):
    """The console cannot be opened."""


class BoxConsole:
    """An open console. What it says goes to one listener at a time, in the reader's thread."""

    def __init__(
        self, name: str, config: ConsoleConfig, note: Callable[[str], None] = lambda text: None
    ) -> None:
        """Opens it. ConsoleClosed if that is impossible now; later it is tried again and again.

        `note` hears when it is closed or open again.
        """
        self._name = name
        self._config = config
        self._note = note
        self._listener: Callable[[bytes], None] | None = None
        self._lock = threading.Lock()
        self._heard = threading.Condition()
        self._last = b""
        self._closing = threading.Event()
        self._link: Link | None = self._open()
        self.why_closed = ""
        self._thread = threading.Thread(target=self._read, name="box console", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Leave it."""
        self._closing.set()
        self._thread.join()

    @property
    def open(self) -> bool:
        """Whether somebody is at the other end, as far as is known."""
        return self._link is not None

    @contextlib.contextmanager
    def heard_by(self, listener: Callable[[bytes], None]) -> Iterator[None]:
        """What comes while the block runs goes to `listener`."""
        with self._lock:
            self._listener = listener
        try:
            yield
        finally:
            with self._lock:
                self._listener = None

    def type(self, data: bytes) -> None:
        """Type something. InfraError if it cannot be."""
        self._use(lambda link: link.write(data))

    def sysrq(self, key: str) -> None:
        """A magic SysRq key: a break, then the key. InfraError if the line takes no break."""
        self._use(lambda link: link.send_break())
        # A break is an event of its own on the way; some adapters swallow what is right behind it.
        time.sleep(0.05)
        self._use(lambda link: link.write(key.encode("ascii")))

    def kernel_answers(self, timeout_s: float) -> bool:
        """Whether the kernel takes an interrupt of the serial line and prints. InfraError: no way to ask."""
        return self.answers(lambda: self.sysrq("h"), _HELP, timeout_s)

    def user_space_answers(self, timeout_s: float) -> bool:
        """Whether a program answers the Enter key, as getty does with its `login:`. As `kernel_answers`."""
        return self.answers(lambda: self.type(b"\r"), rb"login: ", timeout_s)

    def answers(self, ask: Callable[[], None], pattern: bytes, timeout_s: float) -> bool:
        """Whether what the console says after `ask` matches a pattern in time."""
        with self._heard:
            self._last = b""
        ask()
        until = time.monotonic() + timeout_s
        with self._heard:
            while not re.search(pattern, self._last):
                left = until - time.monotonic()
                if left <= 0:
                    return False
                self._heard.wait(left)
        return True

    def _use(self, act: Callable[[Link], None]) -> None:
        link = self._link
        if link is None:
            raise InfraError(f"box {self._name}: the console is closed: {self.why_closed}")
        try:
            act(link)
        except OSError as error:
            raise InfraError(f"box {self._name}: the console is closed: {error.strerror or error}") from error

    def _open(self) -> Link:
        try:
            return open_link(self._name, self._config)
        except (OSError, ValueError) as error:
            why = getattr(error, "strerror", None) or error
            raise ConsoleClosed(
                f"box {self._name}: cannot open the console: {why}", hint="is somebody else connected to it?"
            ) from error

    def _read(self) -> None:
        while not self._closing.is_set():
            link = self._link
            if link is None:
                if not self._closing.wait(_AGAIN_S):
                    with contextlib.suppress(HarnessError):
                        self._link = self._open()
                        self._note("the console is open again")
                continue
            self.why_closed = self._listen(link)
            self._link = None
            with contextlib.suppress(OSError):
                link.close()
            if not self._closing.is_set():
                self._note(f"the console was closed: {self.why_closed}")

    def _listen(self, link: Link) -> str:
        """Read until it is closed, or somebody wants it closed; says why."""
        line = fdspawn(link.fileno(), timeout=None)
        while not self._closing.is_set():
            try:
                # Bytes, as no encoding was named; the type says otherwise.
                data = link.decode(cast(bytes, line.read_nonblocking(_CHUNK, timeout=_LOOK_S)))
            except pexpect.TIMEOUT:
                continue
            except pexpect.EOF:
                return "the other end closed it"
            except OSError as error:
                return error.strerror or str(error)
            if data:
                self._hand_on(data)
        return "the harness left it"

    def _hand_on(self, data: bytes) -> None:
        with self._lock:
            if self._listener:
                self._listener(data)
        with self._heard:
            self._last = (self._last + data)[-_CHUNK:]
            self._heard.notify_all()
