# SPDX-License-Identifier: GPL-2.0-only
"""Writing to a disk that may be full, read-only, or no folder at all where one is wanted."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

from harness.errors import InfraError

#: What a place can do to a writer; anything else (ENOENT, EPIPE ...) is the caller's own affair.
_FAULTS = frozenset(
    {
        errno.EACCES,
        errno.EDQUOT,
        errno.EEXIST,
        errno.EFBIG,
        errno.EIO,
        errno.EISDIR,
        errno.ELOOP,
        errno.ENAMETOOLONG,
        errno.ENOSPC,
        errno.ENOTDIR,
        errno.EPERM,
        errno.EROFS,
        errno.ESTALE,
    }
)


@contextlib.contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turn a place that cannot be written into an InfraError that names it."""
    try:
        yield
    except OSError as error:
        if error.errno not in _FAULTS:
            raise
        # Where the system names a file that is not the place itself, it is what stands in the way.
        file = f" ({error.filename})" if error.filename and str(error.filename) != str(path) else ""
        raise InfraError(
            f"cannot write {path}: {error.strerror}{file}",
            hint="free some space there, or choose another folder",
        ) from error


def write_atomically(path: Path, data: bytes) -> None:
    """Replace a file's content in one step, so that a reader sees the old or the new one."""
    with disk_errors(path):
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        try:
            with os.fdopen(handle, "wb") as sink:
                sink.write(data)
            os.chmod(name, 0o644)
            os.replace(name, path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise


def append_line(path: Path, line: str) -> None:
    """Add a line to a file and hand it to the kernel. InfraError if it cannot be written."""
    with disk_errors(path), path.open("ab") as sink:
        sink.write(line.encode("utf-8", errors="backslashreplace") + b"\n")


def size_on_disk(place: Path) -> int:
    """What a file or folder takes, bytes; of a file with several names, this name's share."""
    found = [place.lstat()]
    for folder, folders, files in os.walk(place):
        found += [(Path(folder) / name).lstat() for name in (*folders, *files)]
    return sum(each.st_blocks * 512 // (1 if stat.S_ISDIR(each.st_mode) else each.st_nlink) for each in found)
