# SPDX-License-Identifier: GPL-2.0-only
"""gdb in a guest of the virtual clock, stopped at a moment that is the same every time."""

from __future__ import annotations

import contextlib
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness import process
from harness.errors import InfraError
from harness.target.protocol import BootPlan
from harness.target.qemu import Channels, check_plan, qemu_argv

GDB = "gdb"
#: The kernel's function behind every message of the agent (drivers/char/virtio_console.c).
WRITES_MESSAGE = "port_fops_write"
#: Where there is no terminal: where every CPU is, and no more.
REPORT = ("info threads", "thread apply all bt")


@dataclass(frozen=True)
class Symbols:
    """What gdb needs to read a guest."""

    #: With DWARF.
    vmlinux: Path
    #: The module with debug info, and the addresses of its sections: `{".text": 0xffffffffa0000000}`.
    module: Path
    sections: Mapping[str, int]
    #: Folders of sources that are not where the debug info says.
    sources: Sequence[Path] = ()


def stub_argv(plan: BootPlan, folder: Path, listener: int) -> list[str]:
    """QEMU, halted before the first instruction, with a gdb stub on a socket that listens. Pure."""
    # The channels go where they went when the trial was recorded: into files.
    channels = Channels(*(f"file,path={folder / name}" for name in ("console.log", "agent.log")))
    stub = ["-S", "-chardev", f"socket,id=gdb,fd={listener},server=on,wait=off", "-gdb", "chardev:gdb"]
    return [*qemu_argv(plan, channels), *stub]


def gdb_argv(symbols: Symbols, address: Path, message: int, *, batch: bool) -> list[str]:
    """gdb that runs the guest until it is about to say its `message`th message (from 1). Pure."""
    commands = [
        "set confirm off",
        "set pagination off",
        *(f"directory {folder}" for folder in symbols.sources),
    ]
    if ".text" in symbols.sections:
        others = [f"-s {name} {address:#x}" for name, address in symbols.sections.items() if name != ".text"]
        text = f"{symbols.sections['.text']:#x}"
        commands.append(" ".join(["add-symbol-file", str(symbols.module), text, *others]))
    commands += [
        f"target remote {address}",
        f"break *{WRITES_MESSAGE}",
        f"ignore 1 {message - 1}",
        "continue",
        "delete",
        *(REPORT if batch else ("set pagination on",)),
    ]
    mode = ["-batch"] if batch else ["-quiet"]
    return [GDB, "-nx", *mode, str(symbols.vmlinux), *(word for line in commands for word in ("-ex", line))]


def debug(plan: BootPlan, symbols: Symbols, message: int) -> int:
    """Boot `plan`, stop it where it is about to say its `message`th message, and leave the user with gdb.

    Without a terminal gdb says where every CPU is, and ends. Returns gdb's exit status; InfraError if there
    is no gdb or a file with symbols is gone.
    """
    process.require_program(GDB, hint="install the package gdb")
    check_plan(plan)
    for path in (symbols.vmlinux, symbols.module):
        if not path.is_file():
            raise InfraError(f"{path} is not there any more", hint="build the kernel again")
    batch = not sys.stdin.isatty()
    # In /tmp, for a socket's path is at most 107 bytes long.
    with (
        tempfile.TemporaryDirectory(prefix="hmm-gdb-", dir="/tmp") as name,
        socket.socket(socket.AF_UNIX) as listener,
    ):
        folder = Path(name)
        listener.bind(str(folder / "gdb"))
        listener.listen(1)
        number = listener.fileno()
        guest = process.start(stub_argv(plan, folder, number), stderr=None, pass_fds=[number])
        with process.running(guest), _ctrl_c_is_gdbs():
            argv = gdb_argv(symbols, folder / "gdb", message, batch=batch)
            # What gdb reads is the terminal; it has none, it reads nothing.
            source = subprocess.DEVNULL if batch else None
            gdb = process.start(argv, stdin=source, stdout=None, stderr=None, foreground=True)
            with process.running(gdb):
                return gdb.wait()


@contextlib.contextmanager
def _ctrl_c_is_gdbs() -> Iterator[None]:
    """Ctrl-C stops the guest in gdb, and not this program."""
    # A function and not SIG_IGN, which gdb would inherit.
    before = signal.signal(signal.SIGINT, lambda number, frame: None)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
