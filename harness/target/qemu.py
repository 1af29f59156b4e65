# SPDX-License-Identifier: GPL-2.0-only
"""QEMU as a target: its command line (pure), and a running guest with one reader for each channel."""

from __future__ import annotations

import contextlib
import queue
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from harness import process
from harness.deadline import Deadline
from harness.disk import disk_errors
from harness.errors import HarnessError, InfraError, UserError
from harness.target.cmdline import effective_cmdline
from harness.target.protocol import (
    AgentLine,
    BootPlan,
    Capabilities,
    ConsoleData,
    Ending,
    Guest,
    GuestEnded,
    RawEvent,
)
from harness.target.recording import Recorder

PROGRAM = "qemu-system-x86_64"
#: The name of the virtio-serial port that init looks for.
AGENT_PORT = "hmm.agent"
#: What QEMU itself says (warnings, "KVM internal error") goes here, beside the record.
QEMU_LOG = "qemu.log"

INSTALL_HINT = "install the package qemu-system-x86"
_CHUNK = 65536
#: An agent line longer than this is cut: no message is, so it is junk.
_LINE_LIMIT = 1 << 20
#: SIGTERM to SIGKILL. With the rest of an ending it stays below the 2 s that `Guest.stop` promises.
_STOP_GRACE_S = 0.5


@dataclass(frozen=True)
class Channels:
    """The QEMU character devices behind console and agent's port, as `-chardev` takes them, without an id."""

    console: str
    agent: str


def qemu_argv(plan: BootPlan, channels: Channels) -> list[str]:
    """The QEMU command line of a boot. Pure: the same plan and channels give the same list."""
    machine, bus = {
        "microvm": ("microvm,acpi=off,pit=on,pic=on,rtc=on,isa-serial=on", "virtio-serial-device"),
        "q35": ("q35", "virtio-serial-pci"),
    }[plan.machine]
    accel = {"tcg": "tcg,thread=multi", "kvm": "kvm"}[plan.accel]
    return [
        PROGRAM,
        "-no-user-config",
        "-nodefaults",
        "-no-reboot",
        "-display", "none",
        "-machine", machine,
        "-accel", accel,
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
    ]  # fmt: skip


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

    capabilities = Capabilities(vcpu_samples=False, memory_image=False, nmi=False, power=True)

    @contextlib.contextmanager
    def boot(self, plan: BootPlan, folder: Path, deadline: Deadline) -> Iterator[Guest]:
        """Start QEMU and its readers; leaving the block stops both. See `Target.boot`."""
        check_plan(plan)
        if deadline.expired:
            raise InfraError("no time left to boot a guest", hint="raise the time limit")
        guest = QemuGuest(plan, folder)
        try:
            yield guest
        finally:
            guest.close()


def check_plan(plan: BootPlan) -> None:
    """UserError for a plan that no QEMU can start, InfraError for one that this QEMU cannot."""
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
    """A running QEMU. One thread reads each channel and writes to disk; a third waits for the end."""

    def __init__(self, plan: BootPlan, folder: Path) -> None:
        self._events: queue.SimpleQueue[RawEvent | HarnessError] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._last_s = 0.0
        self._stopping = False
        self._over = False
        with contextlib.ExitStack() as stack:
            console, console_end = _channel(stack)
            agent, agent_end = _channel(stack)
            descriptors = (console_end.fileno(), agent_end.fileno())
            argv = qemu_argv(plan, Channels(*(f"socket,fd={number}" for number in descriptors)))
            self.command_line = tuple(argv)
            self._recorder = Recorder(folder, argv)
            stack.callback(self._recorder.close)
            self._log = folder / QEMU_LOG
            with disk_errors(folder), self._log.open("wb") as log:
                self._power_on = time.monotonic()
                self._process = process.start(argv, stdout=log, pass_fds=descriptors)
                stack.callback(process.stop, self._process, grace_s=_STOP_GRACE_S)
            console_end.close()
            agent_end.close()
            self._resources = stack.pop_all()
        readers = (
            threading.Thread(target=self._read, args=(console, self._on_console), name="console"),
            threading.Thread(target=self._read, args=(agent, _Lines(self._on_line)), name="agent"),
        )
        self._reaper = threading.Thread(target=self._reap, args=(readers,), name="reaper")
        for thread in (*readers, self._reaper):
            thread.daemon = True
            thread.start()

    @property
    def pid(self) -> int:
        """The process id of QEMU."""
        return self._process.pid

    def next_event(self, deadline: Deadline) -> RawEvent | None:
        """See `Guest.next_event`."""
        if self._over:
            return None
        try:
            event = self._events.get(timeout=deadline.remaining)
        except queue.Empty:
            return None
        if isinstance(event, HarnessError):
            raise event
        if isinstance(event, GuestEnded):
            self._over = True
            if event.how == "exited" and event.status != 0:
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

    def _last_words(self) -> str:
        text = self._log.read_text(encoding="utf-8", errors="replace").strip()
        return text.splitlines()[-1] if text else "it said nothing"

    def _read(self, channel: socket.socket, feed: Callable[[bytes], None]) -> None:
        """Read a channel until QEMU closes it. A record that cannot be written ends the guest."""
        try:
            with contextlib.suppress(ConnectionResetError):
                while data := channel.recv(_CHUNK):
                    feed(data)
            feed(b"")
        except HarnessError as error:
            self._events.put(error)
            self._kill()

    def _on_console(self, data: bytes) -> None:
        if data:
            self._emit(lambda now: ConsoleData(now, data))

    def _on_line(self, line: bytes) -> None:
        text = line.decode("utf-8", errors="backslashreplace")
        self._emit(lambda now: AgentLine(now, text))

    def _emit(self, event_at: Callable[[float], RawEvent]) -> None:
        """Stamp, write and hand over one event; the lock makes their order the same everywhere."""
        with self._lock:
            # Microseconds, each later than the one before: the record gives them back in this order.
            now = max(round(time.monotonic() - self._power_on, 6), round(self._last_s + 1e-6, 6))
            self._last_s = now
            event = event_at(now)
            self._recorder.record(event)
            self._events.put(event)

    def _reap(self, readers: tuple[threading.Thread, ...]) -> None:
        status = self._process.wait()
        for reader in readers:  # QEMU held the only other ends, so both come to theirs
            reader.join()
        how: Ending = "stopped" if self._stopping else "killed" if status < 0 else "exited"
        try:
            self._emit(lambda now: GuestEnded(now, status, how))
        except HarnessError as error:
            self._events.put(error)

    def _kill(self) -> None:
        self._stopping = True
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()


class _Lines:
    """Cuts a stream of bytes into lines; an empty feed ends it and gives the unfinished rest."""

    def __init__(self, on_line: Callable[[bytes], None]) -> None:
        self._on_line = on_line
        self._rest = b""

    def __call__(self, data: bytes) -> None:
        *lines, self._rest = (self._rest + data).split(b"\n")
        if self._rest and (not data or len(self._rest) > _LINE_LIMIT):
            lines.append(self._rest)
            self._rest = b""
        for line in lines:
            if line:
                self._on_line(line)


def _channel(stack: contextlib.ExitStack) -> tuple[socket.socket, socket.socket]:
    ours, theirs = socket.socketpair()
    stack.enter_context(ours)
    stack.enter_context(theirs)
    return ours, theirs


def qemu_version() -> str:
    """`QEMU emulator version ...`. InfraError if there is no QEMU."""
    process.require_program(PROGRAM, hint=INSTALL_HINT)
    said = process.run([PROGRAM, "--version"], deadline=Deadline.after(30), merge_stderr=False)
    return said.output.splitlines()[0]
