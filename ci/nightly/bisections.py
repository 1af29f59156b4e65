# SPDX-License-Identifier: GPL-2.0-only
"""Bisections of real kernels: a history by both methods, a rare bug, twenty kills, a series, a configuration.

Writes `reports/YYYY-mm-dd-bisect.md`, one row a bisection; ends with 1 if one did not name the right culprit.
Run it from the project's folder, as `python -m ci.nightly.bisections`.
"""

from __future__ import annotations

import argparse
import datetime
import difflib
import json
import random
import shutil
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.cache import Cache, default_cache_folder
from harness.config import load_experiment
from harness.deadline import Deadline
from harness.disk import write_atomically
from harness.display import PlainProgress
from harness.experiment.kernels import get_tree
from harness.experiment.options import Workshop
from harness.kernel.tree import KernelTree
from harness.process import command_line, run
from tests.vm.bisecting import Bisected, bisect, words_for, wrong_verdicts
from tests.vm.history import MadeHistory, make_history
from tests.vm.story import WEAK_STORY

REPORTS = Path(__file__).resolve().parent / "reports"
KILLS = 20
#: Patches of the series: the culprit is in the middle of them.
SERIES = 9
#: The bug of the weakened history shows in three of ten trials, whatever they iterate.
SHORT = ("--set", "iterations=2")
#: Symbols that differ between the two configurations, none of them set in the harness's own.
SYMBOLS = ("CROSS_MEMORY_ATTACH", "FHANDLE", "AIO", "KSM")
#: What the third of them brings: a warning in the path of every trial.
GUILTY = "AIO"
HEAD = """\
| bisection | culprit | confidence | bad end | kernels had, built | skipped | trials | kills | seconds |
|---|---|---|---|---|---|---|---|---|
"""


@dataclass(frozen=True)
class Night:
    """Where the night's work happens. scratch: for the files that a bisection is given."""

    strong: MadeHistory
    weak: MadeHistory
    tree: KernelTree
    scratch: Path


@dataclass(frozen=True)
class Sample:
    """A bisection of the night.

    words: its arguments. wrong: what its JSON says that is not so. fresh: the kernels between the ends are
    built anew.
    """

    name: str
    words: Callable[[Night], list[str]]
    wrong: Callable[[Night, dict[str, Any]], list[str]]
    kills: int = 0
    fresh: bool = False


def strong(*further: str) -> Callable[[Night], list[str]]:
    """The history whose bug shows nearly always."""
    return lambda night: words_for(night.strong, *further)


def weak(*further: str) -> Callable[[Night], list[str]]:
    """The history whose bug shows in three of ten trials."""
    return lambda night: words_for(night.weak, *SHORT, *further)


