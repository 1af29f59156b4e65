# SPDX-License-Identifier: GPL-2.0-only
"""What the store is asked: runs, trials, signatures and nights, newest first."""

from __future__ import annotations

import re
import sqlite3
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path

from harness.errors import UserError

#: A night ends at noon, s after midnight.
NOON_S = 12 * 3600.0

_AGE = re.compile(r"(\d+(?:\.\d+)?)([hdw])", re.ASCII)
_UNITS_S = {"h": 3600.0, "d": 86400.0, "w": 7 * 86400.0}


@dataclass(frozen=True)
class Filter:
    """Which runs or trials; empty: any. Times in seconds since 1970."""

    scenario: str = ""
    #: A kernel's name in its experiment (with further patches, too), or how its release or build begins.
    kernel: str = ""
    #: An outcome of a trial, or what a run came to.
    outcome: str = ""
    #: Part of a signature.
    signature: str = ""
    verb: str = ""
    since: float = 0.0

    def trials(self) -> tuple[str, dict[str, str | float]]:
        """SQL for the trials `t` of the runs `r`, and its values. Those of self-tests only if asked for."""
        wanted: dict[str, str | float] = {
            "t.scenario = :scenario": self.scenario,
            f"t.kernel IN ({_KERNELS})": self.kernel,
            "t.outcome = :outcome": self.outcome,
            f"t.signature IN ({_SIGNATURES})": self.signature,
            # What a self-test finds it has done itself.
            "r.verb = :verb" if self.verb else "r.verb != 'selftest'": "asked for",
            "t.begun >= :since": self.since,
        }
        return _all(wanted), self.values

    def runs(self) -> tuple[str, dict[str, str | float]]:
        """SQL for the runs `r`, and its values: those with one trial of all that is asked for.

        The outcome may be the run's own (a verdict), and a run without trials has a scenario all the same.
        """
        of_run: dict[str, str | float] = {"r.verb = :verb": self.verb, "r.begun >= :since": self.since}
        scenario: dict[str, str | float] = {"scenario = :scenario": self.scenario}
        trial = scenario | {
            f"kernel IN ({_KERNELS})": self.kernel,
            f"signature IN ({_SIGNATURES})": self.signature,
        }
        outcome: dict[str, str | float] = {"outcome = :outcome": self.outcome}
        ways = [_with_trial(trial | outcome)]
        if self.outcome:
            ways.append(f"{_all(outcome)} AND {_with_trial(trial)}")
        if not self.kernel and not self.signature:
            ways.append(_all(scenario | outcome))
        return f"{_all(of_run)} AND ({' OR '.join(ways)})", self.values

    @property
    def values(self) -> dict[str, str | float]:
        """The values that SQL names."""
        return {
            "scenario": self.scenario,
            "kernel": self.kernel,
            "outcome": self.outcome,
            "signature": self.signature,
            "verb": self.verb,
            "since": self.since,
        }


def _all(wanted: Mapping[str, str | float]) -> str:
    """SQL for all conditions that have a value."""
    return " AND ".join(condition for condition, value in wanted.items() if value) or "1"


def _with_trial(wanted: Mapping[str, str | float]) -> str:
    """SQL for runs that have such a trial; any, if nothing is asked for."""
    return f"r.number IN (SELECT run FROM trials WHERE {_all(wanted)})" if any(wanted.values()) else "1"


_KERNELS = (
    "SELECT number FROM kernels WHERE name = :kernel "
    "OR substr(name, 1, length(:kernel) + 3) = :kernel || ' + ' "
    "OR substr(release, 1, length(:kernel)) = :kernel OR substr(build, 1, length(:kernel)) = :kernel"
)
_SIGNATURES = "SELECT number FROM signatures WHERE instr(text, :signature)"


