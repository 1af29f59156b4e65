# SPDX-License-Identifier: GPL-2.0-only
"""gdb in a guest of the virtual clock, stopped where its record says that it last got on."""

from __future__ import annotations

import contextlib
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness import process
from harness.deadline import Deadline
from harness.errors import InfraError
from harness.target.channels import socket_pair
from harness.target.icount import keep_on_one_cpu
from harness.target.protocol import BootPlan
from harness.target.qemu import Channels, check_plan, qemu_argv
from harness.target.qmp import Monitor

GDB = "gdb"
AGENT_LOG = "agent.log"
#: Between two looks at what the guest has said, s.
_POLL_S = 0.005
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


def stub_argv(plan: BootPlan, folder: Path, monitor: int, listener: int) -> list[str]:
    """QEMU with a monitor, and with a gdb stub on a socket that listens; it outlives its guest. Pure."""
    # Console and messages go where they went when the trial was recorded: into files.
    console, agent = (f"file,path={folder / name}" for name in ("console.log", AGENT_LOG))
    return [
        *qemu_argv(plan, Channels(console, agent, monitor=f"socket,fd={monitor}")),
        "-chardev", f"socket,id=gdb,fd={listener},server=on,wait=off",
        "-gdb", "chardev:gdb",
    ]  # fmt: skip


def gdb_argv(symbols: Symbols, address: Path, *, batch: bool) -> list[str]:
    """gdb attached to a stub; with `batch` it says where every CPU is, and ends. Pure."""
    commands = ["set confirm off", *(f"directory {folder}" for folder in symbols.sources)]
    if ".text" in symbols.sections:
        others = [f"-s {name} {start:#x}" for name, start in symbols.sections.items() if name != ".text"]
        text = f"{symbols.sections['.text']:#x}"
        commands.append(" ".join(["add-symbol-file", str(symbols.module), text, *others]))
    commands += [f"target remote {address}", *(REPORT if batch else ())]
    mode = ["-batch"] if batch else ["-quiet"]
    return [GDB, "-nx", *mode, str(symbols.vmlinux), *(word for line in commands for word in ("-ex", line))]


def debug(plan: BootPlan, symbols: Symbols, said: Sequence[str], deadline: Deadline) -> int:
    """Boot `plan`, stop it as soon as it has said the messages `said`, and leave the user with gdb.

    A breakpoint that is passed on the way would change what the guest does; QEMU's monitor does not until it
    stops it, a few ms of our time after the last of the messages. Without a terminal gdb says where every CPU
    is, and ends. Returns gdb's exit status. InfraError: no gdb, symbols that are gone, a guest that says
    something else.
    """
    process.require_program(GDB, hint="install the package gdb")
    check_plan(plan)
    for path in (symbols.vmlinux, symbols.module):
        if not path.is_file():
            raise InfraError(f"{path} is not there any more", hint="build the kernel again")
    batch = not sys.stdin.isatty()
    with contextlib.ExitStack() as stack:
        # In /tmp, for a socket's path is at most 107 bytes long.
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="hmm-gdb-", dir="/tmp")))
        listener = stack.enter_context(socket.socket(socket.AF_UNIX))
        listener.bind(str(folder / "gdb"))
        listener.listen(1)
        ours, theirs = socket_pair(stack)
        passed = [theirs.fileno(), listener.fileno()]
        argv = stub_argv(plan, folder, *passed)
        guest = stack.enter_context(process.running(process.start(argv, stderr=None, pass_fds=passed)))
        keep_on_one_cpu(guest.pid)
        theirs.close()
        monitor = Monitor(ours)
        stack.callback(monitor.close)
        _follow(folder / AGENT_LOG, said, deadline)
        monitor.execute("stop")
        stack.enter_context(_ctrl_c_is_gdbs())
        # gdb reads the terminal, or nothing.
        source = subprocess.DEVNULL if batch else None
        argv = gdb_argv(symbols, folder / "gdb", batch=batch)
        gdb = process.start(argv, stdin=source, stdout=None, stderr=None, foreground=True)
        return stack.enter_context(process.running(gdb)).wait()


def _follow(log: Path, said: Sequence[str], deadline: Deadline) -> None:
    """Wait for the messages. InfraError if others come, or none."""
    while not deadline.expired:
        lines = log.read_bytes().split(b"\n")[:-1] if log.exists() else []
        heard = [line.decode("utf-8", errors="backslashreplace") for line in lines[: len(said)]]
        if heard != list(said[: len(heard)]):
            number = next(n for n, (a, b) in enumerate(zip(heard, said, strict=False), 1) if a != b)
            raise InfraError(
                f"the guest says something else than recorded: message {number}, {heard[number - 1]}"
            )
        if len(heard) == len(said):
            return
        time.sleep(_POLL_S)
    raise InfraError(f"the guest has not said {len(said)} messages in time", hint="is this machine busy?")


@contextlib.contextmanager
def _ctrl_c_is_gdbs() -> Iterator[None]:
    """Ctrl-C stops the guest in gdb, and not this program."""
    # A function and not SIG_IGN, which gdb would inherit.
    before = signal.signal(signal.SIGINT, lambda number, frame: None)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
