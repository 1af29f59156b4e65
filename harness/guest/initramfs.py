# SPDX-License-Identifier: GPL-2.0-only
"""An initramfs as a newc cpio archive, written here: no root, no mounts, the same bytes every time.

The format is the kernel's own (Documentation/driver-api/early-userspace/buffer-format.rst).
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from harness.disk import write_atomically
from harness.errors import InfraError

_MAGIC = b"070701"
_TRAILER = "TRAILER!!!"
#: Magic, and 13 numbers in hexadecimal.
_HEADER = 6 + 13 * 8


@dataclass(frozen=True)
class Entry:
    """One member. `path` is relative to the root; `mode` holds type and permissions, as `st_mode` does."""

    path: str
    mode: int
    data: bytes = b""
    device: tuple[int, int] = (0, 0)
    """Major and minor of a device node."""


def folder(path: str) -> Entry:
    return Entry(path, stat.S_IFDIR | 0o755)


def file(path: str, data: bytes, *, executable: bool = False) -> Entry:
    return Entry(path, stat.S_IFREG | (0o755 if executable else 0o644), data)


def copy(path: str, source: Path, *, executable: bool = False) -> Entry:
    """A file of the host. InfraError if it cannot be read."""
    try:
        return file(path, source.read_bytes(), executable=executable)
    except OSError as error:
        raise InfraError(f"cannot read {source}: {error.strerror}") from error


def tree(root: Path) -> list[Entry]:
    """All files, folders and symbolic links below a folder of the host; devices and sockets are left out.

    InfraError if one cannot be read.
    """
    entries: list[Entry] = []
    for source in sorted(root.rglob("*")):
        path = str(source.relative_to(root))
        if source.is_symlink():
            entries.append(symlink(path, os.readlink(source)))
        elif source.is_dir():
            entries.append(folder(path))
        elif source.is_file():
            entries.append(copy(path, source, executable=os.access(source, os.X_OK)))
    return entries


def symlink(path: str, target: str) -> Entry:
    return Entry(path, stat.S_IFLNK | 0o777, target.encode())


def character_device(path: str, major: int, minor: int, permissions: int = 0o600) -> Entry:
    return Entry(path, stat.S_IFCHR | permissions, device=(major, minor))


def archive(entries: Iterable[Entry]) -> bytes:
    """A newc archive of the entries, in their order, with the folders above them and `/dev/console`.

    The kernel opens `/dev/console` for init before anything could mount devtmpfs. Owner root, time 0.
    Raises ValueError for a path that is absolute, leaves the root, or comes twice.
    """
    members: dict[str, Entry] = {}
    for entry in (*entries, character_device("dev/console", 5, 1)):
        pure = PurePosixPath(entry.path)
        if pure.is_absolute() or ".." in pure.parts or not pure.parts:
            raise ValueError(f"{entry.path!r} is no path below the root")
        for parent in reversed(pure.parents[:-1]):
            members.setdefault(str(parent), folder(str(parent)))
        name = str(pure)
        if name in members and not (stat.S_ISDIR(entry.mode) and stat.S_ISDIR(members[name].mode)):
            raise ValueError(f"{name} comes twice")
        members[name] = entry
    parts = [_member(number, name, entry) for number, (name, entry) in enumerate(members.items(), start=1)]
    parts.append(_member(0, _TRAILER, Entry(_TRAILER, 0)))
    return b"".join(parts)


def regular_files(data: bytes) -> Iterator[Entry]:
    """The regular files of an archive that `archive` made. ValueError if it is none."""
    at = 0
    while data[at : at + 6] == _MAGIC:
        if len(data) < at + _HEADER:
            break
        fields = [int(data[at + 6 + 8 * n : at + 14 + 8 * n], 16) for n in range(13)]
        mode, size, name_size = fields[1], fields[6], fields[11]
        start = at + _HEADER + name_size
        name = data[at + _HEADER : start - 1].decode()
        start += -start % 4
        if name == _TRAILER:
            return
        if stat.S_ISREG(mode):
            yield Entry(name, mode, data[start : start + size])
        at = start + size
        at += -at % 4
    raise ValueError("no newc archive, or cut short")


def write_initramfs(path: Path, entries: Iterable[Entry]) -> Path:
    """Write an archive to a file; it appears whole or not at all. InfraError if it cannot be written."""
    write_atomically(path, archive(entries))
    return path


def _member(inode: int, name: str, entry: Entry) -> bytes:
    encoded = name.encode() + b"\0"
    links = 2 if stat.S_ISDIR(entry.mode) else 1
    major, minor = entry.device
    # magic, then: ino mode uid gid nlink mtime filesize devmajor devminor rdevmajor rdevminor namesize check
    numbers = (
        inode, entry.mode, 0, 0, links, 0, len(entry.data), 0, 0, major, minor, len(encoded), 0,
    )  # fmt: skip
    header = _MAGIC + b"".join(b"%08X" % number for number in numbers) + encoded
    return _padded(header) + _padded(entry.data)


def _padded(data: bytes) -> bytes:
    return data + b"\0" * (-len(data) % 4)
