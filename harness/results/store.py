# SPDX-License-Identifier: GPL-2.0-only
"""Runs into the store: at the end of a verb, or read from their folders at any later time."""

from __future__ import annotations

import json
import shlex
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

from harness.cache import digest
from harness.errors import HarnessError, UserError
from harness.results.database import opened, writing
from harness.results.reading import RunRecord, TrialRecord, load_run
from harness.results.report import REPORT
from harness.results.runfolder import RECORD


def feed(path: Path, folder: Path) -> None:
    """Put a run as its folder has it into the store, which is made if need be; what it had of it is replaced.

    UserError, InfraError: as `load_run` and `opened` say; the store is as it was then.
    """
    run = load_run(folder)
    with opened(path, create=True) as connection, writing(connection):
        insert(connection, run)


def rebuild(path: Path, places: Sequence[Path]) -> tuple[int, list[str]]:
    """Read every run folder at or below `places` into the store: how many, and which cannot be read, and why.

    What the store knows of runs whose folders are gone stays.
    """
    count = 0
    unread: list[str] = []
    with opened(path, create=True) as connection:
        for folder in run_folders(places):
            try:
                run = load_run(folder)
            except UserError as error:
                unread.append(error.message)
                continue
            unread += run.damaged
            with writing(connection):
                insert(connection, run)
            count += 1
    return count, unread


def run_folders(places: Sequence[Path]) -> Iterator[Path]:
    """The folders of runs at these places and right below them. UserError for a place that is no folder."""
    for place in places:
        if not place.is_dir():
            raise UserError(f"no folder {place}", hint="give folders that hold runs, as --out names them")
        found = [place / RECORD] if (place / RECORD).is_file() else sorted(place.glob(f"*/{RECORD}"))
        yield from (record.parent for record in found)


def insert(connection: sqlite3.Connection, run: RunRecord) -> None:
    """Replace what the store has of a run; a trial whose record is lost stays as it was known."""
    results = [trial.result for trial in run.trials if trial.result]
    begun = begun_of(run)
    ended = seconds_of(run.facts.get("ended"))
    result = run.result or {}
    row = {
        "id": run_id(run),
        "folder": str(run.folder),
        "name": run.folder.name,
        "verb": run.verb,
        "state": run.standing,
        "begun": begun,
        "ended": ended,
        "tree": run.tree,
        "scenario": scenario_of(run),
        "outcome": outcome_of(run),
        "trials": len(results),
        "bugs": sum(result.is_bug for result in results),
        "seconds": float(result.get("seconds", ended - begun if ended else 0.0)),
        "reproduce": run.reproduce,
        "error": run.error,
        "record": json.dumps(dict(run.facts)),
        "report": _report(run.folder),
    }
    row = _storable(row)
    changes = ", ".join(f"{name} = excluded.{name}" for name in row if name != "id")
    names, values = ", ".join(row), ", ".join(f":{name}" for name in row)
    (number,) = connection.execute(
        f"INSERT INTO runs ({names}) VALUES ({values}) ON CONFLICT (id) DO UPDATE SET {changes} "
        "RETURNING number",
        row,
    ).fetchone()
    for trial in run.trials:
        _insert_trial(connection, number, run, trial, begun)


def _insert_trial(
    connection: sqlite3.Connection, number: int, run: RunRecord, trial: TrialRecord, begun: float
) -> None:
    result = trial.result
    if result is None:
        return
    kernel: Mapping[str, Any] = trial.facts.get("kernel", {})
    named = {name: kernel.get(name, "") for name in ("release", "build")}
    named["name"] = _kernel_name(run, trial)
    row = {
        "run": number,
        "name": trial.folder.name,
        "arm": trial.arm,
        "idx": trial.index,
        "seed": trial.seed,
        "begun": seconds_of(trial.facts.get("begun")) or begun,
        "scenario": trial.facts.get("scenario", ""),
        "preempt": result.preempt,
        "kernel": _number(connection, "kernels", named),
        "outcome": str(result.kind),
        "answer": result.kind.is_answer,
        "bug": result.is_bug,
        "signature": _number(connection, "signatures", _storable({"text": result.signature}))
        if result.signature
        else None,
        "proof": result.proof,
        "windows": result.windows,
        "iterations": result.iterations,
        "seconds": result.seconds,
        "title": result.title,
        "metrics": json.dumps(dict(result.metrics)),
    }
    row = _storable(row)
    names, values = ", ".join(row), ", ".join(f":{name}" for name in row)
    connection.execute(f"INSERT OR REPLACE INTO trials ({names}) VALUES ({values})", row)


