# SPDX-License-Identifier: GPL-2.0-only
"""Bisecting a repository of the user's: real git on small histories."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from harness.bisect.repository import Commits, Repository
from harness.cache import Cache
from harness.deadline import Deadline
from harness.errors import InfraError, UserError
from harness.kernel.git import fetch_git
from harness.kernel.spec import GitSpec
from harness.kernel.workspace import SourceFolder
from tests.unit.kernelroom import Notes, write_toy
from tests.unit.sources import git, import_history, soon

#: Main: 0 1 2 5 6 7; 5 merges the side branch 3 4, which goes off at 1.
PARENTS: tuple[tuple[int, ...], ...] = ((), (0,), (1,), (1,), (3,), (2, 4), (5,), (6,))


def written(place: int) -> Mapping[str, str]:
    """Side touches lib, main mm, and commit 6 both; a merge takes what its second parent changed."""
    texts: dict[int, dict[str, str]] = {
        1: {"mm/memory.c": "int locked = 1;\n\n\n\nint last;\n"},
        2: {"mm/memory.c": "int locked = 2;\n\n\n\nint last;\n"},
        3: {"lib/sort.c": "int side = 3;\n"},
        4: {"lib/sort.c": "int side = 4;\n"},
        5: {"lib/sort.c": "int side = 4;\n"},
        6: {"lib/more.c": "int more;\n", "mm/memory.c": "int locked = 2;\n\n\n\nint last = 6;\n"},
        7: {"mm/hmm.c": "int seven;\n"},
    }
    return texts.get(place, {})


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "user"


@pytest.fixture
def ids(path: Path) -> list[str]:
    commits = import_history(path, PARENTS, written)
    git(path, "reset", "-q", "--hard")
    git(path, "tag", "v7.3", commits[2])
    return commits


@pytest.fixture
def notes() -> Notes:
    return Notes()


@pytest.fixture
def opened(
    path: Path, ids: list[str], cache: Cache, notes: Notes
) -> Callable[[], AbstractContextManager[Repository]]:
    return lambda: Repository.open(str(path), cache, notes, soon())


def snapshot(folder: Path) -> dict[str, tuple[bytes, int]]:
    """Content and time of every file, those of git included."""
    return {
        str(file.relative_to(folder)): (file.read_bytes(), file.stat().st_mtime_ns)
        for file in folder.rglob("*")
        if file.is_file()
    }


def places(commits: Commits, ids: list[str]) -> dict[int, set[int]]:
    """Candidates and the parents among them, by position in `ids`."""
    where = [ids.index(name) for name in commits.names]
    return {
        where[place]: {where[parent] for parent in commits.parents[place]} for place in range(len(commits))
    }


def test_the_users_repository_is_only_read(
    path: Path, ids: list[str], opened: Callable[[], AbstractContextManager[Repository]]
) -> None:
    (path / "mm/hmm.c").write_text("dirty\n", encoding="utf-8")
    (path / "mm/untracked.c").write_text("new\n", encoding="utf-8")
    git(path, "add", "mm/untracked.c")
    status = git(path, "status", "--porcelain=v2", "--branch")
    before = snapshot(path)
    with opened() as repository:
        commits = repository.history(["v7.3"], "main")
        for commit in commits.names:
            repository.tree(commit)
        assert repository.reverted(commits.bad, ids[6])
        assert repository.record(commits.good, commits.bad, False, (), [(ids[5], "good")]).log
        repository.facts(ids[5])
        repository.describe(ids[5])
        repository.skips(commits, ["main~1..main"])
    assert snapshot(path) == before
    assert git(path, "status", "--porcelain=v2", "--branch") == status


def test_candidates_of_a_history_with_a_merge(
    ids: list[str], opened: Callable[[], AbstractContextManager[Repository]]
) -> None:
    with opened() as repository:
        commits = repository.history(["main~4"], "main")
        assert places(commits, ids) == {2: set(), 3: set(), 4: {3}, 5: {2, 4}, 6: {5}, 7: {6}}
        assert (commits.good, commits.bad, commits.bases) == ((ids[1],), ids[7], ())
        assert all(parent < place for place, parents in enumerate(commits.parents) for parent in parents)
        straight = repository.history(["main~4"], "main", first_parent=True)
        assert places(straight, ids) == {2: set(), 5: {2}, 6: {5}, 7: {6}}
        both = repository.history(["main~4", ids[4]], "main")
        assert places(both, ids) == {2: set(), 5: {2}, 6: {5}, 7: {6}}


def test_paths_limit_the_candidates(
    ids: list[str], opened: Callable[[], AbstractContextManager[Repository]]
) -> None:
    with opened() as repository:
        assert places(repository.history([ids[0]], "main", ["lib"]), ids) == {3: set(), 4: {3}, 6: {4}}
        limited = repository.history([ids[0]], "main", ["mm/hmm.c", "lib/more.c"])
        assert places(limited, ids) == {6: set(), 7: {6}}
        assert limited.paths == ("mm/hmm.c", "lib/more.c")
        with pytest.raises(UserError, match=r"no commit between v7\.3 and main touches drivers"):
            repository.history(["v7.3"], "main", ["drivers"])
        with pytest.raises(UserError, match="git does not take these paths"):
            repository.history(["v7.3"], "main", [":(nonsense)mm"])


def test_skipped_ranges_are_those_of_git_bisect(
    ids: list[str], opened: Callable[[], AbstractContextManager[Repository]]
) -> None:
    with opened() as repository:
        commits = repository.history([ids[0]], "main")

        def skipped(*ranges: str) -> set[int]:
            return {ids.index(commits.names[place]) for place in repository.skips(commits, ranges)}

        assert skipped("v7.3..main") == {3, 4, 5, 6, 7}
        assert skipped("main~1", f"{ids[1]}..{ids[4]}") == {3, 4, 6}
        assert skipped(ids[0]) == set()
        with pytest.raises(UserError, match=r"no revision 'mian' \(did you mean main\?\)"):
            skipped("v7.3..mian")


def test_every_name_the_users_repository_knows(
    path: Path, ids: list[str], opened: Callable[[], AbstractContextManager[Repository]]
) -> None:
    lost = git(path, "commit-tree", "-p", ids[6], "-m", "on no branch", f"{ids[7]}^{{tree}}")
    git(path, "update-ref", "--create-reflog", "refs/heads/moved", ids[3])
    git(path, "update-ref", "-m", "moves", "refs/heads/moved", ids[4])
    with opened() as repository:
        for name, commit in (
            ("HEAD", ids[7]),
            ("HEAD~2", ids[5]),
            ("@^", ids[6]),
            ("v7.3", ids[2]),
            ("moved@{1}", ids[3]),
            (lost[:12], lost),
        ):
            assert repository.resolve(name) == commit
        assert repository.history([ids[5]], lost).names == (ids[6], lost)
        assert (repository.tree(lost).path / "mm/hmm.c").read_text("utf-8") == "int seven;\n"


@pytest.mark.parametrize(
    ("good", "bad", "message", "hint"),
    [
        ("v7.4", "main", r"has no revision 'v7.4' \(did you mean v7.3\?\)", "a branch, a tag"),
        ("v7.3", "mein", r"has no revision 'mein' \(did you mean main\?\)", "a branch, a tag"),
        ("v7.3", "--all", "has no revision '--all'", "a branch, a tag"),
        ("v7.3", "main:mm", "has no revision 'main:mm'", "a branch, a tag"),
        ("main", "v7.3", "swapped: v7.3 is an ancestor of main", "--good v7.3 --bad main"),
        ("main", "HEAD", "main and HEAD are the same commit", "older commit"),
        ("other", "main", "other and main are unrelated", "an ancestor of the bad one"),
    ],
)
def test_ends_that_cannot_be(
    path: Path,
    opened: Callable[[], AbstractContextManager[Repository]],
    good: str,
    bad: str,
    message: str,
    hint: str,
) -> None:
    git(path, "branch", "other", git(path, "commit-tree", "-m", "alone", "main^{tree}"))
    with opened() as repository, pytest.raises(UserError, match=message) as raised:
        repository.history([good], bad)
    assert hint in raised.value.hint


def test_no_repository(tmp_path: Path, cache: Cache) -> None:
    for place, message in (
        (tmp_path / "absent", "does not exist"),
        (write_toy(tmp_path / "plain"), "is not a git repository"),
        ("--upload-pack=x", "starts with a dash"),
    ):
        with pytest.raises(UserError, match=message), Repository.open(str(place), cache, Notes(), soon()):
            raise AssertionError("the block was entered")


def test_a_good_end_that_is_no_ancestor(
    path: Path, ids: list[str], notes: Notes, opened: Callable[[], AbstractContextManager[Repository]]
) -> None:
    git(path, "branch", "stable", git(path, "commit-tree", "-p", ids[2], "-m", "stable", "main^{tree}"))
    with opened() as repository:
        commits = repository.history(["stable"], "main")
        assert places(commits, ids) == {3: set(), 4: {3}, 5: {4}, 6: {5}, 7: {6}}
        assert commits.bases == (ids[2],)
        [note] = notes.notes
        assert "stable is no ancestor of main" in note
        assert ids[2][:12] in note
        ends = (*commits.good, *commits.bases)
        told = repository.record(ends, commits.bad, False, (), [(ids[6], "bad"), (ids[5], "good")])
        assert told.first_bad == ids[6]


def test_uncommitted_changes_are_said_to_be_left_out_where_the_checkout_is_an_end(
    path: Path, ids: list[str], notes: Notes, opened: Callable[[], AbstractContextManager[Repository]]
) -> None:
    with opened() as repository:
        repository.history(["v7.3"], "HEAD")
        assert not notes.notes
        (path / "mm/hmm.c").write_text("dirty\n", encoding="utf-8")
        repository.history(["v7.3"], ids[6])
        assert not notes.notes
        repository.history(["v7.3"], "HEAD")
    assert notes.notes == [f"uncommitted changes of {path} are not part of any commit"]


def test_a_shallow_repository_must_reach_from_bad_to_good(
    path: Path, ids: list[str], tmp_path: Path, cache: Cache
) -> None:
    clone = tmp_path / "shallow"
    git(tmp_path, "clone", "-q", "--depth=3", f"file://{path}", str(clone))
    before = snapshot(clone)
    with Repository.open(str(clone), cache, Notes(), soon()) as repository:
        assert repository.history(["HEAD~1"], "HEAD").names == (ids[7],)
        with pytest.raises(UserError, match="no revision") as raised:
            repository.history([ids[2]], "main")
        assert "fetch --unshallow" in raised.value.hint
    assert snapshot(clone) == before
    # Of the side branch the last commit is there, and not the one before it.
    git(clone, "fetch", "-q", "--depth=4")
    with Repository.open(str(clone), cache, Notes(), soon()) as repository:
        assert places(repository.history([ids[5]], "main"), ids) == {6: set(), 7: {6}}
        with pytest.raises(UserError, match="between good and bad is not whole") as raised:
            repository.history([ids[2]], "main")
        assert "fetch --unshallow" in raised.value.hint
    git(clone, "fetch", "-q", "--depth=1", "origin", ids[0])
    with (
        Repository.open(str(clone), cache, Notes(), soon()) as repository,
        pytest.raises(UserError, match=r"no common history of .* is known"),
    ):
        repository.history([ids[0]], "main")
    git(clone, "fetch", "-q", "--unshallow")
    with Repository.open(str(clone), cache, Notes(), soon()) as repository:
        assert places(repository.history([ids[2]], "main"), ids) == {3: set(), 4: {3}, 5: {4}, 6: {5}, 7: {6}}


def test_a_tree_is_the_one_that_the_git_source_gives(
    path: Path, ids: list[str], cache: Cache, opened: Callable[[], AbstractContextManager[Repository]]
) -> None:
    fixed = {place: fetch_git(GitSpec(str(path), ids[place]), cache, Notes(), soon()) for place in (1, 7)}
    source = SourceFolder(cache, fixed[1])
    source.bring_to({}, soon())
    with opened() as repository:
        for place in (7, 2, 6, 4, 1):
            tree = repository.tree(ids[place])
            assert tree.origin == fixed[1].origin
            assert (
                git(path, "show", f"{ids[place]}:mm/memory.c")
                == (tree.path / "mm/memory.c").read_text().strip()
            )
            assert tree.changes_since is not None
            assert tree.changes_since(fixed[7].ident) == frozenset(
                git(path, "diff", "--name-only", "--no-renames", ids[7], ids[place]).split()
            )
            SourceFolder(cache, tree).bring_to({}, soon())
            assert files(source.src) == files(tree.path)
            if place in fixed:
                assert tree.ident == fixed[place].ident
                assert files(tree.path) == files(fixed[place].path)
        again = repository.tree(ids[1])
        assert again.path == tree.path
        repository.tree(ids[2])
        assert not again.path.exists()


def files(folder: Path) -> dict[str, str]:
    return {
        str(file.relative_to(folder)): file.read_text(encoding="utf-8")
        for file in folder.rglob("*")
        if file.is_file() and file.name != ".git"
    }


def test_a_commit_is_taken_back(
    path: Path, ids: list[str], tmp_path: Path, opened: Callable[[], AbstractContextManager[Repository]]
) -> None:
    with opened() as repository:
        without = repository.reverted(ids[7], ids[6])
        assert without is not None
        tree = repository.tree(without)
        assert not (tree.path / "lib/more.c").exists()
        assert (tree.path / "mm/memory.c").read_text("utf-8") == "int locked = 2;\n\n\n\nint last;\n"
        assert (tree.path / "mm/hmm.c").read_text("utf-8") == "int seven;\n"
        assert repository.facts(without).title == 'Revert "change 6"'
        assert repository.parents(without) == (ids[7],)
        assert repository.reverted(ids[7], ids[6]) == without
        # A merge takes all of its side branch with it; the first commit has nothing before it.
        merge = repository.reverted(ids[7], ids[5])
        assert merge is not None
        assert not (repository.tree(merge).path / "lib/sort.c").exists()
        assert repository.reverted(ids[7], ids[0]) is None
        # Commit 2 wrote over the line of commit 1; in the commit without 6, 6 cannot be taken back again.
        assert repository.reverted(ids[7], ids[1]) is None
        assert repository.reverted(without, ids[6]) is None
    git(path, "config", "user.name", "Another")
    with Repository.open(str(path), Cache(tmp_path / "cache2"), Notes(), soon()) as elsewhere:
        assert elsewhere.reverted(ids[7], ids[6]) == without


def test_what_is_said_of_a_commit(
    path: Path, ids: list[str], opened: Callable[[], AbstractContextManager[Repository]]
) -> None:
    git(path, "tag", "v7.4", "main")
    with opened() as repository:
        facts = repository.facts(ids[5])
        assert facts.commit == ids[5]
        assert facts.title == repository.title(ids[5]) == "change 5"
        assert facts.author == "T <t@example.org>"
        assert facts.date == "2023-11-14T22:18:20+00:00"
        assert facts.parents == repository.parents(ids[5]) == (ids[2], ids[4])
        assert repository.parents(ids[0]) == ()
        assert repository.describe(ids[2]) == "v7.3"
        assert repository.describe(ids[4]) == "v7.4~2^2"
        git(path, "tag", "-d", "v7.4")
        assert repository.describe(ids[6]).startswith("v7.3-4-g")
        git(path, "tag", "-d", "v7.3")
        assert repository.describe(ids[6]) == ""


def test_worktrees_and_bare_repositories_are_repositories(
    path: Path, ids: list[str], tmp_path: Path, cache: Cache
) -> None:
    git(path, "worktree", "add", "-q", "--detach", str(tmp_path / "worktree"), ids[6])
    git(tmp_path, "clone", "-q", "--bare", str(path), str(tmp_path / "bare"))
    for place in (tmp_path / "worktree", tmp_path / "bare", f"file://{path}", path / "mm"):
        with Repository.open(str(place), cache, Notes(), soon()) as repository:
            commits = repository.history(["v7.3"], "HEAD~1")
            assert repository.tree(commits.bad).path.is_dir()
    assert subprocess.run(["git", "-C", str(path), "fsck", "--strict"], check=True, capture_output=True)


def test_one_bisection_of_a_repository_at_a_time(
    path: Path, cache: Cache, opened: Callable[[], AbstractContextManager[Repository]]
) -> None:
    with (
        opened(),
        pytest.raises(InfraError, match="another harness holds"),
        Repository.open(str(path), cache, Notes(), Deadline.after(0.1)),
    ):
        raise AssertionError("the block was entered")
