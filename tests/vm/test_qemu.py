# SPDX-License-Identifier: GPL-2.0-only
"""Real boots in QEMU: what a guest says arrives, however it ends, and nothing is left behind."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pexpect
import pytest

from harness import process
from harness.assets import asset
from harness.cache import Cache
from harness.deadline import Deadline
from harness.errors import InfraError
from harness.experiment.kernels import BootableKernel
from harness.guest.initramfs import copy, file, write_initramfs
from harness.guest.plan import Exec, Insmod, PowerOff, Step, Write
from harness.guest.preempt import check_preemption
from harness.guest.probe import MARK, probe_entries
from harness.guest.protocol import ErrorMessage, Exit, Hello, parse_line
from harness.target import accel
from harness.target.cmdline import KernelParameters, trial_arguments
from harness.target.protocol import AgentLine, BootPlan, ConsoleData, GuestEnded, RawEvent
from harness.target.qemu import QEMU_LOG, QemuGuest, QemuTarget
from harness.target.recording import CONSOLE, replay
from harness.target.repro import AGENT, write_repro
from harness.target.shell import busybox
from tests.unit.test_protocol import Notes
from tests.vm.guests import (
    PATIENCE_S,
    SOURCES,
    console_of,
    endless_loop,
    gone,
    make_plan,
    messages_of,
    run_guest,
    wait_for_hello,
)

pytestmark = pytest.mark.vm


@pytest.fixture(scope="module")
def kernel(base_kernel: BootableKernel) -> Path:
    """The stripped kernel image of the default experiment's fixed arm."""
    return base_kernel.build.boot_image


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the guest's init, `binary` (says every byte on the console) and `sleeper`."""
    folder = tmp_path_factory.mktemp("programs")
    for name, text in SOURCES.items():
        (folder / f"{name}.c").write_text(text)
    for name, path in {"init": asset("qemu", "init.c"), **{n: folder / f"{n}.c" for n in SOURCES}}.items():
        argv = ["gcc", "-static", "-Os", "-s", "-o", str(folder / name), str(path)]
        process.run(argv, deadline=Deadline.after(60))
    return folder


@pytest.fixture
def forever(kernel: Path, programs: Path, tmp_path: Path) -> BootPlan:
    """A guest that says hello and then does nothing until it is ended."""
    extra = [copy("sleeper", programs / "sleeper", executable=True)]
    return make_plan(kernel, programs, tmp_path, [Exec("/sleeper")], extra)


def test_hello_plan_and_power_off(kernel: Path, programs: Path, tmp_path: Path) -> None:
    steps: list[Step] = [Write("/dev/kmsg", "a word from the plan"), PowerOff()]
    events = run_guest(make_plan(kernel, programs, tmp_path, steps), tmp_path / "guest")
    (hello,) = messages_of(events)
    assert isinstance(hello, Hello)
    check_preemption(hello, "none")
    assert (hello.protocol, hello.cpus, hello.page_size) == (1, 2, 4096)
    assert "watchdog_thresh=5" in hello.cmdline
    console = console_of(events)
    assert f"Linux version {hello.release}".encode() in console
    assert b"a word from the plan" in console
    end = events[-1]
    assert isinstance(end, GuestEnded)
    assert (end.how, end.status) == ("exited", 0)
    assert (tmp_path / "guest" / QEMU_LOG).read_bytes() == b""
    record = json.loads((tmp_path / "guest" / "guest.json").read_text())
    assert record["argv"][0] == "qemu-system-x86_64"
    assert str(kernel) in record["argv"]
    assert record["command"].startswith("qemu-system-x86_64 -no-user-config ")


def test_another_preemption_model_is_no_result(kernel: Path, programs: Path, tmp_path: Path) -> None:
    plan = make_plan(kernel, programs, tmp_path, [PowerOff()])
    plan = replace(plan, cmdline=trial_arguments(KernelParameters(preempt="full")))
    (hello,) = messages_of(run_guest(plan, tmp_path / "guest"))
    assert isinstance(hello, Hello)
    with pytest.raises(InfraError, match=r"asked for preempt=none, the kernel \S+ runs full"):
        check_preemption(hello, "none")


