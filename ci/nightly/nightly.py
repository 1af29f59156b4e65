# SPDX-License-Identifier: GPL-2.0-only
"""What takes too long for every change: twenty boots an arm, each tree, each machine, each entry point.

Writes `reports/YYYY-mm-dd.md`, one row a comparison; ends with 1 if one did not say what it should.
"""

from __future__ import annotations

import argparse
import datetime
import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.disk import write_atomically
from harness.guest.protocol import Hello, parse_line
from harness.process import command_line
from harness.results.runfolder import RECORD
from harness.target.recording import agent_lines

REPORTS = Path(__file__).resolve().parent / "reports"
PROGRAM = str(Path(sys.executable).parent / "hmm-harness")
TRIALS = "20"
#: So soon after the guest was ready the bug is to be there.
ONSET_S = 10.0
HEAD = """\
| comparison | verdict | control: bug, windows | onset, s | candidate: bug, windows | kernel | seconds |
|---|---|---|---|---|---|---|
"""


@dataclass(frozen=True)
class Sample:
    """A comparison of the night, and the verdict it must come to."""

    name: str
    words: tuple[str, ...]
    verdict: str = "fixed"


FORCED = ("--scenario", "trylock-starvation-forced")
PMD_FORCED = ("--scenario", "pmd-trylock-starvation-forced")
SPLIT = ("linux-7-split",)
STOCK = ("linux-7-pmd-stock", "--scenario")
STOCK_SPLIT = (*STOCK, "split-unmapped-folio", "--try", "split-unmapped-folio/split-every-entry")
STOCK_ZAP = (*STOCK, "zap-migration-entry", "--try", "zap-migration-entry/tell-by-entry")
EVICT = ("--scenario", "freed-anon-vma", "--try", "freed-anon-vma/hold-anon-vma")
STOCK_EVICT = ("linux-7-pmd-stock", *EVICT)
EVICT_6_12 = ("refcount-livelock", *EVICT)
SAMPLES = (
    Sample("newest, preempt=none", ()),
    Sample("newest, preempt=voluntary", ("--preempt", "voluntary")),
    Sample("newest, the entry Xe calls", ("--set", "entry=hmm_range_fault_unlocked_timeout")),
    Sample("newest, preempt=full: nothing to see", ("--preempt", "full"), "not_reproduced"),
    Sample("6.12, preempt=none", ("linux-6.12",)),
    Sample("6.12, preempt=voluntary", ("linux-6.12", "--preempt", "voluntary")),
    Sample("newest, forced window, preempt=none", FORCED),
    Sample("newest, forced window, preempt=voluntary", (*FORCED, "--preempt", "voluntary")),
    Sample("6.12, forced window, preempt=none", ("linux-6.12", *FORCED)),
    Sample("6.12, forced window, preempt=voluntary", ("linux-6.12", *FORCED, "--preempt", "voluntary")),
    Sample("newest, q35", ("--machine", "q35")),
    Sample("huge pages, preempt=none", ("linux-7-pmd",)),
    Sample("huge pages, preempt=voluntary", ("linux-7-pmd", "--preempt", "voluntary")),
    Sample("split unmapped, forked", SPLIT),
    Sample("split unmapped, forked twice", (*SPLIT, "--set", "sharers=2")),
    Sample("split unmapped, dropped", (*SPLIT, "--set", "race=zap")),
    Sample("split unmapped, dropped and written to", (*SPLIT, "--set", "race=refault")),
    Sample("split unmapped, forked, as shipped", STOCK_SPLIT),
    Sample("split unmapped, dropped, as shipped", (*STOCK_SPLIT, "--set", "race=zap")),
    Sample("split unmapped, dropped and written to, as shipped", (*STOCK_SPLIT, "--set", "race=refault")),
    Sample("zapped under way", ("linux-7-zap",)),
    Sample("zapped under way, as shipped", STOCK_ZAP),
    Sample("evicted, and the process ends", ("linux-7-evict",)),
    Sample("evicted, and the process ends, as shipped", STOCK_EVICT),
    Sample("evicted and unmapped, as shipped", (*STOCK_EVICT, "--set", "race=munmap")),
    Sample("6.12, evicted, and the process ends, as shipped", EVICT_6_12),
    Sample("6.12, evicted and unmapped, as shipped", (*EVICT_6_12, "--set", "race=munmap")),
    Sample("used again while awaited", ("linux-7-awaited",)),
    Sample("huge pages, forced window, preempt=none", PMD_FORCED),
    Sample("huge pages, forced window, preempt=voluntary", (*PMD_FORCED, "--preempt", "voluntary")),
    Sample("huge pages, as shipped, preempt=full", ("linux-7-pmd-stock",)),
    Sample("huge pages, as shipped, preempt=lazy", ("linux-7-pmd-stock", "--preempt", "lazy")),
)


