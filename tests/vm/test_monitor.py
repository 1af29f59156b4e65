# SPDX-License-Identifier: GPL-2.0-only
"""Real guests looked at from outside: what samples show, and what can be done to a guest that hangs."""

from __future__ import annotations

import itertools
import os
import re
import signal
import socket
import subprocess
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import drgn
import pytest
import zstandard
from drgn.helpers.linux.pid import for_each_task

from harness import process
from harness.assets import asset
from harness.deadline import Deadline
from harness.errors import InfraError
from harness.experiment.kernels import BootableKernel
from harness.guest.initramfs import copy, file, write_initramfs
from harness.guest.plan import PLAN_PATH, Exec, Insmod, PowerOff, plan_text
from harness.guest.protocol import Start, parse_line
from harness.target.cmdline import KernelParameters, trial_arguments
from harness.target.protocol import (
    AgentLine,
    BootPlan,
    Capabilities,
    ConsoleData,
    GuestEnded,
    RawEvent,
    Sample,
    VcpuSample,
)
from harness.target.qemu import QemuGuest, QemuTarget
from harness.target.qmp import Monitor, MonitorGone
from harness.target.recording import replay
from tests.vm.guests import PATIENCE_S, PHASES, console_of, gone, make_plan, run_guest, wait_for_hello

pytestmark = pytest.mark.vm


@dataclass(frozen=True)
class Programs:
    """Built for these tests: `folder` has init and phases, `functions` where the loops are."""

    folder: Path
    functions: dict[str, range]


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Programs:
    folder = tmp_path_factory.mktemp("programs")
    (folder / "phases.c").write_text(PHASES)
    for name, path in {"init": asset("qemu", "init.c"), "phases": folder / "phases.c"}.items():
        argv = ["gcc", "-static", "-no-pie", "-O2", "-w", "-o", str(folder / name), str(path)]
        process.run(argv, deadline=Deadline.after(60))
    listing = subprocess.run(["nm", "-S", folder / "phases"], capture_output=True, text=True, check=True)
    found = re.findall(r"^(\w+) (\w+) T (spin_\w+)$", listing.stdout, re.MULTILINE)
    functions = {name: range(int(at, 16), int(at, 16) + int(size, 16)) for at, size, name in found}
    return Programs(folder, functions)


@pytest.fixture
def phases_plan(base_kernel: BootableKernel, programs: Programs, tmp_path: Path) -> BootPlan:
    extra = [copy("phases", programs.folder / "phases", executable=True)]
    return make_plan(
        base_kernel.build.boot_image, programs.folder, tmp_path, [Exec("/phases"), PowerOff()], extra
    )


def test_samples_follow_what_a_cpu_does(phases_plan: BootPlan, programs: Programs, tmp_path: Path) -> None:
    """From one interval after a phase's begin on no sample shows another phase, and most show this one.

    The others are in the kernel: timer ticks, and what they have to do.
    """
    interval_s = 0.05
    events: list[RawEvent] = []
    deadline = Deadline.after(PATIENCE_S)
    with QemuTarget(interval_s).boot(phases_plan, tmp_path / "guest", deadline) as guest:
        while event := guest.next_event(deadline):
            events.append(event)
    assert isinstance(events[-1], GuestEnded)
    assert list(replay(tmp_path / "guest")) == events

    def shown(cpu: VcpuSample) -> str:
        if cpu.cpl == 0:
            return "halt" if cpu.halted else "kernel"
        at = (name for name, addresses in programs.functions.items() if cpu.rip in addresses)
        return next(at, "elsewhere").removeprefix("spin_")

    begins = phase_times(events)
    names = list(begins)
    used_s: dict[str, float] = {}
    assert names == ["here", "halt", "there", "kernel", "over"]
    for name, following in itertools.pairwise(names):
        seen = [
            event.cpus[1]
            for event in events
            if isinstance(event, Sample)
            and begins[name] + interval_s <= event.host_s < begins[following] - interval_s
        ]
        counts = Counter(map(shown, seen))
        assert len(seen) >= 5 and counts[name] > 0.6 * len(seen), (name, counts)
        assert counts.keys() <= {name, "kernel"} | ({"elsewhere"} if name == "kernel" else set()), (
            name,
            counts,
        )
        used_s[name] = seen[-1].run_s - seen[0].run_s
    # Whoever spins uses the host's CPU, as much as there is to be had; whoever is halted does not.
    halted_s = used_s.pop("halt")
    assert halted_s < 0.2 and min(used_s.values()) > 2 * halted_s, (halted_s, used_s)


