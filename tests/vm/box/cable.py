# SPDX-License-Identifier: GPL-2.0-only
"""The network cable to the box's SSH port: it can be pulled."""

from __future__ import annotations

import asyncio
import contextlib


class Cable:
    """Passes TCP connections on to a port of the loopback."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._ends: set[asyncio.StreamWriter] = set()
        self._pulled = False

    async def listen(self) -> int:
        """Take connections at a free port of the loopback, which is returned."""
        server = await asyncio.start_server(self._connect, "127.0.0.1", 0)
        return int(server.sockets[0].getsockname()[1])

    def cut(self) -> int:
        """End every connection at once; how many there were. New ones are taken."""
        ended = len(self._ends) // 2
        for end in self._ends:
            end.transport.abort()
        return ended

    def pull(self) -> None:
        """Nothing gets through any more."""
        self._pulled = True
        self.cut()

    def plug_in(self) -> None:
        """As before."""
        self._pulled = False

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._pulled:
            writer.transport.abort()
            return
        try:
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._port)
        except OSError:
            writer.transport.abort()
            return
        ends = {writer, far_writer}
        self._ends |= ends
        await asyncio.gather(_copy(reader, far_writer), _copy(far_reader, writer))
        self._ends -= ends


async def _copy(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await source.read(1 << 16):
            sink.write(data)
            await sink.drain()
    sink.close()
