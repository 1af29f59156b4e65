# SPDX-License-Identifier: GPL-2.0-only
"""A bisection that is killed again and again, and what its folder held each time."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from harness.results.runfolder import read_record
from tests.vm.history import MadeHistory

PROGRAM = Path(sys.executable).parent / "hmm-harness"
#: A bisection that takes longer has gone wrong, s; its first kernel alone takes minutes.
PATIENCE_S = 3600.0


@dataclass(frozen=True)
class Bisected:
    """A bisection that has ended.

    kills: how often it was killed on the way. again: folders of finished trials that a later start changed.
    seconds: of all starts together.
    """

    status: int
    out: str
    err: str
    kills: int
    again: tuple[str, ...]
    seconds: float

    @property
    def json(self) -> dict[str, Any]:
        """Standard output, which must be one JSON object and nothing else."""
        value = json.loads(self.out)
        assert isinstance(value, dict)
        return value


def words_for(made: MadeHistory, *further: str) -> list[str]:
    """The arguments that bisect a history from its first commit to its last."""
    ends = ["--good", made.good, "--bad", made.bad]
    return ["bisect", "--tree", f"git:{made.repository}", *ends, *further]


def bisect(words: Sequence[str], out: Path, moments_s: Sequence[float] = ()) -> Bisected:
    """Start a bisection, kill it at each of the moments (s since its start), start it once more, to its end.

    All its starts are the same command. One that ends before its moment is the last.
    """
    argv = [str(PROGRAM), *words, "--json", "--out", str(out)]
    finished: dict[Path, tuple[int, ...]] = {}
    again: set[str] = set()
    kills = 0
    begin = time.monotonic()
    for moment_s in (*moments_s, None):
        with tempfile.TemporaryFile("w+") as said, tempfile.TemporaryFile("w+") as complained:
            status = _start(argv, said, complained, PATIENCE_S if moment_s is None else moment_s)
            now = _finished(out)
            again |= {path.name for path in finished if now.get(path) != finished[path]}
            finished = now
            if status is None:
                assert moment_s is not None, f"no end in {PATIENCE_S:g} s"
                kills += 1
                continue
            said.seek(0)
            complained.seek(0)
            seconds = time.monotonic() - begin
            return Bisected(status, said.read(), complained.read(), kills, tuple(sorted(again)), seconds)
    raise AssertionError("the last start is not killed")


def _start(argv: Sequence[str], said: IO[str], complained: IO[str], limit_s: float) -> int | None:
    """Run a program and kill it after `limit_s`: its exit status, None if it was killed."""
    child = subprocess.Popen(
        argv, stdin=subprocess.DEVNULL, stdout=said, stderr=complained, start_new_session=True
    )
    try:
        return child.wait(limit_s)
    except subprocess.TimeoutExpired:
        return None
    finally:
        child.kill()
        child.wait()


def _finished(out: Path) -> dict[Path, tuple[int, ...]]:
    """The finished trials, and when each of their files was last written, ns."""
    found = {}
    for path in out.glob("*/trials/*/run.json"):
        if read_record(path.parent)["state"] == "finished":
            found[path.parent] = tuple(
                file.stat().st_mtime_ns for file in sorted(path.parent.rglob("*")) if file.is_file()
            )
    return found


def wrong_verdicts(made: MadeHistory, result: dict[str, Any]) -> list[str]:
    """What a bisection of a history says of its commits that is not so, as sentences."""
    wrong = []
    for entry in result["tested"]:
        commit = entry["commit"]
        if commit in made.unbuildable | made.failing:
            expected = {"skip"}
        elif commit in made.affected:
            expected = {"bad", "open"}
        else:
            expected = {"good", "open"}
        if entry["verdict"] not in expected:
            wrong.append(f"{commit[:12]} is {entry['verdict']}, not {' or '.join(sorted(expected))}")
    if result["culprit"] != made.culprit:
        wrong.append(f"the culprit is {made.culprit[:12]}, not {result['culprit']}")
    return wrong
