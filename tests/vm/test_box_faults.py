# SPDX-License-Identifier: GPL-2.0-only
"""What goes wrong in a lab while a trial runs; no hang is needed, so the kernel tested is the box's own."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from harness.assets import asset
from harness.deadline import Deadline
from harness.guest.initramfs import copy, file, write_initramfs
from harness.guest.plan import PLAN_PATH, Exec, PowerOff, plan_text
from harness.guest.protocol import Exit, parse_line
from harness.kmod import STATIC_FLAGS, compile_static
from harness.process import run
from harness.target.box.config import load_box
from harness.target.box.journal import STEPS
from harness.target.box.target import BoxTarget
from harness.target.cmdline import KernelParameters, trial_arguments
from harness.target.protocol import AgentLine, BootPlan, GuestEnded
from tests.vm.box.box import Box, Installed
from tests.vm.box.image import PARTITION_AT
from tests.vm.box.unplugged import BOOTING, unplugged

pytestmark = [pytest.mark.box, pytest.mark.vm]

#: Counts, five times a second.
COUNTER = """#!/bin/sh
n=0
while [ $n -lt %d ]; do
    n=$((n + 1)); echo "{\\"type\\":\\"say\\",\\"n\\":$n}"; sleep 0.2
done
"""
#: Beyond it, something is wrong, s.
RUN_S = 600.0


@pytest.fixture(scope="module")
def kernel(installed: Installed, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The box's own kernel, read from its disk."""
    folder = tmp_path_factory.mktemp("boot")
    disk = f"{installed.disk}?offset={PARTITION_AT}"
    run(["/usr/sbin/debugfs", "-R", f"rdump /boot {folder}", disk], deadline=Deadline.after(60))
    return next((folder / "boot").glob("vmlinuz-*"))


@pytest.fixture(scope="module")
def init(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("init")
    source = asset("qemu", "init.c")
    compile_static(folder / "init", [source], STATIC_FLAGS, folder / "log", Deadline.after(120))
    return folder / "init"


def plan_of(kernel: Path, init: Path, folder: Path, count: int) -> BootPlan:
    """A trial that counts."""
    entries = [
        copy("init", init, executable=True),
        file("say", (COUNTER % count).encode(), executable=True),
        file(PLAN_PATH, plan_text([Exec("/say"), PowerOff()]).encode()),
    ]
    words = trial_arguments(KernelParameters(preempt="none"))
    return BootPlan(kernel, write_initramfs(folder / "initramfs.cpio", entries), (*words, "net.ifnames=0"))


@dataclass
class Trial:
    """What a trial said, and how it ended."""

    counted: list[int]
    exits: list[int]
    ended: GuestEnded | None
    steps: list[tuple[str, str]]

    def has(self, name: str, detail: str) -> bool:
        """Whether that was done, or seen, around the trial."""
        return any(step == name and detail in said for step, said in self.steps)


@contextlib.contextmanager
def on_the_box(target_file: Path) -> Iterator[BoxTarget]:
    with contextlib.closing(BoxTarget(load_box(target_file))) as target:
        yield target


def carried_out(
    target: BoxTarget, plan: BootPlan, folder: Path, at: Mapping[int, Callable[[], object]]
) -> Trial:
    """The plan; when the box has counted so far, something is done to it."""
    trial = Trial([], [], None, [])
    deadline = Deadline.after(RUN_S)
    with target.boot(plan, folder, deadline) as guest:
        while event := guest.next_event(deadline):
            if isinstance(event, GuestEnded):
                trial.ended = event
            if not isinstance(event, AgentLine):
                continue
            message = parse_line(event.text)
            if isinstance(message, Exit):
                trial.exits.append(message.status)
            if message.model_extra and "n" in message.model_extra:
                trial.counted.append(message.model_extra["n"])
                at.get(trial.counted[-1], lambda: None)()
    trial.steps = [(step.name, step.detail) for step in guest.steps]
    return trial


def test_a_trial_outlives_its_connections(box: Box, kernel: Path, init: Path, tmp_path: Path) -> None:
    def cut() -> None:
        assert box.tell("cut", "ssh") == "1 cut"
        assert box.tell("cut", "serial") == "1 cut"

    def pull() -> None:
        box.tell("pull", "ssh")
        threading.Timer(6.0, lambda: box.tell("plug", "ssh")).start()

    with on_the_box(box.target_file) as target:
        trial = carried_out(
            target, plan_of(kernel, init, tmp_path, 60), tmp_path / "trial", {5: cut, 20: pull}
        )
    assert trial.counted == list(range(1, 61)), "nothing lost, nothing twice"
    assert trial.exits == [0] and trial.ended and trial.ended.how == "exited"
    assert trial.has("console", "open again") and trial.has("SSH", "stands again"), trial.steps
    assert trial.has("silence", "power: yes"), "whoever pulled the cable left the power on"


def test_a_box_off_the_network_is_power_cycled_and_one_that_reboots_is_lost(
    box: Box, kernel: Path, init: Path, tmp_path: Path
) -> None:
    # Without a line for SysRq, only the switch is left, and that fails once.
    target_file = box.write_target("no-console.yaml", console=None)
    before = box.console.count(BOOTING)
    with on_the_box(target_file) as target:
        with unplugged(box):
            # It fails when it is asked, and the first time it is to act.
            box.tell("power-fails", "2")
            target.put_right(tmp_path / "found")
        assert box.console.count(BOOTING) > before
        assert "attempt 2" in (tmp_path / "found" / STEPS).read_text(), "the switch failed once"
        plan = plan_of(kernel, init, tmp_path, 10000)
        trial = carried_out(target, plan, tmp_path / "trial", {5: lambda: box.tell("reset")})
    assert trial.ended and trial.ended.how == "lost" and "booted by itself" in trial.ended.why
    assert trial.counted[-1] < 10000 and trial.exits == []
