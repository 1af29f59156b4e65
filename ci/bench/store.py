# SPDX-License-Identifier: GPL-2.0-only
"""How long listings of a store of 100,000 trials take: ci/bench/store.py [TRIALS]

Prints a line for each listing and filter: the query alone, and the whole command. All are CPU times, so that
what else runs on the machine does not count.
"""

from __future__ import annotations

import itertools
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

from harness.results.database import opened, writing
from harness.results.queries import Filter, nights, runs, signatures, trials
from harness.results.reading import RunRecord, TrialRecord
from harness.results.runfolder import TrialResult
from harness.results.store import insert
from harness.watch.kinds import OutcomeKind

TRIALS = 100_000
#: Of a run; a night has eight of them.
RUN = 100
REPEATS = 9
SCENARIOS = ("trylock-starvation", "trylock-starvation-forced", "churn", "slow-progress", "ioctl-check")
KERNELS = ("base", "base-without-wait", "trylock", "trylock-with-wait")
FRAMES = (
    "hmm_range_fault_locked",
    "hmm_range_fault",
    "do_swap_page",
    "migrate_vma_setup",
    "lru_add_drain_all",
)
BEGUN = datetime(2026, 1, 1, 22, tzinfo=UTC)


def records(count: int) -> Iterator[RunRecord]:
    """Runs of made-up trials, in the order of their time; a sixth of the trials fails, in 200 ways."""
    chance = random.Random(1)
    for number in range(count // RUN):
        begun = BEGUN + timedelta(days=number // 8, hours=number % 8)
        scenario = SCENARIOS[number % len(SCENARIOS)]
        release = f"7.{number * RUN * 6 // count}.0"
        folder = Path(f"/runs/{begun:%Y%m%d-%H%M%S}-{scenario}")
        facts = {
            "id": f"{number:016x}",
            "begun": begun.isoformat(),
            "ended": (begun + timedelta(hours=1)).isoformat(),
        }
        made = tuple(
            trial(folder, KERNELS[index % 4], index, scenario, release, begun, chance) for index in range(RUN)
        )
        result = {"verdict": chance.choice(("fixed", "not_fixed")), "scenario": scenario, "seconds": 3600.0}
        yield RunRecord(
            folder, "compare", "finished", "hmm-harness compare", "a tree", None, made, result, facts
        )


def trial(
    run: Path, arm: str, index: int, scenario: str, release: str, begun: datetime, chance: random.Random
) -> TrialRecord:
    fails = chance.random() < 1 / 6
    way = chance.randrange(200)
    frames = " < ".join(FRAMES[(way + place) % len(FRAMES)] for place in range(3))
    signature = f"soft_lockup < way_{way} < {frames}" if fails else ""
    kind = OutcomeKind.SOFT_LOCKUP if fails else OutcomeKind.COMPLETED
    place = f"trials/{index:03d}-{arm}"
    result = TrialResult(
        arm=arm, index=index, seed=index, kind=kind, title=f"{kind}, 20 iterations, 20 windows hit",
        signature=signature, is_bug=fails, windows=20, iterations=20, seconds=3.0, preempt="none",
        folder=place,
    )  # fmt: skip
    facts = {
        "scenario": scenario,
        "begun": (begun + timedelta(seconds=30 * index)).isoformat(),
        "kernel": {"release": release, "build": f"{KERNELS.index(arm)}{release}"},
    }
    return TrialRecord(run / place, "finished", arm, index, index, result, facts)


def timed(work: Callable[[], object]) -> tuple[float, float]:
    """(median, worst) of several times, ms."""
    took = []
    for _ in range(REPEATS):
        begin = time.process_time()
        work()
        took.append(1000 * (time.process_time() - begin))
    return statistics.median(took), max(took)


def command_ms(words: Sequence[str]) -> float:
    """Of a whole command, ms (median)."""
    took = []
    for _ in range(REPEATS):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        argv = [sys.executable, "-m", "harness", "history", *words]
        subprocess.run(argv, check=True, stdout=subprocess.DEVNULL)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        took.append(1000 * (after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime))
    return statistics.median(took)


def filled(store: Path, count: int) -> None:
    """Put all runs into the store, as their verbs would."""
    begin = time.process_time()
    with opened(store, create=True) as connection:
        for run in records(count):
            with writing(connection):
                insert(connection, run)
    took, size = time.process_time() - begin, store.stat().st_size / 1e6
    print(f"{count} trials in {count // RUN} runs: {size:.0f} MB, filled in {took:.0f} s\n")


def main(words: Sequence[str]) -> int:
    """Fill a store and ask it."""
    with tempfile.TemporaryDirectory() as place:
        store = Path(place) / "store.sqlite"
        filled(store, int(words[0]) if words else TRIALS)
        print("| listing | filter | query, ms: median | worst | whole command, ms |")
        print("|---|---|---|---|---|")
        with opened(store) as connection:
            for (what, (flags, ask, limit)), (name, (options, wanted)) in itertools.product(
                LISTINGS.items(), FILTERS.items()
            ):
                median, worst = timed(partial(ask, connection, wanted, limit))
                whole = command_ms([*flags, *options, "--store", str(store)])
                print(f"| {what} | {name} | {median:.1f} | {worst:.1f} | {whole:.0f} |", flush=True)
    return 0


#: What is listed: the words for it, the query, and how many of the newest.
LISTINGS: dict[str, tuple[list[str], Callable[..., object], int]] = {
    "runs": ([], runs, 40),
    "trials": (["--trials"], trials, 40),
    "signatures": (["--signatures"], signatures, 40),
    "nights": (["--nights", "7"], nights, 7),
}
MAY = datetime(2026, 5, 1).timestamp()
FILTERS: dict[str, tuple[list[str], Filter]] = {
    "none": ([], Filter()),
    "scenario": (["--scenario", "churn"], Filter(scenario="churn")),
    "kernel": (["--kernel", "7.1"], Filter(kernel="7.1")),
    "outcome": (["--outcome", "soft_lockup"], Filter(outcome="soft_lockup")),
    "signature": (["--signature", "way_7 "], Filter(signature="way_7 ")),
    "signature, none has it": (["--signature", "no_such"], Filter(signature="no_such")),
    "since": (["--since", "2026-05-01"], Filter(since=MAY)),
    "all of these": (
        [
            *("--scenario", "churn", "--kernel", "7.1", "--outcome", "soft_lockup"),
            *("--signature", "way_7", "--since", "2026-02-01"),
        ],
        Filter("churn", "7.1", "soft_lockup", "way_7", "", MAY - 89 * 86400),
    ),
}

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
