# SPDX-License-Identifier: GPL-2.0-only
"""What a box keeps of a trial that failed: its kernel's log, and what survives the reset."""

from __future__ import annotations

import shlex
from pathlib import Path, PurePosixPath

from harness.deadline import Deadline
from harness.diagnose.evidence import VMCORE
from harness.disk import disk_errors, write_atomically
from harness.errors import InfraError
from harness.target.box.journal import Journal
from harness.target.box.machine import Box

#: Where the kernel and systemd leave what pstore kept.
_PSTORE = ("/sys/fs/pstore", "/var/lib/systemd/pstore")
_ASK_S = 20.0
#: A larger dump stays on the box, bytes; a smaller one is fetched in that time, s.
_DUMP_BYTES, _DUMP_S = 1 << 30, 600.0


def kernel_log(box: Box, boot_id: str, folder: Path, journal: Journal) -> None:
    """`dmesg.txt` of the test kernel, if it runs still and answers."""
    with journal.attempt("dmesg") as note:
        if box.running().boot_id != boot_id:
            raise InfraError("the test kernel does not run any more")
        said = box.shell(5.0).run(["dmesg"], Deadline.after(_ASK_S))
        write_atomically(folder / "dmesg.txt", said.out.encode())
        note.detail = f"{len(said.out.splitlines())} lines"


def left_behind(box: Box) -> frozenset[str]:
    """Files of pstore and kdump that there are. InfraError if the box does not answer."""
    places = [*_PSTORE, *([box.config.vmcore] if box.config.vmcore else [])]
    said = box.shell().run(["find", *places, "-type", "f"], Deadline.after(_ASK_S), check=False)
    return frozenset(said.out.splitlines())


def survivors(box: Box, before: frozenset[str], folder: Path, journal: Journal) -> None:
    """What is there that was not before: pstore's files are fetched, and kdump's that are not too large.

    pstore has little room: what was fetched from the kernel's own place is removed there.
    """
    new: list[str] = []
    with journal.attempt("pstore") as note:
        new = sorted(left_behind(box) - before)
        kept = [name for name in new if name.startswith(_PSTORE)]
        for name in kept:
            _fetch(box, name, folder / "pstore", Deadline.after(_ASK_S))
            if name.startswith(_PSTORE[0]):
                box.shell().run(["rm", "-f", name], Deadline.after(_ASK_S))
        note.detail = f"{len(kept)} files" if kept else "nothing"
    vmcore = box.config.vmcore
    if vmcore:
        with journal.attempt("vmcore") as note:
            dumps = [name for name in new if name.startswith(f"{vmcore.rstrip('/')}/")]
            note.ok = bool(dumps)
            note.detail = "; ".join(_dump(box, name, folder / VMCORE) for name in dumps) or "none"


def _dump(box: Box, name: str, folder: Path) -> str:
    """Fetch a dump, unless it is too large; says which it was."""
    size = int(box.shell().run(["stat", "-c", "%s", name], Deadline.after(_ASK_S)).out)
    if size > _DUMP_BYTES:
        where = shlex.quote(f"{box.ssh.user}@{box.ssh.host}:{shlex.quote(name)}")
        return f"{size >> 20} MiB, left there: scp -P {box.ssh.port} {where} . && hmm-harness diagnose"
    _fetch(box, name, folder, Deadline.after(_DUMP_S))
    return f"{name}, {size >> 20} MiB"


def _fetch(box: Box, name: str, folder: Path, deadline: Deadline) -> None:
    target = folder / PurePosixPath(name).name
    with disk_errors(target):
        folder.mkdir(exist_ok=True)
    box.shell().fetch(name, target, deadline)
