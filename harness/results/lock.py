# SPDX-License-Identifier: GPL-2.0-only
"""Who is at work in a run's folder: at most one process, and what is said of a run that nobody is at."""

from __future__ import annotations

import contextlib
import fcntl
from collections.abc import Iterator
from pathlib import Path

from harness.disk import disk_errors
from harness.errors import UserError

_LOCK = "lock"


@contextlib.contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Hold a run's folder against other harnesses. UserError if one is at work there."""
    path = folder / _LOCK
    with disk_errors(path):
        handle = path.open("a")
    with handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(
                f"another harness is at work in {folder}",
                hint="wait for it, or give another folder with --out",
            ) from None
        yield


def at_work(folder: Path) -> bool:
    """Whether a harness is at work in a run's folder."""
    try:
        with (folder / _LOCK).open() as handle:
            fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False  # no lock, no harness
    return False
