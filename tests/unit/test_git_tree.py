# SPDX-License-Identifier: GPL-2.0-only
from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from harness.cache import Cache
from harness.disk import size_on_disk
from harness.errors import InfraError, UserError
from harness.kernel.folder import source_files
from harness.kernel.git import fetch_git
from harness.kernel.spec import (
    GitSpec,
)
from harness.kernel.workspace import SourceFolder
from tests.unit.kernelroom import Notes, write_toy
from tests.unit.sources import git, git_daemon, make_repository, serving, soon


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    return make_repository(tmp_path / "repository")


def test_any_revision_of_a_local_repository(repository: Path, cache: Cache) -> None:
    before = git(repository, "status", "--porcelain"), sorted((repository / ".git").rglob("*"))
    commit = git(repository, "rev-parse", "v1")
    trees = [
        fetch_git(GitSpec(str(repository), name), cache, Notes(), soon())
        for name in ("v1", "main~1", commit, commit[:10], "main")
    ]
    assert len({tree.path for tree in trees[:4]}) == 1
    assert "locked = 1" in (trees[0].path / "mm/memory.c").read_text(encoding="utf-8")
    assert "locked = 2" in (trees[4].path / "mm/memory.c").read_text(encoding="utf-8")
    assert trees[0].origin == trees[4].origin
    assert commit[:12] in trees[0].description
    after = git(repository, "status", "--porcelain"), sorted((repository / ".git").rglob("*"))
    assert after == before
    assert git(trees[0].path, "rev-parse", "HEAD") == commit


def test_revisions_share_a_workspace_and_each_has_its_own_source(repository: Path, cache: Cache) -> None:
    for name, value in (("v1", 1), ("main", 2), ("v1", 1)):
        tree = fetch_git(GitSpec(str(repository), name), cache, Notes(), soon())
        source = SourceFolder(cache, tree)
        source.bring_to({}, soon())
        assert f"locked = {value};" in (source.src / "mm/memory.c").read_text(encoding="utf-8")
    assert len(list((cache.root / "workspaces").iterdir())) == 1


def test_a_workspace_on_record_under_an_earlier_identity_is_not_trusted(
    repository: Path, cache: Cache
) -> None:
    old = fetch_git(GitSpec(str(repository), "v1"), cache, Notes(), soon())
    source = SourceFolder(cache, old)
    source.bring_to({}, soon())
    new = fetch_git(GitSpec(str(repository), "main"), cache, Notes(), soon())
    state = source.folder / "state.json"
    record = json.loads(state.read_text(encoding="utf-8"))
    state.write_text(json.dumps({**record, "tree": new.path.name}), encoding="utf-8")
    SourceFolder(cache, new).bring_to({}, soon())
    assert "locked = 2" in (source.src / "mm/memory.c").read_text(encoding="utf-8")


