# SPDX-License-Identifier: GPL-2.0-only
"""What git itself makes of a bisection, beside the harness's own search."""

from __future__ import annotations

import random
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from harness.bisect.classic import Classic
from harness.bisect.gitlog import GitBisect, Verdict
from harness.bisect.model import BAD, GOOD, Evidence, Found, Knowledge, Place, Try
from harness.bisect.repository import Commits, Repository
from harness.cache import Cache
from tests.unit.kernelroom import Notes
from tests.unit.sources import git, import_history, soon

#: Steps after which a search that has not ended is taken for one that never will.
MOST_STEPS = 500


@dataclass(frozen=True)
class Search:
    """How a search went: what it found, and the verdicts on the way."""

    found: Found
    verdicts: tuple[tuple[str, Verdict], ...]


def search(commits: Commits, culprit: int, untestable: frozenset[int] = frozenset()) -> Search:
    """Look for a bug that always shows. culprit, untestable: places of candidates."""
    method = Classic(0.99)
    tested: dict[Place, Evidence] = {}
    skipped: set[int] = set()
    verdicts: list[tuple[str, Verdict]] = []
    for _ in range(MOST_STEPS):
        action = method.next(Knowledge(commits, tested, frozenset(skipped)))
        if isinstance(action, Found):
            return Search(action, tuple(verdicts))
        assert isinstance(action, Try)
        place = action.place
        name = commits.names[place] if place >= 0 else ""
        before = tested.get(place, Evidence())
        if place in untestable:
            skipped.add(place)
            verdicts.append((name, "skip"))
        elif place == BAD or (place != GOOD and commits.ancestors[place] >> culprit & 1):
            trials = action.trials if place == BAD else 1
            tested[place] = Evidence(before.clean, before.reproduced + trials)
            if name:
                verdicts.append((name, "bad"))
        else:
            tested[place] = Evidence(before.clean + action.trials, before.reproduced)
            if name:
                verdicts.append((name, "good"))
    raise AssertionError("the search does not end")


def random_parents(chance: random.Random, count: int, merged: bool) -> list[tuple[int, ...]]:
    """A history with one root and one tip; with `merged`, of up to four branches that come and go."""
    parents: list[tuple[int, ...]] = [()]
    tips = [0]
    for place in range(1, count):
        left = count - place
        if len(tips) > 1 and (left < len(tips) or chance.random() < 0.2):
            one, other = sorted(chance.sample(tips, 2))
            parents.append((one, other))
            tips = [tip for tip in tips if tip not in (one, other)] + [place]
        elif merged and len(tips) < min(4, left) and chance.random() < 0.3:
            parents.append((chance.randrange(place),))
            tips.append(place)
        else:
            tip = chance.choice(tips)
            parents.append((tip,))
            tips = [place if other == tip else other for other in tips]
    return parents


def replayed(clone: Path, told: GitBisect) -> tuple[str, ...]:
    """What `git bisect replay` of a log comes to in another clone: what may be the first bad commit."""
    log = clone.parent / "bisect.log"
    log.write_text(told.log, encoding="utf-8")
    # Its status says how the search stands.
    subprocess.run(["git", "-C", str(clone), "bisect", "replay", str(log)], check=False, capture_output=True)
    last = git(clone, "bisect", "log").splitlines()[-1]
    suspects = git(clone, "rev-list", "refs/bisect/bad", "--not", "--glob=refs/bisect/good-*").split()
    assert "first bad commit: " in last
    git(clone, "bisect", "reset")
    return tuple(suspects)


@pytest.mark.parametrize("seed", [0, 1, 2, 3, 4, 7])
def test_git_names_the_commit_that_the_search_finds(seed: int, tmp_path: Path, cache: Cache) -> None:
    chance = random.Random(seed)
    count, merged = chance.choice((16, 50, 100, 200)), seed % 2 == 1
    parents = random_parents(chance, count, merged)
    path = tmp_path / "user"
    ids = import_history(path, parents, lambda place: {f"mm/{place % 7}.c": f"int at_{place};\n"})
    with Repository.open(str(path), cache, Notes(), soon()) as repository:
        limits = ["mm/1.c", "mm/2.c", "mm/4.c"] if seed % 5 == 4 else []
        commits = repository.history([ids[0]], "main", limits, first_parent=seed % 6 == 3)
        places = range(len(commits))
        untestable = frozenset(place for place in places if seed % 4 >= 2 and chance.random() < 0.1)
        culprit = chance.choice([place for place in places if place not in untestable])
        went = search(commits, culprit, untestable)
        told = repository.record(commits.good, commits.bad, commits.first_parent, limits, went.verdicts)
    suspects = {commits.names[place] for place in went.found.suspects}
    assert commits.names[culprit] in suspects
    if len(suspects) == 1:
        assert (told.first_bad, told.remaining) == (commits.names[culprit], ())
    else:
        assert (told.first_bad, set(told.remaining)) == (None, suspects)


def linear(path: Path, count: int) -> list[str]:
    parents = [(place - 1,) if place else () for place in range(count)]
    return import_history(path, parents, lambda place: {"mm/memory.c": f"int at_{place};\n"})


def test_the_log_can_be_replayed(tmp_path: Path, cache: Cache) -> None:
    path = tmp_path / "user"
    ids = linear(path, 10)
    git(tmp_path, "clone", "-q", str(path), "clone")
    with Repository.open(str(path), cache, Notes(), soon()) as repository:
        verdicts: list[tuple[str, Verdict]] = [(ids[5], "bad"), (ids[2], "good"), (ids[3], "skip")]
        told = repository.record([ids[0]], ids[9], False, (), [*verdicts, (ids[4], "bad")])
        assert (told.first_bad, set(told.remaining)) == (None, {ids[3], ids[4]})
        assert set(replayed(tmp_path / "clone", told)) == {ids[3], ids[4]}
        told = repository.record([ids[0]], ids[9], True, ["mm"], [(ids[4], "bad"), (ids[3], "good")])
        assert (told.first_bad, told.remaining) == (ids[4], ())
        assert replayed(tmp_path / "clone", told) == (ids[4],)


def test_a_search_that_is_not_at_its_end_has_no_conclusion(tmp_path: Path, cache: Cache) -> None:
    path = tmp_path / "user"
    ids = linear(path, 6)
    with Repository.open(str(path), cache, Notes(), soon()) as repository:
        told = repository.record([ids[0]], ids[5], False, (), [(ids[3], "bad")])
        assert (told.first_bad, told.remaining) == (None, ())
        assert f"git bisect bad {ids[3]}" in told.log
        # All that is told after the end is on record, and changes nothing.
        told = repository.record(
            [ids[0]], ids[5], False, (), [(ids[1], "bad"), (ids[4], "bad"), (ids[1], "bad")]
        )
        assert told.first_bad == ids[1]
        assert told.log.count("git bisect bad") == 3