def series(night: Night) -> list[str]:
    """Some of the history's commits as patches, on the tree the history begins with."""
    made = night.strong
    middle = made.plain.index(made.culprit)
    first = max(0, middle - SERIES // 2)
    files = []
    for number, commit in enumerate(made.plain[first : first + SERIES], start=1):
        git = ["git", f"--git-dir={made.repository}", "format-patch", "-1", "--stdout", commit]
        files.append(night.scratch / f"{number:04d}-{commit[:12]}.patch")
        files[-1].write_text(run(git, deadline=Deadline.after(60.0)).output, encoding="utf-8")
    return ["bisect", "--bisect-patches", *map(str, files)]


def series_wrong(night: Night, result: dict[str, Any]) -> list[str]:
    """The culprit's file name has the commit in it."""
    wanted = night.strong.culprit[:12]
    named = next((entry["title"] for entry in result["tested"] if entry["commit"] == result["culprit"]), "")
    right = wanted in str(result["culprit"]) or "device-private page is locked" in named
    return [] if right else [f"the culprit is the patch of {wanted}, not {result['culprit']}"]


def symbols(night: Night) -> list[str]:
    """A tree in which one of some symbols brings a warning, and the settings of both ends."""
    old = (night.tree.path / "mm/hmm.c").read_text(encoding="utf-8")
    begin = "\tmmap_assert_locked(mm);\n"
    new = old.replace(begin, f"{begin}\tWARN_ON_ONCE(IS_ENABLED(CONFIG_{GUILTY}));\n")
    assert new != old, "mm/hmm.c has changed"
    diff = difflib.unified_diff(
        old.splitlines(keepends=True), new.splitlines(keepends=True), "a/mm/hmm.c", "b/mm/hmm.c"
    )
    files = {
        "warn.patch": "".join(diff),
        "good.config": "".join(f"# CONFIG_{name} is not set\n" for name in SYMBOLS),
        "bad.config": "".join(f"CONFIG_{name}=y\n" for name in SYMBOLS),
    }
    for name, text in files.items():
        (night.scratch / name).write_text(text, encoding="utf-8")
    ends = ["--good", str(night.scratch / "good.config"), "--bad", str(night.scratch / "bad.config")]
    return ["bisect", "--bisect-config", *ends, "--patch", str(night.scratch / "warn.patch")]


def symbols_wrong(night: Night, result: dict[str, Any]) -> list[str]:
    """The culprit is the symbol that the patch asks for."""
    right = GUILTY in str(result["culprit"])
    return [] if right else [f"the culprit is CONFIG_{GUILTY}, not {result['culprit']}"]


def strong_wrong(night: Night, result: dict[str, Any]) -> list[str]:
    """See `wrong_verdicts`."""
    return wrong_verdicts(night.strong, result)


def weak_wrong(night: Night, result: dict[str, Any]) -> list[str]:
    """See `wrong_verdicts`."""
    return wrong_verdicts(night.weak, result)


SAMPLES = (
    Sample("26 commits, killed", strong(), strong_wrong, KILLS, fresh=True),
    Sample("26 commits, classic", strong(), strong_wrong, fresh=True),
    Sample("26 commits, bayes", strong("--method", "bayes"), strong_wrong, fresh=True),
    Sample("weak bug, classic", weak(), weak_wrong),
    Sample("weak bug, bayes", weak("--method", "bayes"), weak_wrong),
    Sample(f"{SERIES} patches", series, series_wrong),
    Sample(f"{len(SYMBOLS)} symbols", symbols, symbols_wrong),
)


def row(sample: Sample, ran: Bisected, result: dict[str, Any], wrong: Sequence[str]) -> str:
    """One row of the report's table."""
    tested = result["tested"]
    skipped = [entry for entry in tested if entry["verdict"] == "skip"]
    ends = [entry for entry in tested if entry["verdict"] == "bad"]
    bad = f"{ends[0]['reproduced']} of {ends[0]['trials']}" if ends else "-"
    named = str(result["culprit"])[:40]
    culprit = f"{named}{'' if result['checked'] else ' (not checked)'}"
    if wrong:
        culprit += f" ({'; '.join(wrong)})"
    numbers = [
        f"{len(tested)}, {result['builds']}",
        str(len(skipped)),
        str(sum(entry["trials"] for entry in tested)),
        f"{ran.kills}, {len(ran.again)} trials repeated" if sample.kills else "-",
        f"{ran.seconds:.0f}",
    ]
    return f"| {sample.name} | {culprit} | {result['confidence']} | {bad} | {' | '.join(numbers)} |"


def forget(made: MadeHistory, cache: Cache) -> None:
    """Take the kernels between the ends of a history out of the cache, but leave its object folder."""
    between = {f"git-{commit[:20]}" for commit in made.commits if commit != made.bad}
    for path in cache.root.glob("builds/*/metadata.json"):
        ident = str(json.loads(path.read_text(encoding="utf-8"))["tree_ident"])
        if ident.startswith(tuple(between)):
            shutil.rmtree(path.parent)


def moments(count: int) -> list[float]:
    """When to kill, s since the start: too early for much, or amid a build, or amid trials."""
    draw = random.SystemRandom()
    return [draw.uniform(1.0, 20.0) for _ in range(count)]


def main() -> int:
    """Run all samples and write the report after each, so that a night cut short leaves what it has."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("runs"), help="where evidence goes")
    parser.add_argument("--only", default="", metavar="WORD", help="samples with this in their name")
    arguments = parser.parse_args()
    date = datetime.date.today().isoformat()
    out: Path = arguments.out.resolve() / f"{date}-bisect"
    scratch = out / "given"
    scratch.mkdir(parents=True, exist_ok=True)
    workshop = Workshop.at(default_cache_folder(), PlainProgress(sys.stderr))
    tree = get_tree(load_experiment("linux-7").tree, workshop)
    made = (make_history(tree, workshop.cache), make_history(tree, workshop.cache, WEAK_STORY))
    night = Night(*made, tree, scratch)
    what = (
        "`ci/nightly/run`. The kernels of the ends were there, and what modules an earlier night built; the\n"
        "other kernels are built. Skipped: commits that do not compile or fail in another way. Bad end:\n"
        "trials that showed the bug."
    )
    title = f"# Bisections, night of {date}\n\n{what}\n\n{HEAD}"
    rows: list[str] = []
    good = True
    for sample in (sample for sample in SAMPLES if arguments.only in sample.name):
        words = sample.words(night)
        print(f"$ hmm-harness {command_line(words)}", file=sys.stderr)
        if sample.fresh:
            forget(night.strong, workshop.cache)
        ran = bisect(words, out / sample.name.replace(" ", "-").replace(",", ""), moments(sample.kills))
        if ran.status not in (0, 1):
            print(ran.err, file=sys.stderr)
            return ran.status
        result = ran.json
        wrong = sample.wrong(night, result)
        good = good and ran.status == 0 and not wrong and not ran.again
        rows.append(row(sample, ran, result, wrong))
        REPORTS.mkdir(exist_ok=True)
        write_atomically(REPORTS / f"{date}-bisect.md", (title + "\n".join(rows) + "\n").encode())
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
