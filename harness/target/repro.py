# SPDX-License-Identifier: GPL-2.0-only
"""The folder that shows a trial to somebody who has QEMU and nothing else of this."""

from __future__ import annotations

import os
import shlex
import shutil
from dataclasses import replace
from pathlib import Path

from harness.disk import disk_errors, write_atomically
from harness.target.protocol import BootPlan
from harness.target.qemu import Channels, qemu_argv

SCRIPT = "run.sh"
COMMAND = "command.txt"
KERNEL = "vmlinux"
INITRAMFS = "initramfs.cpio"
AGENT = "agent.jsonl"

#: Options that begin a line of the script.
_NEW_LINE = {"-machine", "-kernel", "-append", "-chardev", "-device"}


def write_repro(folder: Path, plan: BootPlan, *, title: str, seconds: float) -> Path:
    """Write kernel, initramfs, `run.sh` and the bare command to `folder`; return the script.

    `title` says what is to be seen, `seconds` after how long the trial was over. The guest runs with the
    trial's own options, but its console is the terminal. Raises InfraError if it cannot be written.
    """
    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        # The kernel is the cache's: whoever changes the copy must not change every run's.
        (folder / KERNEL).unlink(missing_ok=True)
        shutil.copyfile(plan.kernel, folder / KERNEL)
        _link_or_copy(plan.initramfs, folder / INITRAMFS)
    local = replace(plan, kernel=Path(KERNEL), initramfs=Path(INITRAMFS))
    # On the virtual clock a terminal that is slow to take a byte, or gives one, would change what happens.
    console = "stdio,signal=on" if plan.clock == "host" else "file,path=/dev/stdout"
    argv = qemu_argv(local, Channels(console=console, agent=f"file,path={AGENT}"))
    write_atomically(folder / COMMAND, f"{shlex.join(argv)}\n".encode())
    script = folder / SCRIPT
    write_atomically(script, script_text(argv, title=title, seconds=seconds).encode())
    script.chmod(0o755)
    return script


def script_text(argv: list[str], *, title: str, seconds: float) -> str:
    """The shell script around a QEMU command. Pure."""
    command = argv[0]
    for word in argv[1:]:
        command += f" \\\n  {word}" if word in _NEW_LINE else f" {shlex.quote(word)}"
    subject = " ".join(title.split())
    return f"""#!/bin/sh
# {subject}
# Seen {seconds:.0f} s after power-on. A guest that hangs does not end by itself: Ctrl-C does, or
# `timeout {max(30, round(seconds * 3))} ./{SCRIPT}`. The terminal is its console; progress is in {AGENT}.
cd "$(dirname "$0")" || exit 1
exec {command} "$@"
"""


def _link_or_copy(source: Path, target: Path) -> None:
    target.unlink(missing_ok=True)
    try:
        os.link(source.resolve(), target)
    except OSError:  # another file system, or one without hard links
        shutil.copyfile(source, target)
