# SPDX-License-Identifier: GPL-2.0-only
"""The lab's terminal server: the box's serial line on TCP, telnet and raw, whether the box is on or not."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from pathlib import Path

IAC, DONT, DO, WONT, WILL, BRK, SB, SE = 255, 254, 253, 252, 251, 243, 250, 240
_ECHO, _SUPPRESS_GO_AHEAD, _BINARY = 1, 3, 0
#: As terminal servers greet: the far end echoes, a character at a time, eight bits both ways.
GREETING = bytes((IAC, WILL, _ECHO, IAC, WILL, _SUPPRESS_GO_AHEAD, IAC, WILL, _BINARY, IAC, DO, _BINARY))
#: A client that reads this much too little is put out; the line waits for nobody.
_BACKLOG = 4 << 20


class TelnetReader:
    """Takes telnet's commands out of what a client sends (RFC 854): cut anywhere, a byte at a time."""

    def __init__(self) -> None:
        self._state = "data"

    def read(self, data: bytes) -> tuple[bytes, int]:
        """What was typed, and how many breaks were asked for."""
        typed, breaks = bytearray(), 0
        for byte in data:
            match self._state:
                case "data" if byte == IAC:
                    self._state = "command"
                case "data":
                    typed.append(byte)
                case "command":
                    breaks += byte == BRK
                    if byte == IAC:
                        typed.append(byte)
                    takes_option = byte in (WILL, WONT, DO, DONT)
                    self._state = "option" if takes_option else "sub" if byte == SB else "data"
                case "option":
                    self._state = "data"
                case "sub" if byte == IAC:
                    self._state = "sub command"
                case "sub command":
                    self._state = "data" if byte == SE else "sub"
        return bytes(typed), breaks


class SerialPort:
    """Between a box's serial line and any number of clients; everything the box says is also in `log`."""

    def __init__(self, log: Path, send_break: Callable[[], Awaitable[None]]) -> None:
        self._log = log.open("ab", buffering=0)
        self._send_break = send_break
        self._clients: dict[asyncio.StreamWriter, bool] = {}
        self._box: asyncio.StreamWriter | None = None

    async def listen(self, *, telnet: bool) -> int:
        """Serve clients at a free port of the loopback, which is returned."""

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await self._serve(reader, writer, telnet)

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        return int(server.sockets[0].getsockname()[1])

    async def hold(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Pass on what the box says until it is off."""
        self._box = writer
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                self._log.write(data)
                for client, telnet in list(self._clients.items()):
                    if client.transport.get_write_buffer_size() > _BACKLOG:
                        client.transport.abort()
                    else:
                        client.write(data.replace(b"\xff", b"\xff\xff") if telnet else data)
        self._box = None
        writer.close()

    def cut(self) -> int:
        """Close every client's connection; how many there were. They may come again at once."""
        for client in self._clients:
            client.transport.abort()
        return len(self._clients)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, telnet: bool) -> None:
        self._clients[writer] = telnet
        parser = TelnetReader()
        if telnet:
            writer.write(GREETING)
        with contextlib.suppress(OSError):
            while data := await reader.read(4096):
                typed, breaks = parser.read(data) if telnet else (data, 0)
                for _ in range(breaks):
                    await self._send_break()
                if typed and self._box:
                    self._box.write(typed)
        del self._clients[writer]
        writer.close()
