# SPDX-License-Identifier: GPL-2.0-only
"""The commits of a user's repository, which is only ever read: candidates, trees, and what is known."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Self

from harness.bisect.area import Area
from harness.bisect.gitlog import GitBisect, Verdict, record
from harness.bisect.model import History
from harness.cache import Cache
from harness.deadline import Deadline
from harness.errors import InfraError, UserError
from harness.kernel.spec import KernelTree
from harness.progress import Progress
from harness.suggest import did_you_mean

#: Seconds to look for the release a commit is in; over all of a kernel's history that takes several.
_DESCRIBE_S: Final = 60.0
_US: Final = "hmm-harness"
_PATHS: Final = "paths are relative to the top of the repository"


@dataclass(frozen=True)
class Commits(History):
    """The commits that can have brought the bug: ancestors of the bad end, and of none of the good ones.

    good, bad: the ends, full ids. bases: merge bases of the bad end and good ones that are no ancestors of
    it; they are taken for good as those are. paths, first_parent: what limits the candidates.
    """

    good: tuple[str, ...]
    bad: str
    bases: tuple[str, ...] = ()
    paths: tuple[str, ...] = ()
    first_parent: bool = False


@dataclass(frozen=True)
class CommitFacts:
    """What a report says of a commit. author: "Name <address>". date: when it was written, ISO 8601."""

    commit: str
    title: str
    author: str
    date: str
    parents: tuple[str, ...]


class Repository:
    """A repository to bisect; use it within `Repository.open`."""

    def __init__(self, area: Area, progress: Progress) -> None:
        self._area = area
        self._progress = progress
        self._facts: dict[str, CommitFacts] = {}

    @classmethod
    @contextlib.contextmanager
    def open(cls, url_or_path: str, cache: Cache, progress: Progress, deadline: Deadline) -> Iterator[Self]:
        """Hold the repository's work area: another bisection of the same one waits.

        UserError where there is no repository, InfraError for a URL that never answered.
        """
        area = Area(url_or_path, cache, deadline)
        with cache.lock(f"bisect-{area.folder.name}", deadline, progress.note):
            area.prepare(progress)
            yield cls(area, progress)

    def resolve(self, revision: str) -> str:
        """The full id of a revision. UserError if there is none of that name."""
        commit = self._area.commit(revision)
        if commit is None:
            names = self._area.ask("for-each-ref", "--format=%(refname:lstrip=2)").output.split()
            hint = "a branch, a tag or a commit it has"
            if self._shallow():
                hint += f"; its history was cut off: `git -C {self._area.source} fetch --unshallow`"
            near = did_you_mean(re.split(r"[~^@:]", revision)[0], names)
            raise UserError(f"{self._area.source} has no revision {revision!r}{near}", hint=hint)
        return commit

    def history(
        self, good: Sequence[str], bad: str, paths: Sequence[str] = (), first_parent: bool = False
    ) -> Commits:
        """The candidates between revisions. UserError where these cannot be the ends of a bisection.

        A good end that is no ancestor of the bad one excludes its own ancestors, as with `git bisect`; where
        they part is taken to be good as well, and the user is told.
        """
        if not good:
            raise UserError("no good revision is given", hint="--good REV")
        goods = {self.resolve(name): name for name in good}
        tip = self.resolve(bad)
        bases = {base: None for commit, name in goods.items() for base in self._bases(commit, name, tip, bad)}
        self._check_shallow(tuple(goods), tip)
        words = ["rev-list", "--topo-order", "--reverse", "--parents"]
        if first_parent:
            words.append("--first-parent")
        done = self._area.git(*words, tip, "--not", *goods, "--", *paths, check=not paths)
        if not done.ok:
            raise UserError(f"git does not take these paths:\n{done.errors.strip()}", hint=_PATHS)
        lines = [line.split() for line in done.output.splitlines()]
        if not lines:
            raise UserError(
                f"no commit between {' '.join(good)} and {bad} touches {' '.join(paths)}",
                hint=_PATHS,
            )
        position = {line[0]: index for index, line in enumerate(lines)}
        parents = tuple(
            tuple(position[parent] for parent in line[1:] if parent in position) for line in lines
        )
        self._note_dirty({tip: bad, **goods})
        return Commits(tuple(position), parents, tuple(goods), tip, tuple(bases), tuple(paths), first_parent)

    def _bases(self, good: str, good_name: str, bad: str, bad_name: str) -> tuple[str, ...]:
        """Where a good end and the bad one part, if it is no ancestor. UserError for ends that are none."""
        if good == bad:
            raise UserError(
                f"{good_name} and {bad_name} are the same commit, {good[:12]}",
                hint="the good end is an older commit, without the bug",
            )
        done = self._area.git("merge-base", "--all", good, bad, check=False)
        bases = tuple(done.output.split())
        if bad in bases:
            raise UserError(
                f"good and bad are swapped: {bad_name} is an ancestor of {good_name}",
                hint=f"--good {bad_name} --bad {good_name}",
            )
        if not bases:
            self._refuse_shallow(f"no common history of {good_name} and {bad_name} is known")
            raise UserError(
                f"{good_name} and {bad_name} are unrelated: they have no common history",
                hint="a good end is an ancestor of the bad one, or shares one with it",
            )
        if good in bases:
            return ()
        self._progress.note(
            f"{good_name} is no ancestor of {bad_name}: where they part "
            f"({', '.join(base[:12] for base in bases)}) is taken to be good as well"
        )
        return bases

    def _shallow(self) -> frozenset[str]:
        with contextlib.suppress(FileNotFoundError):
            return frozenset((self._area.git_dir / "shallow").read_text(encoding="utf-8").split())
        return frozenset()

    def _check_shallow(self, goods: Sequence[str], bad: str) -> None:
        cut = self._shallow()
        if cut and not cut.isdisjoint(self._area.git("rev-list", bad, "--not", *goods).output.split()):
            self._refuse_shallow("the history between good and bad is not whole")

    def _refuse_shallow(self, why: str) -> None:
        if self._shallow():
            raise UserError(
                f"{self._area.source} is a shallow repository: {why}",
                hint=f"git -C {self._area.source} fetch --unshallow",
            )

    def _note_dirty(self, ends: dict[str, str]) -> None:
        """Say what a user who bisects the state of a checkout may not expect."""
        head = self._area.commit("HEAD") if self._area.local else None
        if head not in ends:
            return
        # A bare repository has no checkout, and no status.
        status = self._area.ask("status", "--porcelain", "--untracked-files=no", check=False)
        if status.ok and status.output:
            self._progress.note(f"uncommitted changes of {self._area.source} are not part of any commit")

    def skips(self, commits: Commits, ranges: Sequence[str]) -> frozenset[int]:
        """The candidates that revisions and ranges (A..B) name, as `git bisect skip` takes them."""
        found: set[str] = set()
        for name in ranges:
            if ".." not in name:
                found.add(self.resolve(name))
                continue
            done = self._area.ask("rev-list", "--end-of-options", name, "--", check=False)
            if not done.ok:
                for end in filter(None, re.split(r"\.{2,3}", name)):
                    self.resolve(end)
                raise UserError(f"{name!r} is no range of commits", hint="A..B: what B has and A has not")
            found.update(done.output.split())
        return frozenset(place for place, commit in enumerate(commits.names) if commit in found)

    def tree(self, commit: str) -> KernelTree:
        """The source at a commit (full id); its path is gone after the next call. UserError for no kernel."""
        return self._area.tree(commit, self._progress)

    def facts(self, commit: str) -> CommitFacts:
        """What is known of a commit (full id)."""
        if commit not in self._facts:
            words = ("rev-list", "--max-count=1", "--no-commit-header", "--encoding=UTF-8")
            done = self._area.git(*words, "--format=%P%n%an <%ae>%n%aI%n%s", commit, "--")
            parents, author, date, title = done.output.removesuffix("\n").split("\n")
            self._facts[commit] = CommitFacts(commit, title, author, date, tuple(parents.split()))
        return self._facts[commit]

    def title(self, commit: str) -> str:
        """A commit's first line."""
        return self.facts(commit).title

    def parents(self, commit: str) -> tuple[str, ...]:
        """A commit's parents as they are, whatever limits the candidates."""
        return self.facts(commit).parents

    def describe(self, commit: str) -> str:
        """A commit by the tag it came in, or the one before it; empty if there is none in a minute."""
        area, deadline = self._area, self._area.deadline
        area.deadline = deadline.sooner(_DESCRIBE_S)
        try:
            for words in (("--contains",), ("--tags", "--abbrev=12")):
                done = area.ask("describe", *words, commit, check=False)
                if done.ok:
                    return done.output.strip()
        except InfraError:
            if deadline.expired:
                raise
        finally:
            area.deadline = deadline
        return ""

    def reverted(self, bad: str, commit: str) -> str | None:
        """A commit of our own: `bad` without what `commit` did (a merge: against its first parent).

        None where that does not come out cleanly, is not there any more, or came with no parent. The same
        arguments always give the same id. InfraError with a git older than 2.38.
        """
        facts = self.facts(commit)
        if not facts.parents:
            return None
        words = ("rev-list", "--max-count=1", "--no-commit-header", "--format=%ct")
        date = self._area.git(*words, bad, "--").output.strip()
        # What `git revert` merges: what came of the commit, and its parent, as two changes of the commit.
        base = self._made(commit, (), "base", date)
        ours = self._made(bad, (base,), "ours", date)
        theirs = self._made(facts.parents[0], (base,), "theirs", date)
        done = self._area.git("merge-tree", "--write-tree", ours, theirs, check=False)
        if done.status not in (0, 1):
            raise InfraError(f"git merge-tree failed:\n{done.errors.strip()}", hint="git 2.38 or newer")
        tree = done.output.split("\n")[0]
        if done.status == 1 or tree == self._area.git("rev-parse", f"{bad}^{{tree}}").output.strip():
            return None
        text = f'Revert "{facts.title}"\n\nThis reverts commit {commit}.'
        return self._made(tree, (bad,), text, date)

    def _made(self, tree: str, parents: Sequence[str], text: str, date: str) -> str:
        """A commit of the tree of another; its id follows from the arguments alone."""
        facts = {"NAME": _US, "EMAIL": f"{_US}@localhost", "DATE": f"{date} +0000"}
        env = {f"GIT_{who}_{key}": facts[key] for who in ("AUTHOR", "COMMITTER") for key in facts}
        links = [word for parent in parents for word in ("-p", parent)]
        words = ("-c", "i18n.commitEncoding=UTF-8", "commit-tree", "--no-gpg-sign", *links, "-m", text)
        return self._area.git(*words, f"{tree}^{{tree}}", env=env).output.strip()

    def record(
        self,
        good: Sequence[str],
        bad: str,
        first_parent: bool,
        paths: Sequence[str],
        verdicts: Sequence[tuple[str, Verdict]],
    ) -> GitBisect:
        """What `git bisect` makes of verdicts, in their order; its log is one that `git bisect replay` takes.

        good, bad, first_parent, paths: those of `Commits`; `bases` belong to the good.
        """
        return record(self._area, good, bad, first_parent, paths, verdicts)
