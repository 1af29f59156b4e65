# SPDX-License-Identifier: GPL-2.0-only
"""The grammar of the verbs that work on what ran before: history, show, export, prune."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from harness.cli_options import cache_folder, count, folders, positive, store

_RUN = "a folder, the beginning of a name that history lists, `last` or `last~2`"


def add_result_verbs(commands: argparse._SubParsersAction[Any]) -> None:
    """Add them to the verbs."""
    for add in (_history, _show, _export, _prune):
        add(commands)


def _history(commands: argparse._SubParsersAction[Any]) -> None:
    history = commands.add_parser(
        "history",
        help="what ran before, the newest first",
    )
    history.add_argument("--scenario", metavar="NAME")
    history.add_argument("--kernel", metavar="K", help="its name, or how its release or build begins")
    history.add_argument("--outcome", metavar="O", help="of a trial, or the verdict of a run")
    history.add_argument("--signature", metavar="TEXT", help="a part of it")
    history.add_argument("--of", metavar="VERB", help="runs of this verb")
    history.add_argument("--since", metavar="WHEN", help="as in 3d, 12h, 2w or 2026-11-29")
    history.add_argument(
        "-n", "--number", type=count, default=40, metavar="N", help="the newest N; 0: all (default: 40)"
    )
    listing = history.add_mutually_exclusive_group()
    listing.add_argument("--trials", action="store_true", help="trials instead of runs")
    listing.add_argument("--signatures", action="store_true", help="when and where each appeared first")
    listing.add_argument(
        "--nights", nargs="?", type=positive, const=2, metavar="N",
        help="the last N nights beside each other (default: 2): rates, and signatures that are new",
    )  # fmt: skip
    listing.add_argument(
        "--rebuild", nargs="+", type=Path, metavar="FOLDER", help="read run folders into the store first"
    )
    history.add_argument("--json", action="store_true", help="one JSON object on standard output")
    store(history)
    history.set_defaults(verb="history")


def _show(commands: argparse._SubParsersAction[Any]) -> None:
    show = commands.add_parser(
        "show",
        help="a run again, as it was printed at its end",
    )
    show.add_argument("run", metavar="RUN", help=_RUN)
    show.add_argument("--trial", metavar="N|NAME", help="this trial of it (a number: of every arm)")
    show.add_argument("--json", action="store_true", help="as --json of the run's own verb")
    show.add_argument(
        "--rerun", action="store_true", help="run it once more; refused if it would not be the same"
    )
    folders(show)
    show.set_defaults(verb="show")


def _export(commands: argparse._SubParsersAction[Any]) -> None:
    export = commands.add_parser(
        "export",
        help="a run in a format that another program reads",
    )
    export.add_argument("run", metavar="RUN", help=_RUN)
    store(export)
    form = export.add_mutually_exclusive_group(required=True)
    form.add_argument("--format", metavar="F", help="junit, ktap, kcidb, jsonl, markdown, reply or html")
    form.add_argument(
        "--events", dest="format", action="store_const", const="jsonl", help="the same as --format jsonl"
    )
    export.add_argument("-o", "--output", type=Path, metavar="FILE", help="(default: standard output)")
    export.add_argument(
        "--mbox", type=Path, metavar="FILE", help="reply: the mail, or thread, that is replied to"
    )
    export.add_argument(
        "--from",
        dest="sender",
        default="",
        metavar="'NAME <ADDRESS>'",
        help="reply: (default: as git has it)",
    )
    export.add_argument("--origin", default="hmm_harness", help="kcidb: who publishes (default: %(default)s)")
    export.set_defaults(verb="export")


def _prune(commands: argparse._SubParsersAction[Any]) -> None:
    prune = commands.add_parser(
        "prune",
        help="frees what old runs take: evidence first, verdicts last",
    )
    prune.add_argument(
        "folders", nargs="*", type=Path, metavar="FOLDER", help="of runs (default: all that the store knows)"
    )
    prune.add_argument("--keep", metavar="N|DAYSd", help="evidence of the newest N runs, or of so many days")
    prune.add_argument("--keep-verdicts", metavar="N|DAYSd", help="the rest of older runs goes as well")
    prune.add_argument(
        "--keep-cache", metavar="DAYSd", help="of the cache what was used in so many days; the rest goes"
    )
    prune.add_argument("--dry-run", action="store_true", help="only say what would go")
    prune.add_argument("--json", action="store_true", help="one JSON object on standard output")
    cache_folder(prune)
    store(prune)
    prune.set_defaults(verb="prune")
