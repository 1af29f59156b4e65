# SPDX-License-Identifier: GPL-2.0-only
"""A box that has been given a kernel: its console and its agent as one stream of events."""

from __future__ import annotations

import contextlib
import threading
import time
from pathlib import Path

from harness.deadline import Deadline
from harness.errors import HarnessError, InfraError
from harness.target.box.bootmethod import BootMethod
from harness.target.box.contact import Finding, signs_of
from harness.target.box.install import agent_folder, check_build
from harness.target.box.journal import Journal
from harness.target.box.kdump import check_loaded
from harness.target.box.kernellog import KernelLog
from harness.target.box.machine import RUN_FOLDER, Box, Running
from harness.target.box.ssh import Shell, Silent, Unreachable
from harness.target.channels import Lines
from harness.target.protocol import (
    BootPlan,
    Capabilities,
    Ending,
    GuestEnded,
    MachineStep,
    RawEvent,
    Registers,
    Sample,
)
from harness.target.recording import Recorder
from harness.target.stream import EventStream

#: What the agent says, on the box.
_OUTPUT = f"{RUN_FOLDER}/agent.jsonl"
#: The agent speaks ten times a second: after such a silence somebody looks, s.
_SILENT_S = 4.0
#: To reach a box that went silent, s: an emulated one on a busy host needs five for the keys alone.
_REACH_S = 12.0
#: A network that is gone is waited for, s; a dead box, which may just be booting, for as long as that takes.
_NETWORK_S = 60.0
#: Between two notes that the box can be heard, s: closer than a late sample (`Thresholds.late_s`).
_TICK_S = 0.5


def capabilities_of(box: Box) -> Capabilities:
    """Nobody looks into a box; it can be ended for certain if it has a power switch."""
    return Capabilities(vcpu_samples=False, memory_image=False, nmi=False, power=box.power is not None)


