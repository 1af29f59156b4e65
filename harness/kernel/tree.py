# SPDX-License-Identifier: GPL-2.0-only
"""Kernel source of four kinds behind one door: Debian package, release tarball, git, folder."""

from __future__ import annotations

from harness.cache import Cache
from harness.deadline import Deadline
from harness.errors import UserError
from harness.kernel.debian import fetch_debian, is_debian
from harness.kernel.folder import fetch_folder
from harness.kernel.git import fetch_git
from harness.kernel.spec import (
    DebianSpec,
    FolderSpec,
    GitSpec,
    KernelTree,
    TarballSpec,
    TreeSpec,
    kernel_version,
    version_tuple,
)
from harness.kernel.tarball import fetch_tarball
from harness.progress import Progress

__all__ = [
    "DebianSpec",
    "FolderSpec",
    "GitSpec",
    "KernelTree",
    "TarballSpec",
    "TreeSpec",
    "fetch_tree",
    "kernel_version",
    "version_tuple",
]


def fetch_tree(
    spec: TreeSpec,
    cache: Cache,
    progress: Progress,
    deadline: Deadline,
    *,
    fallback: TarballSpec | None = None,
) -> KernelTree:
    """Get the tree that is asked for; what is in the cache already is not fetched again.

    `fallback` stands in for a Debian package on a host that is not Debian. UserError for what the user
    asked wrongly, InfraError for a network or disk that fails.
    """
    if isinstance(spec, DebianSpec) and not is_debian():
        if fallback is None:
            raise UserError(
                f"{spec} can only be had on Debian",
                hint="give a tarball (URL and SHA-256), a git tree or a folder",
            )
        progress.note(f"this host is not Debian: using {fallback}")
        spec = fallback
    match spec:
        case DebianSpec():
            return fetch_debian(spec, cache, progress, deadline)
        case TarballSpec():
            return fetch_tarball(spec, cache, progress, deadline)
        case GitSpec():
            return fetch_git(spec, cache, progress, deadline)
        case FolderSpec():
            return fetch_folder(spec, progress)
