# SPDX-License-Identifier: GPL-2.0-only
"""Where a user's repository is bisected: git files of our own on its objects, and one checkout that moves."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from functools import partial
from pathlib import Path

from harness.cache import Cache
from harness.deadline import Deadline
from harness.disk import disk_errors, write_atomically
from harness.errors import InfraError, UserError
from harness.kernel.git import QUIET, git_command, git_ident, git_origin, locate, paths_between
from harness.kernel.spec import KernelTree, kernel_version
from harness.process import Completed, run
from harness.progress import Progress

#: What holds here whatever the user's own settings say. Links to the checkout's files come and go, which
#: changes their ctime; objects that no ref leads to are kept.
_SETTINGS = ("core.hooksPath=/dev/null", "core.trustctime=false", "gc.auto=0", "maintenance.auto=false")
_OPTIONS = tuple(word for setting in _SETTINGS for word in ("-c", setting))

#: The branches and tags of a URL go by their own names, as in the user's repository.
_REFSPECS = ("+refs/heads/*:refs/heads/*", "+refs/tags/*:refs/tags/*")
_URL_HEAD = "refs/harness/head"


class Area:
    """The folder `cache/bisect/<digest of the URL>`. Use it under its lock only.

    A local repository is only ever read: its objects are found in place (alternates), its names looked up
    where they are. Whoever prunes commits there while they are bisected takes them away here as well. A URL
    is fetched without file contents (where the server can), which git gets as a checkout needs them.
    """

    def __init__(self, url_or_path: str, cache: Cache, deadline: Deadline) -> None:
        if url_or_path.startswith("-"):
            raise UserError(f"{url_or_path} starts with a dash", hint="give a URL or path")
        self.source = url_or_path
        self.url, self.local = locate(url_or_path)
        self.origin = git_origin(self.url)
        self.folder = cache.folder("bisect") / self.origin.removeprefix("git-")
        self.git_dir = self.folder / "git"
        self.deadline = deadline
        self._cache = cache
        self._commit = ""

    @property
    def _git_lock(self) -> str:
        return f"bisect-{self.folder.name}-git"

    def git(
        self,
        *words: str,
        check: bool = True,
        env: Mapping[str, str] | None = None,
        git_dir: Path | None = None,
    ) -> Completed:
        """Run git on the area; its standard error is kept apart.

        git holds a lock: one that outlives a killed harness can be waited for.
        """
        lock = self._cache.folder("locks") / f"{self._git_lock}.lock"
        command = git_command(*_OPTIONS, f"--git-dir={git_dir or self.git_dir}", *words)
        return run(
            ["flock", "--no-fork", str(lock), *command],
            deadline=self.deadline,
            env={**QUIET, "GIT_NO_REPLACE_OBJECTS": "1", **(env or {})},
            check=check,
            merge_stderr=False,
        )

    def ask(self, *words: str, check: bool = True) -> Completed:
        """Run a git command that only reads where names are known: in the local repository, or the area."""
        if self.local is None:
            return self.git(*words, check=check)
        options = ("--no-optional-locks", "-c", "core.fsmonitor=false", "-C", str(self.local))
        return run(
            git_command(*options, *words),
            deadline=self.deadline,
            env={**QUIET, "GIT_NO_REPLACE_OBJECTS": "1"},
            check=check,
            merge_stderr=False,
        )

    def prepare(self, progress: Progress) -> None:
        """Make the area, or mend what a killed run left; bring it up to date.

        UserError if there is no repository, InfraError for a URL that never answered.
        """
        if self.local is not None:
            if not self.local.exists():
                raise UserError(f"{self.local} does not exist", hint="the path of a git repository")
            if not self.ask("rev-parse", "--git-dir", check=False).ok:
                raise UserError(
                    f"{self.local} is not a git repository",
                    hint="a bisection needs the history: give the repository's path or URL",
                )
        if not (self.git_dir / "HEAD").is_file():
            with self._cache.making(self.folder) as draft:
                words = ("init", "--quiet", "--bare", "--template=", str(draft / "git"))
                run(git_command(*words), deadline=self.deadline, env=QUIET)
        with self._cache.lock(self._git_lock, self.deadline), disk_errors(self.folder):
            for stale in (*self.git_dir.rglob("*.lock"), *self.git_dir.glob("objects/pack/tmp_*")):
                stale.unlink()
        if self.local is not None:
            self._borrow()
        else:
            self._fetch(progress)

    def _borrow(self) -> None:
        """Read the objects of the local repository in place, with what git must know about them."""
        with disk_errors(self.git_dir):
            (self.git_dir / "objects/info").mkdir(exist_ok=True)
        objects = self._user_file("objects")
        write_atomically(self.git_dir / "objects/info/alternates", f"{objects}\n".encode())
        shallow = self._user_file("shallow")
        with disk_errors(self.git_dir):
            if shallow.is_file():
                shutil.copyfile(shallow, self.git_dir / "shallow")
            else:
                (self.git_dir / "shallow").unlink(missing_ok=True)
        # A repository cloned without file contents: what is missing comes from where the rest came from.
        promisors = self.ask("config", "--get-regexp", r"^remote\..*\.promisor$", check=False)
        for line in promisors.output.splitlines():
            remote = line.split(" ")[0].removesuffix(".promisor")
            for key in ("url", "promisor", "partialclonefilter"):
                found = self.ask("config", "--get", f"{remote}.{key}", check=False)
                if found.ok:
                    self.git("config", f"{remote}.{key}", found.output.strip())

    def _user_file(self, name: str) -> Path:
        return Path(
            self.ask("rev-parse", "--path-format=absolute", "--git-path", name).output.removesuffix("\n")
        )

    def _fetch(self, progress: Progress) -> None:
        self.git("config", "remote.origin.url", self.url)
        words = ("fetch", "--quiet", "--prune", "--no-tags", "--filter=blob:none", "origin", *_REFSPECS)
        with progress.step(f"fetching the history of {self.source}"):
            done = self.git(*words, f"+HEAD:{_URL_HEAD}", check=False)
            if not done.ok:
                # A server whose HEAD names no branch it has.
                done = self.git(*words, check=False)
        if done.ok:
            return
        said = f"{self.url} does not answer as a git repository"
        if not self.git("for-each-ref", "--count=1").output:
            raise InfraError(f"{said}\n{done.errors.strip()}", hint="check the URL and the network")
        progress.note(f"{said}: going on with the history as it was fetched earlier")

    def commit(self, revision: str) -> str | None:
        """The full id of a revision, as the user's repository (or the URL) knows it; None if it has none."""
        if revision.startswith("-"):
            return None
        if self.local is None and revision.split("~")[0].split("^")[0] in ("HEAD", "@"):
            revision = revision.replace("HEAD", _URL_HEAD, 1).replace("@", _URL_HEAD, 1)
        words = ("rev-parse", "--verify", "--quiet", "--end-of-options", f"{revision}^{{commit}}")
        done = self.ask(*words, check=False)
        return done.output.strip() or None if done.ok else None

    def tree(self, commit: str, progress: Progress) -> KernelTree:
        """The checkout moved to a commit (full id). The tree's path is gone after the next call.

        It is the same tree, to every key of a build, as `harness.kernel.git.fetch_git` gives.
        """
        target = self.folder / "at" / commit
        if self._commit != commit:
            # Only a run that was killed leaves files that are of no commit.
            unsure, self._commit = not self._commit, ""
            with disk_errors(self.folder):
                target.parent.mkdir(exist_ok=True)
                # Whoever still holds the tree of another commit finds nothing rather than the wrong source.
                for earlier in target.parent.iterdir():
                    earlier.rename(target)
                target.mkdir(exist_ok=True)
            with progress.step(f"checking out {commit[:12]}"):
                work_tree = f"--work-tree={target}"
                self.git(work_tree, "checkout", "--quiet", "--detach", "--force", commit, "--")
                if unsure:
                    self.git(work_tree, "clean", "--quiet", "-ffdx")
            self._commit = commit
        return KernelTree(
            target,
            kernel_version(target, f"{self.source} at {commit[:12]}"),
            git_ident(commit),
            f"git {self.source} {commit[:12]}",
            self.origin,
            changes_since=partial(paths_between, self.git_dir, commit),
            commit=commit,
        )
