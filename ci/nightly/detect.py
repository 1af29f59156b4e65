# SPDX-License-Identifier: GPL-2.0-only
"""How soon a livelock is proven, and how often a sound guest is accused: long samples, one dated report.

Livelocks: seconds from the last sign of progress to the verdict, how many were proven by a cycle, and, on
the same guests, when the kernel's own watchdog spoke. False alarms: the fixed kernel, left alone, on a loaded
host, paused for ten seconds in mid-run, and a process that is in hmm_range_fault() for seconds on end. Writes
`reports/YYYY-mm-dd-detect.md`.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import os
import shutil
import sys
import threading
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import median

from harness import process
from harness.cache import default_cache_folder
from harness.config import BootConfig, Experiment, load_experiment
from harness.deadline import Deadline
from harness.disk import write_atomically
from harness.display import PlainProgress
from harness.errors import HarnessError
from harness.experiment.compare import arm_kernels
from harness.experiment.kernels import BootableKernel, get_tree
from harness.experiment.options import Workshop
from harness.experiment.report import onset_to_verdict
from harness.experiment.trial import Stage, TrialPlan, run_trial
from harness.results.runfolder import TrialResult
from harness.scenario.catalogue import Value, load_scenario
from harness.target.machine import pick_machine
from harness.target.protocol import BootPlan, Guest
from harness.target.qemu import QemuTarget
from harness.watch.kinds import HANGS, OutcomeKind

REPORTS = Path(__file__).resolve().parent / "reports"
#: From onset to verdict, s.
MEDIAN_S, WORST_S = 2.5, 5.0
PAUSE_S = 10.0
#: How long a proven guest is watched for the kernel's own report, s.
CONFIRM_S = 15.0
#: When the pause begins, s after the start of QEMU: the stressor runs by then.
PAUSE_AT_S = 1.5


@dataclass(frozen=True)
class Sample:
    """Trials of one kind. `hangs`: each must hang and be proven, or else none may."""

    name: str
    experiment: str
    arm: str
    trials: int
    hangs: bool
    set: Mapping[str, Value] = field(default_factory=dict)
    boot: Mapping[str, object] = field(default_factory=dict)
    scenario: str = "trylock-starvation"
    load: bool = False
    pause: bool = False


SAMPLES = (
    Sample("livelock, 7.x, hmm_range_fault()", "linux-7", "unfixed", 20, True),
    Sample(
        "livelock, 7.x, the entry Xe calls", "linux-7", "unfixed", 20, True,
        set={"entry": "hmm_range_fault_unlocked_timeout"},
    ),
    Sample("livelock, 7.x, preempt=voluntary", "linux-7", "unfixed", 20, True, boot={"preempt": "voluntary"}),
    Sample("livelock, 6.12", "linux-6.12", "unfixed", 20, True),
    Sample(
        "livelock, 7.x, preempt=full, real-time spinner, fair server off", "linux-7", "unfixed", 20, True,
        set={"policy": "fifo", "fair_server": "off"}, boot={"preempt": "full"},
    ),
    Sample("fixed, left alone", "linux-7", "fixed", 200, False),
    Sample("fixed, both host CPUs loaded by stress-ng", "linux-7", "fixed", 50, False, load=True),
    Sample("fixed, paused for 10 s", "linux-7", "fixed", 20, False, set={"iterations": 100}, pause=True),
    Sample("slow progress in hmm_range_fault()", "linux-7", "fixed", 20, False, scenario="slow-progress"),
)  # fmt: skip


class PausingTarget(QemuTarget):
    """Somebody stops every guest once for `PAUSE_S` and lets it go on."""

    @contextlib.contextmanager
    def boot(self, plan: BootPlan, folder: Path, deadline: Deadline) -> Iterator[Guest]:
        """See `Target.boot`."""
        with super().boot(plan, folder, deadline) as guest:
            over = threading.Event()

            def pause() -> None:
                with contextlib.suppress(HarnessError):  # the guest may be gone by then
                    if not over.wait(PAUSE_AT_S):
                        guest.pause()
                        over.wait(PAUSE_S)
                        guest.resume()

            somebody = threading.Thread(target=pause)
            somebody.start()
            try:
                yield guest
            finally:
                over.set()
                somebody.join()


@contextlib.contextmanager
def loaded(wanted: bool) -> Iterator[None]:
    """Keep every CPU of the host busy with stress-ng."""
    if not wanted:
        yield
        return
    process.require_program("stress-ng", hint="install the package stress-ng")
    argv = ["stress-ng", "--quiet", "--cpu", str(os.cpu_count() or 1)]
    with process.running(process.start(argv)):
        yield


def trials_of(
    sample: Sample, experiment: Experiment, kernel: BootableKernel, folder: Path
) -> list[TrialResult]:
    """Run a sample's trials, one after the other."""
    scenario = load_scenario(sample.scenario)
    given = experiment.set if sample.scenario == experiment.scenario else {}
    target = PausingTarget() if sample.pause else QemuTarget()
    plan = TrialPlan(
        arm=sample.arm,
        index=0,
        seed=0,
        scenario=scenario,
        values=scenario.values({**given, **sample.set}),
        kernel=kernel,
        boot=BootConfig.model_validate({**experiment.boot.model_dump(), **sample.boot}),
        stage=Stage(target, pick_machine("auto"), "tcg"),
        timeout_s=600,
        command="ci/nightly/run",
        image_mb=0,
        confirm_s=CONFIRM_S if sample.hangs else 0.0,
    )
    results = []
    with loaded(sample.load):
        for index in range(1, sample.trials + 1):
            results.append(run_trial(replace(plan, index=index, seed=index), folder))
            trial = folder / results[-1].folder
            print(f"{sample.name}: {index}/{sample.trials} {results[-1].kind}", file=sys.stderr)
            if results[-1].kind is OutcomeKind.COMPLETED:
                shutil.rmtree(trial)
    return results


