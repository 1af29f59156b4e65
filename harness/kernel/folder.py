# SPDX-License-Identifier: GPL-2.0-only
"""Kernel source in a folder of the user's, which is only ever read."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

from harness.cache import digest
from harness.deadline import Deadline
from harness.errors import InfraError, UserError
from harness.kernel.spec import FolderSpec, KernelTree, kernel_version
from harness.process import run
from harness.progress import Progress

#: Seconds git may take to list the files of a kernel tree.
_LIST_S = 120.0


def fetch_folder(spec: FolderSpec, progress: Progress) -> KernelTree:
    """The folder as a tree, as it is now. UserError if it is no kernel source, or was built in place.

    The identity is a digest over path, size and time of modification (ns) of every source file: for a kernel
    that takes 0.5 s, reading all content 15 s.
    """
    path = spec.path.expanduser().absolute()
    version = kernel_version(path)
    with progress.step(f"looking at {path}"):
        ident = f"folder-{state_digest(path)[:24]}"
    return KernelTree(
        path, version, ident, f"folder {path}", f"folder-{digest([str(path)])[:16]}", immutable=False
    )


def source_files(path: Path) -> list[str]:
    """The source files below `path`, as sorted relative paths.

    In a git checkout those that git does not ignore, so that objects of a build in place are left out;
    elsewhere all files, and such a build is a UserError, because its objects cannot be told from the source.
    """
    if (path / ".git").exists():
        done = run(
            ["git", "-c", f"safe.directory={path}", "--no-optional-locks", "-C", str(path),
             "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
            deadline=Deadline.after(_LIST_S),
            check=False,
            merge_stderr=False,
        )  # fmt: skip
        if not done.ok:
            raise InfraError(
                f"git cannot list the files of {path}:\n{done.errors.strip()}", hint="is the checkout whole?"
            )
        return sorted(name for name in done.output.split("\0") if name and os.path.lexists(path / name))
    if (path / ".config").exists() or (path / "include/config/auto.conf").exists():
        raise UserError(
            f"{path} has been built in place",
            hint=f"`make -C {path} mrproper`, or give the git checkout itself",
        )
    return sorted(all_files(path))


def all_files(path: Path) -> Iterator[str]:
    """All files and links below `path` as relative paths, without git's own."""
    return _walk(str(path), "")


def _walk(top: str, below: str) -> Iterator[str]:
    with os.scandir(os.path.join(top, below)) as entries:
        for entry in entries:
            name = f"{below}{entry.name}"
            if entry.is_dir(follow_symlinks=False):
                if name != ".git":
                    yield from _walk(top, f"{name}/")
            elif name != ".git":
                yield name


def state_digest(path: Path) -> str:
    """A digest over path, size and time of modification of every source file."""
    summary = hashlib.sha256()
    for name in source_files(path):
        try:
            state = os.lstat(f"{path}/{name}")
        except FileNotFoundError:
            raise InfraError(f"{path / name} vanished while it was looked at", hint="run it again") from None
        summary.update(
            f"{name}\0{state.st_size}\0{state.st_mtime_ns}\0{state.st_mode}\n".encode(
                errors="surrogateescape"
            )
        )
    return summary.hexdigest()
