# SPDX-License-Identifier: GPL-2.0-only
"""From a console that tells of everything to the log of one kernel: from its first line on."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

from harness.disk import disk_errors

#: The first thing that a kernel prints.
_FIRST = b"Linux version "
#: No line is longer; what comes before the last such piece cannot be part of a first line.
_KEPT = 4096


class KernelLog:
    """What comes before the kernel's first line goes to a file: another kernel, firmware, boot loader."""

    def __init__(self, before: Path, on_data: Callable[[bytes], None]) -> None:
        self._on_data = on_data
        self._rest = b""
        self._runs = False
        self._lock = threading.Lock()
        with disk_errors(before):
            self._before = before.open("wb", buffering=0)
        self._path = before

    def feed(self, data: bytes) -> None:
        """Bytes of the console. InfraError if they cannot be written."""
        with self._lock:
            self._feed(data)

    def _feed(self, data: bytes) -> None:
        if self._runs:
            self._on_data(data)
            return
        self._rest += data
        at = self._rest.find(_FIRST)
        if at < 0:
            keep = min(len(self._rest), _KEPT)
            self._write(self._rest[: len(self._rest) - keep])
            self._rest = self._rest[len(self._rest) - keep :]
            return
        start = self._rest.rfind(b"\n", 0, at) + 1
        self._write(self._rest[:start])
        self._runs = True
        self._on_data(self._rest[start:])

    def kernel_runs(self) -> None:
        """It is known to run: what comes from now on is its log, and so is what is not on disk yet."""
        with self._lock:
            if not self._runs:
                self._runs = True
                rest, self._rest = self._rest, b""
                if rest:
                    self._on_data(rest)

    def close(self) -> None:
        if not self._runs:
            self._write(self._rest)
        self._before.close()

    def _write(self, data: bytes) -> None:
        with disk_errors(self._path):
            while data:
                data = data[self._before.write(data) :]