def runs(connection: sqlite3.Connection, wanted: Filter, limit: int) -> list[sqlite3.Row]:
    """The newest `limit` runs. Columns: as the table `runs`, without record and report."""
    where, values = wanted.runs()
    return connection.execute(
        "SELECT id, folder, name, verb, state, begun, ended, tree, scenario, outcome, trials, bugs, seconds, "
        f"reproduce, error FROM runs r WHERE {where} ORDER BY begun DESC, number DESC LIMIT :limit",
        {**values, "limit": limit},
    ).fetchall()


def trials(connection: sqlite3.Connection, wanted: Filter, limit: int) -> list[sqlite3.Row]:
    """The newest `limit` trials, with their run's folder and name, their kernel and signature."""
    where, values = wanted.trials()
    return connection.execute(
        "SELECT r.folder, r.name AS run, t.name, t.arm, t.idx, t.seed, t.begun, t.scenario, t.preempt, "
        "k.name AS kernel, k.release, k.build, t.outcome, t.bug, s.text AS signature, t.proof, t.windows, "
        "t.iterations, t.seconds, t.title, t.metrics FROM trials t JOIN runs r ON r.number = t.run "
        "JOIN kernels k ON k.number = t.kernel LEFT JOIN signatures s ON s.number = t.signature "
        f"WHERE {where} ORDER BY t.begun DESC LIMIT :limit",
        {**values, "limit": limit},
    ).fetchall()


def records(connection: sqlite3.Connection, verb: str) -> Iterator[str]:
    """The `run.json` of each finished run of a verb, the newest first."""
    rows = connection.execute(
        "SELECT record FROM runs WHERE verb = :verb AND state = 'finished' ORDER BY begun DESC, number DESC",
        {"verb": verb},
    )
    return (str(row["record"]) for row in rows)


def evening_of(begun: float) -> date:
    """The date by which the night is known in which something began (s since 1970), local time."""
    return datetime.fromtimestamp(begun - NOON_S).date()


def signatures(connection: sqlite3.Connection, wanted: Filter, limit: int) -> list[sqlite3.Row]:
    """Signatures, with when, in which run and on which kernel each appeared first; the newest first.

    Columns: signature, first, last, trials, run (its name), release, kernel.
    """
    where, values = wanted.trials()
    first = "FROM trials t WHERE t.signature = g.number AND t.begun = g.first LIMIT 1"
    return connection.execute(
        "SELECT s.text AS signature, g.first, g.last, g.trials, r.name AS run, k.release, k.name AS kernel "
        "FROM (SELECT t.signature AS number, min(t.begun) AS first, max(t.begun) AS last, "
        "count(*) AS trials FROM trials t JOIN runs r ON r.number = t.run "
        f"WHERE t.signature IS NOT NULL AND {where} GROUP BY t.signature) g "
        "JOIN signatures s ON s.number = g.number "
        f"JOIN runs r ON r.number = (SELECT t.run {first}) "
        f"JOIN kernels k ON k.number = (SELECT t.kernel {first}) ORDER BY g.first DESC LIMIT :limit",
        {**values, "limit": limit},
    ).fetchall()


@dataclass(frozen=True)
class Rate:
    """Trials of one night: how many answered, and of these how many showed the bug."""

    bugs: int
    answers: int
    other: int

    @property
    def often(self) -> tuple[str, bool]:
        """How often in a word, and whether anything else failed: a night that differs in this has changed."""
        share = "always" if self.bugs == self.answers else "sometimes" if self.bugs else "never"
        return share, self.other > 0

    def __str__(self) -> str:
        other = f" +{self.other} other" if self.other else ""
        return f"{self.bugs}/{self.answers}{other}" if self.answers else "-"


@dataclass(frozen=True, order=True)
class Subject:
    """What is compared from night to night."""

    scenario: str
    kernel: str
    preempt: str


@dataclass(frozen=True)
class Night:
    """What ran from noon to noon. `date`: of its evening, local time. `new`: signatures never seen before."""

    date: str
    rates: dict[Subject, Rate]
    new: tuple[str, ...]


