# SPDX-License-Identifier: GPL-2.0-only
"""What a target is to the rest of the house: it boots a plan and hands over raw events."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from harness.deadline import Deadline

#: How a guest came to its end: by itself, by a signal from outside, or because `Guest.stop` was called.
#: `lost`: it cannot be reached any more, and that is not the kernel's doing.
Ending = Literal["exited", "killed", "stopped", "lost"]
Accel = Literal["tcg", "kvm", "none"]
#: QEMU's, or a machine of its own.
Machine = Literal["microvm", "q35", "box"]
#: `host`: guest time is the host's. `virtual`: guest time is what it has executed, the same every time.
Clock = Literal["host", "virtual"]


@dataclass(frozen=True)
class ConsoleData:
    """Bytes of the console as they came: cut anywhere, in no encoding. `host_s`: seconds since power-on."""

    host_s: float
    data: bytes


@dataclass(frozen=True)
class AgentLine:
    """One line of the agent's channel, without its newline; bytes that are no UTF-8 show as `\\xNN`."""

    host_s: float
    text: str


@dataclass(frozen=True)
class GuestEnded:
    """The last event of a guest. `status` is that of the process: an exit code, or minus a signal."""

    host_s: float
    status: int
    how: Ending
    why: str = ""
    """Of one that is lost: what is known."""


@dataclass(frozen=True)
class VcpuSample:
    """What one CPU was at, as seen from outside."""

    cpu: int
    rip: int
    """The address of the instruction it was about to execute."""
    cpl: int
    """Its privilege level: 0 in the kernel, 3 in user mode."""
    halted: bool
    run_s: float
    """CPU time that its thread on the host has used since power-on, s."""
    wait_s: float = 0.0
    """Time that this thread was ready to run and no CPU of the host was free for it, since power-on, s."""


@dataclass(frozen=True)
class Sample:
    """All CPUs of a guest, looked at without its help. `running`: the guest was not paused.

    Of a guest whose CPUs cannot be seen there are none, and `running` means that it could have been heard.
    """

    host_s: float
    running: bool
    cpus: tuple[VcpuSample, ...]


RawEvent = ConsoleData | AgentLine | Sample | GuestEnded

#: The registers of each CPU by QEMU's names, in capitals (RIP, RSP, RFL, CR3...).
Registers = Mapping[int, Mapping[str, int]]


@dataclass(frozen=True)
class BootPlan:
    """Everything that decides how a guest starts."""

    kernel: Path
    """What is booted: the stripped vmlinux (through PVH: no decompression) or a bzImage."""
    initramfs: Path
    cmdline: tuple[str, ...] = ()
    """Kernel parameters beyond those the machine itself needs."""
    machine: Machine = "microvm"
    accel: Accel = "tcg"
    cpus: int = 2
    memory_mb: int = 1024
    clock: Clock = "host"
    seed: int = 1
    """Of whatever QEMU would draw by chance; used with the virtual clock only."""
    build_id: str = ""
    """Of the kernel, in hexadecimal; empty: nobody checks it."""
    vfio: str = ""
    """The address of a PCI device of this machine that the guest is given; empty: none."""


@dataclass(frozen=True)
class Capabilities:
    """What a target can do beyond booting, so that nobody asks what it is."""

    vcpu_samples: bool
    """It can say what each CPU executes without the guest's help."""
    memory_image: bool
    """It can write an image of the guest's memory."""
    nmi: bool
    """It can raise a non-maskable interrupt."""
    power: bool
    """It can end a guest that does not listen."""


@dataclass(frozen=True)
class MachineStep:
    """Something that was done to a machine around a trial."""

    host_s: float
    """When it began, s since power-on; before it, negative."""
    name: str
    ok: bool
    detail: str
    """What was learned."""
    seconds: float


class Guest(Protocol):
    """A guest that has been switched on."""

    @property
    def command_line(self) -> tuple[str, ...]:
        """The command that started it."""

    @property
    def capabilities(self) -> Capabilities:
        """What can be done with this guest: at most what its target can. What cannot raises InfraError."""

    @property
    def now_s(self) -> float:
        """Seconds since power-on, as events are stamped."""

    @property
    def steps(self) -> tuple[MachineStep, ...]:
        """What was done to bring it up and, once it is closed, to end it; of a child process nothing."""

    def next_event(self, deadline: Deadline) -> RawEvent | None:
        """The next event, or None when the deadline passes first or `GuestEnded` was handed out before.

        Every event is on disk before it is returned. Raises InfraError if it cannot be written, or if the
        machine itself failed.
        """

    def stop(self) -> None:
        """End the guest within 2 s, whatever it does. What it said until then can still be read.

        A machine of its own is listened to no longer; it is ended when its target's block is left.
        """

    def pause(self) -> None:
        """Freeze all CPUs and the guest's time. InfraError if it does not obey."""

    def resume(self) -> None:
        """Go on after `pause`."""

    def registers(self) -> Registers:
        """The registers of all CPUs; of a paused guest they belong together."""

    @property
    def memory_address(self) -> str:
        """Where a debugger reads the memory: the path of a QMP socket that takes one client at a time."""

    def save_memory(self, path: Path, deadline: Deadline) -> int:
        """Write an ELF core of the memory, compressed by zstd; its size in bytes. Pauses the guest."""

    def inject_nmi(self) -> None:
        """A non-maskable interrupt from outside, at every CPU.

        Linux listens to it on CPU 0 alone unless booted with `apic_extnmi=all` (arch/x86/kernel/apic/apic.c).
        A CPU that took it prints two lines and no stack: `NMI: PCI system error (SERR) for reason ff` (on
        a microvm, which has no port 0x61) and `Dazed and confused, but trying to continue`.
        """

    def sysrq(self, key: str) -> None:
        """A magic SysRq key over the console. What it prints, if the guest still listens, is console data.

        One at a time: the port holds one break, and a key that comes while the guest is busy with the one
        before is lost (of 40, all arrived 50 ms apart, 28 at 10 ms, 7 at once).
        """


class Target(Protocol):
    """A place where kernels boot."""

    @property
    def capabilities(self) -> Capabilities:
        """What it can do at best; a guest on the virtual clock is left alone (`Guest.capabilities`)."""

    @property
    def start_s(self) -> float:
        """How much longer than a QEMU it may take until the guest speaks, s."""

    def boot(self, plan: BootPlan, folder: Path, deadline: Deadline) -> AbstractContextManager[Guest]:
        """Switch a guest on; leaving the block ends it. Its raw record is written to `folder`.

        Raises InfraError if the machine cannot start it, UserError if the plan cannot be.
        """
