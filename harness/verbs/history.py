# SPDX-License-Identifier: GPL-2.0-only
"""`hmm-harness history`: 0 if what was asked for is listed, 2 if a folder cannot be read into the store."""

from __future__ import annotations

import argparse
import importlib
import json
import re
import sqlite3
import sys
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from harness.display import Display, elapsed
from harness.errors import UserError
from harness.layout import Part, Table, fitted
from harness.results import SCHEMA
from harness.results.database import opened
from harness.results.queries import Filter, Night, nights, runs, signatures, since, trials

#: A run's folder without the scenario: enough for `show` to find it.
_STAMP = re.compile(r"\d{8}-\d{6}(?=-)")
#: More than any listing has.
_ALL = 2**31


def main(arguments: argparse.Namespace, display: Display) -> int:
    """Carry the verb out; its exit status."""
    if arguments.rebuild is not None:
        return _rebuild(arguments, display)
    wanted = Filter(
        scenario=arguments.scenario or "",
        kernel=arguments.kernel or "",
        outcome=arguments.outcome or "",
        signature=arguments.signature or "",
        verb=arguments.of or "",
        since=since(arguments.since) if arguments.since else 0.0,
    )
    limit = arguments.number or _ALL
    with opened(arguments.store) as connection:
        if arguments.nights:
            _show_nights(nights(connection, wanted, arguments.nights), arguments, display)
        elif arguments.signatures:
            _show("signatures", signatures(connection, wanted, limit), arguments, display)
        elif arguments.trials:
            _show("trials", trials(connection, wanted, limit), arguments, display)
        else:
            _show("runs", runs(connection, wanted, limit), arguments, display)
    return 0


def _rebuild(arguments: argparse.Namespace, display: Display) -> int:
    # Reading run folders takes the models; a listing does without, and is there at once.
    rebuild = importlib.import_module("harness.results.store").rebuild
    count, unread = rebuild(arguments.store, arguments.rebuild)
    for what in unread:
        print(f"error: {what}", file=sys.stderr)
    display.result(f"{count} runs read into {arguments.store}")
    return UserError.exit_code if unread else 0


def _show(what: str, rows: Sequence[sqlite3.Row], arguments: argparse.Namespace, display: Display) -> None:
    if arguments.json:
        print(json.dumps({"schema": SCHEMA, what: [_row_json(row) for row in rows]}))
        return
    head, line, whole = _TABLES[what]
    _print([head, *(line(row) for row in rows)], display, len(rows) == arguments.number, whole)


def _row_json(row: sqlite3.Row) -> dict[str, Any]:
    values = dict(row)
    if "metrics" in values:
        values["metrics"] = json.loads(values["metrics"])
    return values


def _print(rows: Sequence[Sequence[str]], display: Display, more: bool = False, whole: int = 0) -> None:
    lines: list[Part] = [Table(rows, indent=0)] if whole < 0 else [*fitted(rows, display.columns, whole)]
    if len(rows) == 1:
        lines.append("(nothing)")
    if more:
        lines.append("(there may be more: -n NUMBER, -n 0 for all)")
    display.result(*lines)


def _run_line(row: sqlite3.Row) -> tuple[str, ...]:
    bugs = f"{row['bugs']}/{row['trials']}" if row["trials"] else "-"
    name, took = _run_name(row["name"]), elapsed(row["seconds"]) if row["seconds"] else "-"
    return (name, row["verb"], row["outcome"], bugs, took, row["scenario"])


def _run_name(name: str) -> str:
    stamp = _STAMP.match(name)
    return stamp[0] if stamp else name


def _trial_line(row: sqlite3.Row) -> tuple[str, ...]:
    bug = " (the bug)" if row["bug"] else ""
    kernel = f"{row['release']} {row['kernel']}"
    return (_run_name(row["run"]), row["name"], f"{row['outcome']}{bug}", kernel, row["title"])


def _signature_line(row: sqlite3.Row) -> tuple[str, ...]:
    kernel = f"{row['release']} {row['kernel']}"
    first, last = (_day(row[name]) for name in ("first", "last"))
    return (first, last, str(row["trials"]), _run_name(row["run"]), kernel, row["signature"])


def _day(begun: float) -> str:
    return datetime.fromtimestamp(begun).strftime("%Y-%m-%d %H:%M")


#: Head, line of a row, and how many columns are never cut: `show` takes the name of a run, and of its trial.
#: -1: nothing is cut, as the end of a signature tells as much as its beginning.
_TABLES = {
    "runs": (("run", "verb", "outcome", "bug", "took", "scenario"), _run_line, 1),
    "trials": (("run", "trial", "outcome", "kernel", ""), _trial_line, 2),
    "signatures": (("first", "last", "trials", "first in", "on", "signature"), _signature_line, -1),
}


def _show_nights(found: Sequence[Night], arguments: argparse.Namespace, display: Display) -> None:
    """A line for each scenario and kernel, a column for each night: trials with the bug, of all answers."""
    if arguments.json:
        print(json.dumps({"schema": SCHEMA, "nights": [_night_json(night) for night in found]}))
        return
    subjects = sorted({subject for night in found for subject in night.rates})
    rows = [("scenario", "kernel", "preempt", *(night.date for night in found), "")]
    for subject in subjects:
        rates = [night.rates.get(subject) for night in found]
        changed = "changed" if len({rate.often for rate in rates if rate}) > 1 else ""
        cells = ["-" if rate is None else str(rate) for rate in rates]
        rows.append((subject.scenario, subject.kernel, subject.preempt, *cells, changed))
    _print(rows, display)
    for night in found:
        for signature in night.new:
            display.result(f"new in the night of {night.date}: {signature}")


def _night_json(night: Night) -> dict[str, Any]:
    rates = [
        {"scenario": subject.scenario, "kernel": subject.kernel, "preempt": subject.preempt}
        | {"bugs": rate.bugs, "answers": rate.answers, "other": rate.other}
        for subject, rate in night.rates.items()
    ]
    return {"date": night.date, "rates": rates, "new_signatures": list(night.new)}