def test_a_module_that_does_not_load(kernel: Path, programs: Path, tmp_path: Path) -> None:
    broken = file("lib/broken.ko", b"\x7fELF and nothing behind it")
    steps: list[Step] = [Insmod("/lib/broken.ko"), Exec("/binary"), PowerOff()]
    events = run_guest(make_plan(kernel, programs, tmp_path, steps, [broken]), tmp_path / "guest")
    hello, error = messages_of(events)
    assert isinstance(hello, Hello)
    assert isinstance(error, ErrorMessage)
    assert error.what == "insmod"
    assert "/lib/broken.ko: Exec format error" in error.text


def test_a_console_full_of_binary(kernel: Path, programs: Path, tmp_path: Path) -> None:
    extra = [copy("binary", programs / "binary", executable=True)]
    plan = make_plan(kernel, programs, tmp_path, [Exec("/binary"), PowerOff()], extra)
    events = run_guest(plan, tmp_path / "guest")
    console = console_of(events)
    assert set(console) == set(range(256))
    assert console.count(bytes(range(128, 256))) == 64
    assert (tmp_path / "guest" / CONSOLE).read_bytes() == console
    hello, ended = messages_of(events)
    assert isinstance(hello, Hello)
    assert isinstance(ended, Exit)
    assert (ended.status, ended.signal) == (0, 0)


def test_a_kernel_that_panics_at_once(kernel: Path, programs: Path, tmp_path: Path) -> None:
    plan = make_plan(kernel, programs, tmp_path, [PowerOff()])
    plan = replace(plan, cmdline=(*plan.cmdline, "rdinit=/nothing", "init=/nothing"))
    events = run_guest(plan, tmp_path / "guest")
    assert b"Kernel panic - not syncing" in console_of(events)
    assert messages_of(events) == []
    end = events[-1]
    assert isinstance(end, GuestEnded)
    assert end.how == "exited"


def test_a_panic_before_there_is_a_console(kernel: Path, programs: Path, tmp_path: Path) -> None:
    plan = make_plan(kernel, programs, tmp_path, [PowerOff()])
    plan = replace(plan, cmdline=("mem=2M",))
    console = b""
    deadline = Deadline.after(PATIENCE_S)
    with QemuTarget(sample_s=None).boot(plan, tmp_path / "guest", deadline) as guest:
        while b"Kernel panic - not syncing" not in console:
            event = guest.next_event(deadline)
            assert isinstance(event, ConsoleData), event
            console += event.data


def test_a_kernel_that_says_nothing(programs: Path, tmp_path: Path) -> None:
    image = tmp_path / "silent"
    image.write_bytes(endless_loop())
    plan = make_plan(image, programs, tmp_path, [PowerOff()])
    with QemuTarget(sample_s=None).boot(plan, tmp_path / "guest", Deadline.after(PATIENCE_S)) as guest:
        assert guest.next_event(Deadline.after(1.0)) is None
        guest.stop()
        end = guest.next_event(Deadline.after(PATIENCE_S))
        assert isinstance(end, GuestEnded)
        assert end.how == "stopped"
        assert guest.next_event(Deadline.after(PATIENCE_S)) is None
    assert list(replay(tmp_path / "guest")) == [end]


def test_a_file_that_is_no_kernel(programs: Path, tmp_path: Path) -> None:
    image = tmp_path / "garbage"
    image.write_bytes(b"\x7fELF" + bytes(60))
    plan = make_plan(image, programs, tmp_path, [PowerOff()])
    deadline = Deadline.after(PATIENCE_S)
    with (
        pytest.raises(InfraError, match="QEMU failed with status 1: qemu-system-x86_64: "),
        QemuTarget().boot(plan, tmp_path / "guest", deadline) as guest,
    ):
        while guest.next_event(deadline):
            pass
    (end,) = replay(tmp_path / "guest")
    assert isinstance(end, GuestEnded)
    assert (end.how, end.status) == ("exited", 1)


