# SPDX-License-Identifier: GPL-2.0-only
"""Whole run folders without a guest: real trials of a real comparison, whose guests say what was recorded."""

from __future__ import annotations

import contextlib
import json
import shutil
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace

import pytest

from harness.cache import Cache
from harness.config import Experiment, load_experiment
from harness.deadline import Deadline
from harness.errors import InfraError
from harness.experiment.compare import Comparison, compare
from harness.experiment.kernels import BootableKernel
from harness.experiment.options import Workshop
from harness.experiment.report import comparison_json
from harness.experiment.runner import Runner
from harness.experiment.trial import Stage
from harness.kernel.product import KernelBuild, PatchRecord
from harness.kmod import GuestPrograms
from harness.layout import laid_out
from harness.results.runfolder import keep_patches, make_run_folder, run_facts, write_experiment
from harness.target.protocol import (
    AgentLine,
    BootPlan,
    Capabilities,
    ConsoleData,
    Guest,
    GuestEnded,
    MachineStep,
    RawEvent,
    Registers,
)
from harness.target.recording import Recorder
from harness.verbs import compare as compare_verb
from harness.verbs import run as run_verb
from harness.verbs import selftest as selftest_verb
from harness.verbs.common import conclude, recorded_in
from tests.unit.kernelroom import Notes
from tests.unit.watching import HELLO, START, progress, say

DATA = Path(__file__).resolve().parents[1] / "data" / "console"
LOCKUP = DATA / "7.3-unfixed-preempt-none-soft-lockup.log"
CLEAN = DATA / "7.3-fixed-preempt-none-completes.log"
REPRODUCE = "hmm-harness compare --trials 6"

NONE = Capabilities(vcpu_samples=False, memory_image=False, nmi=False, power=False)
_ITERATION = {"type": "iteration", "t": 1.5, "n": 0, "window": {"hit": True, "missing": []}}
_END = {"type": "end", "t": 3.0, "iterations": 1, "windows": 1, "status": 0}
_EXIT = {"type": "exit", "t": 3.1, "path": "/hmm-stressor", "status": 0, "signal": 0}


def completes() -> list[RawEvent]:
    """A guest that comes to its end."""
    said = [say(1.5, **_ITERATION), say(3.0, **_END), say(3.1, **_EXIT)]
    return [*_boots(CLEAN), *said, GuestEnded(3.3, 0, "exited")]


def locks_up() -> list[RawEvent]:
    """A guest that reports a soft lockup in hmm_range_fault()."""
    return [*_boots(LOCKUP), GuestEnded(20.0, 0, "stopped")]


def _boots(log: Path) -> list[RawEvent]:
    first, _, rest = log.read_bytes().partition(b"\n")
    said: list[AgentLine] = [say(1.0, **HELLO), say(1.1, **START), progress(1.2, 0, 1)]
    return [ConsoleData(0.4, first + b"\n"), *said, ConsoleData(1.6, rest)]


def fill(disk: Path) -> None:
    """Leave not a page of a small file system, in a file `filler`."""
    with contextlib.suppress(OSError), (disk / "filler").open("wb", buffering=0) as filler:
        while True:
            filler.write(b"x" * 1024)


@dataclass
class RecordedGuest:
    """Says its lines, and hears nothing."""

    events: list[RawEvent]
    recorder: Recorder
    command_line: tuple[str, ...] = ("recorded",)
    capabilities: Capabilities = NONE
    memory_address: str = ""
    steps: tuple[MachineStep, ...] = ()
    power_on: float = field(default_factory=time.monotonic)

    @property
    def now_s(self) -> float:
        return time.monotonic() - self.power_on

    def next_event(self, deadline: Deadline) -> RawEvent | None:
        if not self.events:
            return None
        event = self.events.pop(0)
        self.recorder.record(event)
        return event

    def stop(self) -> None:
        """It is no process."""

    def resume(self) -> None:
        """It was not paused."""

    def pause(self) -> None:
        raise InfraError("a recorded guest cannot be paused")

    def registers(self) -> Registers:
        raise InfraError("a recorded guest has no registers")

    def save_memory(self, path: Path, deadline: Deadline) -> int:
        raise InfraError("a recorded guest has no memory")

    def inject_nmi(self) -> None:
        raise InfraError("a recorded guest takes no NMI")

    def sysrq(self, key: str) -> None:
        raise InfraError("a recorded guest takes no keys")