def run(sample: Sample, out: Path) -> dict[str, Any]:
    """The JSON of one comparison. A fault of the machine ends the night."""
    argv = [PROGRAM, "compare", *sample.words, "--trials", TRIALS, "--json", "--out", str(out)]
    print(f"$ {command_line(argv)}", file=sys.stderr)
    done = subprocess.run(argv, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode not in (0, 1):
        raise SystemExit(done.returncode)
    result = json.loads(done.stdout)
    assert isinstance(result, dict)
    return result


def row(sample: Sample, result: dict[str, Any]) -> str:
    """One row of the report's table."""
    arms = {arm["role"]: arm for arm in result["arms"]}
    counts = [
        f"{arms[role]['reproduced']} of {arms[role]['trials']}, {arms[role]['windows']}"
        for role in ("control", "candidate")
    ]
    verdict = result["verdict"] + (
        "" if result["verdict"] == sample.verdict else f" (should be {sample.verdict})"
    )
    latest = max(onsets(result), default=None)
    late = "-" if latest is None else f"{latest:.1f}" + (f" (over {ONSET_S:g})" if latest > ONSET_S else "")
    facts = (arms["candidate"]["kernel"]["release"], f"{result['seconds']:.0f}")
    return "| " + " | ".join((sample.name, verdict, counts[0], late, counts[1], *facts)) + " |"


def onsets(result: dict[str, Any]) -> Iterator[float]:
    """Of each trial that showed the bug, when it hung: s from the agent's hello on, wall time."""
    for folder in map(Path, result["evidence"]):
        trial = json.loads((folder / RECORD).read_text(encoding="utf-8"))["result"]
        said = ((line.host_s, parse_line(line.text)) for line in agent_lines(folder))
        hello_s = next((host_s for host_s, message in said if isinstance(message, Hello)), None)
        if trial["is_bug"] and trial["onset_s"] is not None and hello_s is not None:
            yield trial["onset_s"] - hello_s


def earlier(report: Path) -> tuple[str, dict[str, str]]:
    """What the same night's report says above its table, and its rows by the samples' names."""
    said, _, table = (report.read_text(encoding="utf-8") if report.exists() else "").partition(HEAD)
    rows = {line.split("|")[1].strip(): line for line in table.splitlines()}
    return said, {sample.name: rows[sample.name] for sample in SAMPLES if sample.name in rows}


def main() -> int:
    """Run all samples and write the report after each, so that a night cut short leaves what it has."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("runs"), help="where evidence goes")
    parser.add_argument("--only", default="", help="samples whose names have this in them")
    args = parser.parse_args()
    chosen = [sample for sample in SAMPLES if args.only in sample.name]
    if not chosen:
        parser.error(f"--only {args.only!r}: no sample has that in its name")
    date = datetime.date.today().isoformat()
    what = f"`ci/nightly/run`: {TRIALS} trials an arm. Seconds include builds that were not in the cache."
    report = REPORTS / f"{date}.md"
    said, rows = earlier(report) if args.only else ("", {})
    title = (said or f"# Night of {date}\n\n{what}\n\n") + HEAD
    good = True
    for sample in chosen:
        result = run(sample, args.out)
        good = good and result["verdict"] == sample.verdict
        rows[sample.name] = row(sample, result)
        REPORTS.mkdir(exist_ok=True)
        write_atomically(report, (title + "\n".join(rows.values()) + "\n").encode())
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