def test_a_guest_killed_from_outside(forever: BootPlan, tmp_path: Path) -> None:
    with QemuTarget().boot(forever, tmp_path / "guest", Deadline.after(PATIENCE_S)) as guest:
        wait_for_hello(guest)
        assert isinstance(guest, QemuGuest)
        os.kill(guest.pid, signal.SIGKILL)
        last: RawEvent | None = None
        while event := guest.next_event(Deadline.after(PATIENCE_S)):
            last = event
    assert isinstance(last, GuestEnded)
    assert (last.how, last.status) == ("killed", -signal.SIGKILL)


def test_leaving_the_block_ends_the_guest(forever: BootPlan, tmp_path: Path) -> None:
    pid = 0
    with (
        pytest.raises(KeyboardInterrupt),
        QemuTarget().boot(forever, tmp_path / "guest", Deadline.after(PATIENCE_S)) as guest,
    ):
        wait_for_hello(guest)
        assert isinstance(guest, QemuGuest)
        pid = guest.pid
        raise KeyboardInterrupt
    assert gone(pid)
    *_, end = replay(tmp_path / "guest")
    assert isinstance(end, GuestEnded)
    assert end.how == "stopped"


def test_a_guest_that_ignores_its_end_is_killed(forever: BootPlan, tmp_path: Path) -> None:
    """A stopped QEMU handles no SIGTERM."""
    with QemuTarget().boot(forever, tmp_path / "guest", Deadline.after(PATIENCE_S)) as guest:
        wait_for_hello(guest)
        assert isinstance(guest, QemuGuest)
        os.kill(guest.pid, signal.SIGSTOP)
        guest.stop()
        assert gone(guest.pid)


def test_a_full_disk_ends_the_guest(forever: BootPlan, tmp_path: Path) -> None:
    folder = tmp_path / "guest"
    folder.mkdir()
    (folder / CONSOLE).symlink_to("/dev/full")
    with QemuTarget().boot(forever, folder, Deadline.after(PATIENCE_S)) as guest:
        assert isinstance(guest, QemuGuest)
        deadline = Deadline.after(PATIENCE_S)
        with pytest.raises(InfraError, match="No space left"):
            while guest.next_event(deadline):
                pass
        assert gone(guest.pid)


