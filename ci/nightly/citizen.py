# SPDX-License-Identifier: GPL-2.0-only
"""Is the module a good citizen? Everything it can do, on a kernel with lockdep, KASAN, kmemleak and the like.

A hundred thousand random ioctls, with and without allocations that fail, and every scenario whose bug the
kernel does not have. After each: memory is scanned for leaks, the module unloaded, memory scanned again, and
lockdep must still be on. A report of any of them fails the trial, as on every kernel. Writes
`reports/YYYY-mm-dd-citizen-KERNEL.md`; with the same `--out` it keeps the rows of other trials.
"""

from __future__ import annotations

import argparse
import datetime
import json
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from harness.cache import default_cache_folder
from harness.config import BootConfig, KernelConfig, Preempt, load_experiment
from harness.disk import write_atomically
from harness.display import PlainProgress
from harness.experiment.kernels import (
    BootableKernel,
    finish_kernel,
    get_tree,
    kernel_request,
    resolve_patches,
)
from harness.experiment.options import Workshop
from harness.experiment.stage import set_stage
from harness.experiment.trial import TrialPlan, run_trial
from harness.guest.plan import Print, Rmmod, Sleep, Step, Write
from harness.guest.protocol import End, parse_line
from harness.kernel.build import BuildRequest, KernelBuild
from harness.kernel.patches import in_range
from harness.results.runfolder import TrialResult, all_finished, read_record
from harness.scenario.catalogue import Scenario, UnfitKernelError, Value, load_scenario, scenario_names
from harness.target.machine import pick_machine
from harness.target.recording import CONSOLE
from harness.watch.kinds import OutcomeKind

REPORTS = Path(__file__).resolve().parent / "reports"
KMEMLEAK = "/sys/kernel/debug/kmemleak"
#: An object younger than five seconds is no leak yet, and a changed one none before the next scan
#: (mm/kmemleak.c: MSECS_MIN_AGE, update_checksum()).
SCANS: tuple[Step, ...] = (
    Sleep(6), Write(KMEMLEAK, "scan"), Write(KMEMLEAK, "scan"), Print(KMEMLEAK),
)  # fmt: skip
AFTER: tuple[Step, ...] = (*SCANS, Rmmod("hmm_harness"), *SCANS, Print("/proc/lockdep_stats"))
LOCKDEP_IS_ON = re.compile(r"debug_locks: +1$", re.M)
RESTARTS = "reboot: Restarting system"
#: Kernels with huge device folios; another one refuses to move one, so that half of all moves would be lost.
HUGE_DEVICE_FOLIOS = ">=6.19"
#: The widest scenario: under every preemption model. It ends early when an operation takes longer than it is
#: told to wait, which is 30 s for a kernel that is ten times as fast. Devices take their memory back as well.
WIDEST = "churn"
WIDEST_SET: Mapping[str, Value] = {"patience_s": 300, "evict_ms": 20}
#: A guest that a scenario's limits are too tight for is slow, not ill.
WELL = frozenset({OutcomeKind.COMPLETED, OutcomeKind.NOT_EXERCISED, OutcomeKind.STARVED})
LIMIT_S = 3000.0
#: It boots ten times as slowly as another guest.
HELLO_S = 600.0
#: KASAN keeps a ninth of the memory, and what is freed for a while.
BOOT = {
    "memory_mb": 2048,
    "watchdog_thresh_s": 10,
    "rcu_stall_s": 30,
    "workqueue_thresh_s": 30,
    "hung_task_s": 60,
}


@dataclass(frozen=True)
class Subject:
    """A kernel: with these patches it has none of `BUGS`."""

    experiment: str
    patches: tuple[str, ...]

    def why_not(self, scenario: Scenario, build: KernelBuild) -> str:
        """Why its kernel does not run a scenario; empty if it does.

        It has nothing that the scenario is about, or would show a bug of its own, not of the module's.
        """
        if scenario.bug not in BUGS:
            return f"the kernel may have the bug {scenario.bug}"
        try:
            scenario.check_kernel(build.version, build.config.read_text(encoding="utf-8"))
        except UnfitKernelError as error:
            return error.message
        return ""


