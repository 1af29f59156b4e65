# SPDX-License-Identifier: GPL-2.0-only
"""A shell in a guest, on the user's own terminal."""

from __future__ import annotations

import contextlib
import shutil
import sys
import tempfile
import termios
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from harness import process
from harness.deadline import Deadline
from harness.disk import disk_errors
from harness.errors import InfraError
from harness.guest.initramfs import Entry, copy, file, symlink, write_initramfs
from harness.guest.plan import PLAN_PATH, PowerOff, Shell, plan_text
from harness.target.protocol import BootPlan
from harness.target.qemu import Channels, check_plan, qemu_argv

_INTERPRETER = b"/ld-"


def busybox() -> Path:
    """A statically linked busybox of this host. InfraError if there is none."""
    for place in ("/bin/busybox", "/usr/bin/busybox", shutil.which("busybox")):
        if place and Path(place).is_file() and _INTERPRETER not in Path(place).read_bytes()[:4096]:
            return Path(place)
    raise InfraError("no static busybox on this machine", hint="install the package busybox-static")


def shell_entries(init: Path, program: Path, extra: Sequence[Entry] = ()) -> list[Entry]:
    """An initramfs with a shell: the guest's init, busybox under each of its names, and what is given."""
    listing = process.run([str(program), "--list"], deadline=Deadline.after(30), merge_stderr=False)
    applets = listing.output.split()
    return [
        copy("init", init, executable=True),
        copy("bin/busybox", program, executable=True),
        *(symlink(f"bin/{name}", "busybox") for name in applets if name != "busybox"),
        file(PLAN_PATH, plan_text([Shell(), PowerOff()]).encode()),
        *extra,
    ]


def run_shell(plan: BootPlan, init: Path, extra: Sequence[Entry] = ()) -> int:
    """Boot `plan` with a shell on the terminal until the guest ends; return QEMU's exit status.

    `plan.initramfs` is not used: one with `init`, busybox and `extra` is made for this boot. The user ends
    the guest: `exit`, `reboot -f`, or Ctrl-A x for one that hangs. Raises InfraError without busybox or QEMU.
    """
    program = busybox()
    with disk_errors(Path(tempfile.gettempdir())), tempfile.TemporaryDirectory(prefix="hmm-shell-") as name:
        image = write_initramfs(Path(name) / "initramfs.cpio", shell_entries(init, program, extra))
        plan = replace(plan, initramfs=image)
        check_plan(plan)
        # Control characters belong to the guest; Ctrl-A is QEMU's own (mux). The agent's port must be open
        # on this side, which `null` is not: init would wait for ever.
        channels = Channels(console="stdio,mux=on,signal=off", agent="file,path=/dev/null")
        with _terminal_restored():
            child = process.start(
                qemu_argv(plan, channels), stdin=None, stdout=None, stderr=None, foreground=True
            )
            with process.running(child):
                return child.wait()


@contextlib.contextmanager
def _terminal_restored() -> Iterator[None]:
    """QEMU puts the terminal in raw mode, and leaves it there when it is killed."""
    if not sys.stdin.isatty():
        yield
        return
    settings = termios.tcgetattr(sys.stdin)
    try:
        yield
    finally:
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, settings)
