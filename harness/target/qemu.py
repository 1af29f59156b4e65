# SPDX-License-Identifier: GPL-2.0-only
"""QEMU as a target: its command line (pure), and a running guest with one reader for each channel."""

from __future__ import annotations

import contextlib
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from harness import process
from harness.cache import Cache, default_cache_folder
from harness.deadline import Deadline
from harness.disk import disk_errors
from harness.errors import HarnessError, InfraError, UserError
from harness.gpu.sysfs import LocalFiles
from harness.gpu.vfio import lent
from harness.target.channels import Lines, socket_pair
from harness.target.cmdline import effective_cmdline
from harness.target.filechannel import FileChannel
from harness.target.icount import keep_on_one_cpu, virtual_clock
from harness.target.memory import nameless_listener, save_core
from harness.target.protocol import (
    BootPlan,
    Capabilities,
    Ending,
    Guest,
    GuestEnded,
    MachineStep,
    RawEvent,
    Registers,
    Sample,
    VcpuSample,
)
from harness.target.qmp import Monitor
from harness.target.recording import Recorder
from harness.target.sampler import sample_cpus
from harness.target.samples import parse_registers
from harness.target.stream import EventStream

PROGRAM = "qemu-system-x86_64"
#: The name of the virtio-serial port that init looks for.
AGENT_PORT = "hmm.agent"
#: What QEMU itself says (warnings, "KVM internal error") goes here, beside the record.
QEMU_LOG = "qemu.log"

INSTALL_HINT = "install the package qemu-system-x86"
_CHUNK = 65536
#: SIGTERM to SIGKILL. With the rest of an ending it stays below the 2 s that `Guest.stop` promises.
_STOP_GRACE_S = 0.5
#: Between two samples of the CPUs.
SAMPLE_S = 0.2


@dataclass(frozen=True)
class Channels:
    """QEMU's character devices, as `-chardev` takes them, without an id; an empty one is left out."""

    console: str
    agent: str
    #: Two monitors (QMP), as each serves one client: the harness's own, and the debugger's.
    monitor: str = ""
    memory: str = ""


def qemu_argv(plan: BootPlan, channels: Channels) -> list[str]:
    """The QEMU command line of a boot. Pure: the same plan and channels give the same list."""
    machine, bus = {
        "microvm": ("microvm,acpi=off,pit=on,pic=on,rtc=on,isa-serial=on", "virtio-serial-device"),
        "q35": ("q35", "virtio-serial-pci"),
    }[plan.machine]
    virtual = plan.clock == "virtual"
    accel = {"tcg": f"tcg,thread={'single' if virtual else 'multi'}", "kvm": "kvm"}[plan.accel]
    return [
        PROGRAM,
        "-no-user-config",
        "-nodefaults",
        "-no-reboot",
        "-display", "none",
        "-machine", machine,
        "-accel", accel,
        *(virtual_clock(plan.machine, plan.seed) if virtual else ()),
        # The same CPU everywhere: with `host`, QEMU stops at an MSR on some nested hosts.
        "-cpu", "qemu64",
        "-smp", str(plan.cpus),
        "-m", f"{plan.memory_mb}M",
        "-kernel", str(plan.kernel),
        "-initrd", str(plan.initramfs),
        "-append", " ".join(effective_cmdline(plan)),
        "-chardev", f"{_kind(channels.console)},id=console{_options(channels.console)}",
        "-serial", "chardev:console",
        "-device", bus,
        "-chardev", f"{_kind(channels.agent)},id=agent{_options(channels.agent)}",
        "-device", f"virtserialport,chardev=agent,name={AGENT_PORT}",
        "-device", "vmcoreinfo",
        *_passed_through(plan.vfio),
        # A guest that has shut down is ended by whoever listens to its monitor; see there.
        *(["-no-shutdown"] if channels.monitor else []),
        *_monitor("monitor", channels.monitor),
        *_monitor("memory", channels.memory),
    ]  # fmt: skip


def _passed_through(address: str) -> list[str]:
    """The device behind a port of its own, where a GPU sits in a machine."""
    if not address:
        return []
    port = "pcie-root-port,id=passthrough,bus=pcie.0,chassis=1,slot=1"
    return ["-device", port, "-device", f"vfio-pci,host={address},bus=passthrough"]


def _monitor(name: str, chardev: str) -> list[str]:
    if not chardev:
        return []
    return [
        "-chardev",
        f"{_kind(chardev)},id={name}{_options(chardev)}",
        "-mon",
        f"chardev={name},mode=control",
    ]


def _kind(chardev: str) -> str:
    return chardev.partition(",")[0]


def _options(chardev: str) -> str:
    _, comma, options = chardev.partition(",")
    return comma + options


@cache
def machines() -> frozenset[str]:
    """The machine types this QEMU has. InfraError if there is no QEMU."""
    process.require_program(PROGRAM, hint=INSTALL_HINT)
    argv = [PROGRAM, "-machine", "help"]
    listing = process.run(argv, deadline=Deadline.after(30), merge_stderr=False)
    return frozenset(re.findall(r"^(\S+) +\S", listing.output, re.MULTILINE)) & {"microvm", "q35"}


