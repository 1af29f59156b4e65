# SPDX-License-Identifier: GPL-2.0-only
"""A git history on a real kernel tree: the tree as imported, small changes, and one that brings the bug.

Every change is one a kernel developer might make, in a file of its own as far as possible, so that a step
from one commit to its neighbour compiles one file. Commits have fixed authors and dates: one tree and one
story give the same commit ids everywhere. The repository is bare and lies in the cache, one for each tree.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO

from unidiff.patch import PatchSet

from harness import process
from harness.cache import Cache, digest
from harness.deadline import Deadline
from harness.experiment.kernels import experiment_for
from harness.kernel.folder import all_files
from harness.kernel.patches import Catalogue, Patch
from harness.kernel.tree import KernelTree
from tests.vm.story import STORY, Change, Edit, Merge

#: Part of where a history is kept: a change of how it is made makes the old ones unknown.
_RECIPE = "2"
#: Importing 90,000 files may take so long, s.
_IMPORT_S = 1800.0
_WHO = "hmm-harness <hmm-harness@localhost>"
#: Of the first commit, s since 1970; each further one is an hour younger.
_BEGIN, _HOUR = 1_700_000_000, 3600
#: What the first commit, the tree itself, is called.
_IMPORT = "Linux, as imported"


@dataclass(frozen=True)
class MadeHistory:
    """A repository with its commits, by what the story calls them.

    good: the tree as imported. bad: the tip. commits: all after `good`, each after its parents. culprit: the
    one that brings the bug. affected: those that have it. unbuildable, failing: those that do not compile,
    and those whose trials fail in another way than the bug. plain: those that neither break nor mend nor
    merge; they apply to the import alone, in this order, and the culprit is among them.
    """

    repository: Path
    good: str
    bad: str
    commits: tuple[str, ...]
    culprit: str
    affected: frozenset[str]
    unbuildable: frozenset[str]
    failing: frozenset[str]
    plain: tuple[str, ...]


@dataclass(frozen=True)
class _Commit:
    """A commit on its way into the repository. Marks count from 1; parent 0 is the import."""

    mark: int
    title: str
    parents: tuple[int, ...]
    files: Mapping[str, bytes]


def make_history(tree: KernelTree, cache: Cache, story: Sequence[Change | Merge] = STORY) -> MadeHistory:
    """The history on a tree, from the cache or made now (a minute)."""
    steps = _for_tree(story, tree)
    commits = list(_commits(steps, tree.path))
    place = cache.folder("histories") / digest([_RECIPE, tree.ident])[:20]
    repository = place / "linux.git"
    branch = f"story-{digest([repr(commits)])[:12]}"
    with cache.lock(f"history-{place.name}", Deadline.after(_IMPORT_S)):
        if not place.is_dir():
            with cache.making(place) as draft:
                _create(draft / "linux.git", tree)
        if not (repository / "refs/heads" / branch).exists():
            with tempfile.TemporaryFile() as stream:
                for commit in commits:
                    _write(stream, branch, commit, commit.files.items())
                _import(repository, stream)
    good = _git(repository, "rev-parse", "main").strip()
    lines = _git(repository, "log", "--format=%H %s", branch, "^main").splitlines()
    names = {title: name for name, _, title in (line.partition(" ") for line in lines)}
    roles = {step.role: names[step.title] for step in steps if isinstance(step, Change)}
    spans = {way: _span(commits, steps, way) for way in ("bug", "unbuildable", "failing")}
    simple = [step.title for step in steps if isinstance(step, Change) and step.role in ("", "bug")]
    return MadeHistory(
        repository=repository,
        good=good,
        bad=names[commits[-1].title],
        commits=tuple(names[commit.title] for commit in commits),
        culprit=roles["bug"],
        affected=frozenset(names[title] for title in spans["bug"]),
        unbuildable=frozenset(names[title] for title in spans["unbuildable"]),
        failing=frozenset(names[title] for title in spans["failing"] - spans["unbuildable"]),
        plain=tuple(names[title] for title in simple),
    )


def _for_tree(story: Sequence[Change | Merge], tree: KernelTree) -> list[Change | Merge]:
    """The story without the plain changes whose places this tree does not have, and with the bug's edits."""
    steps: list[Change | Merge] = []
    for step in story:
        if isinstance(step, Change) and step.role == "bug" and not step.edits:
            step = replace(step, edits=_edits_of(_introducing(tree.version).text))
        if isinstance(step, Merge) or step.role or all(_fits(edit, tree.path) for edit in step.edits):
            steps.append(step)
    return steps


def _introducing(version: str) -> Patch:
    """The patch by which the default experiment's control has the bug."""
    experiment = experiment_for(version)[1]
    names = experiment.kernels[experiment.arms[experiment.arm_of("control")].kernel].patches
    patches = [Catalogue.load().resolve(name, version) for name in names]
    return next(patch for patch in patches if patch.role == "introduces")


