# SPDX-License-Identifier: GPL-2.0-only
"""As much of telnet as a serial console needs: data in both directions, and a break (RFC 854)."""

from __future__ import annotations

from collections.abc import Callable

_IAC, _DONT, _DO, _WONT, _WILL, _SB, _SE, _BRK = 255, 254, 253, 252, 251, 250, 240, 243
#: Options that make a connection transparent: binary, echo, suppress go-ahead.
_WANTED = frozenset({0, 1, 3})

BREAK = bytes((_IAC, _BRK))


def escaped(data: bytes) -> bytes:
    """Data as it is sent."""
    return data.replace(bytes((_IAC,)), bytes((_IAC, _IAC)))


class Negotiation:
    """Takes the data out of what the other end sends, wherever it is cut, and answers its requests."""

    def __init__(self, send: Callable[[bytes], None]) -> None:
        self._send = send
        self._command = b""
        self._answered: set[bytes] = set()

    def read(self, data: bytes) -> bytes:
        """The data among these bytes."""
        out = bytearray()
        for byte in data:
            if not self._command:
                if byte == _IAC:
                    self._command = bytes((byte,))
                else:
                    out.append(byte)
                continue
            self._command += bytes((byte,))
            if self._command == bytes((_IAC, _IAC)):
                out.append(_IAC)
                self._command = b""
            elif self._complete():
                self._answer(self._command)
                self._command = b""
        return bytes(out)

    def _complete(self) -> bool:
        verb = self._command[1]
        if verb == _SB:
            return self._command[-2:] == bytes((_IAC, _SE))
        return len(self._command) == (3 if verb in (_WILL, _WONT, _DO, _DONT) else 2)

    def _answer(self, command: bytes) -> None:
        verb = command[1]
        if verb not in (_WILL, _DO) or command in self._answered:
            return
        self._answered.add(command)
        wanted = command[2] in _WANTED
        yes, no = (_DO, _DONT) if verb == _WILL else (_WILL, _WONT)
        self._send(bytes((_IAC, yes if wanted else no, command[2])))
