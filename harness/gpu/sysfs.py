# SPDX-License-Identifier: GPL-2.0-only
"""Files of a machine by path: of this one, of another, or of a tree that lies somewhere."""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol


class Files(Protocol):
    """What is asked of a machine's file system. Nothing that is not there raises."""

    def names(self, folder: str) -> list[str]:
        """The entries of a folder, sorted; none of one that is not there."""

    def text(self, path: str) -> str | None:
        """A file's content without white space around it; None: it is not there, or cannot be read."""

    def link(self, path: str) -> str | None:
        """The last part of what a symbolic link points to; None: there is none."""


@dataclass(frozen=True)
class LocalFiles:
    """The files of this machine; `root`: of another system's tree that lies here."""

    root: Path = Path("/")

    def at(self, path: str) -> Path:
        """Where a path of the machine is."""
        return self.root / path.lstrip("/")

    def names(self, folder: str) -> list[str]:
        """See `Files.names`."""
        try:
            return sorted(os.listdir(self.at(folder)))
        except OSError:
            return []

    def text(self, path: str) -> str | None:
        """See `Files.text`."""
        with contextlib.suppress(OSError):
            return self.at(path).read_text(encoding="utf-8", errors="replace").strip()
        return None

    def link(self, path: str) -> str | None:
        """See `Files.link`."""
        with contextlib.suppress(OSError):
            return Path(os.readlink(self.at(path))).name
        return None

    def write(self, path: str, value: str) -> None:
        """Write to a file that is there, in one write(), as attributes of sysfs take it. OSError: refused."""
        handle = os.open(self.at(path), os.O_WRONLY)
        try:
            os.write(handle, value.encode())
        finally:
            os.close(handle)

    def usable(self, path: str) -> bool:
        """Whether this user may read and write a file that is there."""
        return os.access(self.at(path), os.R_OK | os.W_OK)
