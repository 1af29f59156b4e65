# SPDX-License-Identifier: GPL-2.0-only
"""One night at a time on a target."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from harness.cache import Cache, digest
from harness.disk import disk_errors
from harness.errors import InfraError
from harness.results.runfolder import utc_now


@contextlib.contextmanager
def alone_on(target: str, file: Path, cache: Cache) -> Iterator[None]:
    """Hold a target against other nights of this cache. InfraError that says who holds it, if one does."""
    name = target if "/" not in target else f"{Path(target).stem}-{digest([target])[:8]}"
    path = cache.folder("locks") / f"nightly-{name}.lock"
    with disk_errors(path):
        handle = path.open("a+")
    with handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            handle.seek(0)
            raise InfraError(
                f"another night is at work on {target}: {handle.read().strip() or 'it has just begun'}",
                hint="wait for it, or end it with Ctrl-C or SIGTERM: what it measured is kept",
            ) from None
        with disk_errors(path):
            handle.truncate(0)
            handle.write(f"{file.resolve()}, process {os.getpid()}, since {utc_now()[:19]}Z\n")
            handle.flush()
        yield
