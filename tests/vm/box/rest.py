# SPDX-License-Identifier: GPL-2.0-only
"""The mains switch over HTTP, as on power strips: GET /power/0 answers 0 or 1, /power/0/1 switches on."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable

#: Takes `on`, `off` or `status`; raises ValueError or OSError if it cannot be done.
Switch = Callable[[str], Awaitable[str]]
_WORDS = {"/power/0": "status", "/power/0/0": "off", "/power/0/1": "on"}


async def listen(switch: Switch) -> int:
    """Serve at a free port of the loopback, which is returned."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split()
            word = _WORDS.get(head[1]) if head[0] == "GET" else None
            if word is None:
                status, body = "404 Not Found", ""
            else:
                try:
                    status, body = "200 OK", str(int((await switch(word)).endswith(" on")))
                except ValueError as error:
                    status, body = "503 Service Unavailable", str(error)
            writer.write(f"HTTP/1.0 {status}\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode())
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    return int(server.sockets[0].getsockname()[1])
