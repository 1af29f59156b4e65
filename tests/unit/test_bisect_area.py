# SPDX-License-Identifier: GPL-2.0-only
"""The work area of a bisection: by URL, and after a run was killed in the middle of anything."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from harness.bisect.repository import Repository
from harness.cache import Cache
from harness.errors import InfraError, UserError
from tests.unit.kernelroom import Notes
from tests.unit.sources import git, git_daemon, import_history, serving, soon

#: Commits of the history that is killed upon, and files of each.
COMMITS = 6
FILES = 150


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "user"


@pytest.fixture
def ids(path: Path) -> list[str]:
    parents = [(place - 1,) if place else () for place in range(COMMITS)]
    return import_history(path, parents, lambda place: {"mm/memory.c": f"int locked = {place};\n"})


def area(cache: Cache) -> Path:
    [folder] = (folder for folder in cache.folder("bisect").iterdir() if not folder.name.startswith("."))
    return folder


def served(path: Path, folder: Path) -> Path:
    """A bare copy of a repository that a server shows, file contents on demand."""
    git(path, "clone", "-q", "--bare", str(path), str(folder))
    git(folder, "config", "uploadpack.allowFilter", "true")
    git(folder, "config", "uploadpack.allowAnySHA1InWant", "true")
    return folder


def missing_objects(git_dir: Path) -> int:
    listed = git(git_dir, "rev-list", "--objects", "--all", "--missing=print").splitlines()
    return sum(line.startswith("?") for line in listed)


def test_by_url_contents_come_as_they_are_needed(
    path: Path, ids: list[str], cache: Cache, tmp_path: Path
) -> None:
    git(path, "tag", "v7.3", ids[3])
    served(path, tmp_path / "served/bare.git")
    with (
        git_daemon(tmp_path / "served") as base,
        Repository.open(f"{base}/bare.git", cache, Notes(), soon()) as repository,
    ):
        assert missing_objects(area(cache) / "git") > COMMITS
        assert repository.history(["main~3"], "HEAD").names == tuple(ids[-3:])
        assert repository.resolve("@~1") == repository.resolve(ids[-2][:9]) == ids[-2]
        assert (repository.tree(ids[4]).path / "mm/memory.c").read_text("utf-8") == "int locked = 4;\n"
        assert repository.reverted(ids[5], ids[5]) is not None
        assert repository.describe(ids[4]) == "v7.3-1-g" + ids[4][:12]
        with pytest.raises(UserError, match=r"no revision 'mine' \(did you mean main\?\)"):
            repository.resolve("mine")


def test_a_url_is_followed_and_what_was_had_serves_offline(
    path: Path, ids: list[str], cache: Cache, tmp_path: Path
) -> None:
    bare = served(path, tmp_path / "served/bare.git")
    git(bare, "branch", "topic")
    notes = Notes()
    with git_daemon(tmp_path / "served") as base:
        url = f"{base}/bare.git"
        with Repository.open(url, cache, notes, soon()) as repository:
            repository.tree(ids[5])
        git(bare, "update-ref", "refs/heads/main", ids[4])
        # A branch in the place of a folder of branches.
        git(bare, "branch", "-D", "topic")
        git(bare, "branch", "topic/one", ids[3])
        with Repository.open(url, cache, notes, soon()) as repository:
            assert repository.resolve("main") == ids[4]
            assert repository.resolve("topic/one") == ids[3]
    assert not notes.notes
    with Repository.open(url, cache, notes, soon()) as repository:
        assert repository.history([ids[2]], "main").names == tuple(ids[3:5])
        assert repository.tree(ids[5]).path.is_dir()
    [note] = notes.notes
    assert "going on with the history as it was fetched earlier" in note


def test_a_url_that_never_answered(cache: Cache) -> None:
    with serving(b"") as server:
        url = server.url
    for _ in range(2):
        with (
            pytest.raises(InfraError, match="does not answer as a git repository"),
            Repository.open(url, cache, Notes(), soon()),
        ):
            raise AssertionError("the block was entered")


def test_a_repository_cloned_without_contents_gets_them_where_it_would(
    path: Path, ids: list[str], cache: Cache, tmp_path: Path
) -> None:
    bare = served(path, tmp_path / "bare.git")
    git(tmp_path, "clone", "-q", "--filter=blob:none", "--no-checkout", f"file://{bare}", "partial")
    before = sorted((tmp_path / "partial").rglob("*"))
    with Repository.open(str(tmp_path / "partial"), cache, Notes(), soon()) as repository:
        commits = repository.history([ids[1]], "HEAD")
        assert (repository.tree(ids[3]).path / "mm/memory.c").read_text("utf-8") == "int locked = 3;\n"
        told = repository.record(commits.good, commits.bad, False, (), [(ids[3], "bad"), (ids[2], "good")])
        assert told.first_bad == ids[3]
    assert sorted((tmp_path / "partial").rglob("*")) == before


def test_what_a_killed_git_leaves_is_put_right(path: Path, ids: list[str], cache: Cache) -> None:
    with Repository.open(str(path), cache, Notes(), soon()) as repository:
        half = repository.tree(ids[1]).path
    git_dir = area(cache) / "git"
    for name in ("index.lock", "HEAD.lock", "config.lock"):
        (git_dir / name).touch()
    (half / "mm/memory.c").write_text("half", encoding="utf-8")
    (half / "mm/hmm.c").unlink()
    (half / "lib").mkdir()
    (half / "lib/of-another-commit.c").write_text("left\n", encoding="utf-8")
    (half / ".gitignore").write_text("*\n", encoding="utf-8")
    (area(cache) / "record").mkdir()
    with Repository.open(str(path), cache, Notes(), soon()) as repository:
        for place in (1, 2):
            assert matches(repository.tree(ids[place]).path, path, ids[place])
        assert repository.record([ids[0]], ids[1], False, (), []).first_bad == ids[1]


def matches(folder: Path, repository: Path, commit: str) -> bool:
    """True if a folder holds the files of a commit, and no other."""
    listed = git(repository, "ls-tree", "-r", commit).splitlines()
    wanted = {line.split("\t")[1]: line.split()[2] for line in listed}
    found = sorted(str(file.relative_to(folder)) for file in folder.rglob("*") if not file.is_dir())
    hashed = git(repository, "hash-object", "--no-filters", "--", *(str(folder / name) for name in found))
    return dict(zip(found, hashed.split(), strict=True)) == wanted


def test_killed_at_any_moment_it_goes_on(tmp_path: Path, cache: Cache) -> None:
    path = tmp_path / "large"
    parents = [(place - 1,) if place else () for place in range(COMMITS)]

    def files(place: int) -> dict[str, str]:
        # A third of the files come and go.
        names = [number for number in range(FILES) if number % 3 or place % 2]
        return {f"drivers/{place % 2}/{number}.c": f"int at_{place};\n" * 50 for number in names}

    ids = import_history(path, parents, files)
    program = (
        "import sys\n"
        "from pathlib import Path\n"
        "from harness.bisect.repository import Repository\n"
        "from harness.cache import Cache\n"
        "from tests.unit.kernelroom import Notes\n"
        "from tests.unit.sources import soon\n"
        "print(flush=True)\n"
        "with Repository.open(sys.argv[1], Cache(Path(sys.argv[2])), Notes(), soon()) as repository:\n"
        "    while True:\n"
        "        for commit in sys.argv[3:]:\n"
        "            repository.tree(commit)\n"
    )
    for delay_s in (0.02, 0.1, 0.2):
        child = subprocess.Popen(
            [sys.executable, "-c", program, str(path), str(cache.root), *ids], stdout=subprocess.PIPE
        )
        with child:
            assert child.stdout is not None
            assert child.stdout.readline() == b"\n"
            time.sleep(delay_s)
            child.kill()
        assert child.returncode == -signal.SIGKILL
        with Repository.open(str(path), cache, Notes(), soon()) as repository:
            for commit in (ids[4], ids[1]):
                assert matches(repository.tree(commit).path, path, commit)