def test_what_git_says_on_standard_error_is_no_answer(
    repository: Path, cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = source_files(repository)
    commit = git(repository, "rev-parse", "v1")
    monkeypatch.setenv("GIT_TRACE", "1")
    assert source_files(repository) == names
    assert fetch_git(GitSpec(str(repository), "v1"), cache, Notes(), soon()).path.name == f"git-{commit[:20]}"


def test_the_next_commit_is_fetched_as_what_differs(repository: Path, cache: Cache, tmp_path: Path) -> None:
    def commit(name: str, size: int) -> int:
        """What the cache has grown by, bytes, when a commit with another random file has been fetched."""
        (repository / name).write_bytes(random.Random(name).randbytes(size))
        git(repository, "add", name)
        git(repository, "commit", "-q", "-m", name)
        git(repository, "push", "-q", str(bare), "HEAD:main")
        for store in cache.folder("git").glob("*.git"):
            git(store, "config", "fetch.unpackLimit", "1")  # what came is kept as it came
        before = size_on_disk(cache.folder("git"))
        fetch_git(GitSpec(f"{base}/bare.git", "main"), cache, Notes(), soon())
        return size_on_disk(cache.folder("git")) - before

    bare = tmp_path / "served/bare.git"
    git(tmp_path, "clone", "-q", "--bare", str(repository), str(bare))
    with git_daemon(tmp_path / "served") as base:
        assert commit("large", 1 << 20) > 1 << 20
        assert commit("small", 100) < 1 << 18


def test_revisions_by_url(repository: Path, cache: Cache, tmp_path: Path) -> None:
    git(tmp_path, "clone", "-q", "--bare", str(repository), str(tmp_path / "served/bare.git"))
    commit = git(repository, "rev-parse", "v1")
    with git_daemon(tmp_path / "served") as base:
        url = f"{base}/bare.git"
        names = ("v1", "main", commit, commit[:10], "main~1")
        trees = [fetch_git(GitSpec(url, name), cache, Notes(), soon()) for name in names]
        assert len({tree.path for tree in trees}) == 2
        assert trees[0].path == trees[2].path == trees[3].path == trees[4].path
        with pytest.raises(UserError, match="no revision 'nonsense'"):
            fetch_git(GitSpec(url, "nonsense"), cache, Notes(), soon())
    # Offline: a branch as it was known, with a word about it; a commit silently.
    notes = Notes()
    tip = fetch_git(GitSpec(url, "main"), cache, notes, soon())
    assert tip.ident == trees[1].ident and len(tip.commit) == 40 and tip.commit[:20] in tip.ident
    assert len(notes.notes) == 1
    assert "from the cache" in notes.notes[0]
    assert fetch_git(GitSpec(url, commit), cache, notes, soon()).path == trees[0].path
    assert len(notes.notes) == 1


def test_branch_that_moved_is_followed(repository: Path, cache: Cache, tmp_path: Path) -> None:
    bare = tmp_path / "served/bare.git"
    git(tmp_path, "clone", "-q", "--bare", str(repository), str(bare))
    with git_daemon(tmp_path / "served") as base:
        spec = GitSpec(f"{base}/bare.git", "main")
        first = fetch_git(spec, cache, Notes(), soon())
        git(repository, "commit", "-q", "-a", "-m", "third")
        git(repository, "push", "-q", str(bare), "main")
        second = fetch_git(spec, cache, Notes(), soon())
    assert second.ident != first.ident
    assert (second.path / "mm/memory.c").read_text(encoding="utf-8") == "dirty\n"
    assert first.path.is_dir()


def test_git_mistakes(repository: Path, cache: Cache, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="has no revision 'v9'"):
        fetch_git(GitSpec(str(repository), "v9"), cache, Notes(), soon())
    with pytest.raises(UserError, match="does not exist"):
        fetch_git(GitSpec(str(tmp_path / "absent"), "v1"), cache, Notes(), soon())
    with pytest.raises(UserError, match="is not a git repository"):
        fetch_git(GitSpec(str(write_toy(tmp_path / "plain")), "v1"), cache, Notes(), soon())
    with pytest.raises(UserError, match="starts with a dash"):
        fetch_git(GitSpec("--upload-pack=x", "v1"), cache, Notes(), soon())


def test_git_url_that_does_not_answer(cache: Cache) -> None:
    with serving(b"") as server:
        url = server.url
    with pytest.raises(InfraError, match="does not answer as a git repository"):
        fetch_git(GitSpec(url, "main"), cache, Notes(), soon())


def test_a_revision_knows_how_it_differs_from_another(repository: Path, cache: Cache, tmp_path: Path) -> None:
    old = fetch_git(GitSpec(str(repository), "v1"), cache, Notes(), soon())
    new = fetch_git(GitSpec(str(repository), "main"), cache, Notes(), soon())
    assert new.changes_since is not None
    assert new.changes_since(old.ident) == frozenset({"mm/memory.c"})
    assert new.changes_since(new.ident) == frozenset()
    git(make_repository(tmp_path / "other"), "commit", "-q", "-a", "-m", "third")
    other = fetch_git(GitSpec(str(tmp_path / "other"), "main"), cache, Notes(), soon())
    for unknown in (old.path.name, "debian-7.3.4", other.ident, f"git-{'f' * 20}-2"):
        assert new.changes_since(unknown) is None


def test_a_git_that_started_the_harness_does_not_lead_it_astray(
    repository: Path, cache: Cache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit = git(repository, "rev-parse", "v1")
    for name in ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_OBJECT_DIRECTORY", "GIT_PREFIX"):
        monkeypatch.setenv(name, str(tmp_path / "elsewhere"))
    tree = fetch_git(GitSpec(str(repository), "v1"), cache, Notes(), soon())
    assert tree.path.name == f"git-{commit[:20]}"
    assert not (tmp_path / "elsewhere").exists()
