# SPDX-License-Identifier: GPL-2.0-only
"""`hmm-harness nightly`: 0 if nothing is new, 1 for a regression, 3 if nothing can be said."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import Any

from harness.arguments import command_of
from harness.cache import digest
from harness.disk import write_atomically
from harness.display import Display
from harness.errors import InfraError, UserError
from harness.experiment.options import Workshop
from harness.nightly.child import run_verb
from harness.nightly.judge import Past
from harness.nightly.known import Known
from harness.nightly.lock import alone_on
from harness.nightly.model import QEMU, Nightly, load_nightly
from harness.nightly.notify import notify
from harness.nightly.session import Session, Setting
from harness.nightly.units import tree_facts, units_of
from harness.results.database import opened
from harness.results.formats.night import night_markdown
from harness.results.formats.options import Options
from harness.results.html.report import html
from harness.results.night import NightResult, NightTreeFacts
from harness.results.queries import evening_of, records
from harness.results.reading import load_run
from harness.results.runfolder import (
    make_run_folder,
    program,
    read_record,
    resumed_facts,
    run_facts,
    unfinished_run,
)
from harness.results.schema import read_as
from harness.target.box.config import load_box
from harness.verbs.common import conclude, kept_in, recorded_in
from harness.verbs.rerun import places

MARKDOWN, HTML = "report.md", "report.html"
STATUS: Mapping[str, int] = {"nothing_new": 0, "regression": 1, "not_judged": InfraError.exit_code}


def main(arguments: argparse.Namespace, display: Display) -> int:
    """Carry the verb out; its exit status."""
    begin = time.monotonic()
    arguments.out = arguments.out.absolute()  # the commands that are suggested work anywhere
    night = load_nightly(arguments.night)
    day = evening_of(time.time())
    known = Known.load(Path(night.known_issues), day) if night.known_issues else Known(day=day)
    _check(night, known)
    past = past_nights(arguments.store, night)
    workshop = Workshop.at(arguments.cache, display)
    with alone_on(night.target, arguments.night, workshop.cache):
        trees = _trees(night, workshop)
        folder, begun = _folder(arguments, night, day, trees, display)
        setting = Setting(
            night=night,
            day=day,
            trees=trees,
            units=tuple(units_of(night, [tree for tree in trees if not tree.error])),
            past=past,
            known=known,
            folder=folder,
            places=tuple(places(arguments)),
            reproduce=str(begun["reproduce"]),
        )
        again = [program(), *arguments.argv]
        with recorded_in(folder, begun, arguments.store) as update, kept_in(folder, display, again):
            done = Session(setting, display, update, begun, run_verb, begin).run()
            report = conclude(folder, "nightly", done.model_dump(mode="json"), [], update)
            write_atomically(folder / MARKDOWN, night_markdown(done).encode())
            write_atomically(folder / HTML, html(load_run(folder), Options()).encode())
            unheard = notify(night.notify, done, folder)
            update("finished", unheard=unheard, units=[], cells=[])  # the result has them
    display.result(*report)
    for what in unheard:
        print(f"warning: {what}", file=sys.stderr)
    if arguments.json:
        print(json.dumps(done.model_dump(mode="json")), flush=True)
    return STATUS[done.verdict]


def _check(night: Nightly, known: Known) -> None:
    """UserError for what only the whole of the files shows."""
    if night.target != QEMU:
        load_box(Path(night.target))
    wrong = [issue.tree for issue in known.issues if issue.tree not in ("", *night.trees)]
    if wrong:
        raise UserError(
            f"{night.known_issues}: no tree {', '.join(wrong)} in the night's file",
            hint=f"trees: {', '.join(night.trees)}",
        )


def past_nights(store: Path, night: Nightly) -> Past:
    """The last nights of this name on this target that measured anything.

    UserError, InfraError: as `opened` says of the store.
    """
    if not store.is_file():
        return Past()
    target = night.target if night.target == QEMU else Path(night.target).name
    found: list[NightResult] = []
    with opened(store) as connection:
        for record in records(connection, "nightly"):
            result: Mapping[str, Any] = json.loads(record)["result"]
            if (result["name"], result["target"]) == (night.name, target) and result["cells"]:
                found.append(read_as(NightResult, result, f"a night in {store}"))
            if len(found) == night.nights:
                break
    return Past(tuple(found))


def _trees(night: Nightly, workshop: Workshop) -> tuple[NightTreeFacts, ...]:
    """All trees as they are tonight. One that the network does not give takes its own units only."""
    found = []
    defects = []
    for name, entry in night.trees.items():
        try:
            found.append(tree_facts(name, entry.tree, workshop))
        except InfraError as error:
            workshop.progress.note(f"{name}: {error.message}")
            found.append(NightTreeFacts(name=name, source="", revision="", error=error.message))
        except UserError as error:
            defects.append(f"trees.{name}: {error.message}")
    if defects:
        raise UserError("\n".join(defects))
    if all(tree.error for tree in found):
        raise InfraError("; ".join(f"{tree.name}: {tree.error}" for tree in found))
    return tuple(found)


def _folder(
    arguments: argparse.Namespace,
    night: Nightly,
    day: date,
    trees: tuple[NightTreeFacts, ...],
    display: Display,
) -> tuple[Path, dict[str, Any]]:
    """A new folder; or that of this night, if it was begun and not ended, with what its record says."""
    out: Path = arguments.out.resolve()
    revisions = [tree.model_dump_json() for tree in trees]
    key = digest([night.model_dump_json(by_alias=True), day.isoformat(), *revisions])[:20]
    begun = unfinished_run(out, key)
    if begun:
        display.note(f"going on with {begun}")
        return begun, resumed_facts(read_record(begun))
    return make_run_folder(out, "nightly"), run_facts("nightly", command_of(arguments), key=key)