class BoxGuest:
    """A box between its start and its stop. One thread brings it up and listens to the agent."""

    def __init__(
        self, box: Box, method: BootMethod, plan: BootPlan, token: str, folder: Path, journal: Journal
    ) -> None:
        """Starts the kernel that was armed; returns at once."""
        self._box = box
        self._method = method
        self._plan = plan
        self._token = token
        self._journal = journal
        self._stop = threading.Event()
        self._listened = threading.Event()
        self._examined = False
        #: Of the test kernel, once it runs.
        self.boot_id = ""
        self._dumps = False
        self._exited = False
        self._pid = ""
        #: Silence is the guest's own doing, as far as is known.
        self._audible = True
        self.command_line = (f"box {box.name}", *plan.cmdline)
        self._recorder = Recorder(folder, self.command_line)
        before = box.running()
        self._power_on = journal.power_on = time.monotonic()
        self._stream = EventStream(self._recorder, self._power_on)
        self._log = KernelLog(folder / "boot.log", self._stream.console)
        self._threads = contextlib.ExitStack()
        if box.console:
            self._threads.enter_context(box.console.heard_by(self._on_console))
        if not method.boots:
            self._log.kernel_runs()
        self._worker = threading.Thread(target=self._work, args=(before,), name="box", daemon=True)
        self._worker.start()

    @property
    def capabilities(self) -> Capabilities:
        """See `Guest.capabilities`."""
        return capabilities_of(self._box)

    @property
    def now_s(self) -> float:
        """See `Guest.now_s`."""
        return self._stream.now_s

    @property
    def steps(self) -> tuple[MachineStep, ...]:
        """See `Guest.steps`."""
        return self._journal.steps

    @property
    def worth_a_dump(self) -> bool:
        """Whether a crash leaves a dump, and the plan was not carried out to its end."""
        return self._dumps and not self._exited

    def next_event(self, deadline: Deadline) -> RawEvent | None:
        """See `Guest.next_event`."""
        return self._stream.next(deadline)

    def stop(self) -> None:
        """Listen no more. The box is ended by whoever closes the target's block."""
        self._stop.set()
        self._worker.join(2.0)

    def close(self) -> None:
        """Leave the box and close the record."""
        self.stop()
        self._threads.close()
        self._worker.join()
        self._recorder.close()
        self._log.close()

    def sysrq(self, key: str) -> None:
        """See `Guest.sysrq`: over the console, else over SSH. InfraError also where no console answers."""
        # From now on the console has answers to give, and nobody else may ask.
        self._examined = True
        why = "no console"
        if self._box.console:
            try:
                self._box.console.sysrq(key)
                return
            except InfraError as error:
                why = error.message
        self._box.shell(_REACH_S).run(["tee", "/proc/sysrq-trigger"], Deadline.after(10.0), send=key.encode())
        if not self._box.console:
            raise InfraError(f"{why}: asked over SSH, the answer is in dmesg.txt")

    def pause(self) -> None:
        raise InfraError("a box cannot be frozen")

    def resume(self) -> None:
        """It was not paused."""

    def registers(self) -> Registers:
        raise InfraError("a box shows no registers")

    @property
    def memory_address(self) -> str:
        raise InfraError("the memory of a box cannot be read from outside")

    def save_memory(self, path: Path, deadline: Deadline) -> int:
        raise InfraError("the memory of a box cannot be read from outside")

    def inject_nmi(self) -> None:
        raise InfraError("a box takes no NMI from here")

    def _on_console(self, data: bytes) -> None:
        try:
            self._log.feed(data)
        except HarnessError as error:
            self._stream.fail(error)

    def _work(self, before: Running) -> None:
        """From the start to the end; a fault of the harness's own is raised where events are asked for."""
        how: Ending = "stopped"
        why = ""
        try:
            shell = self._bring_up(before)
            if shell:
                how = self._listen(shell)
                self._exited = how == "exited"
        except (_Lost, Unreachable) as lost:
            how, why = "lost", lost.message
        except HarnessError as error:
            self._stream.fail(error)
        try:
            self._stream.emit(lambda now: GuestEnded(now, 0, how, why))
        except HarnessError as error:
            self._stream.fail(error)

    def _bring_up(self, before: Running) -> Shell | None:
        """Wait for the test kernel; None: it was stopped meanwhile."""
        limit_s = self._box.config.boot.up_s
        with self._journal.step("boot") as note:
            if self._method.boots:
                self._method.start(self._box.shell())
                self._box.disconnect()
            deadline = Deadline.after(limit_s)
            try:
                found = self._box.wait_until(
                    lambda running: self._method.boots is False or running.boot_id != before.boot_id,
                    deadline,
                    self._stop,
                )
            except InfraError as error:
                note.ok = False
                note.detail = error.message
                raise _Lost(
                    f"box {self._box.name} did not come up within {limit_s:g} s: {error.message}"
                ) from error
            if found is None:
                note.detail = "given up"
                return None
            note.detail = f"it runs {found.release}"
            if self._method.boots and found.token != self._token:
                note.ok = False
                raise _Lost(
                    f"box {self._box.name} came up on {found.release}, not on the kernel it was given"
                )
        self.boot_id = found.boot_id
        self._log.kernel_runs()
        shell = self._box.shell()
        with self._journal.step("kernel") as note:
            note.detail = check_build(self._box, self._plan.build_id)
        if self._box.config.vmcore:
            with self._journal.attempt("kdump") as note:
                note.detail = check_loaded(shell)
                self._dumps = True
        with self._journal.step("agent") as note:
            # What the distribution sets at boot must not keep the kernel's reports off the console.
            shell.run(["tee", "/proc/sys/kernel/printk"], _soon(), send=b"7\n")
            shell.run(["tee", "/proc/sys/kernel/sysrq"], _soon(), send=b"1\n")
            shell.run(["mkdir", "-p", RUN_FOLDER], _soon())
            files = agent_folder(self._box)
            self._pid = shell.run([f"{files}/init", files, _OUTPUT], _soon()).out.strip()
            note.detail = f"process {self._pid}"
        return shell

    def _listen(self, shell: Shell) -> Ending:
        """Hand on what the agent says until it has ended, across connections; how that was."""
        lines = Lines(self._stream.line)
        heard = 0
        going = False
        ticker = threading.Thread(target=self._tick, name="box ticker", daemon=True)
        ticker.start()

        def go_on() -> None:
            """The agent has said what it runs on, and waits: a hang must not swallow that."""
            nonlocal going
            if heard and not going:
                self._box.shell().run(["sh", "-c", 'kill -CONT "$0"', self._pid], _soon())
                going = True

        def on_data(data: bytes) -> None:
            nonlocal heard
            heard += len(data)
            lines(data)
            go_on()

        try:
            while True:
                argv = ["tail", "-c", f"+{heard + 1}", "-s", "0.1", "-f", f"--pid={self._pid}", _OUTPUT]
                try:
                    go_on()  # the connection may have broken in between
                    status = shell.follow(argv, on_data, self._stop, _SILENT_S)
                    lines(b"")
                    if status:
                        raise InfraError(f"box {self._box.name}: cannot read {_OUTPUT} (status {status})")
                    return "stopped" if status is None else "exited"
                except (Silent, Unreachable) as error:
                    again = self._reach(error)
                if again is None:
                    return "stopped"
                shell = again
        finally:
            self._listened.set()
            ticker.join()

    def _tick(self) -> None:
        """Time in which the guest can be heard counts against it; other time does not."""
        try:
            while not self._listened.is_set():
                self._stream.emit(lambda now: Sample(now, self._audible, ()))
                self._listened.wait(_TICK_S)
        except HarnessError as error:
            self._stream.fail(error)

    def _reach(self, lost: InfraError) -> Shell | None:
        """A connection to the same boot, once there is one; None: it was stopped meanwhile.

        _Lost if the box is gone, or its network is, for longer than anyone waits.
        """
        self._audible = False
        if isinstance(lost, Unreachable):
            self._journal.note("SSH", lost.message, ok=False)
        given_up: Deadline | None = None
        finding: Finding | None = None
        why = ""
        while not self._stop.is_set():
            self._box.disconnect()
            try:
                found = self._box.running(_REACH_S)
            except HarnessError as error:
                if not finding and not self._examined:
                    finding, why = self._look(error)
                    given_up = {
                        "hang": None,
                        "network": Deadline.after(_NETWORK_S),
                        "dead": Deadline.after(self._box.config.boot.up_s),
                    }[finding]
                    # A hang is the kernel's: from now on its silence counts.
                    self._audible = finding == "hang"
                if given_up and given_up.expired:
                    raise _Lost(why) from error
                self._stop.wait(1.0)
                continue
            if found.boot_id != self.boot_id:
                raise _Lost(f"box {self._box.name} booted by itself: it runs {found.release}")
            if isinstance(lost, Unreachable) or finding:
                self._journal.note("SSH", "the connection stands again")
            self._audible = True
            return self._box.shell(_REACH_S)
        return None

    def _look(self, error: HarnessError) -> tuple[Finding, str]:
        """What a box that cannot be reached suffers from, and that in words."""
        with self._journal.step("silence") as note:
            signs = signs_of(self._box)
            finding = signs.finding
            meaning = {
                "hang": "the kernel hangs",
                "network": "the network is dead, the box lives",
                "dead": "the box is dead",
            }[finding]
            note.detail = f"{meaning} ({signs})"
            note.ok = False
        return finding, f"box {self._box.name}: {meaning}: {error.message}"


class _Lost(InfraError):
    """The box cannot be reached, and its kernel is not to blame as far as is known."""


def _soon() -> Deadline:
    return Deadline.after(30.0)