def test_a_guest_that_ends_while_it_is_looked_at_ends(
    base_kernel: BootableKernel, programs: Programs, tmp_path: Path
) -> None:
    """Without a pause between samples a command is always under way: 3 of 10 QEMUs stood still that ended
    by themselves."""
    plan = make_plan(base_kernel.build.boot_image, programs.folder, tmp_path, [PowerOff()])
    for number in range(8):
        deadline = Deadline.after(PATIENCE_S)
        last: RawEvent | None = None
        with QemuTarget(sample_s=0.0).boot(plan, tmp_path / str(number), deadline) as guest:
            while event := guest.next_event(deadline):
                last = event
        assert isinstance(last, GuestEnded) and (last.how, last.status) == ("exited", 0), number


def phase_times(events: list[RawEvent]) -> dict[str, float]:
    """When each phase was announced, s since power-on."""
    times: dict[str, float] = {}
    text = ""
    for event in events:
        if isinstance(event, ConsoleData):
            text += event.data.decode("ascii", errors="replace")
            for name in re.findall(r"phase: (\w+)\r?\n", text):
                times.setdefault(name, event.host_s)
    return times


def test_a_guest_on_the_virtual_clock_is_left_alone(
    base_kernel: BootableKernel, programs: Programs, tmp_path: Path
) -> None:
    plan = make_plan(base_kernel.build.boot_image, programs.folder, tmp_path, [PowerOff()])
    deadline = Deadline.after(PATIENCE_S)
    with QemuTarget().boot(replace(plan, clock="virtual"), tmp_path / "guest", deadline) as guest:
        assert guest.capabilities == Capabilities(
            vcpu_samples=False, memory_image=False, nmi=False, power=True
        )
        assert "-mon" not in guest.command_line
        events: list[RawEvent] = []
        while event := guest.next_event(deadline):
            events.append(event)
        for look in (guest.pause, guest.registers, guest.inject_nmi, lambda: guest.memory_address):
            with pytest.raises(InfraError, match="virtual clock"):
                look()
    assert not any(isinstance(event, Sample) for event in events)
    assert b"Linux version" in console_of(events)


def test_a_guest_that_is_not_sampled(base_kernel: BootableKernel, programs: Programs, tmp_path: Path) -> None:
    plan = make_plan(base_kernel.build.boot_image, programs.folder, tmp_path, [PowerOff()])
    sampled = run_guest(plan, tmp_path / "sampled")
    assert any(isinstance(event, Sample) for event in sampled)
    deadline = Deadline.after(PATIENCE_S)
    with QemuTarget(sample_s=None).boot(plan, tmp_path / "guest", deadline) as guest:
        wait_for_hello(guest)
        assert set(guest.registers()) == {0, 1}
        while event := guest.next_event(deadline):
            assert not isinstance(event, Sample)


@dataclass(frozen=True)
class Livelock:
    """A guest in the livelock: the spinner on CPU 1, the holder asleep."""

    guest: QemuGuest
    kernel: BootableKernel
    #: Samples since it is there.
    samples: list[Sample]

    def read(
        self, seconds: float, until: Callable[[list[RawEvent]], bool] = lambda _: False
    ) -> list[RawEvent]:
        """Events of the next seconds, or until enough were there."""
        events: list[RawEvent] = []
        deadline = Deadline.after(seconds)
        while not deadline.expired and not until(events):
            if event := self.guest.next_event(deadline):
                events.append(event)
        return events

    def fresh_samples(self, count: int) -> list[Sample]:
        """So many samples that were taken from now on, however slow this machine is."""
        while self.guest.next_event(Deadline.after(0)):
            pass

        def taken(events: list[RawEvent]) -> list[Sample]:
            return [event for event in events if isinstance(event, Sample)][1:]

        samples = taken(self.read(PATIENCE_S, lambda events: len(taken(events)) >= count))
        assert len(samples) == count
        return samples

    def console(self, seconds: float, until: bytes = b"") -> str:
        """What the console says, until `until` has come and 0.3 s more."""
        events = self.read(seconds, lambda seen: bool(until) and until in console_of(seen))
        return console_of([*events, *self.read(0.3)]).decode(errors="replace")

    def program(self) -> drgn.Program:
        """The guest's memory, live."""
        program = drgn.Program()
        program.set_qemu_qmp(self.guest.memory_address)
        load_symbols(program, self.kernel)
        return program


