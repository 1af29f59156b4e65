# SPDX-License-Identifier: GPL-2.0-only
"""What every target promises, on each of them, with the same kernel and the same initramfs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from harness.deadline import Deadline
from harness.diagnose.elf import read_elf
from harness.errors import InfraError
from harness.experiment.kernels import BootableKernel
from harness.guest.initramfs import copy, file, write_initramfs
from harness.guest.plan import PLAN_PATH, Exec, PowerOff, Sleep, Step, plan_text
from harness.guest.protocol import ErrorMessage, Exit, Garbage, Hello, parse_line
from harness.kmod import STATIC_FLAGS, compile_static
from harness.target.box.config import load_box
from harness.target.box.target import BoxTarget
from harness.target.cmdline import KernelParameters, trial_arguments
from harness.target.protocol import AgentLine, BootPlan, ConsoleData, Guest, GuestEnded, RawEvent, Target
from harness.target.qemu import QemuTarget
from harness.target.recording import replay
from tests.vm.box.box import Box

pytestmark = pytest.mark.vm

SAY = """
#include <stdio.h>
int main(void)
{
    for (int i = 0; i < 1000; i++)
        printf("{\\"type\\":\\"said\\",\\"n\\":%d}\\n", i);
    printf("no message at all, \\303\\244 and \\377\\n");
    return 7;
}
"""
#: Far beyond any boot; reached only when something is wrong.
PATIENCE_S = 300.0

MakePlan = Callable[[Path, list[Step]], BootPlan]


@pytest.fixture(scope="module")
def say(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("say")
    (folder / "say.c").write_text(SAY)
    compile_static(folder / "say", [folder / "say.c"], STATIC_FLAGS, folder / "log", Deadline.after(60))
    return folder / "say"


@pytest.fixture(params=["qemu", pytest.param("box", marks=pytest.mark.box)])
def target(request: pytest.FixtureRequest) -> Iterator[Target]:
    if request.param == "qemu":
        yield QemuTarget()
        return
    box: Box = request.getfixturevalue("box")
    reached = BoxTarget(load_box(box.target_file))
    yield reached
    reached.close()


@pytest.fixture
def plan_of(target: Target, boxed_6_12: BootableKernel, say: Path) -> MakePlan:
    kernel = boxed_6_12
    on_box = isinstance(target, BoxTarget)

    def make(folder: Path, steps: list[Step]) -> BootPlan:
        entries = [
            copy("init", kernel.programs.init, executable=True),
            copy("say", say, executable=True),
            file(PLAN_PATH, plan_text(steps).encode()),
        ]
        return BootPlan(
            kernel=kernel.build.bzimage if on_box else kernel.build.boot_image,
            initramfs=write_initramfs(folder / "initramfs.cpio", entries),
            cmdline=trial_arguments(KernelParameters(preempt="none")),
            build_id=read_elf(kernel.build.vmlinux).build_id,
        )

    return make


def recorded(event: RawEvent, folder: Path) -> bool:
    """Whether an event is on disk; what the console said last may have got longer there already."""
    return any(
        event == other
        or (
            isinstance(event, ConsoleData)
            and isinstance(other, ConsoleData)
            and event.host_s == other.host_s
            and other.data.startswith(event.data)
        )
        for other in replay(folder)
    )


def heard(guest: Guest, folder: Path, until: Callable[[RawEvent], bool]) -> list[RawEvent]:
    """Events until one is the last, each of them on disk by the time it is handed out."""
    events: list[RawEvent] = []
    deadline = Deadline.after(PATIENCE_S)
    while event := guest.next_event(deadline):
        events.append(event)
        if len(events) % 50 == 1 or until(event):
            assert recorded(event, folder)
        if until(event):
            return events
    raise AssertionError(f"it is not there within {PATIENCE_S:g} s: {events[-3:]}")


def test_a_guest_from_its_first_word_to_its_end(target: Target, plan_of: MakePlan, tmp_path: Path) -> None:
    plan = plan_of(tmp_path, [Exec("/say"), Exec("/nowhere"), Exec("/say"), PowerOff()])
    with target.boot(plan, tmp_path, Deadline.after(PATIENCE_S)) as guest:
        events = heard(guest, tmp_path, lambda event: isinstance(event, GuestEnded))
        assert guest.next_event(Deadline.after(0)) is None
        assert guest.capabilities.power
    assert list(replay(tmp_path)) == events
    times = [event.host_s for event in events]
    assert times == sorted(set(times)) and times[0] >= 0
    last = events[-1]
    assert isinstance(last, GuestEnded) and (last.how, last.status) == ("exited", 0)
    console = b"".join(event.data for event in events if isinstance(event, ConsoleData))
    assert b"Linux version 6.12." in console
    messages = [parse_line(event.text) for event in events if isinstance(event, AgentLine)]
    assert isinstance(messages[0], Hello) and messages[0].preempt == "none"
    numbers = [m.model_extra["n"] for m in messages if m.model_extra and "n" in m.model_extra]
    assert numbers == list(range(1000))
    junk = [message for message in messages if isinstance(message, Garbage)]
    assert [message.text for message in junk] == ["no message at all, \u00e4 and \\xff"]
    assert [(m.path, m.status) for m in messages if isinstance(m, Exit)] == [("/say", 7)]
    # A step that fails is the last one.
    assert isinstance(messages[-1], ErrorMessage) and messages[-1].text.startswith("/nowhere")


def test_a_guest_that_is_stopped(target: Target, plan_of: MakePlan, tmp_path: Path) -> None:
    plan = plan_of(tmp_path, [Exec("/say"), Sleep(3600)])
    with target.boot(plan, tmp_path, Deadline.after(PATIENCE_S)) as guest:
        heard(guest, tmp_path, lambda event: isinstance(event, AgentLine) and '"exit"' in event.text)
        guest.sysrq("h")
        said = bytearray()

        def helps(event: RawEvent) -> bool:
            said.extend(event.data if isinstance(event, ConsoleData) else b"")
            return b"HELP" in said

        heard(guest, tmp_path, helps)
        for ask, can in (
            (guest.registers, guest.capabilities.vcpu_samples),
            (lambda: guest.memory_address, guest.capabilities.memory_image),
            (guest.inject_nmi, guest.capabilities.nmi),
        ):
            if not can:
                with pytest.raises(InfraError):
                    ask()
        guest.stop()
        ended = heard(guest, tmp_path, lambda event: isinstance(event, GuestEnded))[-1]
        assert isinstance(ended, GuestEnded) and ended.how == "stopped"
        assert guest.next_event(Deadline.after(0)) is None