class QemuTarget:
    """Boots plans in QEMU on this machine.

    The guest dies with the thread that booted it (PR_SET_PDEATHSIG): boot from one that outlives the trial.
    """

    capabilities = Capabilities(vcpu_samples=True, memory_image=True, nmi=True, power=True)
    start_s = 0.0

    def __init__(self, sample_s: float | None = SAMPLE_S) -> None:
        """`sample_s`: time between two looks at a guest's CPUs, s; None: none."""
        self._sample_s = sample_s

    @contextlib.contextmanager
    def boot(self, plan: BootPlan, folder: Path, deadline: Deadline) -> Iterator[Guest]:
        """Start QEMU and its readers; leaving the block stops both. See `Target.boot`."""
        check_plan(plan)
        if deadline.expired:
            raise InfraError("no time left to boot a guest", hint="raise the time limit")
        with contextlib.ExitStack() as stack:
            if plan.vfio:
                # The device is this machine's: all harnesses look for its record in the one place.
                cache = Cache(default_cache_folder())
                stack.enter_context(lent(LocalFiles(), plan.vfio, plan.memory_mb, cache))
            guest = QemuGuest(plan, folder, self._sample_s)
            stack.callback(guest.close)
            yield guest


def check_plan(plan: BootPlan) -> None:
    """UserError for a plan that no QEMU can start, InfraError for one that this QEMU cannot."""
    if plan.clock == "virtual" and plan.accel != "tcg":
        raise UserError("the virtual clock needs TCG", hint="set `accel` to auto or tcg")
    if plan.vfio and plan.machine != "q35":
        raise UserError(f"{plan.machine} has no PCI bus for {plan.vfio}", hint="set `machine` to auto or q35")
    if plan.vfio and plan.clock == "virtual":
        raise UserError("a device of this machine knows no virtual clock", hint="set `clock` to host")
    for path in (plan.kernel, plan.initramfs):
        if not path.is_file():
            raise UserError(f"{path} is not there", hint="a boot needs a kernel image and an initramfs")
        if "," in str(path):
            raise UserError(f"{path}: QEMU takes no file name with a comma", hint="choose another folder")
    if plan.machine not in machines():
        raise InfraError(
            f"this QEMU has no machine {plan.machine}",
            hint=f"set `machine` to one it has: {', '.join(sorted(machines())) or 'none that can be used'}",
        )