def test_a_killed_harness_leaves_no_qemu(forever: BootPlan, tmp_path: Path) -> None:
    harness = subprocess.Popen(
        [
            sys.executable,
            "-c",
            _BOOT_AND_WAIT,
            str(forever.kernel),
            str(forever.initramfs),
            str(tmp_path / "guest"),
        ],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert harness.stdout is not None
        pid = int(harness.stdout.readline())
        assert Path(f"/proc/{pid}/comm").read_text().startswith("qemu-system")
    finally:
        harness.kill()
        harness.wait()
    assert gone(pid)
    events = list(replay(tmp_path / "guest"))
    assert any(isinstance(event, AgentLine) for event in events)
    assert not any(isinstance(event, GuestEnded) for event in events)


_BOOT_AND_WAIT = """
import sys
from pathlib import Path
from harness.deadline import Deadline
from harness.target.protocol import AgentLine, BootPlan
from harness.target.qemu import QemuTarget
kernel, initramfs, folder = map(Path, sys.argv[1:])
later = Deadline.after(180)
with QemuTarget().boot(BootPlan(kernel, initramfs), folder, later) as guest:
    while not isinstance(guest.next_event(later), AgentLine):
        pass
    print(guest.pid, flush=True)
    while True:
        guest.next_event(Deadline.after(60))
"""


def test_auto_means_kvm_only_if_a_guest_ran(kernel: Path, tmp_path: Path) -> None:
    cache = Cache(tmp_path / "cache")
    first, second = Notes(), Notes()
    chosen = accel.choose_accel("auto", kernel, "microvm", cache, first, Deadline.after(PATIENCE_S))
    again = accel.choose_accel("auto", kernel, "microvm", cache, second, Deadline.after(PATIENCE_S))
    assert again == chosen
    assert second.notes == first.notes
    plan = BootPlan(kernel, write_initramfs(tmp_path / "probe.cpio", probe_entries()), accel=chosen)
    assert MARK.strip() in console_of(run_guest(plan, tmp_path / "guest"))
    if chosen == "tcg":
        (note,) = first.notes
        assert note.startswith("KVM: ")
        assert note.endswith("; using TCG")
        with pytest.raises(InfraError, match="KVM: "):
            accel.choose_accel("kvm", kernel, "microvm", cache, first, Deadline.after(PATIENCE_S))
    else:
        assert first.notes == []


def test_repro_needs_qemu_only(kernel: Path, programs: Path, tmp_path: Path) -> None:
    steps: list[Step] = [Write("/proc/sysrq-trigger", "c")]
    plan = make_plan(kernel, programs, tmp_path, steps)
    trial = console_of(run_guest(plan, tmp_path / "guest"))
    assert b"Kernel panic - not syncing: sysrq triggered crash" in trial

    script = write_repro(tmp_path / "repro", plan, title="sysrq triggered crash", seconds=1)
    done = subprocess.run(
        [str(script)],
        env={"PATH": "/usr/bin:/bin"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert ending(done.stdout) == ending(trial)
    hello = parse_line((script.parent / AGENT).read_text().splitlines()[0])
    assert isinstance(hello, Hello)


def ending(console: bytes) -> list[str]:
    """The console from the crash on, without what differs from boot to boot."""
    text = console.decode(errors="replace").replace("\r", "")
    lines = [re.sub(r"^\[[^]]*\]\[[^]]*\] ", "", line) for line in text.splitlines()]
    start = next(number for number, line in enumerate(lines) if "sysrq: Trigger a crash" in line)
    return [
        line for line in lines[start:] if re.match(r"sysrq|Kernel panic|reboot| do_init| +write| panic", line)
    ]


def test_a_shell_on_the_terminal(kernel: Path, programs: Path, tmp_path: Path) -> None:
    try:
        busybox()
    except InfraError as error:
        pytest.skip(f"{error.message} ({error.hint})")
    terminal = pexpect.spawn(
        sys.executable,
        ["-c", _SHELL, str(kernel), str(programs / "init")],
        encoding="utf-8",
        timeout=PATIENCE_S,
        dimensions=(24, 120),
    )
    try:
        terminal.expect(PROMPT)
        terminal.sendline("echo kernel=$(uname -r) tty=$(tty)")
        terminal.expect(r"kernel=(\d+\.\S+) tty=/dev/ttyS0")
        terminal.expect(PROMPT)
        # Ctrl-C reaches the program in the guest, not QEMU and not the harness.
        terminal.sendline("sh -c 'echo started=$((40 + 2)); sleep 1000'")
        terminal.expect("started=42")
        terminal.sendintr()
        terminal.expect(PROMPT)
        terminal.sendline("exit")
        terminal.expect("ended with 0")
        terminal.expect(pexpect.EOF)
    finally:
        terminal.close(force=True)
    assert terminal.exitstatus == 0


#: Without an end mark: the shell asks the terminal for its cursor right behind it.
PROMPT = r"/ # "

_SHELL = """
import sys
from pathlib import Path
from harness.target.protocol import BootPlan
from harness.target.shell import run_shell
kernel, init = map(Path, sys.argv[1:])
print("ended with", run_shell(BootPlan(kernel, Path("unused")), init))
"""
