# SPDX-License-Identifier: GPL-2.0-only
"""The ways to a console: TCP, telnet, a command on a terminal of its own, a tty, netconsole."""

from __future__ import annotations

import contextlib
import importlib
import os
import pty
import socket
import tty
from collections.abc import Callable
from typing import Protocol

from harness import process
from harness.errors import InfraError, UserError
from harness.target.box.config import Console, host_and_port
from harness.target.box.telnet import BREAK, Negotiation, escaped

_CONNECT_S = 10.0
#: What netconsole may send before it is read, bytes.
_BURST = 4 << 20


class Link(Protocol):
    """An open way to a console."""

    def fileno(self) -> int:
        """What is read from."""

    def decode(self, data: bytes) -> bytes:
        """What the console said in bytes that were read."""

    def write(self, data: bytes) -> None:
        """Type something. OSError if the way is closed, InfraError if it leads one way only."""

    def send_break(self) -> None:
        """A serial break. As `write`."""

    def close(self) -> None:
        """Leave it."""


def open_link(name: str, console: Console) -> Link:
    """Open the console of the box `name`. OSError or InfraError if it cannot be; UserError: no pyserial."""
    if console.tcp:
        return _Tcp(host_and_port(console.tcp), console.break_)
    if console.telnet:
        return _Telnet(host_and_port(console.telnet))
    if console.command:
        return _Command(name, console.command, console.break_)
    if console.tty:
        return _Tty(console.tty, console.baud)
    assert console.netconsole
    return _Netconsole(host_and_port(console.netconsole))


class _Plain:
    """A link of which every byte is the console's."""

    def decode(self, data: bytes) -> bytes:
        return data


class _Tcp(_Plain):
    def __init__(self, where: tuple[str, int], break_: str | None) -> None:
        self._socket = socket.create_connection(where, _CONNECT_S)
        self._socket.settimeout(_CONNECT_S)
        # The other end may be gone without a word: a cable, a power cut.
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        self._break = break_

    def fileno(self) -> int:
        return self._socket.fileno()

    def write(self, data: bytes) -> None:
        self._socket.sendall(data)

    def send_break(self) -> None:
        _send_as(self._break, self.write)

    def close(self) -> None:
        self._socket.close()


class _Telnet(_Tcp):
    def __init__(self, where: tuple[str, int]) -> None:
        super().__init__(where, None)
        self._negotiation = Negotiation(self._socket.sendall)

    def decode(self, data: bytes) -> bytes:
        return self._negotiation.read(data)

    def write(self, data: bytes) -> None:
        self._socket.sendall(escaped(data))

    def send_break(self) -> None:
        self._socket.sendall(BREAK)


class _Command(_Plain):
    """A program that is a console as long as it runs, on a terminal that echoes nothing."""

    def __init__(self, name: str, argv: tuple[str, ...], break_: str | None) -> None:
        self._master, slave = pty.openpty()
        tty.setraw(slave)
        try:
            self._process = process.start(argv, stdin=slave, stdout=slave, stderr=slave)
        except InfraError as error:
            os.close(self._master)
            # The words may hold a password.
            raise InfraError(f"box {name}: the console's command cannot be started: {argv[0]}") from error
        finally:
            os.close(slave)
        self._break = break_

    def fileno(self) -> int:
        return self._master

    def write(self, data: bytes) -> None:
        while data:
            data = data[os.write(self._master, data) :]

    def send_break(self) -> None:
        _send_as(self._break, self.write)

    def close(self) -> None:
        process.stop(self._process)
        os.close(self._master)


class _Tty(_Plain):
    def __init__(self, device: str, baud: int) -> None:
        try:
            serial = importlib.import_module("serial")
        except ImportError as error:
            raise UserError(
                "a console on a tty needs pyserial", hint="install hmm-harness with the extra `serial`"
            ) from error
        self._serial = serial.Serial(device, baud, timeout=0)

    def fileno(self) -> int:
        return int(self._serial.fileno())

    def write(self, data: bytes) -> None:
        self._serial.write(data)

    def send_break(self) -> None:
        self._serial.send_break()

    def close(self) -> None:
        self._serial.close()


class _Netconsole(_Plain):
    """What the kernel sends by UDP; nothing can be sent back."""

    def __init__(self, where: tuple[str, int]) -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        with contextlib.ExitStack() as stack:
            stack.callback(self._socket.close)
            # A kernel sends all that it has said so far at once; the system may give less.
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BURST)
            self._socket.bind(where)
            stack.pop_all()

    def fileno(self) -> int:
        return self._socket.fileno()

    def write(self, data: bytes) -> None:
        raise InfraError("netconsole only listens")

    def send_break(self) -> None:
        raise InfraError("netconsole takes no break")

    def close(self) -> None:
        self._socket.close()


def _send_as(text: str | None, write: Callable[[bytes], None]) -> None:
    if text is None:
        raise InfraError(
            "this console knows no break", hint="say in the target's file what makes one (`break`)"
        )
    write(text.encode())
