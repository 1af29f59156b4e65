# SPDX-License-Identifier: GPL-2.0-only
"""The QEMU command line and everything that is made from it, without starting QEMU."""

from __future__ import annotations

import shlex
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from harness.errors import InfraError, UserError
from harness.target import qemu
from harness.target.cmdline import KernelParameters, effective_cmdline, trial_arguments
from harness.target.protocol import BootPlan
from harness.target.qemu import Channels, QemuTarget, check_plan, qemu_argv
from harness.target.repro import write_repro

PLAN = BootPlan(
    kernel=Path("/builds/vmlinux"),
    initramfs=Path("/run/initramfs.cpio"),
    cmdline=("preempt=none", "watchdog_thresh=1"),
)
CHANNELS = Channels(console="socket,fd=5", agent="socket,fd=6")

MICROVM = [
    "qemu-system-x86_64",
    "-no-user-config",
    "-nodefaults",
    "-no-reboot",
    "-display",
    "none",
    "-machine",
    "microvm,acpi=off,pit=on,pic=on,rtc=on,isa-serial=on",
    "-accel",
    "tcg,thread=multi",
    "-cpu",
    "qemu64",
    "-smp",
    "2",
    "-m",
    "1024M",
    "-kernel",
    "/builds/vmlinux",
    "-initrd",
    "/run/initramfs.cpio",
    "-append",
    "console=ttyS0 earlycon=uart8250,io,0x3f8 quiet sysctl.kernel.printk=7 panic=-1 reboot=t"
    " qemu_fw_cfg.ioport=0x14@0x510 tsc=unstable no_timer_check nokaslr preempt=none watchdog_thresh=1",
    "-chardev",
    "socket,id=console,fd=5",
    "-serial",
    "chardev:console",
    "-device",
    "virtio-serial-device",
    "-chardev",
    "socket,id=agent,fd=6",
    "-device",
    "virtserialport,chardev=agent,name=hmm.agent",
    "-device",
    "vmcoreinfo",
]


def test_microvm_golden() -> None:
    assert qemu_argv(PLAN, CHANNELS) == MICROVM


def test_q35_on_kvm_differs_in_machine_bus_and_accelerator_only() -> None:
    plan = replace(PLAN, machine="q35", accel="kvm", cpus=4, memory_mb=2048)
    expected = list(MICROVM)
    for old, new in (
        ("microvm,acpi=off,pit=on,pic=on,rtc=on,isa-serial=on", "q35"),
        ("virtio-serial-device", "virtio-serial-pci"),
        ("tcg,thread=multi", "kvm"),
        ("2", "4"),
        ("1024M", "2048M"),
    ):
        expected[expected.index(old)] = new
    append = expected.index("-append") + 1
    expected[append] = expected[append].replace(
        "qemu_fw_cfg.ioport=0x14@0x510 tsc=unstable no_timer_check ", ""
    )
    assert qemu_argv(plan, CHANNELS) == expected


def test_a_device_of_this_machine_sits_behind_a_port_of_its_own() -> None:
    plan = replace(PLAN, machine="q35", accel="kvm")
    assert qemu_argv(replace(plan, vfio="0000:03:00.0"), CHANNELS) == [
        *qemu_argv(plan, CHANNELS),
        "-device",
        "pcie-root-port,id=passthrough,bus=pcie.0,chassis=1,slot=1",
        "-device",
        "vfio-pci,host=0000:03:00.0,bus=passthrough",
    ]


VIRTUAL = [
    "-accel",
    "tcg,thread=single",
    "-icount",
    "shift=5,sleep=off",
    "-rtc",
    "base=2026-01-01T00:00:00,clock=vm",
    "-seed",
    "7",
    "-global",
    "virtio-mmio.ioeventfd=off",
]
STOPS_BY_ITSELF = (
    "nokaslr softlockup_panic=1 sysctl.kernel.hardlockup_panic=1 sysctl.kernel.panic_on_rcu_stall=1"
    " workqueue.panic_on_stall=1 sysctl.kernel.hung_task_panic=1 oops=panic skew_tick=1 preempt=none"
)


def test_the_virtual_clock_golden() -> None:
    plan = replace(PLAN, clock="virtual", seed=7)
    expected = list(MICROVM)
    accel = expected.index("-accel")
    expected[accel : accel + 2] = VIRTUAL
    append = expected.index("-append") + 1
    expected[append] = expected[append].replace("no_timer_check nokaslr preempt=none", STOPS_BY_ITSELF)
    assert qemu_argv(plan, CHANNELS) == expected


def test_the_virtual_clock_on_q35_reads_its_queues_in_step_too() -> None:
    argv = qemu_argv(replace(PLAN, clock="virtual", machine="q35"), CHANNELS)
    assert argv[argv.index("-global") + 1] == "virtio-serial-pci.ioeventfd=off"


def test_the_seed_of_a_plan_counts_on_the_virtual_clock_only() -> None:
    assert qemu_argv(replace(PLAN, seed=7), CHANNELS) == MICROVM


def test_the_virtual_clock_needs_tcg(plan: BootPlan) -> None:
    with pytest.raises(UserError, match="needs TCG"):
        check_plan(replace(plan, clock="virtual", accel="kvm"))


def test_monitors_are_added_for_whoever_looks_from_outside() -> None:
    channels = replace(CHANNELS, monitor="socket,fd=7", memory="socket,fd=8,server=on,wait=off")
    assert qemu_argv(PLAN, channels) == [
        *MICROVM,
        "-no-shutdown",
        "-chardev",
        "socket,id=monitor,fd=7",
        "-mon",
        "chardev=monitor,mode=control",
        "-chardev",
        "socket,id=memory,fd=8,server=on,wait=off",
        "-mon",
        "chardev=memory,mode=control",
    ]


