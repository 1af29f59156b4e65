# SPDX-License-Identifier: GPL-2.0-only
"""A trial of the virtual clock once more: the same guest, and what it says compared byte by byte."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, Literal

from harness.assets import asset
from harness.cache import Cache, sha256_file
from harness.deadline import Deadline
from harness.errors import InfraError, UserError
from harness.guest.protocol import Garbage, Message, ModuleMessage, UnknownMessage, parse_line
from harness.kmod import GuestPrograms
from harness.results.runfolder import read_record
from harness.target.debugger import Symbols
from harness.target.protocol import AgentLine, BootPlan, ConsoleData, GuestEnded, RawEvent, Target
from harness.target.qemu import Channels, qemu_argv, qemu_version
from harness.target.recording import replay as recorded_events
from harness.watch.observation import ProgressMark

#: The replay's own record, in the trial's folder.
FOLDER = "replay"
#: How long a replay may take, as a multiple of the trial's own time and in seconds on top: hosts differ.
PATIENCE, GRACE_S = 20.0, 60.0

_version = cache(qemu_version)


def provenance(plan: BootPlan, programs: GuestPrograms) -> dict[str, Any]:
    """What decided a boot, as JSON: the plan, and by version or SHA-256 whatever it was carried out with.

    The initramfs must be written by then. Files of the cache are named by their entry there.
    """
    emulated = plan.machine != "box"
    return {
        "qemu": _version() if emulated else "",
        "kernel": {"entry": f"builds/{plan.kernel.parent.name}", "file": plan.kernel.name},
        "kernel_sha256": sha256_file(plan.kernel),
        "initramfs_sha256": sha256_file(plan.initramfs),
        "module": {
            "entry": f"modules/{programs.module.parent.name}",
            "file": programs.module.name,
            "debug": programs.module_debug.name,
        },
        "module_sha256": sha256_file(programs.module),
        "argv": _argv(plan) if emulated else [],
        "boot": {name: value for name, value in asdict(plan).items() if name not in ("kernel", "initramfs")},
    }


def _argv(plan: BootPlan) -> list[str]:
    """QEMU's command line without the places of files, which differ from one machine to the next."""
    placeless = replace(plan, kernel=Path("KERNEL"), initramfs=Path("INITRAMFS"))
    return qemu_argv(placeless, Channels(console="CONSOLE", agent="AGENT"))


@dataclass(frozen=True)
class Recorded:
    """A recorded trial that can be booted again, exactly."""

    folder: Path
    plan: BootPlan
    #: The kernel with DWARF, and the module with debug info; they may have left the cache.
    vmlinux: Path
    module_debug: Path
    console: bytes
    #: The agent's lines.
    agent: tuple[str, ...]
    #: The guest ended by itself: the record is whole. Else the harness ended it, at no exact moment.
    whole: bool
    #: Wall time from power-on to the end, s.
    seconds: float

    @property
    def limit_s(self) -> float:
        """How long a replay may take, s."""
        return GRACE_S + PATIENCE * self.seconds

    def until_onset(self) -> tuple[str, ...]:
        """The agent's lines up to the last that showed progress. UserError if none does."""
        mark = ProgressMark()
        moved = [number for number, line in enumerate(self.agent, start=1) if mark.moved(_message(line))]
        if not moved:
            raise UserError(f"{self.folder}: the guest never said that it got on", hint="see its console.log")
        return self.agent[: moved[-1]]

    def symbols(self) -> Symbols:
        """What a debugger reads this guest with."""
        sections: dict[str, int] = {}
        for message in map(_message, self.agent):
            if (
                isinstance(message, ModuleMessage)
                and message.name == self.module_debug.name.partition(".")[0]
            ):
                said = {**message.model_dump(include={"text"}), **(message.model_extra or {})}
                sections = {
                    f".{name}": int(said[name], 16) for name in ("text", "data", "bss") if name in said
                }
        return Symbols(self.vmlinux, self.module_debug, sections, (asset("kmod"),))


def _message(line: str) -> Message:
    message = parse_line(line)
    return UnknownMessage(type="garbage") if isinstance(message, Garbage) else message


def recorded_trial(folder: Path, initramfs: str, store: Cache) -> Recorded:
    """The trial in `folder`, whose file system is in its file `initramfs`.

    UserError if it is no trial, if its clock was the host's, or if QEMU, kernel, module or initramfs are not
    there or not the ones it ran with; each is named.
    """
    record = read_record(folder)
    found = record.get("provenance")
    if "seed" not in record or not isinstance(found, dict):
        raise UserError(f"{folder} is not the folder of a trial", hint="as in RUN/trials/001-unfixed")
    try:
        boot = {**found["boot"], "cmdline": tuple(found["boot"]["cmdline"])}
        kernel = store.root / found["kernel"]["entry"] / found["kernel"]["file"]
        module = store.root / found["module"]["entry"] / found["module"]["file"]
        module_debug = module.with_name(found["module"]["debug"])
        plan = BootPlan(kernel=kernel, initramfs=folder / initramfs, **boot)
    except (KeyError, TypeError) as error:
        raise UserError(f"{folder}: its run.json is of another version of this program: {error}") from error
    if plan.clock != "virtual":
        raise UserError(
            f"{folder}: only --clock virtual trials repeat exactly",
            hint=f"this runs it once more, not exactly: {record['command']}",
        )
    for path in (kernel, module):
        if not path.is_file():
            raise UserError(f"{path} is not there any more", hint=f"this makes it again: {record['command']}")
    differing = _differing(plan, module, found)
    if differing:
        raise UserError(
            f"{folder} ran with another " + ", ".join(differing),
            hint="a trial repeats exactly only with what it ran with; `provenance` in its run.json says what",
        )
    events = list(recorded_events(folder))
    return Recorded(
        folder=folder,
        plan=plan,
        vmlinux=kernel.with_name("vmlinux"),
        module_debug=module_debug,
        console=console_of(events),
        agent=agent_of(events),
        whole=any(isinstance(event, GuestEnded) and event.how == "exited" for event in events),
        seconds=events[-1].host_s if events else 0.0,
    )


