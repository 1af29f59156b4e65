# SPDX-License-Identifier: GPL-2.0-only
"""One trial: boot, run the stressor, watch, judge, and leave the evidence in a folder."""

from __future__ import annotations

import contextlib
import json
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from harness.cache import digest
from harness.config import BootConfig, Experiment
from harness.deadline import Deadline
from harness.diagnose.elf import read_elf
from harness.diagnose.evidence import Limits, add_dumps, collect
from harness.diagnose.image import SymbolFiles
from harness.disk import disk_errors, write_atomically
from harness.errors import InfraError
from harness.experiment.kernels import BootableKernel
from harness.experiment.observe import Observed, Observer
from harness.experiment.replay import provenance
from harness.guest import initramfs
from harness.guest.guesttime import check_guest_time
from harness.guest.plan import PLAN_PATH, Exec, Insmod, PowerOff, Step, plan_text
from harness.guest.preempt import check_preemption
from harness.guest.protocol import Hello
from harness.hmmtests import HmmTests
from harness.judge import judge
from harness.kernel.build import KernelBuild
from harness.kmod import GuestPrograms
from harness.outcome import Outcome
from harness.results.kernels import keep_kernel
from harness.results.runfolder import TrialResult, open_record
from harness.scenario.catalogue import Scenario, Value, scenario_values
from harness.target.cmdline import KernelParameters, trial_arguments
from harness.target.protocol import Accel, BootPlan, Guest, Machine, MachineStep, Target
from harness.watch.console import ConsoleEvent
from harness.watch.examination import Examination
from harness.watch.kinds import OutcomeKind
from harness.watch.observation import Observation
from harness.watch.symbols import SymbolTable
from harness.watch.watcher import Watcher

#: The guest's whole file system, in a trial's folder.
INITRAMFS = "initramfs.cpio"
#: A driver's modules, in the guest.
DRIVER = "driver"
#: What a suite of tests said, case by case, in a trial's folder.
TESTS = "tests.json"
#: Writing an image of the memory may take so long, s: it takes 0.6 s of a guest with 1 GB.
IMAGE_LIMIT_S = 20.0
#: Lines of a splat kept in the record.
SPLAT_LINES = 40


@dataclass(frozen=True)
class Stage:
    """Where trials happen: the target, the machine they boot on and how it is run."""

    target: Target
    machine: Machine
    accel: Accel
    #: A folder with a system that guests have as their root; None: only what the harness brings.
    userland: Path | None = None
    #: The address of a PCI device of this machine that guests get; empty: none.
    vfio: str = ""
    #: The name of a machine of its own.
    box: str = ""

    @property
    def facts(self) -> dict[str, str]:
        """As `BootFacts` has them."""
        return {"box": self.box} if self.box else {"machine": self.machine, "accel": self.accel}


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
    #: A hang that is proven is watched for so many seconds more, for the kernel's own report.
    confirm_s: float = 0.0
    #: The largest image of the memory that is kept of a trial which does not complete, MB; 0: none.
    image_mb: int = 64
    #: A guest that has not said hello by then never will, s of host time under emulation.
    hello_s: float = 60.0
    #: What init does when the stressor has ended. A step that fails, fails the trial.
    after: tuple[Step, ...] = ()

    @property
    def folder(self) -> Path:
        """Where it leaves its evidence, relative to the run's folder."""
        return Path("trials", f"{self.index:03d}-{self.arm}")

    def steps(self) -> list[Step]:
        """What the guest's init does."""
        words = [f"{name}={value}" for name, value in self.values.items()]
        module = "/test_hmm.ko" if self.scenario.program == "hmm-tests" else "/hmm_harness.ko"
        return [
            *(Insmod(f"/{DRIVER}/{path.name}") for path in self.kernel.driver),
            Insmod(module, self.scenario.module_words),
            Exec("/hmm-stressor", (self.scenario.name, *words, f"seed={self.seed}")),
            *self.after,
            PowerOff(),
        ]

    def symbols(self) -> SymbolFiles:
        """What the guest's memory is read with."""
        tests = self.kernel.hmm_tests
        extra = (tests.module_debug,) if tests else ()
        return SymbolFiles(self.kernel.build.vmlinux, (self.kernel.programs.module_debug, *extra))

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
            "boot": {**self.boot.model_dump(mode="json"), **self.stage.facts},
            "command": self.command,
        }


