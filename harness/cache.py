# SPDX-License-Identifier: GPL-2.0-only
"""The cache folder: downloads, trees, workspaces and finished builds, shared by every harness of a user."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from harness import process
from harness.deadline import Deadline
from harness.disk import disk_errors
from harness.errors import InfraError

#: Seconds for which a lock is waited for without a word.
_PATIENCE_S = 1.0


def default_cache_folder() -> Path:
    """`$XDG_CACHE_HOME/hmm-harness`, or `~/.cache/hmm-harness`."""
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "hmm-harness"


@dataclass(frozen=True)
class Cache:
    """A folder of things that can be made again; each entry appears whole or not at all."""

    root: Path

    def folder(self, *parts: str) -> Path:
        """A folder below the root, made if need be. InfraError if it cannot be."""
        path = self.root.joinpath(*parts)
        with disk_errors(path):
            path.mkdir(parents=True, exist_ok=True)
        return path

    def has(self, entry: Path) -> bool:
        """Whether an entry is there. It counts as used now: what nobody has used for long may be removed."""
        if not entry.exists():
            return False
        with contextlib.suppress(OSError):  # of a cache that is only read
            os.utime(entry)
        return True

    @contextlib.contextmanager
    def lock(
        self,
        name: str,
        deadline: Deadline,
        on_wait: Callable[[str], None] | None = None,
        *,
        shared: bool = False,
    ) -> Iterator[None]:
        """Hold the named lock against every other harness on this cache; InfraError at the deadline.

        `on_wait` hears once, after a second, what is waited for. shared: only against who does not share it.
        """
        kind = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
        path = self.folder("locks") / f"{name}.lock"
        with disk_errors(path):
            handle = path.open("a+")
        patience = Deadline.after(_PATIENCE_S)
        with handle:
            while True:
                try:
                    fcntl.flock(handle, kind | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if deadline.expired:
                        raise InfraError(
                            f"another harness holds {path}", hint="wait for it, or use another --cache folder"
                        ) from None
                if on_wait and patience.expired:
                    on_wait(f"waiting for another harness that holds {name}")
                    on_wait = None
                time.sleep(0.05)
            try:
                yield
            finally:
                fcntl.flock(handle, fcntl.LOCK_UN)

    @contextlib.contextmanager
    def making(self, target: Path) -> Iterator[Path]:
        """A fresh folder that becomes `target` when the block succeeds, and vanishes when it does not.

        Entries are named by content: where another harness was faster, its entry stays.
        """
        with disk_errors(target):
            target.parent.mkdir(parents=True, exist_ok=True)
            draft = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
        try:
            with disk_errors(target):
                yield draft
                draft.chmod(0o755)
                try:
                    draft.rename(target)
                except OSError as error:
                    if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                        raise
        finally:
            self.discard(draft)

    def discard(self, *entries: Path) -> None:
        """Take entries out of sight at once; a kernel tree takes seconds to delete, and Ctrl-C must not."""
        trash = self.folder("trash")
        for entry in entries:
            with contextlib.suppress(FileNotFoundError):
                entry.rename(trash / f"{entry.parent.name}-{entry.name}-{os.getpid()}")
        if any(trash.iterdir()):
            process.start(["find", str(trash), "-mindepth", "1", "-delete"], outlives=True)


def sha256_file(path: Path) -> str:
    """The SHA-256 of a file, in hex."""
    with path.open("rb") as source:
        return hashlib.file_digest(source, "sha256").hexdigest()


def digest(parts: Iterable[str]) -> str:
    """A SHA-256 in hex over strings; no two different lists give the same input."""
    summary = hashlib.sha256()
    for part in parts:
        data = part.encode()
        summary.update(f"{len(data)}:".encode())
        summary.update(data)
    return summary.hexdigest()
