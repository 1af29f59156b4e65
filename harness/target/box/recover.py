# SPDX-License-Identifier: GPL-2.0-only
"""Bringing a box back to its default kernel, whatever state it is in: from the gentlest means to the last."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from functools import partial

from harness.deadline import Deadline
from harness.errors import HarnessError, InfraError
from harness.target.box.bootmethod import BootMethod
from harness.target.box.journal import Journal, Note
from harness.target.box.machine import Box, Running
from harness.target.box.ssh import HostKeyError, NotLetIn

#: A box that is well answers in this time, s.
_WELL_S = 10.0
#: Whether it is well by now is no long question, s.
_NOW_S = 5.0
#: sshd runs before a box that boots lets anybody in (pam_nologin), s.
_LET_IN_S = 60.0
#: After this it must be gone, or the means did nothing, s.
_GONE_S = 20.0
_SYNC_S = 10.0
#: What is seen of a reset: the kernel's word for it, if it gets out, the firmware's cursor, the next kernel.
_RESETS = rb"sysrq: Resetting|\x1b\[|Linux version"


def bring_back(box: Box, method: BootMethod, journal: Journal, *, used: bool = False) -> Running:
    """The box on its default kernel, clean; whatever was armed is not any more.

    Tries in turn: nothing, as it may be well (unless it is known to be `used`), a reset over SSH, SysRq `b`
    over the console, the power switch. InfraError with all that was tried if none of them helps; HostKeyError
    if another machine answers, NotLetIn if it does not let us in when it is looked at first.
    """
    tried: list[str] = []
    for name, act in _means(box, used):
        try:
            # It may have been booting, or boot by itself after a panic: no stronger means is needed then.
            if tried and (well := _well_by_now(box)):
                method.disarm(box.shell())
                journal.note("look", f"it came up by itself: it runs {well.release}")
                return well
            with journal.step(name) as note:
                found = _wait_for(box, act(note))
                note.detail = f"{note.detail}{': ' if note.detail else ''}it runs {found.release}"
                method.disarm(box.shell())
                return found
        except HarnessError as error:
            # It may be somebody else's, or is not meant for us: its console and its switch are left alone.
            if isinstance(error, HostKeyError) or (name == "look" and isinstance(error, NotLetIn)):
                raise
            tried.append(f"{name}: {error.message}")
    raise InfraError(
        f"box {box.name} does not come back: {'; '.join(tried)}",
        hint="look at its console and its power; then the run goes on with --resume",
    )


def let_go(box: Box, method: BootMethod, journal: Journal, *, started: bool) -> None:
    """Somebody wants to leave a trial: the box is reset by the gentlest means there is, and not waited for.

    If its kernel was not `started`, it will not be. The next trial, of whatever run, looks how the box is.
    """
    if not started:
        with journal.attempt("disarm"):
            method.disarm(box.shell())
        return
    for name, act in _means(box, used=True):
        with contextlib.suppress(HarnessError), journal.step(name) as note:
            act(note)
            note.detail = f"{note.detail}{': ' if note.detail else ''}not waited for"
            return


def _means(box: Box, used: bool) -> list[tuple[str, Callable[[Note], Running | None]]]:
    means: list[tuple[str, Callable[[Note], Running | None]]] = [
        *([] if used else [("look", lambda note: _look(box))]),
        ("reset over SSH", lambda note: _reset_over_ssh(box, note)),
    ]
    if box.console:
        means.append(("sysrq b", lambda note: _sysrq(box, note)))
    if box.power:
        means.append(("power cycle", lambda note: _power(box, note)))
    return means


def _wait_for(box: Box, before: Running | None) -> Running:
    """The box once it is clean; InfraError if what it ran before still runs after a while."""
    gone_by = Deadline.after(_GONE_S)

    def wanted(running: Running) -> bool:
        same = before is not None and running.boot_id == before.boot_id
        if same and gone_by.expired:
            raise InfraError("it runs on")
        return running.clean and not same

    found = box.wait_until(wanted, Deadline.after(box.config.boot.up_s))
    assert found  # nobody stops it
    return found


def _look(box: Box) -> None:
    """InfraError if it is not well, and will not be by itself."""
    # It may be booting; where nothing else can be done about that, it is given the time.
    limit_s = _WELL_S if box.console or box.power else box.config.boot.up_s
    try:
        found = box.wait_until(lambda running: True, Deadline.after(limit_s))
    except NotLetIn:
        found = box.wait_until(lambda running: True, Deadline.after(_LET_IN_S))
    if found and not found.clean:
        raise InfraError(f"it runs {found.release} for a trial")


def _well_by_now(box: Box) -> Running | None:
    with contextlib.suppress(HarnessError):
        found = box.running(_NOW_S)
        return found if found.clean else None
    return None


def _reset_over_ssh(box: Box, note: Note) -> Running:
    before = box.running()
    shell = box.shell()
    try:
        shell.run(["sync"], Deadline.after(_SYNC_S))
    except InfraError:
        note.detail = "sync did not end"
    with contextlib.suppress(InfraError):  # the connection does not outlive it
        shell.run(["tee", "/proc/sysrq-trigger"], Deadline.after(_GONE_S), send=b"b")
    box.disconnect()
    return before


def _sysrq(box: Box, note: Note) -> None:
    assert box.console
    console = box.console
    # To the disk, then read-only. Each waits for the one before: the line holds one break (`Guest.sysrq`),
    # and a kernel that is slow to print would lose the next key.
    for key, answer in (("s", rb"Emergency Sync"), ("u", rb"Emergency Remount")):
        if not console.answers(partial(console.sysrq, key), answer, _SYNC_S):
            break
    if not console.answers(partial(console.sysrq, "b"), _RESETS, _GONE_S):
        raise InfraError("nothing resets: the kernel does not answer on the console")


def _power(box: Box, note: Note) -> None:
    assert box.power
    try:
        status = box.power.status()
    except InfraError:
        status = "unknown"
    note.detail = box.power.turn_on() if status == "off" else box.power.cycle()
    if status == "off":
        note.detail = f"it was off: {note.detail}"
