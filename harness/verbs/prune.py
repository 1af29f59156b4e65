# SPDX-License-Identifier: GPL-2.0-only
"""`hmm-harness prune`: 0 if all that was to go is gone (--dry-run: would be), 3 if the cache is in use."""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

from harness.cache import Cache
from harness.cacheuse import KINDS, Entry, remove, unused
from harness.display import Display
from harness.errors import UserError
from harness.layout import Part, Table
from harness.results.database import opened, writing
from harness.results.pruning import Limit, Pruned, carry_out, plan
from harness.results.queries import forget, known_folders
from harness.results.reading import RunRecord, load_run
from harness.results.runfolder import SCHEMA
from harness.results.store import feed, run_folders, run_id


def main(arguments: argparse.Namespace, display: Display) -> int:
    """Carry the verb out; its exit status."""
    evidence, verdicts = (
        Limit.read(text) if text else None for text in (arguments.keep, arguments.keep_verdicts)
    )
    if not evidence and not verdicts and not arguments.keep_cache:
        raise UserError(
            "nothing says what is to be kept",
            hint="--keep 30 (runs) or --keep 30d (days); --keep-cache 30d",
        )
    now_s = time.time()
    entries = _entries(arguments, now_s) if arguments.keep_cache else []
    found = plan(_runs(arguments), evidence, verdicts, now_s) if evidence or verdicts else []
    if not arguments.dry_run:
        if entries:
            remove(Cache(arguments.cache), entries)
        for pruned in found:
            carry_out(pruned)
            _tell_store(arguments.store, pruned)
    if arguments.json:
        cached = [{"entry": str(entry.path), "freed_bytes": entry.size} for entry in entries]
        runs = [_json(pruned) for pruned in found]
        print(json.dumps({"schema": SCHEMA, "runs": runs, "cache": cached}))
        return 0
    if arguments.keep_cache:
        display.result(*_cache_parts(arguments.cache, entries, arguments.dry_run))
    if evidence or verdicts:
        display.result(*_parts(found, arguments.dry_run))
    return 0


def _entries(arguments: argparse.Namespace, now_s: float) -> list[Entry]:
    """What of the cache goes."""
    limit = Limit.read(arguments.keep_cache)
    if limit.seconds is None:
        raise UserError(f"cannot read {arguments.keep_cache!r}", hint="days, as in --keep-cache 30d")
    return unused(Cache(arguments.cache), limit.seconds, now_s)


def _runs(arguments: argparse.Namespace) -> list[RunRecord]:
    """The runs below the folders that are named, or else all that the store knows the folders of."""
    if arguments.folders:
        folders = list(run_folders(arguments.folders))
    else:
        with opened(arguments.store) as connection:
            folders = [folder for folder in known_folders(connection) if folder.is_dir()]
    runs = []
    for folder in folders:
        try:
            runs.append(load_run(folder))
        except UserError as error:
            print(f"warning: left alone: {error.message}", file=sys.stderr)
    return runs


def _tell_store(store: Path, pruned: Pruned) -> None:
    if not store.is_file() or pruned.fate == "kept":
        return
    if pruned.fate == "evidence":
        feed(store, pruned.run.folder)
        return
    with opened(store) as connection, writing(connection):
        forget(connection, run_id(pruned.run))


def _json(pruned: Pruned) -> dict[str, object]:
    return {
        "folder": str(pruned.run.folder),
        "fate": pruned.fate,
        "freed_bytes": pruned.freed,
        "why": pruned.why,
    }


def _parts(found: list[Pruned], dry: bool) -> list[Part]:
    lines: list[Part] = []
    gone = [pruned for pruned in found if pruned.fate != "kept" and pruned.freed]
    if gone:
        what = {"evidence": "its evidence", "all": "all of it"}
        rows = [(str(p.run.folder), p.run.standing, what[p.fate], _megabytes(p.freed)) for p in gone]
        lines.append(Table([("run", "", "goes" if dry else "gone", "freed"), *rows], indent=0))
    lines += [f"left alone: {p.run.folder}: {p.why}" for p in found if p.why]
    would = "would free" if dry else "freed"
    kept = sum(pruned.fate == "kept" for pruned in found)
    total = _megabytes(sum(pruned.freed for pruned in found))
    return [*lines, f"{would} {total} of {_runs_of(len(gone))}; {_runs_of(kept)} kept as they are"]


def _cache_parts(cache: Path, entries: list[Entry], dry: bool) -> list[Part]:
    lines: list[Part] = []
    if entries:
        kinds = {kind: [entry for entry in entries if entry.kind == kind] for kind in KINDS}
        rows = [
            (kind, str(len(found)), _megabytes(sum(entry.size for entry in found)))
            for kind, found in kinds.items()
            if found
        ]
        lines.append(Table([("cache", "goes" if dry else "gone", "freed"), *rows], indent=0))
    total = _megabytes(sum(entry.size for entry in entries))
    return [*lines, f"{'would free' if dry else 'freed'} {total} of {cache}"]


def _megabytes(size: int) -> str:
    return f"{size / 1e6:.1f} MB"


def _runs_of(count: int) -> str:
    return "1 run" if count == 1 else f"{count} runs"