@dataclass
class RecordedTarget:
    """Its guests end as the kernel's name says: those of `fails` lock up."""

    fails: str
    capabilities: Capabilities = NONE
    start_s: float = 0.0
    booted: list[Path] = field(default_factory=list)
    #: What happens instead, to every guest.
    breaks: BaseException | None = None

    @contextlib.contextmanager
    def boot(self, plan: BootPlan, folder: Path, deadline: Deadline) -> Iterator[Guest]:
        self.booted.append(folder)
        if self.breaks:
            raise self.breaks
        recorder = Recorder(folder, ["recorded"])
        try:
            yield RecordedGuest(locks_up() if self.fails in str(plan.kernel) else completes(), recorder)
        finally:
            recorder.close()


class Quiet(Notes):
    """Nobody looks at tables either."""

    def table(self, header: Sequence[str], rows: Sequence[Sequence[str]], running: str = "") -> None:
        """Not shown."""


def kernel(room: Path, name: str) -> BootableKernel:
    """A kernel of files that are there; nobody boots them."""
    folder = room / "builds" / name
    folder.mkdir(parents=True, exist_ok=True)
    for file in ("vmlinux.boot", "bzImage", "System.map", "module.ko", "module.ko.debug", "stressor", "init"):
        (folder / file).write_text(f"{name}/{file}\n" if file != "System.map" else "")
    shutil.copyfile("/bin/true", folder / "vmlinux")  # an ELF file with a build ID
    (folder / "config").write_text("CONFIG_DEVICE_PRIVATE=y\nCONFIG_HMM_MIRROR=y\n")
    enabler = PatchRecord(
        "x86-preempt-choice", "x86: a choice", "enabler", "applied", "not upstream", "0" * 64
    )
    build = KernelBuild(
        key=f"{name:0<64}",
        folder=folder,
        release="7.3.4",
        tree="Debian linux-source-7.3 7.3.4-1",
        tree_ident="debian",
        commit="",
        version="7.3.4",
        patches=(enabler,),
        config_sha256="c" * 64,
        compiler="gcc",
        command="make",
        seconds=1.0,
        cached=True,
    )
    files = [folder / file for file in ("module.ko", "module.ko.debug", "stressor", "init")]
    programs = GuestPrograms(files[0], files[1], None, None, files[2], files[3])
    return BootableKernel(build, programs)


def comparison(
    out: Path,
    room: Path,
    *,
    trials: int = 2,
    fails: str = "unfixed",
    words: Sequence[str] = (),
    error: float | None = None,
    runner: Runner | None = None,
    box: str = "",
) -> tuple[Path, str, Comparison]:
    """A finished comparison in a folder below `out`: the folder, and the report as it was printed."""
    changes = {"trials": trials, "memory_image_mb": 0, "error": error}
    experiment: Experiment = load_experiment("linux-7").model_copy(update=changes)
    folder = make_run_folder(out, experiment.scenario)
    experiment = keep_patches(folder, experiment)
    write_experiment(folder, experiment)
    kernels = {arm: kernel(room, arm) for arm in experiment.arms}
    again = " ".join([REPRODUCE, *words])
    tree = next(iter(kernels.values())).build.tree
    with recorded_in(folder, run_facts("compare", again, tree=tree), out / "store.sqlite") as update:
        target = RecordedTarget(fails)
        stage = Stage(target, "box", "none", box=box) if box else Stage(target, "microvm", "tcg")
        done = compare(experiment, kernels, stage, folder, Workshop(Cache(room), Quiet()), again, runner)
        result = comparison_json(done, 1.0)
        text = "\n".join(laid_out(conclude(folder, "compare", result, done.results, update)))
    assert json.loads(json.dumps(result)) == result
    return folder, text, done


def simulated(monkeypatch: pytest.MonkeyPatch, room: Path, fails: str = "unfixed") -> RecordedTarget:
    """The verbs compare, run and selftest build and boot nothing from now on: see `RecordedTarget`."""
    target = RecordedTarget(fails)
    stage = Stage(target, "microvm", "tcg")
    tree = SimpleNamespace(description="Debian linux-source-7.3 7.3.4-1", version="7.3.4")

    def kernels(experiment: Experiment, *rest: object) -> dict[str, BootableKernel]:
        return {arm: kernel(room, arm) for arm in experiment.arms}

    monkeypatch.setattr(compare_verb, "get_tree", lambda *words: tree)
    monkeypatch.setattr(compare_verb, "arm_kernels", kernels)
    monkeypatch.setattr(compare_verb, "set_stage", lambda *words: stage)
    for verb in (run_verb, selftest_verb):
        monkeypatch.setattr(verb, "ready", lambda given, *rest: (kernel(room, given.kernel), stage))
    return target
