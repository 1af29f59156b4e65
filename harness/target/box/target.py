# SPDX-License-Identifier: GPL-2.0-only
"""A box as a target: found and put right, given a kernel, watched, and brought back."""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Iterator
from pathlib import Path

from harness.deadline import Deadline
from harness.diagnose.evidence import FOLDER
from harness.disk import disk_errors
from harness.errors import HarnessError, InfraError, UserError
from harness.target.box.bootmethod import BootMethod, boot_method, root_argument
from harness.target.box.collect import kernel_log, left_behind, survivors
from harness.target.box.config import BoxConfig
from harness.target.box.guest import BoxGuest, capabilities_of
from harness.target.box.install import install, kernel_path
from harness.target.box.journal import Journal
from harness.target.box.kdump import dump
from harness.target.box.machine import TOKEN
from harness.target.box.opened import held_box
from harness.target.box.recover import bring_back, let_go
from harness.target.protocol import BootPlan, Capabilities, Guest
from harness.target.recording import CONSOLE

#: Beside its boot: to find it, to put it right, to copy everything, s.
_AROUND_S = 60.0


class BoxTarget:
    """Boots plans on one box. Nobody else does until it is closed, or this process ends."""

    def __init__(self, config: BoxConfig) -> None:
        """InfraError if another harness has the box, or its console cannot be opened."""
        self._journal: Journal | None = None
        with contextlib.ExitStack() as stack:
            self.box = stack.enter_context(held_box(config, self._console_note))
            self._held = stack.pop_all()
        self.config = self.box.config
        self._method: BootMethod = boot_method(config.boot.method)

    @property
    def capabilities(self) -> Capabilities:
        """See `Target.capabilities`."""
        return capabilities_of(self.box)

    @property
    def start_s(self) -> float:
        """See `Target.start_s`."""
        return self.config.boot.up_s + _AROUND_S

    def put_right(self, folder: Path) -> None:
        """Find it, however it was left, and bring it to its default kernel; the steps are kept in `folder`.

        InfraError if it does not come back.
        """
        with disk_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
        bring_back(self.box, self._method, Journal(folder))

    def close(self) -> None:
        """Leave the box to others."""
        self._held.close()

    @contextlib.contextmanager
    def boot(self, plan: BootPlan, folder: Path, deadline: Deadline) -> Iterator[Guest]:
        """See `Target.boot`. Leaving the block brings the box back to its default kernel.

        Interrupted, it is reset and not waited for: the next trial, of whatever run, looks at it first.
        """
        if plan.clock == "virtual":
            raise UserError("the virtual clock needs QEMU", hint="leave out --clock, or --target")
        with disk_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
        journal = self._journal = Journal(folder)
        guest: BoxGuest | None = None
        bring_back(self.box, self._method, journal)
        before = left_behind(self.box)
        token = secrets.token_hex(4)
        with journal.step("install") as note:
            note.detail = install(self.box, plan, kernel=self._method.boots)
        try:
            if self._method.boots:
                with journal.step("arm") as note:
                    words = self.cmdline(plan, token)
                    self._method.arm(self.box.shell(), kernel_path(self.box), words)
                    note.detail = " ".join(words)
            guest = BoxGuest(self.box, self._method, plan, token, folder, journal)
            yield guest
        except (KeyboardInterrupt, GeneratorExit):
            journal.note("interrupted", "the box is reset, if that can be at once", ok=False)
            if guest:
                guest.close()
            let_go(self.box, self._method, journal, started=guest is not None)
            raise
        except BaseException:
            # What went wrong counts, not what does now.
            with contextlib.suppress(HarnessError):
                self._end(guest, before, folder, journal)
            raise
        else:
            self._end(guest, before, folder, journal)

    def _end(self, guest: BoxGuest | None, before: frozenset[str], folder: Path, journal: Journal) -> None:
        """The evidence that only a box has, and the way back. InfraError if it does not come back."""
        if guest is None:  # its default kernel runs still
            self._method.disarm(self.box.shell())
            return
        guest.close()
        evidence = folder / FOLDER
        wanted = evidence.is_dir()
        dumped = False
        if wanted:
            kernel_log(self.box, guest.boot_id, evidence, journal)
            dumped = guest.worth_a_dump and dump(self.box, folder / CONSOLE, journal)
        bring_back(self.box, self._method, journal, used=not dumped)
        if wanted:
            survivors(self.box, before, evidence, journal)

    def cmdline(self, plan: BootPlan, token: str) -> tuple[str, ...]:
        """The test kernel's command line; where the kernel lets the last one win, the plan does."""
        boot, console = self.config.boot, self.config.console
        return (
            f"root={boot.root}" if boot.root else root_argument(self.box.shell()),
            "ro",
            "rootwait",
            *((f"console={console.device}",) if console else ()),
            # All but KERN_DEBUG: call traces, RCU and hung-task lines are no emergencies.
            "loglevel=7",
            # The keys work whatever the distribution says, also while it boots.
            "sysrq_always_enabled",
            # After a panic it boots its default kernel by itself.
            "panic=20",
            "nokaslr",
            f"nr_cpus={plan.cpus}",
            f"{TOKEN}={token}",
            *boot.cmdline,
            *plan.cmdline,
        )

    def _console_note(self, text: str) -> None:
        if self._journal:
            with contextlib.suppress(InfraError):
                self._journal.note("console", text, ok="again" in text)
