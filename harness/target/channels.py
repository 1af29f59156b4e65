# SPDX-License-Identifier: GPL-2.0-only
"""Between this process and QEMU: connected sockets, and a stream of bytes as lines."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable

#: An agent line longer than this is cut: no message is, so it is junk.
LINE_LIMIT = 1 << 20


class Lines:
    """Cuts a stream of bytes into lines; an empty feed ends it and gives the unfinished rest."""

    def __init__(self, on_line: Callable[[bytes], None]) -> None:
        self._on_line = on_line
        self._rest = b""

    def __call__(self, data: bytes) -> None:
        *lines, self._rest = (self._rest + data).split(b"\n")
        if self._rest and (not data or len(self._rest) > LINE_LIMIT):
            lines.append(self._rest)
            self._rest = b""
        for line in lines:
            if line:
                self._on_line(line)


def socket_pair(stack: contextlib.ExitStack) -> tuple[socket.socket, socket.socket]:
    """Our end and theirs, closed with `stack` at the latest."""
    ours, theirs = socket.socketpair()
    stack.enter_context(ours)
    stack.enter_context(theirs)
    return ours, theirs