#: Those of the catalogue; 6.12 has no huge device folios, and with them not the bugs of these.
BUGS = frozenset(
    {
        "none",
        "trylock-starvation",
        "pmd-trylock-starvation",
        "refcount-livelock",
        "split-unmapped-folio",
        "zap-migration-entry",
        "stale-page-flags",
        "freed-anon-vma",
        "awaited-page-reuse",
    }
)
SUBJECTS = {
    "7": Subject(
        "linux-7",
        (
            "x86-preempt-choice",
            "pmd-trylock-starvation/wait-on-locked-pmd",
            "split-unmapped-folio/split-every-entry",
            "zap-migration-entry/tell-by-entry",
            "stale-page-flags/clear-at-free",
            "freed-anon-vma/hold-anon-vma",
        ),
    ),
    "6.12": Subject(
        "linux-6.12",
        (
            "trylock-starvation/trylock-device-page",
            "trylock-starvation/wait-on-locked",
            "stale-page-flags/clear-at-free",
            "freed-anon-vma/hold-anon-vma",
        ),
    ),
}


@dataclass(frozen=True)
class Sample:
    """One trial."""

    scenario: str
    preempt: Preempt
    set: Mapping[str, Value] = field(default_factory=dict)
    seed: int = 1

    @property
    def words(self) -> str:
        """What is set, as the command line takes it."""
        return " ".join(f"{name}={value}" for name, value in self.set.items())

    @property
    def values(self) -> dict[str, Value]:
        """All parameters of the scenario. UserError for what it does not take."""
        return load_scenario(self.scenario).values(self.set)

    @property
    def name(self) -> str:
        """Of one trial of the night."""
        return " ".join(part for part in (self.scenario, self.preempt, self.words) if part)


def samples(calls: int, version: str) -> Iterator[Sample]:
    """All trials of a night on a kernel: `calls` random ioctls in four guests, and the catalogue."""
    models: tuple[Preempt, ...] = ("none", "full")
    huge_pages = "move" if in_range(version, HUGE_DEVICE_FOLIOS) else "split"
    seed = 0
    for fail_percent in (0, 10):
        for preempt in models:
            seed += 1
            given: dict[str, Value] = {
                "calls": calls // 4,
                "huge_pages": huge_pages,
                "fail_percent": fail_percent,
            }
            yield Sample("ioctl-fuzz", preempt, given, seed)
    for name in scenario_names():
        scenario = load_scenario(name)
        if name != "ioctl-fuzz" and scenario.program == "stressor":
            allowed = [model for model in models if model in scenario.needs.preempt]
            if name == WIDEST:
                yield from (
                    Sample(name, model, WIDEST_SET, seed) for seed, model in enumerate(allowed, start=1)
                )
            else:
                yield Sample(name, allowed[0])


def request_of(subject: Subject, workshop: Workshop) -> BuildRequest:
    """What the kernel of a subject is built from."""
    tree = get_tree(load_experiment(subject.experiment).tree, workshop)
    config = KernelConfig(patches=subject.patches, fragments=("debug",))
    return kernel_request(tree, resolve_patches(config.patches, tree), config, pick_machine("auto"))


def plan_of(sample: Sample, kernel: BootableKernel, workshop: Workshop) -> TrialPlan:
    """The trial of a sample. UserError if a guest as planned here cannot run it."""
    scenario = load_scenario(sample.scenario)
    boot = BootConfig.model_validate({**BOOT, "preempt": sample.preempt, "cpus": max(2, scenario.needs.cpus)})
    scenario.check(boot, sample.values)
    return TrialPlan(
        arm=sample.scenario,
        index=0,
        seed=sample.seed,
        scenario=scenario,
        values=sample.values,
        kernel=kernel,
        boot=boot,
        stage=set_stage(boot, pick_machine("auto"), kernel.build, workshop),
        timeout_s=LIMIT_S,
        command="ci/nightly/run",
        image_mb=0,
        hello_s=HELLO_S,
        after=AFTER,
    )


def verdict(result: TrialResult, folder: Path) -> str:
    """Empty if the module behaved; else what it did."""
    console = (folder / CONSOLE).read_text(encoding="utf-8", errors="replace")
    if result.kind not in WELL:
        return f"{result.kind}: {result.title}"
    if not LOCKDEP_IS_ON.search(console):
        return "lockdep is off"
    return "" if RESTARTS in console else "it did not come to the end"


def _end(folder: Path) -> End | None:
    """The stressor's last word in a trial's record."""
    for line in (folder / "agent.jsonl").read_text(encoding="utf-8").splitlines():
        message = parse_line(json.loads(line)["line"])
        if isinstance(message, End):
            return message
    return None


