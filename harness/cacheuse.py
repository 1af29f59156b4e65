# SPDX-License-Identifier: GPL-2.0-only
"""Who is at work with the cache, and what of it nobody has used for long, which can be made again."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.cache import Cache
from harness.deadline import Deadline
from harness.disk import size_on_disk
from harness.errors import InfraError

#: The folders whose entries go. What stays is small, or needed by what stays: the objects of git trees.
KINDS = (
    "trees", "workspaces", "builds", "modules", "programs", "userlands", "downloads",
    "fetched/kits", "fetched/blobs", "fetched/work",
)  # fmt: skip
_LOCK = "in-use"
#: Entries are taken out of sight, not deleted, while nobody may use the cache.
_LIMIT_S = 60.0


@dataclass(frozen=True)
class Entry:
    """Something in the cache. size: what it takes on disk, bytes."""

    kind: str
    path: Path
    size: int


@contextlib.contextmanager
def in_use(cache: Cache) -> Iterator[None]:
    """Nothing is removed from the cache while the block runs; of one that is only read nothing ever is."""
    with contextlib.ExitStack() as stack:
        if cache.root.is_dir():
            with contextlib.suppress(InfraError):
                stack.enter_context(cache.lock(_LOCK, Deadline.after(_LIMIT_S), shared=True))
        yield


def unused(cache: Cache, seconds: float, now_s: float) -> list[Entry]:
    """The entries that nobody has used for so long; `Cache.has` tells when that was."""
    return [
        Entry(kind, path, size_on_disk(path))
        for kind in KINDS
        for path in sorted((cache.root / kind).glob("*"))
        if now_s - path.lstat().st_mtime > seconds
    ]


def remove(cache: Cache, entries: Sequence[Entry]) -> None:
    """Remove entries, all or none. InfraError if another harness is at work with the cache."""
    with cache.lock(_LOCK, Deadline.after(0.0)):
        cache.discard(*(entry.path for entry in entries))
