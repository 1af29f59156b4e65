# SPDX-License-Identifier: GPL-2.0-only
"""Kernel source from git: objects in a bare repository of the cache, each revision a worktree of it."""

from __future__ import annotations

import os
import re
from dataclasses import replace
from functools import partial
from pathlib import Path

from harness.cache import Cache, digest
from harness.deadline import Deadline
from harness.errors import InfraError, UserError
from harness.kernel.spec import GitSpec, KernelTree, kernel_version, recall, remember
from harness.process import Completed, run
from harness.progress import Progress

QUIET = {
    "GIT_TERMINAL_PROMPT": "0",
    "LC_ALL": "C",
    "GIT_SSH_COMMAND": "ssh -oBatchMode=yes -oConnectTimeout=20",
}

#: What git tells programs that it starts (a hook, `git rebase --exec`): it would lead to that repository.
_STRAY = (
    "GIT_ALTERNATE_OBJECT_DIRECTORIES",
    "GIT_COMMON_DIR",
    "GIT_DIR",
    "GIT_GRAFT_FILE",
    "GIT_INDEX_FILE",
    "GIT_NAMESPACE",
    "GIT_OBJECT_DIRECTORY",
    "GIT_PREFIX",
    "GIT_SHALLOW_FILE",
    "GIT_WORK_TREE",
)

#: Seconds to find out which paths differ between two commits.
_DIFF_S = 120.0

#: Part of the identity of every git tree, and thereby of its builds' keys and of the record of its workspace:
#: what goes by another suffix, or none, may be of another revision's source.
_IDENT_SUFFIX = "-2"


class _Unknown(Exception):
    """The repository answers, and has no such revision."""


def git_command(*words: str) -> list[str]:
    """How git is started: on the repository the words name, whoever owns it, and on no other."""
    stray = [word for name in _STRAY if name in os.environ for word in ("-u", name)]
    options = ("-c", "advice.detachedHead=false", "-c", "safe.directory=*")
    return [*(("env", *stray) if stray else ()), "git", *options, *words]


def git_ident(commit: str) -> str:
    """The identity of the tree of a commit (full id)."""
    return f"git-{commit[:20]}{_IDENT_SUFFIX}"


def git_origin(url: str) -> str:
    """What all trees of a repository share. url: as `locate` gives it."""
    return f"git-{digest([url])[:16]}"


def paths_between(git_dir: Path, commit: str, ident: str) -> frozenset[str] | None:
    """The paths that differ between a commit and the tree of an identity; None if that is not known here.

    commit: at least 20 digits.
    """
    match = re.fullmatch(rf"git-([0-9a-f]{{20}}){_IDENT_SUFFIX}", ident)
    if match is None:
        return None
    words = ("diff-tree", "-r", "-z", "--name-only", "--no-renames", "--end-of-options", match[1], commit)
    done = run(
        git_command(f"--git-dir={git_dir}", *words),
        deadline=Deadline.after(_DIFF_S),
        env=QUIET,
        check=False,
        merge_stderr=False,
    )
    # A name that is not UTF-8 could not be found again.
    if not done.ok or "\ufffd" in done.output:
        return None
    return frozenset(name for name in done.output.split("\0") if name)


def fetch_git(spec: GitSpec, cache: Cache, progress: Progress, deadline: Deadline) -> KernelTree:
    """The tree at a revision. A local repository is fetched from, its checkout is not looked at.

    UserError for an unknown revision or a path that is no repository, InfraError for a URL that does not
    answer; while it does not, a revision that was had earlier comes from the cache, and the user is told.
    """
    if spec.revision.startswith("-") or spec.url_or_path.startswith("-"):
        raise UserError(f"{spec} starts with a dash", hint="give a URL or path, and a revision")
    url, local = locate(spec.url_or_path)
    origin = git_origin(url)
    store = _Store(cache.folder("git") / f"{origin.removeprefix('git-')}.git", url, local, deadline)
    with cache.lock(origin, deadline, progress.note):
        store.create()
        try:
            with progress.step(f"fetching {spec}"):
                commit = store.commit(spec.revision)
        except _Unknown:
            raise UserError(
                f"{spec.url_or_path} has no revision {spec.revision!r}",
                hint="a branch, a tag or a commit it has",
            ) from None
        except InfraError as error:
            earlier = recall(cache, spec)
            if earlier is None:
                raise
            progress.note(
                f"{error.message.splitlines()[0]}; going on with {earlier[0].description} from the cache"
            )
            return _identified(earlier[0], store.path)
        target = cache.root / "trees" / f"git-{commit[:20]}"
        if not cache.has(target):
            with progress.step(f"checking out {commit[:12]}"):
                with cache.making(target) as draft:
                    store.git("worktree", "add", "--detach", "--force", str(draft), commit)
                    kernel_version(draft)
                # The worktree was made under the draft's name.
                store.git("worktree", "repair", str(target))
                store.git("worktree", "prune")
        shown = spec.revision if spec.revision.startswith(commit[:7]) else f"{spec.revision} ({commit[:12]})"
        description = f"git {spec.url_or_path} {shown}"
        tree = KernelTree(target, kernel_version(target), target.name, description, origin)
        remember(cache, spec, tree)
    return _identified(tree, store.path)


