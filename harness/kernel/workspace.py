# SPDX-License-Identifier: GPL-2.0-only
"""The working copy of a tree that its arms share, and the object folders beside it.

One source folder serves all trees of one origin and all their configurations: going from one arm to another
rewrites only the files that differ, so that make rebuilds only what they touch.
"""

from __future__ import annotations

import contextlib
import filecmp
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from harness.cache import Cache, digest
from harness.deadline import Deadline
from harness.disk import disk_errors, write_atomically
from harness.errors import InfraError, UserError
from harness.kernel.folder import all_files, source_files, state_digest
from harness.kernel.make import BuildError
from harness.kernel.spec import KernelTree
from harness.process import run

#: Objects written this many seconds before a build was killed may be half written, and are made again.
_DOUBTFUL_S = 15.0


@dataclass(frozen=True)
class Workspace:
    """Source in the state of one arm, and the folder its objects are in."""

    src: Path
    obj: Path


@dataclass(frozen=True)
class _State:
    """What is on record of a source folder.

    tree: what it is a copy of (None: unsure). touched: paths that may differ from that. stamp: the time (ns)
    up to which objects may have been made.
    """

    tree: str | None
    touched: frozenset[str]
    stamp: int


class SourceFolder:
    """The shared source of one origin. Use it under its lock only."""

    def __init__(self, cache: Cache, tree: KernelTree) -> None:
        self._cache = cache
        self._tree = tree
        self.name = f"{tree.origin if len(tree.origin) < 80 else digest([tree.origin])[:32]}"
        self.folder = cache.folder("workspaces", self.name)
        self.src = self.folder / "src"
        self._state = self.folder / "state.json"
        if any(letter in str(self.folder) for letter in " :\t"):
            raise UserError(
                f"kernels cannot be built below {self.folder}",
                hint="choose a cache folder without blanks and colons",
            )

    @contextlib.contextmanager
    def locked(self, deadline: Deadline, on_wait: Callable[[str], None] | None = None) -> Iterator[None]:
        """Hold the folder against other harnesses, once what a killed one left running has ended.

        A compiler that is still at work on the source of one arm would write an object that looks newer than
        the source of the next. `on_wait` hears of a long wait, as in `Cache.lock`.
        """
        with self._cache.lock(f"workspace-{self.name}", deadline, on_wait):
            with self._cache.lock(_make_lock(self.name), deadline, on_wait):
                pass
            self._cache.has(self.folder)
            yield

    @property
    def make_lock(self) -> Path:
        """The lock that every make in this folder holds, with all it starts."""
        return self._cache.folder("locks") / f"{_make_lock(self.name)}.lock"

    def obj(self, config: str, compiler: str) -> Path:
        """The object folder of a configuration (content of .config)."""
        return self._cache.folder("workspaces", self.name, f"obj-{digest([config, compiler])[:12]}")

    def bring_to(self, wanted: Mapping[str, bytes | None], deadline: Deadline) -> None:
        """Make the source the tree with `wanted` in place of the files of these paths (None: not there).

        A file is rewritten only if its content differs. What may differ from the tree is on record before
        it is written, so that a run that is killed in between leaves nothing unknown. InfraError if the tree
        is not there any more.
        """
        if not self._tree.path.is_dir():
            raise InfraError(f"{self._tree.path} is gone", hint="run it again")
        state = self._read_state()
        doubtful = state.touched | frozenset(wanted)
        with disk_errors(self.folder):
            if not self.src.is_dir():
                self._copy(deadline)
                state = _State(None, state.touched, state.stamp)
            if state.tree != self._tree.ident:
                changed = self._changed_since(state.tree)
                if changed is None:
                    self._write_state(_State(None, doubtful, state.stamp))
                    self._sync(doubtful, state.stamp)
                else:
                    doubtful |= changed
            self._write_state(_State(self._tree.ident, doubtful, state.stamp))
            for path in sorted(doubtful):
                if path in wanted:
                    self._patch(path, wanted[path], state.stamp)
                else:
                    self._restore(path, state.stamp, trust_times=False)
            self._write_state(_State(self._tree.ident, frozenset(wanted), state.stamp))

    def stamp(self) -> None:
        """Note that objects were made up to now: a source file written later must look younger."""
        state = self._read_state()
        self._write_state(_State(state.tree, state.touched, max(state.stamp, time.time_ns())))

    def _read_state(self) -> _State:
        try:
            raw = json.loads(self._state.read_text(encoding="utf-8"))
            return _State(raw["tree"], frozenset(raw["touched"]), int(raw["stamp"]))
        except (OSError, ValueError, KeyError, TypeError):
            return _State(None, frozenset(), 0)

    def _write_state(self, state: _State) -> None:
        record = {"tree": state.tree, "touched": sorted(state.touched), "stamp": state.stamp}
        write_atomically(self._state, json.dumps(record).encode())

    def _changed_since(self, ident: str | None) -> frozenset[str] | None:
        """The paths that may differ from the tree of another identity; None if that is not known."""
        if ident is None or self._tree.changes_since is None:
            return None
        return self._tree.changes_since(ident)

    def _patch(self, name: str, content: bytes | None, stamp: int) -> None:
        """Give a file this content (None: no such file), and the mode it has in the tree."""
        ours, mode = self.src / name, _mode(self._tree.path / name)
        if content is None:
            self._remove(name)
        elif ours.is_symlink() or _content(ours) != content or _mode(ours) != mode:
            self._make_room(name)
            _put(ours, content, mode, stamp)

    def _restore(self, name: str, stamp: int, *, trust_times: bool = True) -> None:
        """Make a file what it is in the tree. One of equal content, or trusted to be by its time, stays."""
        theirs, ours = self._tree.path / name, self.src / name
        if not _is_file(theirs):
            self._remove(name)
        elif not _alike(theirs, ours, trust_times):
            self._make_room(name)
            if theirs.is_symlink():
                ours.unlink(missing_ok=True)
                ours.symlink_to(os.readlink(theirs))
            else:
                _put(ours, theirs.read_bytes(), _mode(theirs), stamp)

    def _sync(self, leave: frozenset[str], stamp: int) -> None:
        """Make the source a copy of the tree, but for the paths in `leave`.

        Files of equal content stay as they are.
        """
        immutable = self._tree.immutable
        names = set(all_files(self._tree.path) if immutable else source_files(self._tree.path))
        for name in set(all_files(self.src)) - names - leave:
            self._remove(name)
        for name in sorted(names - leave):
            self._restore(name, stamp)
        if not immutable and f"folder-{state_digest(self._tree.path)[:24]}" != self._tree.ident:
            raise InfraError(f"{self._tree.path} was changed while it was copied", hint="run it again")

    def _remove(self, name: str) -> None:
        """Delete a file if it is there, and the folders that this leaves empty."""
        if not _is_file(self.src / name):
            return
        (self.src / name).unlink()
        with contextlib.suppress(OSError):
            for folder in (self.src / name).parents:
                if folder == self.src:
                    break
                folder.rmdir()

    def _make_room(self, name: str) -> None:
        """Remove what keeps a file from being written: a folder of its name, a file where its folder goes."""
        path = self.src / name
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        for folder in path.parents:
            if folder == self.src:
                break
            if not folder.is_dir():
                folder.unlink(missing_ok=True)
        path.parent.mkdir(parents=True, exist_ok=True)

    def _copy(self, deadline: Deadline) -> None:
        """A first copy: hard links to an immutable tree, real copies of a user's folder."""
        with self._cache.making(self.src) as draft:
            if self._tree.immutable:
                run(["cp", "-al", f"{self._tree.path}/.", str(draft)], deadline=deadline)
                (draft / ".git").unlink(missing_ok=True)
            else:
                for name in source_files(self._tree.path):
                    target = draft / name
                    target.parent.mkdir(parents=True, exist_ok=True)
                    shutil.copy2(self._tree.path / name, target, follow_symlinks=False)


