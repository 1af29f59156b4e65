# SPDX-License-Identifier: GPL-2.0-only
"""The guest's memory: a socket for a debugger that reads it live, and an image of it in a file."""

from __future__ import annotations

import contextlib
import os
import select
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

import zstandard

from harness.deadline import Deadline
from harness.disk import disk_errors
from harness.errors import InfraError
from harness.target.qmp import ANSWER_S, Monitor

_CHUNK = 1 << 20
#: Level 1: an image is read once, if at all.
_LEVEL = 1
#: How often a QEMU that sends nothing is asked whether it has given up.
_LOOK_S = 0.1


@contextlib.contextmanager
def nameless_listener() -> Iterator[tuple[socket.socket, str]]:
    """A Unix socket for QEMU to listen on, and the path by which it is reached until the block is left.

    Nothing is left in the file system, even now: the path goes through an open descriptor of this process
    (proc(5), /proc/PID/fd), so only this user reaches it, and it is short whatever TMPDIR is. QEMU calls
    listen() on the socket, so SO_PEERCRED on the other side is QEMU's (unix_listen(), net/unix/af_unix.c).
    """
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.socket(socket.AF_UNIX))
        with disk_errors(Path(tempfile.gettempdir())), tempfile.TemporaryDirectory(prefix="hmm-") as folder:
            with _opened(folder) as place:
                listener.bind(f"/proc/self/fd/{place}/qmp")
            name = stack.enter_context(_opened(f"{folder}/qmp"))
        yield listener, f"/proc/{os.getpid()}/fd/{name}"


@contextlib.contextmanager
def _opened(path: str) -> Iterator[int]:
    descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def save_core(monitor: Monitor, path: Path, deadline: Deadline) -> int:
    """Write an ELF core of the guest's memory to `path`, compressed by zstd; its size in bytes.

    The guest stands still meanwhile. What cannot be completed is removed. InfraError when the deadline
    passes, when the disk is full, or when QEMU ends.
    """
    done = False
    try:
        with disk_errors(path):
            _stream(monitor, path, deadline)
        done = True
    finally:
        if not done:
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)
    return path.stat().st_size


def _stream(monitor: Monitor, path: Path, deadline: Deadline) -> None:
    """From QEMU through a pipe and the compressor: the image itself is never on disk."""
    with contextlib.ExitStack() as stack:
        sink = stack.enter_context(path.open("wb"))
        source, far_end = os.pipe()
        # Closing the pipe is what stops a QEMU that still writes.
        pipe = stack.enter_context(os.fdopen(source, "rb", buffering=0))
        try:
            monitor.give("memory", far_end)
        finally:
            os.close(far_end)
        command = "dump-guest-memory"
        answer = monitor.begin(command, paging=False, protocol="fd:memory")
        compressor = zstandard.ZstdCompressor(level=_LEVEL, threads=-1, write_checksum=True)
        with compressor.stream_writer(sink, closefd=False) as writer:
            while True:
                ready, _, _ = select.select([pipe], [], [], min(_LOOK_S, deadline.remaining))
                if ready:
                    data = pipe.read(_CHUNK)
                    if not data:
                        break
                    writer.write(data)
                elif answer.done():
                    break
                if deadline.expired:
                    raise InfraError(f"the image of the guest's memory was not written in time ({path})")
        monitor.answer(answer, command, deadline.sooner(ANSWER_S))
