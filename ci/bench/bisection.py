# SPDX-License-Identifier: GPL-2.0-only
"""Ten thousand bisections without kernels: how often is the wrong culprit named, and what does it cost?

Run with `.venv/bin/python ci/bench/bisection.py [--count N] [--bayes N] [--jobs N] [--out FOLDER]`. Writes
bisection.md (tables) and bisection.svg (figure; needs the extra `figures`). Every method goes through the
same worlds: a history, linear or merged, a culprit, a rate, candidates that cannot be tested; all drawn from
the world's number. A fifth as many more have false reproductions. Exit status 1 if a method is wrong more
often than it declares, by the exact 95 % interval of a group of bisections for which its assumptions hold.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from itertools import product
from multiprocessing import Pool
from pathlib import Path
from random import Random

from bisection_report import Row, too_wrong, write_figure, write_tables
from bisection_world import Driver, Repeat, World, linear, merged, skips

from harness.bisect.bayes import Bayes
from harness.bisect.classic import Classic
from harness.bisect.model import History, Method

CONFIDENCE = 0.99
SIZES = (16, 64, 256, 1024, 4096)
RATES = (0.05, 0.1, 0.3, 0.6, 1.0)
SKIPS = (0.0, 0.05, 0.2)
#: How often a trial of a kernel without the bug seems to show it, where there are false reproductions.
FALSE_RATE = 1e-3
#: Of the largest histories, bayes gets one in so many; no factor of the grid's size, to be spread over it.
LARGEST = 11
#: How many merged histories there are of each size.
MERGED = 4
GRID = tuple(product((False, True), RATES, SIZES, SKIPS))


@dataclass(frozen=True)
class Entry:
    """A method in the race. declared: how often it may be wrong; None: it declares nothing."""

    name: str
    method: Method
    declared: float | None = None
    #: Whether that holds with false reproductions too.
    bears_false: bool = False
    #: Whether the culprit and its parents are tested before it is named, as the harness does.
    check: bool = True


ENTRIES = (
    Entry("git bisect run", Repeat(1), check=False),
    Entry("repeat 10 times", Repeat(10), check=False),
    Entry("classic", Classic(CONFIDENCE), 1.0 - CONFIDENCE),
    Entry("bayes", Bayes(CONFIDENCE), 1.0 - CONFIDENCE, bears_false=True),
)


@cache
def history(is_merged: bool, size: int, variant: int) -> History:
    """One of the histories."""
    return merged(size, Random(f"{size}/{variant}")) if is_merged else linear(size)


def square(number: int) -> tuple[bool, float, int, float]:
    """Where on the grid a world is; with a stride, so that a few worlds are spread over all of it."""
    return GRID[37 * number % len(GRID)]


def world(number: int, false_rate: float) -> World:
    """The world of a number: the grid in turn, the rest drawn."""
    random = Random(f"world {number}")
    is_merged, rate, size, share = square(number)
    return World(
        history(is_merged, size, random.randrange(MERGED) if is_merged else 0),
        random.randrange(size),
        rate,
        skips(size, share, random),
        false_rate,
    )


def bisected(job: tuple[int, int, float]) -> Row:
    """One bisection: number of the entry, number of the world, rate of false reproductions."""
    which, number, false_rate = job
    entry, truth = ENTRIES[which], world(number, false_rate)
    ending = Driver(truth, entry.method, Random(f"trials {number}"), entry.check).run()
    is_merged, rate, size, share = square(number)
    return Row(
        method=entry.name,
        declared=entry.declared if not false_rate or entry.bears_false else None,
        false_rate=false_rate,
        history="merged" if is_merged else "linear",
        rate=rate,
        size=size,
        skipped=share,
        wrong=ending.is_wrong(truth),
        stopped=not ending.suspects,
        runs=ending.runs,
        builds=ending.builds,
        hours=ending.seconds / 3600.0,
    )


def jobs(count: int, bayes: int) -> Iterator[tuple[int, int, float]]:
    """All bisections: entry, number of the world, rate of false reproductions."""
    for which, entry in enumerate(ENTRIES):
        thinks = isinstance(entry.method, Bayes)
        worlds = bayes if thinks else count
        for number in range(worlds + worlds // 5):
            # One of the largest takes it as long as forty of the others.
            if not thinks or square(number)[2] < SIZES[-1] or number % LARGEST == 0:
                yield which, number, FALSE_RATE if number >= worlds else 0.0


def shown(rows: Iterable[Row], total: int) -> Iterator[Row]:
    """The same rows; how far it is goes to standard error."""
    begin = time.monotonic()
    for number, row in enumerate(rows, 1):
        if number % 500 == 0 or number == total:
            print(f"{number} of {total}, {time.monotonic() - begin:.0f} s, {row.method}", file=sys.stderr)
        yield row


def main() -> int:
    """Bisect, write table and figure, and judge."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--count", type=int, default=10_000, help="bisections by each method but bayes")
    parser.add_argument("--bayes", type=int, help="the same for bayes; of the largest histories an eleventh")
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent, help="folder of both files")
    options = parser.parse_args()
    bayes = options.count if options.bayes is None else options.bayes
    if options.count < 1 or bayes < 0 or options.jobs < 1:
        parser.error("--count and --jobs are at least 1, --bayes at least 0")
    todo = list(jobs(options.count, bayes))
    if options.jobs == 1:
        rows = list(shown(map(bisected, todo), len(todo)))
    else:
        with Pool(options.jobs) as pool:
            rows = list(shown(pool.imap_unordered(bisected, todo, chunksize=20), len(todo)))
    options.out.mkdir(parents=True, exist_ok=True)
    command = f".venv/bin/python ci/bench/bisection.py --count {options.count} --bayes {bayes}"
    write_tables(options.out / "bisection.md", rows, command, CONFIDENCE)
    write_figure(options.out / "bisection.svg", rows, command, CONFIDENCE)
    guilty = too_wrong(rows)
    for words in guilty:
        print(f"wrong more often than declared: {words}", file=sys.stderr)
    return 1 if guilty else 0


if __name__ == "__main__":
    sys.exit(main())