def _differing(plan: BootPlan, module: Path, found: Mapping[str, Any]) -> list[str]:
    """What is not as recorded, in words."""
    if not plan.initramfs.is_file():
        raise UserError(f"{plan.initramfs} is not there any more", hint="without it the trial cannot be run")
    pairs = {
        "QEMU": (found["qemu"], _version()),
        "kernel image": (found["kernel_sha256"], sha256_file(plan.kernel)),
        "module": (found["module_sha256"], sha256_file(module)),
        "initramfs": (found["initramfs_sha256"], sha256_file(plan.initramfs)),
    }
    names = [
        f"{what} ({was} then, {now} now)" if what == "QEMU" else what
        for what, (was, now) in pairs.items()
        if was != now
    ]
    return names + ([] if found["argv"] == _argv(plan) else ["command line of QEMU"])


def console_of(events: Sequence[RawEvent]) -> bytes:
    """All that a guest wrote to its console."""
    return b"".join(event.data for event in events if isinstance(event, ConsoleData))


def agent_of(events: Sequence[RawEvent]) -> tuple[str, ...]:
    """The lines that came over the agent's channel."""
    return tuple(event.text for event in events if isinstance(event, AgentLine))


@dataclass(frozen=True)
class Difference:
    """The first line in which two logs differ, from 1; None: the log ended before."""

    log: Literal["console", "agent"]
    line: int
    recorded: str | None
    replayed: str | None

    def text(self) -> str:
        """For people."""
        then, now = (("(no such line)" if s is None else s) for s in (self.recorded, self.replayed))
        return f"{self.log}, line {self.line}\n  recorded: {then}\n  replayed: {now}"


def first_difference(
    log: Literal["console", "agent"], recorded: Sequence[str], replayed: Sequence[str], *, whole: bool
) -> Difference | None:
    """Where two logs differ. A record that is not `whole` may be continued, its last line too."""
    for number in range(max(len(recorded), len(replayed)) if whole else len(recorded)):
        then = recorded[number] if number < len(recorded) else None
        now = replayed[number] if number < len(replayed) else None
        open_end = not whole and number == len(recorded) - 1
        if then != now and not (open_end and then is not None and now is not None and now.startswith(then)):
            return Difference(log, number + 1, then, now)
    return None


@dataclass(frozen=True)
class Comparison:
    """A replay against its record."""

    difference: Difference | None
    #: What of the record was compared.
    console_bytes: int
    agent_lines: int
    #: The record is whole; else it is the beginning of what the guest would have said.
    whole: bool
    #: Wall time of the replay, s.
    seconds: float
    folder: Path

    def text(self) -> str:
        """For people."""
        if self.difference:
            return f"different: {self.difference.text()}\n  replay in {self.folder}"
        cut = "" if self.whole else " (the trial was ended from outside: that is all there is of it)"
        return (
            f"identical: {self.console_bytes} bytes of console, {self.agent_lines} agent lines, "
            f"{self.seconds:.1f} s{cut}"
        )

    def as_json(self) -> dict[str, Any]:
        """For programs."""
        return {
            "identical": self.difference is None,
            "difference": self.difference and asdict(self.difference),
            "console_bytes": self.console_bytes,
            "agent_lines": self.agent_lines,
            "whole": self.whole,
            "seconds": round(self.seconds, 3),
            "folder": str(self.folder),
        }


def replay_trial(trial: Recorded, target: Target) -> Comparison:
    """Boot the trial again and compare. InfraError if the guest does not come to its end."""
    deadline = Deadline.after(trial.limit_s)
    folder = trial.folder / FOLDER
    events: list[RawEvent] = []
    with target.boot(trial.plan, folder, deadline) as guest:
        missing = [len(trial.console), len(trial.agent)]
        while trial.whole or max(missing) > 0:
            event = guest.next_event(deadline)
            if event is None:
                raise InfraError(f"the replay did not end in {trial.limit_s:.0f} s", hint=f"see {folder}")
            events.append(event)
            if isinstance(event, GuestEnded):
                break
            missing[0] -= len(event.data) if isinstance(event, ConsoleData) else 0
            missing[1] -= isinstance(event, AgentLine)
    difference = first_difference(
        "console", console_lines(trial.console), console_lines(console_of(events)), whole=trial.whole
    ) or first_difference("agent", trial.agent, agent_of(events), whole=trial.whole)
    seconds = events[-1].host_s if events else 0.0
    return Comparison(difference, len(trial.console), len(trial.agent), trial.whole, seconds, folder)


def console_lines(data: bytes) -> list[str]:
    """A console in lines, every byte of it visible."""
    return data.decode("utf-8", errors="backslashreplace").split("\n")