def load_symbols(program: drgn.Program, kernel: BootableKernel) -> None:
    symbols = [str(kernel.build.vmlinux), str(kernel.programs.module_debug)]
    program.load_debug_info(symbols, default=False)


@pytest.fixture(scope="module")
def livelock(unfixed_kernel: BootableKernel, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Livelock]:
    """The tests below use one guest and leave it as they found it, in the order of the file."""
    folder = tmp_path_factory.mktemp("livelock")
    programs = unfixed_kernel.programs
    entries = [
        copy("init", programs.init, executable=True),
        copy("hmm-stressor", programs.stressor, executable=True),
        copy("hmm_harness.ko", programs.module),
        file(
            PLAN_PATH,
            plan_text([Insmod("/hmm_harness.ko"), Exec("/hmm-stressor", ("trylock-starvation",))]).encode(),
        ),
    ]
    plan = BootPlan(
        kernel=unfixed_kernel.build.boot_image,
        initramfs=write_initramfs(folder / "initramfs.cpio", entries),
        cmdline=trial_arguments(KernelParameters(preempt="none")),
    )
    deadline = Deadline.after(PATIENCE_S)
    with QemuTarget(sample_s=0.1).boot(plan, folder / "guest", deadline) as guest:
        assert isinstance(guest, QemuGuest)
        started, samples = False, list[Sample]()
        while len(samples) < 15:
            event = guest.next_event(deadline)
            assert event and not isinstance(event, GuestEnded), event
            if isinstance(event, AgentLine):
                started = started or isinstance(parse_line(event.text), Start)
            elif isinstance(event, Sample) and started:
                spinner = event.cpus[1]
                samples = [*samples, event] if spinner.cpl == 0 and not spinner.halted else []
        yield Livelock(guest, unfixed_kernel, samples)


def test_a_livelock_seen_from_outside(livelock: Livelock) -> None:
    """The spinner is at many places of the kernel, never anywhere else, and takes a CPU of the host."""
    first, last = livelock.samples[0], livelock.samples[-1]
    spinner = [sample.cpus[1] for sample in livelock.samples]
    assert len({cpu.rip for cpu in spinner}) >= 4
    assert all(cpu.rip >= 0xFFFFFFFF80000000 for cpu in spinner)
    holder_s, spinner_s = (last.cpus[cpu].run_s - first.cpus[cpu].run_s for cpu in (0, 1))
    assert 2 * holder_s < spinner_s <= 1.05 * (last.host_s - first.host_s), (holder_s, spinner_s)
    assert all(sample.running for sample in livelock.samples)


def test_a_paused_guest_stands_still_and_goes_on(livelock: Livelock) -> None:
    guest = livelock.guest
    guest.pause()
    before = guest.registers()
    samples = livelock.fresh_samples(4)
    assert not any(sample.running for sample in samples)
    assert {cpu.rip for sample in samples for cpu in sample.cpus if cpu.cpu == 1} == {before[1]["RIP"]}
    assert samples[-1].cpus[1].run_s - samples[0].cpus[1].run_s < 0.05
    assert guest.registers() == before
    guest.resume()
    after = livelock.fresh_samples(4)
    assert all(sample.running for sample in after)
    assert any(sample.cpus[1].rip != before[1]["RIP"] for sample in after)


def test_a_pause_by_somebody_else_shows(livelock: Livelock) -> None:
    """Through the debugger's socket, behind the harness's back."""
    connection = socket.socket(socket.AF_UNIX)
    connection.connect(livelock.guest.memory_address)
    other = Monitor(connection)
    try:
        for command, running in (("stop", False), ("cont", True)):
            other.execute(command)
            assert livelock.fresh_samples(1)[0].running == running
    finally:
        other.close()