def nights(connection: sqlite3.Connection, wanted: Filter, count: int) -> list[Night]:
    """The last `count` nights in which trials ran, the latest first."""
    where, values = wanted.trials()
    found: list[Night] = []
    before = float("inf")
    while len(found) < count:
        newest = connection.execute(
            "SELECT t.begun FROM trials t JOIN runs r ON r.number = t.run "
            f"WHERE {where} AND t.begun < :before ORDER BY t.begun DESC LIMIT 1",
            {**values, "before": before},
        ).fetchone()
        if newest is None:
            break
        evening = evening_of(newest["begun"])
        begin = datetime.combine(evening, datetime.min.time()).timestamp() + NOON_S
        span = {**values, "begin": begin, "before": before}
        found.append(Night(evening.isoformat(), *_night(connection, where, span)))
        before = begin
    return found


def _night(
    connection: sqlite3.Connection, where: str, span: dict[str, str | float]
) -> tuple[dict[Subject, Rate], tuple[str, ...]]:
    within = f"{where} AND t.begun >= :begin AND t.begun < :before"
    rows = connection.execute(
        "SELECT t.scenario, k.name AS kernel, t.preempt, sum(t.bug) AS bugs, sum(t.answer) AS answers, "
        "sum(t.answer AND NOT t.bug AND t.outcome != 'completed') AS other "
        "FROM trials t JOIN runs r ON r.number = t.run JOIN kernels k ON k.number = t.kernel "
        f"WHERE {within} GROUP BY 1, 2, 3 ORDER BY 1, 2, 3",
        span,
    )
    rates = {
        Subject(row["scenario"], row["kernel"], row["preempt"]): Rate(
            row["bugs"], row["answers"], row["other"]
        )
        for row in rows
    }
    new = connection.execute(
        "SELECT DISTINCT s.text FROM trials t JOIN runs r ON r.number = t.run "
        f"JOIN signatures s ON s.number = t.signature WHERE {within} AND NOT EXISTS "
        "(SELECT 1 FROM trials u WHERE u.signature = t.signature AND u.begun < :begin) ORDER BY 1",
        span,
    )
    return rates, tuple(row["text"] for row in new)


def since(text: str) -> float:
    """`3d`, `12h`, `2w` ago, or a date (`2026-11-29T08:00`), as seconds since 1970. UserError else."""
    age = _AGE.fullmatch(text)
    if age:
        return time.time() - float(age[1]) * _UNITS_S[age[2]]
    try:
        return datetime.fromisoformat(text).timestamp()
    except ValueError as error:
        raise UserError(f"cannot read the time {text!r}", hint="as in 3d, 12h, 2w or 2026-11-29") from error


def named(connection: sqlite3.Connection, name: str) -> Sequence[sqlite3.Row]:
    """Runs by the beginning of their folder's name, or of their id; `last`, `last~2`: by their age."""
    last = re.fullmatch(r"last(?:~(\d{1,6}))?", name, re.ASCII)
    if last:
        return connection.execute(
            "SELECT * FROM runs ORDER BY begun DESC, number DESC LIMIT 1 OFFSET ?", (int(last[1] or 0),)
        ).fetchall()
    return connection.execute(
        "SELECT * FROM runs WHERE substr(name, 1, length(:name)) = :name "
        "OR substr(id, 1, length(:name)) = :name ORDER BY begun DESC",
        {"name": name},
    ).fetchall()


def known_folders(connection: sqlite3.Connection) -> list[Path]:
    """Where the runs are, or were."""
    return [Path(row["folder"]) for row in connection.execute("SELECT folder FROM runs ORDER BY begun DESC")]


def forget(connection: sqlite3.Connection, run_id: str) -> None:
    """Remove a run and its trials."""
    connection.execute("DELETE FROM runs WHERE id = ?", (run_id,))
