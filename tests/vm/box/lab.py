# SPDX-License-Identifier: GPL-2.0-only
"""The lab around one box, as a process of its own: mains switch, terminal server, network cable.

`python -m tests.vm.box.lab FOLDER` runs until it is ended; QEMU ends with it. Everything is in the folder:
disk.qcow2 (the box's disk, made beforehand), lab.json (ports, written when they are open), console.log (all
the box ever said), qemu.log, and the socket `control`, to which power.py speaks.
"""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from pathlib import Path

from qemu.qmp import QMPError

from tests.ports import free_port

from . import rest
from .cable import Cable
from .mains import Mains
from .serial_port import SerialPort


class Lab:
    """One box and what it is plugged into."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        inner_ssh = free_port()
        self._cable = Cable(inner_ssh)
        self._serial = SerialPort(folder / "console.log", self._send_break)
        self._mains = Mains(folder, self._serial, inner_ssh)
        self._switch = asyncio.Lock()
        self._power_failures = 0

    async def run(self) -> None:
        """Serve until SIGTERM or SIGINT."""
        over = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, over.set)
        await asyncio.start_unix_server(self._answer, self._folder / "control")
        ports = {
            "ssh": await self._cable.listen(),
            "telnet": await self._serial.listen(telnet=True),
            "raw": await self._serial.listen(telnet=False),
            "rest": await rest.listen(self._power),
        }
        draft = self._folder / "lab.json.new"
        draft.write_text(json.dumps(ports) + "\n")
        draft.rename(self._folder / "lab.json")
        await over.wait()
        async with self._switch:
            await self._mains.off()

    async def _send_break(self) -> None:
        await self._mains.send_break()

    async def _power(self, word: str) -> str:
        async with self._switch:
            return await self._do(["power", word])

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        words = (await reader.readline()).decode().split()
        try:
            async with self._switch:
                answer = await self._do(words)
        except (QMPError, OSError, EOFError, ValueError) as error:
            answer = f"failed: {error or type(error).__name__}"
        writer.write(f"{answer}\n".encode())
        writer.close()

    async def _do(self, words: list[str]) -> str:
        if words[0] == "power" and self._power_failures:
            self._power_failures -= 1
            raise ValueError("the power switch does not answer")
        match words:
            case ["power", "on"]:
                await self._mains.on()
            case ["power", "off"]:
                await self._mains.off()
            case ["power", "cycle"]:
                await self._mains.off()
                await self._mains.on()
            case ["power", "status"]:
                return f"power is {'on' if self._mains.is_on else 'off'}"
            case ["power-fails", times]:
                self._power_failures = int(times)
            case ["reset"]:
                await self._mains.reset()
            case ["cut", "ssh"]:
                return f"{self._cable.cut()} cut"
            case ["cut", "serial"]:
                return f"{self._serial.cut()} cut"
            case ["pull", "ssh"]:
                self._cable.pull()
            case ["plug", "ssh"]:
                self._cable.plug_in()
            case _:
                raise ValueError(f"no such command: {' '.join(words)}")
        return "done"


if __name__ == "__main__":
    asyncio.run(Lab(Path(sys.argv[1]).resolve()).run())