def plan_trial(
    experiment: Experiment, arm: str, index: int, kernel: BootableKernel, stage: Stage, command: str
) -> TrialPlan:
    """A trial as the experiment has it; `index`: from 1, added to its seed. `command`: repeats it alone."""
    scenario, values = scenario_values(experiment)
    return TrialPlan(
        arm=arm,
        index=index,
        seed=experiment.seed + index - 1,
        scenario=scenario,
        values=values,
        kernel=kernel,
        boot=experiment.boot,
        stage=stage,
        timeout_s=experiment.trial_timeout_s,
        image_mb=experiment.memory_image_mb,
        command=command,
    )


def fingerprint(kernel: BootableKernel) -> str:
    """Names all that is booted: two trials with one fingerprint ran the same kernel, module and stressor."""
    folders = [kernel.programs.module.parent, kernel.programs.stressor.parent]
    folders += [kernel.hmm_tests.program.parent] if kernel.hmm_tests else []
    folders += [kernel.driver[-1].parent] if kernel.driver else []
    return digest([kernel.build.key, *(folder.name for folder in folders)])[:20]


def kernel_json(build: KernelBuild) -> dict[str, Any]:
    """A kernel as reports name it."""
    return {
        "release": build.release,
        "tree": build.tree,
        "commit": build.commit,
        "patches": [asdict(patch) for patch in build.patches],
        "config_sha": build.config_sha256,
        "build": build.key,
    }


def run_trial(plan: TrialPlan, run_folder: Path) -> TrialResult:
    """Run one trial and leave its folder below `run_folder/trials`.

    The outcome `infra_error` is a result too; only a fault that leaves nothing to record raises InfraError.
    UnfitKernelError if the kernel cannot run the scenario.
    """
    build = plan.kernel.build
    plan.scenario.check_kernel(build.version, build.config.read_text(encoding="utf-8"))
    keep_kernel(run_folder, build)
    folder = run_folder / plan.folder
    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    image = folder / INITRAMFS
    words = plan.scenario.cmdline
    boot = boot_plan(plan.kernel, plan.boot, plan.stage, image, plan.seed, words)
    with open_record(folder, plan.record()) as update:
        entries = guest_entries(plan.kernel.programs, plan.steps(), plan.kernel.hmm_tests)
        entries += [initramfs.copy(f"{DRIVER}/{path.name}", path) for path in plan.kernel.driver]
        if plan.stage.userland:
            entries = [*initramfs.tree(plan.stage.userland), *entries]
        initramfs.write_initramfs(image, entries)
        ran_with = provenance(boot, plan.kernel.programs)
        update("running", provenance=ran_with)
        begin = time.monotonic()
        observed, outcome, steps = _run(plan, boot, folder)
        if steps:
            update("running", box=[asdict(step) for step in steps])
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
            seconds=round(time.monotonic() - begin, 3),
            preempt=observed.hello.preempt if observed.hello else "",
            folder=str(plan.folder),
            splat=_splat(outcome),
            proof=outcome.proof or "",
            cycle=_cycle(outcome),
            onset_s=outcome.onset_s,
            decided_s=outcome.decided_s,
            console_s=_console_s(observed.observations),
            judged_until_s=observed.until_s,
            metrics=dict(outcome.metrics),
        )
        if outcome.tests:
            write_atomically(folder / TESTS, json.dumps(asdict(outcome.tests), indent=1).encode())
        update("finished", provenance=ran_with, result=result.as_json())
    return result


def _run(plan: TrialPlan, boot: BootPlan, folder: Path) -> tuple[Observed, Outcome, tuple[MachineStep, ...]]:
    """Boot, watch, judge, and of a trial that did not complete leave the evidence.

    Raises InfraError as soon as the guest says that it runs under another preemption model than the plan's.
    """
    target = plan.stage.target
    limit_s = max(plan.timeout_s, plan.scenario.trial_s) + target.start_s
    with target.boot(boot, folder, Deadline.after(limit_s)) as guest:
        deadline = Deadline.after(limit_s)
        observer = Observer(guest, watcher_for(plan), plan.symbols(), folder, plan.boot.clock)
        observed = observer.observe(
            deadline,
            hello_by=deadline.sooner(plan.hello_s + target.start_s),
            on_hello=lambda hello: _check(hello, plan.boot),
            confirm_s=plan.confirm_s,
        )
        outcome = judge(observed.observations, plan.scenario.judge_by())
        if outcome.kind is not OutcomeKind.COMPLETED:
            _keep_evidence(plan, guest, observed, outcome, folder)
        guest.stop()
        while guest.next_event(Deadline.after(1.0)):
            pass  # recorded, as evidence
    if plan.stage.box:
        add_dumps(folder, plan.symbols())
    return observed, outcome, guest.steps


