# SPDX-License-Identifier: GPL-2.0-only
"""The tree's own HMM suite, whole, on each tree; and with the tests added to it, on kernels fixed and not.

Writes `reports/YYYY-mm-dd-upstream.md`, one row a sample; ends with 1 if a trial comes to what it should not.
"""

from __future__ import annotations

import argparse
import datetime
import json
import subprocess
import sys
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.cache import default_cache_folder
from harness.deadline import Deadline
from harness.disk import write_atomically
from harness.experiment.trial import INITRAMFS
from harness.guest.protocol import Ktap, parse_line
from harness.process import command_line
from harness.results.runfolder import read_record
from harness.suite import counted
from harness.target.protocol import AgentLine, BootPlan, GuestEnded
from harness.target.qemu import QemuTarget
from harness.watch.ktap import CaseStatus, KtapReader

REPORTS = Path(__file__).resolve().parent / "reports"
PROGRAM = str(Path(sys.executable).parent / "hmm-harness")
HEAD = """\
| sample | trials | outcomes | passed, failed, skipped | what it says |
|---|---|---|---|---|
"""
#: A guest that is left alone may take so long, s.
ALONE_S = 240.0
SHORT = ("--set", "benchmark=leave-out")
PATCHED = (*SHORT, "--patch", "upstream-tests/mixed-livelock")
SHARED = (*SHORT, "--experiment", "linux-7-split", "--patch", "upstream-tests/shared-huge-err")
COHERENT = ("--scenario", "upstream-hmm-tests-coherent", "--memory-mb", "2048")


@dataclass(frozen=True)
class Sample:
    """Trials of one kind. `outcome`: what each must come to; empty: it is counted, and may be either.

    `alone`: each guest is booted once more, and nobody but its own tests says what is wrong with it.
    """

    name: str
    kernel: str
    words: tuple[str, ...] = ()
    outcome: str = "completed"
    trials: int = 1
    alone: bool = False


SAMPLES = (
    Sample("7.x, whole suite", "base"),
    Sample("7.x, whole suite, preempt=full", "base", ("--preempt", "full")),
    Sample("6.12 with 1afaeb8293c9 and the fix, whole suite", "trylock-with-wait"),
    Sample("6.12, coherent devices as well", "trylock-with-wait", COHERENT),
    Sample("7.x, coherent devices as well", "base", (*COHERENT, *SHORT), "warning"),
    Sample("7.x, patched suite", "base", PATCHED, trials=5),
    Sample("7.x without the fix, patched suite", "base-without-wait", PATCHED, "livelock", 10),
    Sample("7.x, patched suite, nobody watches", "base", PATCHED, alone=True),
    Sample(
        "7.x without the fix, patched suite, nobody watches",
        "base-without-wait",
        PATCHED,
        "test_failed",
        alone=True,
    ),
    Sample(
        "7.x without the fix, patched suite, preempt=full",
        "base-without-wait",
        (*PATCHED, "--preempt", "full"),
    ),
    Sample(
        "7.x without the fix, patched suite, preempt=voluntary",
        "base-without-wait",
        (*PATCHED, "--preempt", "voluntary"),
        "",
        5,
    ),
    Sample("7.x, a huge page shared by a fork", "base", SHARED, "soft_lockup", 5),
    Sample("7.x, the same with split-every-entry", "base-with-split", SHARED, trials=5),
)


def run(sample: Sample, out: Path) -> Mapping[str, Any]:
    """The JSON of one trial. A fault of the machine ends the night."""
    scenario = () if "--scenario" in sample.words else ("--scenario", "upstream-hmm-tests")
    words = ("--kernel", sample.kernel, *scenario, *sample.words)
    argv = [PROGRAM, "run", *words, "--json", "--out", str(out)]
    print(f"$ {command_line(argv)}", file=sys.stderr)
    done = subprocess.run(argv, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode not in (0, 1):
        raise SystemExit(done.returncode)
    result = json.loads(done.stdout)
    assert isinstance(result, dict)
    return alone(Path(result["evidence"])) if sample.alone else result


def alone(trial: Path) -> Mapping[str, Any]:
    """What the tests of a trial say if it is booted again, from its record, and left alone to its end."""
    found = read_record(trial)["provenance"]
    boot = {**found["boot"], "cmdline": tuple(found["boot"]["cmdline"])}
    kernel = default_cache_folder() / found["kernel"]["entry"] / found["kernel"]["file"]
    plan = BootPlan(kernel=kernel, initramfs=trial / INITRAMFS, **boot)
    tests, ended = KtapReader(), False
    deadline = Deadline.after(ALONE_S)
    with QemuTarget().boot(plan, trial / "alone", deadline) as guest:
        while not ended and (event := guest.next_event(deadline)):
            message = parse_line(event.text) if isinstance(event, AgentLine) else None
            if isinstance(message, Ktap):
                tests.feed(message.line)
            ended = isinstance(event, GuestEnded)
    report = tests.report()
    said = [line for case in report.of(CaseStatus.FAILED) for line in case.output]
    good = ended and not report.failed and not report.defects
    outcome = "completed" if good else "test_failed" if ended and report.failed else "timeout"
    return {"outcome": outcome, "metrics": report.counts, "title": " ".join([counted(report), *said])}


def row(sample: Sample, results: list[Mapping[str, Any]]) -> str:
    """One row of the report's table; counts and words are those of the last trial."""
    outcomes = Counter(result["outcome"] for result in results)
    told = ", ".join(f"{count} {outcome}" for outcome, count in outcomes.items())
    last = results[-1]
    counts = ", ".join(f"{last['metrics'].get(name, 0):.0f}" for name in ("passed", "failed", "skipped"))
    title = last["title"].replace("|", "/")
    return f"| {sample.name} | {len(results)} | {told} | {counts} | {title} |"


def kept(report: Path) -> dict[str, str]:
    """The rows that the night's report has already, by the names of their samples."""
    lines = report.read_text().splitlines() if report.is_file() else []
    rows = {line.split("|")[1].strip(): line for line in lines if line.startswith("|")}
    return {sample.name: rows[sample.name] for sample in SAMPLES if sample.name in rows}


def main() -> int:
    """Run the samples and write the report after each, so that a night cut short leaves what it has."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("runs"), help="where evidence goes")
    parser.add_argument("--only", default="", metavar="TEXT", help="redo samples whose names contain this")
    parser.add_argument("--most", type=int, default=1000, metavar="N", help="trials of a sample, at most")
    arguments = parser.parse_args()
    date = datetime.date.today().isoformat()
    title = f"# The tree's own HMM tests, night of {date}\n\n`ci/nightly/upstream.py`\n\n{HEAD}"
    report = REPORTS / f"{date}-upstream.md"
    rows = kept(report) if arguments.only else {}
    good = True
    for sample in SAMPLES:
        if arguments.only not in sample.name:
            continue
        results = [run(sample, arguments.out) for _ in range(min(sample.trials, arguments.most))]
        good = good and all(sample.outcome in ("", result["outcome"]) for result in results)
        rows[sample.name] = row(sample, results)
        ordered = [rows[known.name] for known in SAMPLES if known.name in rows]
        write_atomically(report, (title + "\n".join(ordered) + "\n").encode())
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