def _storable(row: Mapping[str, Any]) -> dict[str, Any]:
    """The row, with what is no character in its texts as `\\udcNN`: SQLite takes characters only."""
    return {
        name: value.encode("utf-8", errors="backslashreplace").decode() if isinstance(value, str) else value
        for name, value in row.items()
    }


def _kernel_name(run: RunRecord, trial: TrialRecord) -> str:
    """What the experiment calls the trial's kernel; in a bisection, the commit."""
    if run.verb == "matrix":
        words = shlex.split(str(trial.facts.get("command", "")))
        return next((name for word, name in pairwise(words) if word == "--kernel"), trial.arm)
    if run.experiment and trial.arm in run.experiment.arms:
        return run.experiment.arms[trial.arm].label
    return str(run.facts.get("kernel", trial.arm))


def _number(connection: sqlite3.Connection, table: str, row: Mapping[str, str]) -> int:
    """The number of a row that is there once."""
    names, values = ", ".join(row), ", ".join(f":{name}" for name in row)
    connection.execute(f"INSERT OR IGNORE INTO {table} ({names}) VALUES ({values})", row)
    where = " AND ".join(f"{name} = :{name}" for name in row)
    (number,) = connection.execute(f"SELECT number FROM {table} WHERE {where}", row).fetchone()
    return int(number)


def run_id(run: RunRecord) -> str:
    """Names a run wherever its folder goes."""
    return str(run.facts.get("id") or digest([run.folder.name, run.reproduce])[:16])


def scenario_of(run: RunRecord) -> str:
    """The scenario of a run; empty if it has none, or did not come so far."""
    if run.result and isinstance(run.result.get("scenario"), str):
        return str(run.result["scenario"])
    if run.verb == "matrix":
        return ", ".join(dict.fromkeys(row["scenario"] for row in (run.result or {}).get("scenarios", ())))
    if run.verb == "nightly":
        cells = (run.result or {}).get("cells", ())
        return ", ".join(dict.fromkeys(cell["scenario"] for cell in cells))
    if run.verb == "selftest":
        return ""  # its trials are of one that is there for it alone
    if run.experiment:
        return run.experiment.scenario
    return next((str(trial.facts.get("scenario", "")) for trial in run.trials), "")


def outcome_of(run: RunRecord) -> str:
    """What a run came to, in a word or two."""
    result = run.result
    if result is None:
        return run.standing
    if run.verb == "bisect":
        return f"culprit {result['culprit'][:12]}" if result.get("culprit") else "no culprit"
    if run.verb == "selftest":
        return f"{len(result['cases']) - len(result['missed'])} of {len(result['cases'])} as expected"
    if run.verb == "matrix":
        done = sum(cell["state"] == "done" for cell in result["cells"])
        return f"{done} of {len(result['cells'])} cells"
    return str(result.get("verdict") or result.get("outcome") or run.standing)


def begun_of(run: RunRecord) -> float:
    """When a run began, s since 1970."""
    return seconds_of(run.facts.get("begun")) or (run.folder / RECORD).stat().st_mtime


def seconds_of(text: Any) -> float | None:
    """A record's time as seconds since 1970; None if there is none."""
    try:
        return datetime.fromisoformat(text).timestamp()
    except (TypeError, ValueError):
        return None


def _report(folder: Path) -> str:
    try:
        return (folder / REPORT).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def fed(path: Path, folder: Path) -> str:
    """`feed`, at the end of a verb, whose result counts without the store too: what went wrong, if it did."""
    try:
        feed(path, folder)
    except HarnessError as error:
        hint = f"`hmm-harness history --rebuild {folder}` does it later"
        return f"the store does not have this run: {error.message}; {hint}"
    return ""