def _keep_evidence(plan: TrialPlan, guest: Guest, observed: Observed, outcome: Outcome, folder: Path) -> None:
    """All that can still be had of the guest; nothing of it is judged."""
    limits = Limits(
        memory_s=IMAGE_LIMIT_S if plan.image_mb else 0.0, memory_bytes=plan.image_mb * 1024 * 1024
    )
    if plan.stage.box:
        # A real line: the stacks of 200 tasks take 20 s at 115200 bit/s. After a panic nobody answers.
        answer_s = 1.0 if outcome.kind is OutcomeKind.PANIC else 60.0
        limits = replace(limits, answer_s=answer_s, quiet_s=1.0)
    table = SymbolTable.load(plan.kernel.build.system_map)
    known = observed.diagnosis if observed.diagnosis and observed.diagnosis.proof != "none" else None
    # The outcome is known: it must not be lost with the evidence.
    with contextlib.suppress(InfraError):
        collect(guest, folder, plan.symbols(), table, known, limits, outcome.onset_s or 0.0)


def watcher_for(plan: TrialPlan) -> Watcher:
    """What watches a trial. On the virtual clock host time means nothing: the guest ends its own hangs."""
    limits = plan.scenario.limits(plan.boot)
    if plan.boot.clock == "virtual":
        limits = replace(limits, stall_s=math.inf)
    symbols = SymbolTable.load(plan.kernel.build.system_map)
    return Watcher(limits, symbols, plan.scenario.oracle.spin_functions)


def _check(hello: Hello, boot: BootConfig) -> None:
    """InfraError if the guest is another one than was asked for, or its clock is off."""
    check_preemption(hello, boot.preempt)
    if hello.cpus < boot.cpus:
        raise InfraError(f"asked for {boot.cpus} CPUs, there are {hello.cpus}", hint="--cpus asks for fewer")
    if boot.clock == "virtual":
        check_guest_time(hello)


def program_entries(programs: GuestPrograms, tests: HmmTests | None = None) -> list[initramfs.Entry]:
    """Modules and stressor, where the plan looks for them."""
    entries = [
        initramfs.copy("hmm-stressor", programs.stressor, executable=True),
        initramfs.copy("hmm_harness.ko", programs.module),
    ]
    if programs.selftest:
        entries.append(initramfs.copy("hmm_selftest.ko", programs.selftest))
    if tests:
        entries.append(initramfs.copy("test_hmm.ko", tests.module))
        entries.append(initramfs.copy("hmm-tests", tests.program, executable=True))
    return entries


def guest_entries(
    programs: GuestPrograms, steps: Sequence[Step], tests: HmmTests | None = None
) -> list[initramfs.Entry]:
    """The members of the guest's initramfs."""
    return [
        initramfs.copy("init", programs.init, executable=True),
        *program_entries(programs, tests),
        initramfs.file(PLAN_PATH, plan_text(steps).encode()),
    ]


def boot_plan(
    kernel: BootableKernel,
    boot: BootConfig,
    stage: Stage,
    image: Path,
    seed: int = 1,
    words: Sequence[str] = (),
) -> BootPlan:
    """The plan of a boot as configured; `seed` decides what happens on the virtual clock.

    `words`: what the scenario adds to the kernel's command line.
    """
    parameters = KernelParameters(preempt=boot.preempt)
    if boot.clock == "host":  # on the virtual clock the kernel's own thresholds take seconds too
        parameters = replace(
            parameters,
            watchdog_thresh_s=boot.watchdog_thresh_s,
            rcu_stall_s=boot.rcu_stall_s,
            workqueue_thresh_s=boot.workqueue_thresh_s,
            hung_task_s=boot.hung_task_s,
        )
    return BootPlan(
        kernel=kernel.build.bzimage if stage.machine == "box" else kernel.build.boot_image,
        initramfs=image,
        cmdline=(*trial_arguments(parameters), *words, *boot.cmdline),
        machine=stage.machine,
        accel=stage.accel,
        cpus=boot.cpus,
        memory_mb=boot.memory_mb,
        clock=boot.clock,
        seed=seed,
        vfio=stage.vfio,
        build_id=read_elf(kernel.build.vmlinux).build_id if stage.machine == "box" else "",
    )


def _splat(outcome: Outcome) -> tuple[str, ...]:
    event = outcome.decided_by
    return tuple(event.text[:SPLAT_LINES]) if isinstance(event, ConsoleEvent) else ()


def _cycle(outcome: Outcome) -> tuple[str, ...]:
    event = outcome.decided_by
    return event.text if isinstance(event, Examination) else ()


def _console_s(observations: Sequence[Observation]) -> float | None:
    """When the kernel itself first reported a hang, s since power-on."""
    hangs = (o.host_s for o in observations if isinstance(o, ConsoleEvent) and o.kind == "hang")
    return next(hangs, None)