def _amount(result: TrialResult, folder: Path) -> str:
    """How much a trial did, in words."""
    end = _end(folder)
    said = (end.model_extra or {}) if end else {}
    if end and "answers" in said:
        good = 100 * int(said["good"]) // max(end.iterations, 1)
        refused = ", ".join(f"{name} {count}" for name, count in sorted(said["answers"].items()))
        return f"{end.iterations} calls, {good} % good; {refused}"
    if end and "done" in said:
        return f"{sum(said['done'].values())} operations by {end.iterations} processes"
    return f"{result.iterations} iterations"


def did(result: TrialResult, folder: Path) -> str:
    """How much a trial did, and what kept it from more."""
    amount = _amount(result, folder)
    if result.kind in WELL - {OutcomeKind.COMPLETED}:
        return f"{amount}; {result.kind}: {result.title}"
    return amount


HEAD = """\
| scenario | set | preempt | seconds | did | wrong |
|---|---|---|---|---|---|
"""


def rows_of(out: Path, night: Sequence[Sample], refused: Mapping[str, str]) -> Iterator[str]:
    """The rows of the report's table: every trial that the folder holds, and what was refused, and why."""
    results = {(result.arm, result.seed): result for _, result in all_finished(out)}
    for sample in night:
        result = results.get((sample.scenario, sample.seed))
        # One of another time may have had something else set.
        if result and not read_record(out / result.folder)["parameters"].items() <= sample.values.items():
            result = None
        if refused[sample.name]:
            yield (
                f"| {sample.scenario} | {sample.words} | {sample.preempt} | | not run: "
                f"{refused[sample.name]} | |"
            )
        elif result:
            folder = out / result.folder
            wrong = verdict(result, folder)
            yield (
                f"| {sample.scenario} | {sample.words} | {sample.preempt} | {result.seconds:.0f} | "
                f"{did(result, folder)} | {wrong or 'nothing'} |"
            )


def main() -> int:
    """Run all samples and write the report after each, so that a night cut short leaves what it has."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("runs"), help="where evidence goes")
    parser.add_argument("--kernel", choices=sorted(SUBJECTS), default="7", help="(default: %(default)s)")
    parser.add_argument("--calls", type=int, default=100_000, help="random ioctls (default: %(default)s)")
    parser.add_argument("--only", default="", metavar="WORD", help="trials with this in their name")
    arguments = parser.parse_args()
    subject = SUBJECTS[arguments.kernel]
    date = datetime.date.today().isoformat()
    out = arguments.out.resolve() / f"{date}-citizen-{arguments.kernel}"
    workshop = Workshop.at(default_cache_folder(), PlainProgress(sys.stderr))
    request = request_of(subject, workshop)
    night = list(samples(arguments.calls, request.tree.version))
    chosen = [sample for sample in night if arguments.only in sample.name]
    if not chosen:
        parser.error(f"no trial has {arguments.only!r} in its name: {', '.join(s.name for s in night)}")
    kernel = finish_kernel(request, workshop)
    refused = {s.name: subject.why_not(load_scenario(s.scenario), kernel.build) for s in night}
    title = (
        f"# The module as a citizen, night of {date}\n\n"
        f"`ci/nightly/citizen.py --kernel {arguments.kernel}`: "
        f"{request.tree.description} with {', '.join(subject.patches)} and qemu/kconfig/debug.config.\n"
        f"After each trial: kmemleak, rmmod, kmemleak, lockdep still on.\n\n{HEAD}"
    )
    good = True
    for index, sample in enumerate(night, start=1):
        if sample not in chosen:
            continue
        if refused[sample.name]:
            print(f"{sample.name}: not run: {refused[sample.name]}", file=sys.stderr)
            continue
        result = run_trial(replace(plan_of(sample, kernel, workshop), index=index), out)
        wrong = verdict(result, out / result.folder)
        good = good and not wrong
        print(f"{sample.name}: {wrong or 'nothing wrong'}", file=sys.stderr)
        REPORTS.mkdir(exist_ok=True)
        report = REPORTS / f"{date}-citizen-{arguments.kernel}.md"
        write_atomically(report, (title + "\n".join(rows_of(out, night, refused)) + "\n").encode())
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
