# SPDX-License-Identifier: GPL-2.0-only
"""The box's hardware and its mains switch."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import subprocess
from pathlib import Path

from qemu.qmp import QMPClient, QMPError

from harness.process import start, stop

from .serial_port import SerialPort

MEMORY_MB = 1024
#: Size of the store of ACPI's ERST, where pstore keeps the last words of a kernel through a power cut.
ERST_BYTES = 1 << 16
_PATIENCE_S = 10.0
#: How the monitor of a QEMU that ends shows it: disconnecting repeats what its reader met.
_GONE = (QMPError, OSError, EOFError)


def qemu_argv(folder: Path, ssh_port: int, line_fd: int, monitor_fd: int) -> list[str]:
    """The box: two CPUs, an NVMe disk, a network card, a serial line; SSH is at this port of the loopback."""
    erst = f"memory-backend-file,id=erst,size={ERST_BYTES},share=on,mem-path={folder / 'erst'}"
    disk = f"file={folder / 'disk.qcow2'},format=qcow2,if=none,id=disk,cache=unsafe,discard=unmap"
    return [
        "qemu-system-x86_64",
        *("-nodefaults", "-no-user-config", "-display", "none"),
        # Without `rep stosb` being called fast, kernels clear pages by eight bytes a step, not by one.
        *("-machine", "q35", "-accel", "tcg,thread=multi", "-cpu", "max,-erms,-fsrm"),
        # See Mains._again.
        "-no-reboot",
        *("-smp", "2", "-m", str(MEMORY_MB)),
        *("-drive", disk, "-device", "nvme,drive=disk,serial=box"),
        *("-netdev", f"user,id=net,hostfwd=tcp:127.0.0.1:{ssh_port}-:22"),
        *("-device", "virtio-net-pci,netdev=net,romfile="),
        *("-chardev", f"socket,id=line,fd={line_fd}", "-serial", "chardev:line"),
        *("-object", erst, "-device", "acpi-erst,memdev=erst"),
        *("-chardev", f"socket,id=monitor,fd={monitor_fd}", "-mon", "chardev=monitor,mode=control"),
    ]


class Mains:
    """Switches the box on and off, and pulls its reset line; never asks what runs on it."""

    def __init__(self, folder: Path, serial: SerialPort, ssh_port: int) -> None:
        self._folder = folder
        self._serial = serial
        self._ssh_port = ssh_port
        self._qemu: subprocess.Popen[bytes] | None = None
        self._monitor = QMPClient()
        self._line: asyncio.Task[None] | None = None
        self._resets: asyncio.Task[None] | None = None
        self._lock = asyncio.Lock()
        self._resetting = False

    @property
    def is_on(self) -> bool:
        return self._resetting or (self._qemu is not None and self._qemu.poll() is None)

    async def on(self) -> None:
        """Nothing happens to a box that is on."""
        async with self._lock:
            if not self.is_on:
                await self._start()

    async def _start(self) -> None:
        await self._stop()
        erst = self._folder / "erst"
        if not erst.exists():
            erst.write_bytes(bytes(ERST_BYTES))
        line, its_line = socket.socketpair()
        monitor, its_monitor = socket.socketpair()
        with (self._folder / "qemu.log").open("ab") as log, its_line, its_monitor:
            fds = its_line.fileno(), its_monitor.fileno()
            argv = qemu_argv(self._folder, self._ssh_port, *fds)
            self._qemu = start(argv, stdout=log, pass_fds=fds)
        self._line = asyncio.create_task(self._serial.hold(*await asyncio.open_connection(sock=line)))
        self._monitor = QMPClient()
        await asyncio.wait_for(self._monitor.connect(monitor), _PATIENCE_S)
        self._resets = asyncio.create_task(self._again(self._monitor, self._qemu))

    async def _again(self, monitor: QMPClient, qemu: subprocess.Popen[bytes]) -> None:
        """A reset ends QEMU, and a new one takes its place.

        In one that goes on, all code it has translated is still there, and a kernel that clears that memory
        takes three minutes where it takes half a minute in a new one.
        """
        with monitor.listener("SHUTDOWN") as shutdowns:
            async for event in shutdowns:
                if "reset" in str(event["data"]):
                    break
        self._resetting = True
        async with self._lock:
            if self._qemu is qemu:
                await self._start()
        self._resetting = False

    async def off(self) -> None:
        """What was written to the disk is on it; what the kernel still held is lost."""
        async with self._lock:
            await self._stop()

    async def _stop(self) -> None:
        if self._resets and self._resets is not asyncio.current_task():
            self._resets.cancel()
        if self._qemu is None:
            return
        # A QEMU that is killed would lose what its disk's cache holds, which no disk does.
        with contextlib.suppress(*_GONE, asyncio.TimeoutError):
            await asyncio.wait_for(self._monitor.execute("quit"), _PATIENCE_S)
        with contextlib.suppress(*_GONE):
            await self._monitor.disconnect()
        with contextlib.suppress(subprocess.TimeoutExpired):
            await asyncio.to_thread(self._qemu.wait, _PATIENCE_S)
        stop(self._qemu)
        self._qemu = None
        if self._line:
            await self._line

    async def reset(self) -> None:
        """The button at the front."""
        try:
            await self._monitor.execute("system_reset")
        except _GONE:
            # QEMU tells of the reset before it answers, and may be replaced in between.
            if not self._resetting:
                raise

    async def send_break(self) -> None:
        """A break on the serial line."""
        if self.is_on:
            await self._monitor.execute("chardev-send-break", {"id": "line"})
