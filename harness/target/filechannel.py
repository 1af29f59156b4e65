# SPDX-License-Identifier: GPL-2.0-only
"""A channel that QEMU writes like a file: whoever reads it, and how fast, changes nothing for the guest.

A socket or a pipe that its reader does not empty in time makes QEMU's device wait, and the guest sees that in
the time a character takes: two boots of one plan then differ. A file always takes everything.
"""

from __future__ import annotations

import os
import threading
from types import TracebackType

#: Between two looks at a file that has nothing new, s.
_POLL_S = 0.02


class FileChannel:
    """A nameless file in memory that QEMU inherits; `recv` reads it as it grows, like a socket's."""

    def __init__(self, name: str, ended: threading.Event) -> None:
        """`ended` is set once nobody writes any more."""
        self._file = os.memfd_create(name)
        self._ended = ended
        self._offset = 0

    def __enter__(self) -> FileChannel:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._file)

    def fileno(self) -> int:
        """The descriptor that QEMU inherits and opens again as `/dev/fd/N`."""
        return self._file

    def recv(self, size: int) -> bytes:
        """What has come since, up to `size` bytes; empty when nothing more will come."""
        while True:
            over = self._ended.is_set()  # asked first: what is written before is read after
            data = os.pread(self._file, size, self._offset)
            if data or over:
                self._offset += len(data)
                return data
            self._ended.wait(_POLL_S)