def _edits_of(diff: str) -> tuple[Edit, ...]:
    """A diff as replacements of text."""
    return tuple(
        Edit(
            file.path,
            "".join(str(line.value) for line in hunk.source_lines()),
            "".join(str(line.value) for line in hunk.target_lines()),
        )
        for file in PatchSet(diff)
        for hunk in file
    )


def _fits(edit: Edit, folder: Path) -> bool:
    path = folder / edit.path
    return path.is_file() and edit.old.encode() in path.read_bytes()


def _commits(steps: Sequence[Change | Merge], folder: Path) -> Iterator[_Commit]:
    """Each step on its branch. A branch begins at the main line where it is first named."""
    tips = {"main": 0}
    #: What each branch has changed, by path.
    states: dict[str, dict[str, bytes]] = {"main": {}}
    for mark, step in enumerate(steps, start=1):
        if isinstance(step, Merge):
            files = states.pop(step.branch)
            states["main"].update(files)
            yield _Commit(mark, step.title, (tips["main"], tips.pop(step.branch)), files)
            tips["main"] = mark
            continue
        state = states.setdefault(step.branch, {})
        files = {}
        for edit in step.edits:
            known = files.get(edit.path) or state.get(edit.path) or states["main"].get(edit.path)
            text = known or (folder / edit.path).read_bytes()
            assert edit.old.encode() in text, f"{step.title}: {edit.path} has no {edit.old!r}"
            files[edit.path] = text.replace(edit.old.encode(), edit.new.encode())
        state.update(files)
        yield _Commit(mark, step.title, (tips.get(step.branch, tips["main"]),), files)
        tips[step.branch] = mark


def _span(commits: Sequence[_Commit], steps: Sequence[Change | Merge], way: str) -> set[str]:
    """The titles of the commits that a role marks: from the one that has it to before the one that mends."""
    broken: set[int] = set()
    for commit, step in zip(commits, steps, strict=True):
        role = step.role if isinstance(step, Change) else ""
        if role == way or (broken & set(commit.parents) and role != f"mends {way}"):
            broken.add(commit.mark)
    return {commit.title for commit in commits if commit.mark in broken}


def _create(repository: Path, tree: KernelTree) -> None:
    """A bare repository whose branch main is the tree, in one commit."""
    argv = ["git", "init", "-q", "--bare", "-b", "main", str(repository)]
    process.run(argv, deadline=Deadline.after(_IMPORT_S))
    whole = ((name, tree.path / name) for name in sorted(all_files(tree.path)))
    with tempfile.TemporaryFile(dir=repository) as stream:
        _write(stream, "main", _Commit(0, _IMPORT, (), {}), whole)
        _import(repository, stream)


def _git(repository: Path, *words: str) -> str:
    argv = ["git", f"--git-dir={repository}", *words]
    return process.run(argv, deadline=Deadline.after(_IMPORT_S)).output


def _import(repository: Path, stream: IO[bytes]) -> None:
    stream.seek(0)
    argv = ["git", f"--git-dir={repository}", "-c", "core.compression=1", "fast-import"]
    process.run([*argv, "--quiet", "--depth=0"], deadline=Deadline.after(_IMPORT_S), stdin=stream)


def _write(
    stream: IO[bytes], branch: str, commit: _Commit, files: Iterable[tuple[str, bytes | Path]]
) -> None:
    """A commit in the form git-fast-import(1) reads."""
    when = f"{_BEGIN + commit.mark * _HOUR} +0000"
    message = f"{commit.title}\n\nSigned-off-by: {_WHO}\n".encode()
    stream.write(f"commit refs/heads/{branch}\n".encode())
    if commit.mark:
        stream.write(f"mark :{commit.mark}\n".encode())
    stream.write(f"author {_WHO} {when}\ncommitter {_WHO} {when}\ndata {len(message)}\n".encode())
    stream.write(message + b"\n")
    for word, parent in zip(("from", "merge"), commit.parents, strict=False):
        stream.write(f"{word} {f':{parent}' if parent else 'refs/heads/main'}\n".encode())
    for name, content in files:
        mode, data = (b"100644", content) if isinstance(content, bytes) else _read(content)
        stream.write(b"M %s inline %s\ndata %d\n" % (mode, name.encode(), len(data)))
        stream.write(data + b"\n")


def _read(path: Path) -> tuple[bytes, bytes]:
    """The mode git gives a file, and its content."""
    if path.is_symlink():
        return b"120000", os.readlink(path).encode()
    return (b"100755" if path.stat().st_mode & 0o100 else b"100644"), path.read_bytes()