def test_a_character_device_without_options() -> None:
    argv = qemu_argv(PLAN, Channels(console="stdio", agent="null"))
    assert "stdio,id=console" in argv
    assert "null,id=agent" in argv


def test_the_plan_has_the_last_word_on_the_command_line() -> None:
    words = effective_cmdline(replace(PLAN, cmdline=("panic=5", "sysctl.kernel.printk=8")))
    assert words[-2:] == ("panic=5", "sysctl.kernel.printk=8")
    assert words.index("earlycon=uart8250,io,0x3f8") < words.index("quiet")


def test_trial_arguments() -> None:
    assert trial_arguments(KernelParameters()) == ()
    parameters = KernelParameters(
        preempt="none", watchdog_thresh_s=1, rcu_stall_s=5, workqueue_thresh_s=8, hung_task_s=12
    )
    assert trial_arguments(parameters) == (
        "preempt=none",
        "watchdog_thresh=1",
        "rcupdate.rcu_cpu_stall_timeout=5",
        "workqueue.watchdog_thresh=8",
        "sysctl.kernel.hung_task_timeout_secs=12",
        "sysctl.kernel.hung_task_warnings=-1",
    )


@pytest.fixture
def plan(tmp_path: Path) -> BootPlan:
    kernel, initramfs = tmp_path / "vmlinux-1", tmp_path / "image.cpio"
    kernel.write_bytes(b"kernel")
    initramfs.write_bytes(b"initramfs")
    return BootPlan(kernel, initramfs, cmdline=("preempt=none", "dyndbg=file a.c +p; $HOME 'x'"))


def test_a_missing_kernel_is_the_users(plan: BootPlan) -> None:
    plan.kernel.unlink()
    with pytest.raises(UserError, match="vmlinux-1 is not there"):
        check_plan(plan)


def test_a_comma_in_a_path_is_refused(plan: BootPlan, tmp_path: Path) -> None:
    kernel = tmp_path / "a,b"
    kernel.write_bytes(b"kernel")
    with pytest.raises(UserError, match="comma"):
        check_plan(replace(plan, kernel=kernel))


def test_a_device_of_this_machine_needs_a_pci_bus_and_its_own_time(plan: BootPlan) -> None:
    with pytest.raises(UserError, match="microvm has no PCI bus"):
        check_plan(replace(plan, vfio="0000:03:00.0"))
    with pytest.raises(UserError, match="knows no virtual clock"):
        check_plan(replace(plan, vfio="0000:03:00.0", machine="q35", clock="virtual"))


def test_no_qemu_is_the_machines(plan: BootPlan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from harness.deadline import Deadline

    monkeypatch.setenv("PATH", str(tmp_path))
    qemu.machines.cache_clear()
    with (
        pytest.raises(InfraError, match="qemu-system-x86_64 is not installed") as error,
        QemuTarget().boot(plan, tmp_path / "guest", Deadline.after(60)),
    ):
        pass
    assert "qemu-system-x86" in error.value.hint
    assert not (tmp_path / "guest").exists()


def test_a_qemu_without_microvm(plan: BootPlan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A QEMU built without microvm lists only the others."""
    _program(tmp_path, "qemu-system-x86_64", 'echo "Supported machines are:"; echo "q35   Standard PC"')
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    qemu.machines.cache_clear()
    try:
        assert qemu.machines() == {"q35"}
        with pytest.raises(InfraError, match="no machine microvm") as error:
            check_plan(plan)
        assert "q35" in error.value.hint
        check_plan(replace(plan, machine="q35"))
    finally:
        qemu.machines.cache_clear()


def test_repro_runs_the_command_it_shows(plan: BootPlan, tmp_path: Path) -> None:
    script = write_repro(tmp_path / "repro", plan, title="soft lockup:\nCPU#1", seconds=3.2)
    text = script.read_text()
    assert text.startswith("#!/bin/sh\n# soft lockup: CPU#1\n")
    assert "python" not in text
    assert "-mon" not in text
    assert len(text.splitlines()) <= 16

    folder = script.parent
    assert (folder / "vmlinux").read_bytes() == b"kernel"
    # The kernel is the cache's own file: what is done to the copy stays here.
    assert not (folder / "vmlinux").samefile(plan.kernel)
    assert (folder / "initramfs.cpio").read_bytes() == b"initramfs"

    # A program by QEMU's name shows what the shell makes of the script.
    _program(tmp_path, "qemu-system-x86_64", 'pwd; for word in "$@"; do printf "%s\\n" "$word"; done')
    shown = subprocess.run(
        [str(script), "-S"],
        env={"PATH": f"{tmp_path}:/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()
    bare = shlex.split((folder / "command.txt").read_text())
    assert shown == [str(folder), *bare[1:], "-S"]
    local = replace(plan, kernel=Path("vmlinux"), initramfs=Path("initramfs.cpio"))
    assert bare == qemu_argv(local, Channels("stdio,signal=on", "file,path=agent.jsonl"))


def test_repro_is_written_again(plan: BootPlan, tmp_path: Path) -> None:
    write_repro(tmp_path / "repro", plan, title="first", seconds=1)
    script = write_repro(tmp_path / "repro", plan, title="second", seconds=1)
    assert "second" in script.read_text()


def _program(folder: Path, name: str, body: str) -> None:
    path = folder / name
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)
