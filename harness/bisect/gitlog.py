# SPDX-License-Identifier: GPL-2.0-only
"""A bisection told to git itself: a log that `git bisect replay` takes, and what git concludes."""

from __future__ import annotations

import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from harness.bisect.area import Area
from harness.disk import disk_errors
from harness.errors import InfraError

Verdict = Literal["good", "bad", "skip"]

#: From here on git's status says that it failed; below it tells how the search stands.
_FATAL = 128


@dataclass(frozen=True)
class GitBisect:
    """What git makes of the verdicts.

    log: as `git bisect log` prints it. first_bad: the commit git names, None if it names none. remaining:
    those it cannot tell apart because all that is left is skipped; empty while the search is not at its end.
    """

    log: str
    first_bad: str | None
    remaining: tuple[str, ...]


def record(
    area: Area,
    good: Sequence[str],
    bad: str,
    first_parent: bool,
    paths: Sequence[str],
    verdicts: Sequence[tuple[str, Verdict]],
) -> GitBisect:
    """Run `git bisect` over verdicts that were found, in their order. All commits by their full ids.

    Git wants the merge bases of an end that is no ancestor of the bad one tested first: pass them in `good`.
    A bad end that touches none of the paths is as bad as the last commit that does, and git is told so.
    """
    # Like a worktree's, so that the objects are the area's, and the state of the bisection is nobody else's.
    git_dir = area.folder / "record"
    with disk_errors(git_dir):
        shutil.rmtree(git_dir, ignore_errors=True)
        git_dir.mkdir()
        (git_dir / "commondir").write_text(f"{area.git_dir}\n", encoding="utf-8")
        (git_dir / "HEAD").write_text(f"{bad}\n", encoding="utf-8")
    limit = ["--first-parent"] if first_parent else []
    area.git("bisect", "start", "--no-checkout", *limit, bad, *good, "--", *paths, git_dir=git_dir)
    last = area.git("rev-list", "--max-count=1", *limit, bad, "--", *paths).output.strip()
    implied: list[tuple[str, Verdict]] = [(last, "bad")] if last not in ("", bad) else []
    for commit, verdict in (*implied, *verdicts):
        done = area.git("bisect", verdict, commit, check=False, git_dir=git_dir)
        if not 0 <= done.status < _FATAL:
            raise InfraError(
                f"`git bisect {verdict} {commit[:12]}` failed:\n{done.errors.strip()}",
                hint=f"git -C {area.source} fsck",
            )
    log = area.git("bisect", "log", git_dir=git_dir).output
    shutil.rmtree(git_dir, ignore_errors=True)
    return GitBisect(log, *_conclusion(log))


def _conclusion(log: str) -> tuple[str | None, tuple[str, ...]]:
    """What the comments of a log say last."""
    # A verdict that comes after the end makes git say the same again.
    named = re.findall(r"^# first bad commit: \[([0-9a-f]+)\]", log, re.M)
    if named:
        return named[-1], ()
    last = log.rpartition("# only skipped commits left to test")
    return None, tuple(re.findall(r"^# possible first bad commit: \[([0-9a-f]+)\]", last[2], re.M))