def row(sample: Sample, results: list[TrialResult]) -> str:
    """One row of the report's table."""
    hangs = [result for result in results if result.kind in HANGS]
    proven = sum(result.proof == "cycle" for result in hangs)
    soon = onset_to_verdict(results)
    verdict = f"{soon['median']:.2f}, {soon['max']:.2f}" if soon else "-"
    spoke = [r.console_s - r.onset_s for r in hangs if r.console_s is not None and r.onset_s is not None]
    watchdog = f"{median(spoke):.2f}, {max(spoke):.2f} ({len(spoke)})" if spoke else "-"
    outcomes = ", ".join(f"{count} {kind}" for kind, count in Counter(r.kind for r in results).most_common())
    return (
        f"| {sample.name} | {len(results)} | {outcomes} | {proven} of {len(hangs)} | {verdict} | {watchdog} |"
    )


def as_wanted(sample: Sample, results: list[TrialResult]) -> bool:
    """Whether a sample came out as a sound detector makes it."""
    if not sample.hangs:
        return all(result.kind is OutcomeKind.COMPLETED for result in results)
    soon = onset_to_verdict(results)
    return (
        sum(result.proof == "cycle" for result in results) >= 0.95 * sample.trials
        and soon is not None
        and soon["median"] <= MEDIAN_S
        and soon["max"] <= WORST_S
    )


HEAD = """\
Onset: the last moment any counter of the stressor moved. The watchdog reports after 2 x watchdog_thresh = 2 s
(the kernel's default: 20 s); in brackets of how many guests it had by 15 s after the proof.
Times: median, worst, s.

| sample | trials | outcomes | proven by a cycle | onset to verdict | onset to the kernel's watchdog |
|---|---|---|---|---|---|
"""


def main() -> int:
    """Run all samples and write the report after each, so that a night cut short leaves what it has."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("runs"), help="where evidence goes")
    parser.add_argument("--only", default="", metavar="WORD", help="samples with this in their name")
    arguments = parser.parse_args()
    out: Path = arguments.out.resolve()
    date = datetime.date.today().isoformat()
    title = f"# Detection, night of {date}\n\n`ci/nightly/run`.\n{HEAD}"
    workshop = Workshop.at(default_cache_folder(), PlainProgress(sys.stderr))
    rows: list[str] = []
    good = True
    for number, sample in enumerate((s for s in SAMPLES if arguments.only in s.name), start=1):
        experiment = load_experiment(sample.experiment)
        tree = get_tree(experiment.tree, workshop)
        kernels = arm_kernels(experiment, tree, pick_machine("auto"), workshop)
        folder = out / f"{date}-detect" / f"{number}-{sample.arm}"
        results = trials_of(sample, experiment, kernels[sample.arm], folder)
        good = good and as_wanted(sample, results)
        rows.append(row(sample, results))
        REPORTS.mkdir(exist_ok=True)
        write_atomically(REPORTS / f"{date}-detect.md", (title + "\n".join(rows) + "\n").encode())
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
