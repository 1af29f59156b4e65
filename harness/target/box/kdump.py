# SPDX-License-Identifier: GPL-2.0-only
"""The memory of a test kernel, written down by the box's own kdump."""

from __future__ import annotations

import contextlib
from functools import partial
from pathlib import Path

from harness.deadline import Deadline
from harness.errors import InfraError
from harness.target.box.journal import Journal
from harness.target.box.machine import Box
from harness.target.box.ssh import Shell

#: Whether a kernel lies ready for a crash: since 7.x, and until 2028 (Documentation/ABI/obsolete of 7.x).
LOADED = ("/sys/kernel/kexec/crash_loaded", "/sys/kernel/kexec_crash_loaded")
#: To write the memory of a large machine to its disk, beside the boot, s.
_DUMP_S = 900.0
#: For the key to do something, s.
_CRASH_S = 20.0
_ASK_S = 10.0
#: What is seen of a crash: the kernel's own words, or those of the kernel that writes the dump.
_CRASHES = rb"Trigger a crash|Kernel panic|Linux version"
_PANICS = b"Kernel panic - not syncing"


def check_loaded(shell: Shell) -> str:
    """That a crash of the test kernel leaves a dump. InfraError if it does not."""
    said = shell.run(["cat", *LOADED], Deadline.after(_ASK_S), check=False).out.split()
    if "1" not in said:
        raise InfraError("no kernel lies ready for a crash: no crashkernel= in boot.cmdline, or kdump is off")
    return "a kernel lies ready for a crash"


def dump(box: Box, console: Path, journal: Journal) -> bool:
    """Crash the test kernel, unless its console has a panic already; whether the box is back by itself.

    A kernel that hangs takes the key over the console; over SSH if there is none.
    """
    with journal.attempt("dump") as note:
        if not console.is_file() or _PANICS not in console.read_bytes():
            _crash(box)
        found = box.wait_until(lambda running: running.clean, Deadline.after(_DUMP_S + box.config.boot.up_s))
        assert found  # nobody stops it
        note.detail = f"it runs {found.release}"
        return True
    return False


def _crash(box: Box) -> None:
    with contextlib.suppress(InfraError):  # a console that takes no break
        if box.console and box.console.answers(partial(box.console.sysrq, "c"), _CRASHES, _CRASH_S):
            return
    with contextlib.suppress(InfraError):  # the connection does not outlive it
        box.shell().run(["tee", "/proc/sysrq-trigger"], Deadline.after(_ASK_S), send=b"c")
    box.disconnect()
