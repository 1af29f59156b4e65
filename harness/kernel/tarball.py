# SPDX-License-Identifier: GPL-2.0-only
"""Kernel source from a release tarball."""

from __future__ import annotations

import re
import shutil
from urllib.parse import urlsplit

from harness.cache import Cache
from harness.deadline import Deadline
from harness.errors import UserError
from harness.kernel.download import download
from harness.kernel.spec import KernelTree, TarballSpec, kernel_version
from harness.kernel.unpack import source_top, unpack_checked
from harness.progress import Progress


def fetch_tarball(spec: TarballSpec, cache: Cache, progress: Progress, deadline: Deadline) -> KernelTree:
    """Download, verify and unpack a tarball; its hash names the tree, so a second time needs no network.

    UserError: wrong hash, a member that leaves the folder, no kernel in it. InfraError: network, disk.
    """
    sha256 = spec.sha256
    if not re.fullmatch(r"[0-9a-f]{64}", sha256):
        raise UserError(
            f"{spec.sha256!r} is not a SHA-256", hint="64 hexadecimal digits, as sha256sum prints them"
        )
    ident = f"tarball-{sha256[:16]}"
    target = cache.root / "trees" / ident
    name = urlsplit(spec.url).path.rpartition("/")[2] or "archive"
    with cache.lock(ident, deadline, progress.note):
        if not cache.has(target):
            file = cache.folder("downloads") / f"{sha256[:16]}-{name}"
            with progress.step(f"downloading {name}") as step:
                download(spec.url, sha256, file, step, deadline)
            with progress.step(f"unpacking {name}"), cache.making(target) as draft:
                outer = draft / ".source"
                outer.mkdir()
                unpack_checked(file, outer, deadline)
                top = source_top(outer)
                kernel_version(top)
                for entry in top.iterdir():
                    entry.rename(draft / entry.name)
                shutil.rmtree(outer)
            file.unlink()
    return KernelTree(target, kernel_version(target), ident, f"tarball {name}", ident)
