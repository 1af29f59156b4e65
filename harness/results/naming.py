# SPDX-License-Identifier: GPL-2.0-only
"""Which run is meant: a folder, or what `history` calls it."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from pathlib import Path

from harness.errors import UserError
from harness.results.database import opened
from harness.results.queries import named


@dataclass(frozen=True)
class Stored:
    """What the store has of a run: its record and report stay when its folder is gone."""

    folder: Path
    report: str
    record: str


def run_named(name: str, store: Path) -> Path | Stored:
    """The folder of a run, or what the store has of it if that is gone.

    name: a folder; or the beginning of a run's name or id; or `last`, `last~2`. UserError if it is none, or
    of several runs.
    """
    if Path(name).is_dir():
        return Path(name)
    if "/" in name or not name:
        raise UserError(
            f"no folder {name!r}", hint="give the folder of a run, or its name as history lists it"
        )
    with opened(store) as connection:
        found = list(named(connection, name))
    if not found:
        raise UserError(f"no run {name!r}", hint="`hmm-harness history` lists those that are known")
    if len(found) > 1:
        raise UserError(
            f"{name!r} is the beginning of {len(found)} runs",
            hint=f"give its folder: {', '.join(row['folder'] for row in found[:4])}",
        )
    return _folder(found[0])


def _folder(row: sqlite3.Row) -> Path | Stored:
    folder = Path(row["folder"])
    return folder if folder.is_dir() else Stored(folder, row["report"], row["record"])


def folder_named(name: str, store: Path) -> Path:
    """The folder of a run. UserError if it is gone, too."""
    found = run_named(name, store)
    if isinstance(found, Stored):
        raise UserError(
            f"{found.folder} is not there any more", hint=f"`hmm-harness show {name}` has its report still"
        )
    return found
