# SPDX-License-Identifier: GPL-2.0-only
"""One trial: boot, run the stressor, watch, judge, and leave the evidence in a folder."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from harness.cache import digest
from harness.config import BootConfig
from harness.deadline import Deadline
from harness.disk import disk_errors
from harness.experiment.kernels import BootableKernel
from harness.guest import initramfs
from harness.guest.plan import PLAN_PATH, Exec, Insmod, PowerOff, Step, plan_text
from harness.guest.preempt import check_preemption
from harness.guest.protocol import Hello
from harness.judge import Outcome, judge
from harness.kernel.build import KernelBuild
from harness.kmod import GuestPrograms
from harness.results.runfolder import TrialResult, open_record
from harness.scenario.catalogue import Scenario, Value
from harness.target.cmdline import KernelParameters, trial_arguments
from harness.target.protocol import Accel, BootPlan, GuestEnded, Machine, Target
from harness.watch.console import ConsoleEvent
from harness.watch.observation import AgentMessage, Observation
from harness.watch.watcher import Watcher

#: The guest's whole file system, in a trial's folder.
INITRAMFS = "initramfs.cpio"
#: How often the watcher is told the time when the guest says nothing, s.
TICK_S = 0.1
#: A guest that has not said hello by then never will, s of host time under emulation.
HELLO_LIMIT_S = 60.0
#: Lines of a splat kept in the record.
SPLAT_LINES = 40


@dataclass(frozen=True)
class Stage:
    """Where trials happen: the target, the machine they boot on and how it is run."""

    target: Target
    machine: Machine
    accel: Accel


@dataclass(frozen=True)
class TrialPlan:
    """Everything that decides one trial."""

    arm: str
    index: int
    seed: int
    scenario: Scenario
    values: Mapping[str, Value]
    kernel: BootableKernel
    boot: BootConfig
    stage: Stage
    timeout_s: float
    #: The command that repeats this trial alone.
    command: str

    def steps(self) -> list[Step]:
        """What the guest's init does."""
        words = [f"{name}={value}" for name, value in self.values.items()]
        return [
            Insmod("/hmm_harness.ko"),
            Exec("/hmm-stressor", (self.scenario.name, *words, f"seed={self.seed}")),
            PowerOff(),
        ]

    def record(self) -> dict[str, Any]:
        """What the trial's `run.json` holds before anything has run."""
        return {
            "arm": self.arm,
            "index": self.index,
            "seed": self.seed,
            "scenario": self.scenario.name,
            "parameters": dict(self.values),
            "kernel": kernel_json(self.kernel.build),
            "fingerprint": fingerprint(self.kernel),
            "boot": {
                **self.boot.model_dump(mode="json"),
                "machine": self.stage.machine,
                "accel": self.stage.accel,
            },
            "command": self.command,
        }


def fingerprint(kernel: BootableKernel) -> str:
    """Names all that is booted: two trials with one fingerprint ran the same kernel, module and stressor."""
    return digest(
        [kernel.build.key, str(kernel.programs.module.parent), str(kernel.programs.stressor.parent)]
    )[:20]


def kernel_json(build: KernelBuild) -> dict[str, Any]:
    """A kernel as reports name it."""
    return {
        "release": build.release,
        "tree": build.tree,
        "patches": [asdict(patch) for patch in build.patches],
        "config_sha": build.config_sha256,
        "build": build.key,
    }


def run_trial(plan: TrialPlan, run_folder: Path) -> TrialResult:
    """Run one trial and leave its folder below `run_folder/trials`.

    The outcome `infra_error` is a result too; only a fault that leaves nothing to record raises InfraError.
    """
    folder = run_folder / "trials" / f"{plan.index:03d}-{plan.arm}"
    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    with open_record(folder, plan.record()) as update:
        image = folder / INITRAMFS
        initramfs.write_initramfs(image, guest_entries(plan.kernel.programs, plan.steps()))
        begin = time.monotonic()
        observations, hello = _observe(plan, image, folder)
        seconds = time.monotonic() - begin
        outcome = judge(observations, plan.scenario.judge_by())
        result = TrialResult(
            arm=plan.arm,
            index=plan.index,
            seed=plan.seed,
            kind=outcome.kind,
            title=outcome.title,
            signature=str(outcome.signature or ""),
            is_bug=outcome.is_bug,
            windows=outcome.windows,
            iterations=outcome.iterations,
            seconds=round(seconds, 3),
            preempt=hello.preempt if hello else "",
            folder=str(folder.relative_to(run_folder)),
            splat=_splat(outcome),
        )
        update("finished", result=result.as_json())
    return result


def program_entries(programs: GuestPrograms) -> list[initramfs.Entry]:
    """Module and stressor, where the plan looks for them."""
    return [
        initramfs.copy("hmm-stressor", programs.stressor, executable=True),
        initramfs.copy("hmm_harness.ko", programs.module),
    ]


def guest_entries(programs: GuestPrograms, steps: Sequence[Step]) -> list[initramfs.Entry]:
    """The members of the guest's initramfs."""
    return [
        initramfs.copy("init", programs.init, executable=True),
        *program_entries(programs),
        initramfs.file(PLAN_PATH, plan_text(steps).encode()),
    ]


def boot_plan(kernel: BootableKernel, boot: BootConfig, stage: Stage, image: Path) -> BootPlan:
    """The plan of a boot as configured."""
    parameters = KernelParameters(
        preempt=boot.preempt,
        watchdog_thresh_s=boot.watchdog_thresh_s,
        rcu_stall_s=boot.rcu_stall_s,
        workqueue_thresh_s=boot.workqueue_thresh_s,
        hung_task_s=boot.hung_task_s,
    )
    return BootPlan(
        kernel=kernel.build.boot_image,
        initramfs=image,
        cmdline=(*trial_arguments(parameters), *boot.cmdline),
        machine=stage.machine,
        accel=stage.accel,
        cpus=boot.cpus,
        memory_mb=boot.memory_mb,
    )


def _observe(plan: TrialPlan, image: Path, folder: Path) -> tuple[Sequence[Observation], Hello | None]:
    """Boot and watch until the trial is decided, its time is up, or the guest is gone.

    Raises InfraError as soon as the guest says that it runs under another preemption model than the plan's.
    """
    deadline = Deadline.after(plan.timeout_s)
    hello_by = deadline.sooner(HELLO_LIMIT_S)
    watcher = Watcher(plan.scenario.oracle.stall_s)
    boot = boot_plan(plan.kernel, plan.boot, plan.stage, image)
    hello: Hello | None = None
    with plan.stage.target.boot(boot, folder, deadline) as guest:
        begin = time.monotonic()
        while not deadline.expired and not (watcher.fatal and not watcher.reading):
            event = guest.next_event(deadline.sooner(TICK_S))
            new = watcher.observe(event) if event else watcher.tick(time.monotonic() - begin)
            if hello is None:
                hello = _hello(new)
                if hello:
                    check_preemption(hello, plan.boot.preempt)
                elif hello_by.expired:
                    break
            if isinstance(event, GuestEnded):
                break
        guest.stop()
        while event := guest.next_event(Deadline.after(1.0)):
            watcher.observe(event)
    watcher.close()
    return watcher.observations, hello


def _hello(observations: Sequence[Observation]) -> Hello | None:
    messages = (o.message for o in observations if isinstance(o, AgentMessage))
    return next((message for message in messages if isinstance(message, Hello)), None)


def _splat(outcome: Outcome) -> tuple[str, ...]:
    event = outcome.decided_by
    return tuple(event.text[:SPLAT_LINES]) if isinstance(event, ConsoleEvent) else ()