def _identified(tree: KernelTree, git_dir: Path) -> KernelTree:
    """The tree under the identity that builds go by; what is remembered of it is its folder's name."""
    head = git_command("-C", str(tree.path), "rev-parse", "--verify", "HEAD")
    commit = run(head, deadline=Deadline.after(_DIFF_S), env=QUIET, merge_stderr=False).output.strip()
    changes = partial(paths_between, git_dir, commit[:20])
    return replace(tree, ident=git_ident(commit), changes_since=changes, commit=commit)


def locate(url_or_path: str) -> tuple[str, Path | None]:
    """The URL to fetch from, and the path if it is a local repository."""
    if url_or_path.startswith("file://"):
        url_or_path = url_or_path.removeprefix("file://")
    elif re.match(r"[a-z+]+://|[^/]+@?[^/]*:", url_or_path):
        return url_or_path, None
    path = Path(url_or_path).expanduser().absolute()
    return f"file://{path}", path


class _Store:
    """The bare repository of one URL in the cache."""

    def __init__(self, path: Path, url: str, local: Path | None, deadline: Deadline) -> None:
        self.path = path
        self.url = url
        self.local = local
        self.deadline = deadline

    def create(self) -> None:
        if not (self.path / "HEAD").is_file():
            run(git_command("init", "-q", "--bare", str(self.path)), deadline=self.deadline)
            self.git("config", "remote.origin.url", self.url)
            self.git("config", "gc.auto", "0")

    def git(self, *words: str, check: bool = True, merge_stderr: bool = True) -> Completed:
        return run(
            git_command(f"--git-dir={self.path}", *words),
            deadline=self.deadline,
            env=QUIET,
            check=check,
            merge_stderr=merge_stderr,
        )

    def _resolve(self, revision: str) -> str | None:
        words = ("rev-parse", "--verify", "--quiet", "--end-of-options", f"{revision}^{{commit}}")
        done = self.git(*words, check=False, merge_stderr=False)
        return done.output.strip() or None if done.ok else None

    def commit(self, revision: str) -> str:
        """The commit of a revision, in the store. Raises _Unknown, or InfraError without an answer."""
        full = re.fullmatch(r"[0-9a-f]{40}", revision)
        if full and self._resolve(revision):
            return revision
        if self.local is not None:
            revision = self._local_commit(self.local, revision)
            if self._resolve(revision):
                return revision
        # The one commit first: the history of the kernel is gigabytes.
        done = self.git("fetch", "-q", "--depth=1", "--no-tags", "origin", f"{revision}", check=False)
        if done.ok:
            commit = self._resolve("FETCH_HEAD")
            if commit:
                # What refs lead to is not sent again with the next commit.
                self.git("update-ref", f"refs/trees/{commit}", commit)
                return commit
        if self.git("ls-remote", "-q", "origin", "HEAD", check=False).status != 0:
            raise InfraError(
                f"{self.url} does not answer as a git repository\n{done.output.strip()}",
                hint="check the URL and the network",
            )
        # An abbreviated commit or an expression like v7.3~2: needs the history, though not its files.
        shallow = ["--unshallow"] if (self.path / "shallow").exists() else []
        heads = "+refs/heads/*:refs/remotes/origin/*"
        self.git("fetch", "-q", "--filter=blob:none", "--tags", *shallow, "origin", heads)
        for name in (revision, f"origin/{revision}"):
            commit = self._resolve(name)
            if commit:
                return commit
        raise _Unknown

    def _local_commit(self, path: Path, revision: str) -> str:
        if not path.exists():
            raise UserError(f"{path} does not exist", hint="the path of a git repository")
        git = git_command("--no-optional-locks", "-C", str(path))
        if not run([*git, "rev-parse", "--git-dir"], deadline=self.deadline, check=False).ok:
            raise UserError(
                f"{path} is not a git repository", hint="use it as a folder, or give the repository's path"
            )
        done = run(
            [*git, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{revision}^{{commit}}"],
            deadline=self.deadline,
            check=False,
            merge_stderr=False,
        )
        if not done.ok:
            raise _Unknown
        return done.output.strip()