def _make_lock(name: str) -> str:
    return f"make-{name}"


def _content(path: Path) -> bytes | None:
    return path.read_bytes() if path.is_file() else None


def _is_file(path: Path) -> bool:
    return path.is_symlink() or path.is_file()


def _mode(path: Path) -> int:
    return path.stat().st_mode & 0o777 if path.is_file() else 0o644


def _alike(one: Path, other: Path, trust_times: bool) -> bool:
    """True if two files are the same file, have the same content, or (if times are trusted) the same time."""
    try:
        first, second = one.lstat(), other.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    if os.path.samestat(first, second):
        return True
    if one.is_symlink() or other.is_symlink():
        return one.is_symlink() and other.is_symlink() and os.readlink(one) == os.readlink(other)
    if first.st_size != second.st_size or first.st_mode != second.st_mode:
        return False
    if trust_times and first.st_mtime_ns == second.st_mtime_ns:
        return True
    return filecmp.cmp(one, other, shallow=False)


def _put(path: Path, content: bytes, mode: int, stamp: int) -> None:
    """Write a file as a new inode (the old one may be a hard link to the tree), newer than all objects."""
    handle, draft = tempfile.mkstemp(prefix=".harness.", dir=path.parent)
    with os.fdopen(handle, "wb") as sink:
        sink.write(content)
    os.chmod(draft, mode)
    when = max(time.time_ns(), stamp + 1_000_000)
    os.utime(draft, ns=(when, when))
    os.replace(draft, path)


@contextlib.contextmanager
def building(obj: Path) -> Iterator[None]:
    """Guard a run of make in `obj`: make itself removes half-written files unless it is killed.

    If an earlier one was killed, the files written last are removed before the block is entered. InfraError
    if the folder cannot be written.
    """
    marker = obj / ".harness-building"
    with disk_errors(obj):
        if marker.exists():
            _drop_doubtful(obj)
        marker.touch()
    try:
        yield
    except BuildError:
        # make has ended by itself, and tidied up.
        _unmark(marker)
        raise
    _unmark(marker)


def _unmark(marker: Path) -> None:
    with disk_errors(marker):
        marker.unlink()


def _drop_doubtful(obj: Path) -> None:
    times: list[tuple[int, Path]] = []
    for name in all_files(obj):
        path = obj / name
        if not path.is_symlink() and path.name not in (".config", ".harness-building"):
            times.append((path.stat().st_mtime_ns, path))
    newest = max((when for when, _ in times), default=0)
    for when, path in times:
        if when > newest - int(_DOUBTFUL_S * 1e9):
            path.unlink()