class QemuGuest:
    """A running QEMU. A thread reads each channel and writes to disk, one samples, one waits for the end.

    On the virtual clock it has no monitor: nothing may happen to the guest that its own past does not decide.
    """

    def __init__(self, plan: BootPlan, folder: Path, sample_s: float | None = None) -> None:
        self._stopping = False
        self._dead = threading.Event()
        with contextlib.ExitStack() as stack:
            monitor: socket.socket | None = None
            console: socket.socket | FileChannel
            agent: socket.socket | FileChannel
            self._memory_address = ""
            theirs: list[socket.socket] = []
            if plan.clock == "virtual":
                console = stack.enter_context(FileChannel("console", self._dead))
                agent = stack.enter_context(FileChannel("agent", self._dead))
                descriptors = [console.fileno(), agent.fileno()]
                channels = Channels(*(f"file,path=/dev/fd/{number}" for number in descriptors))
            else:
                console, console_end = socket_pair(stack)
                agent, agent_end = socket_pair(stack)
                monitor, monitor_end = socket_pair(stack)
                listener, self._memory_address = stack.enter_context(nameless_listener())
                theirs = [console_end, agent_end, monitor_end, listener]
                descriptors = [end.fileno() for end in theirs]
                channels = _sockets(descriptors)
            argv = qemu_argv(plan, channels)
            self.command_line = tuple(argv)
            recorder = Recorder(folder, argv)
            stack.callback(recorder.close)
            self._log = folder / QEMU_LOG
            with disk_errors(folder), self._log.open("wb") as log:
                self._stream = EventStream(recorder, time.monotonic())
                self._process = process.start(argv, stdout=log, pass_fds=descriptors)
                stack.callback(process.stop, self._process, grace_s=_STOP_GRACE_S)
            if plan.clock == "virtual":
                keep_on_one_cpu(self._process.pid)
            for end in theirs:
                end.close()
            self._console = console
            self._monitor = Monitor(monitor, quits=True) if monitor else None
            if self._monitor:
                stack.callback(self._monitor.close)
            self._resources = stack.pop_all()
        readers = [
            threading.Thread(target=self._read, args=(console, self._stream.console), name="console"),
            threading.Thread(target=self._read, args=(agent, Lines(self._stream.line)), name="agent"),
        ]
        if self._monitor and sample_s is not None:
            readers.append(
                threading.Thread(target=self._sample, args=(self._monitor, sample_s), name="sampler")
            )
        self._reaper = threading.Thread(target=self._reap, args=(readers,), name="reaper")
        for thread in (*readers, self._reaper):
            thread.daemon = True
            thread.start()

    @property
    def now_s(self) -> float:
        """See `Guest.now_s`."""
        return self._stream.now_s

    @property
    def steps(self) -> tuple[MachineStep, ...]:
        """None: QEMU is started and ended."""
        return ()

    @property
    def pid(self) -> int:
        """The process id of QEMU."""
        return self._process.pid

    def next_event(self, deadline: Deadline) -> RawEvent | None:
        """See `Guest.next_event`."""
        event = self._stream.next(deadline)
        if isinstance(event, GuestEnded) and event.how == "exited" and event.status != 0:
            raise InfraError(
                f"QEMU failed with status {event.status}: {self._last_words()}", hint=f"see {self._log}"
            )
        return event

    def stop(self) -> None:
        """See `Guest.stop`."""
        if self._process.poll() is None:
            self._stopping = True
        process.stop(self._process, grace_s=_STOP_GRACE_S)
        self._reaper.join()

    def close(self) -> None:
        """Stop, and close the record and the channels."""
        try:
            self.stop()
        finally:
            self._resources.close()

    @property
    def capabilities(self) -> Capabilities:
        """See `Guest.capabilities`."""
        seen = self._monitor is not None
        return Capabilities(vcpu_samples=seen, memory_image=seen, nmi=seen, power=True)

    @property
    def monitor(self) -> Monitor:
        """QEMU's monitor. InfraError for a guest that has none."""
        if self._monitor is None:
            raise InfraError("a guest on the virtual clock cannot be looked at from outside while it runs")
        return self._monitor

    def pause(self) -> None:
        """See `Guest.pause`."""
        self.monitor.execute("stop")

    def resume(self) -> None:
        """See `Guest.resume`."""
        self.monitor.execute("cont")

    def registers(self) -> Registers:
        """See `Guest.registers`."""
        return parse_registers(self.monitor.hmp("info registers -a"))

    @property
    def memory_address(self) -> str:
        """See `Guest.memory_address`; good as long as this guest is open."""
        _ = self.monitor  # InfraError for a guest that has none
        return self._memory_address

    def save_memory(self, path: Path, deadline: Deadline) -> int:
        """See `Guest.save_memory`; a guest that ran before goes on after it."""
        return save_core(self.monitor, path, deadline)

    def inject_nmi(self) -> None:
        """See `Guest.inject_nmi`."""
        self.monitor.execute("inject-nmi")

    def sysrq(self, key: str) -> None:
        """See `Guest.sysrq`: a break on the serial line, then the key (include/linux/serial_core.h)."""
        self.monitor.execute("chardev-send-break", id="console")
        assert isinstance(self._console, socket.socket)
        try:
            self._console.sendall(key.encode("ascii"))
        except OSError as error:
            raise InfraError(f"the guest's console is closed: {error.strerror}") from error

    def _last_words(self) -> str:
        text = self._log.read_text(encoding="utf-8", errors="replace").strip()
        return text.splitlines()[-1] if text else "it said nothing"

    def _read(self, channel: socket.socket | FileChannel, feed: Callable[[bytes], None]) -> None:
        """Read a channel until QEMU closes it. A record that cannot be written ends the guest."""
        try:
            with contextlib.suppress(ConnectionResetError):
                while data := channel.recv(_CHUNK):
                    feed(data)
            feed(b"")
        except HarnessError as error:
            self._stream.fail(error)
            self._kill()

    def _sample(self, monitor: Monitor, every_s: float) -> None:
        """Sample until QEMU ends. As for the channels, a fault ends the guest."""
        try:
            sample_cpus(monitor, self.pid, every_s, self._dead, self._on_sample)
        except HarnessError as error:
            self._stream.fail(error)
            self._kill()

    def _on_sample(self, running: bool, cpus: tuple[VcpuSample, ...]) -> None:
        self._stream.emit(lambda now: Sample(now, running, cpus))

    def _reap(self, readers: list[threading.Thread]) -> None:
        status = self._process.wait()
        self._dead.set()
        for reader in readers:  # QEMU held the only other ends, so all come to theirs
            reader.join()
        how: Ending = "stopped" if self._stopping else "killed" if status < 0 else "exited"
        try:
            self._stream.emit(lambda now: GuestEnded(now, status, how))
        except HarnessError as error:
            self._stream.fail(error)

    def _kill(self) -> None:
        self._stopping = True
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()


def _sockets(descriptors: list[int]) -> Channels:
    """Sockets that QEMU inherits: console, agent's port, and the monitors."""
    console, agent, monitor, memory = (f"socket,fd={number}" for number in descriptors)
    return Channels(console, agent, monitor, f"{memory},server=on,wait=off")


def qemu_version() -> str:
    """`QEMU emulator version ...`. InfraError if there is no QEMU."""
    process.require_program(PROGRAM, hint=INSTALL_HINT)
    said = process.run([PROGRAM, "--version"], deadline=Deadline.after(30), merge_stderr=False)
    return said.output.splitlines()[0]