def test_a_debugger_reads_the_memory_again_and_again(livelock: Livelock) -> None:
    guest = livelock.guest
    guest.pause()
    for _ in range(2):
        program = livelock.program()
        assert program.flags & drgn.ProgramFlags.IS_LINUX_KERNEL
        names = [task.comm.string_() for task in for_each_task(program)]
        assert names.count(b"hmm-stressor") >= 2
        del program
    guest.resume()


def test_sysrq_answers_while_one_cpu_spins(livelock: Livelock) -> None:
    livelock.guest.sysrq("w")
    said = livelock.console(PATIENCE_S, until=b"lru_add_drain_all")
    assert "sysrq: Show Blocked State" in said
    assert "migrate_vma_setup" in said or "migrate_device_unmap" in said
    livelock.guest.sysrq("l")
    said = livelock.console(PATIENCE_S, until=b"hmm_range_fault")
    assert "sysrq: Show backtrace of all active CPUs" in said


def test_the_first_cpu_takes_an_nmi(livelock: Livelock) -> None:
    livelock.guest.inject_nmi()
    assert "on CPU 0.\n" in livelock.console(PATIENCE_S, until=b"Dazed and confused").replace("\r", "")


def test_an_image_of_the_memory_opens_in_a_debugger(livelock: Livelock, tmp_path: Path) -> None:
    image = tmp_path / "memory.zst"
    size = livelock.guest.save_memory(image, Deadline.after(PATIENCE_S))
    assert size == image.stat().st_size < 64 << 20
    core = tmp_path / "core"
    with image.open("rb") as source, core.open("wb") as sink:
        copied, _ = zstandard.ZstdDecompressor().copy_stream(source, sink, write_size=1 << 20)
    assert copied >= 0
    program = drgn.Program()
    program.set_core_dump(core)
    load_symbols(program, livelock.kernel)
    assert [task.comm.string_() for task in for_each_task(program)].count(b"hmm-stressor") >= 2
    assert livelock.fresh_samples(1)[0].running


def test_an_image_that_takes_too_long_leaves_no_file_and_a_guest_that_runs(
    livelock: Livelock, tmp_path: Path
) -> None:
    with pytest.raises(InfraError, match="not written in time"):
        livelock.guest.save_memory(tmp_path / "memory.zst", Deadline.after(0.05))
    assert list(tmp_path.iterdir()) == []
    assert livelock.fresh_samples(1)[0].running


def test_an_image_on_a_full_disk(livelock: Livelock, tmp_path: Path) -> None:
    (tmp_path / "memory.zst").symlink_to("/dev/full")
    with pytest.raises(InfraError, match="No space left"):
        livelock.guest.save_memory(tmp_path / "memory.zst", Deadline.after(PATIENCE_S))
    assert list(tmp_path.iterdir()) == []
    assert livelock.fresh_samples(1)[0].running


def test_a_qemu_that_stands_still_is_no_hang(livelock: Livelock) -> None:
    os.kill(livelock.guest.pid, signal.SIGSTOP)
    try:
        with pytest.raises(InfraError, match="does not answer"):
            livelock.guest.monitor.execute("query-status", Deadline.after(0.3))
    finally:
        os.kill(livelock.guest.pid, signal.SIGCONT)
    livelock.guest.monitor.execute("query-status")


def test_a_guest_killed_while_it_is_looked_at(livelock: Livelock, tmp_path: Path) -> None:
    """Last: it ends the guest."""
    guest = livelock.guest
    guest.pause()
    os.kill(guest.pid, signal.SIGKILL)
    assert gone(guest.pid)
    with pytest.raises(MonitorGone):
        guest.registers()
    with pytest.raises(MonitorGone):
        guest.resume()
    with pytest.raises(MonitorGone):
        guest.save_memory(tmp_path / "memory.zst", Deadline.after(PATIENCE_S))
    with pytest.raises(OSError):
        drgn.Program().set_qemu_qmp(guest.memory_address)
    *_, end = livelock.read(PATIENCE_S, lambda seen: bool(seen) and isinstance(seen[-1], GuestEnded))
    assert isinstance(end, GuestEnded) and end.how == "killed"
    assert not list(Path(tempfile.gettempdir()).glob("hmm-*/qmp"))
