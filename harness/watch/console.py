# SPDX-License-Identifier: GPL-2.0-only
"""What a kernel says on its console, as events: incremental, bounded in memory, linear in time."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from harness.watch.kinds import OutcomeKind
from harness.watch.lines import Line, LineSplitter, PrefixReader
from harness.watch.signatures import EventKind, Match, load_table
from harness.watch.stacks import StackReader

#: Host seconds without a line after which a report is taken to be over.
QUIET_S = 1.0
#: The same by the kernel's clock, for a log read later; an NMI backtrace may take 10 s (lib/nmi_backtrace.c).
QUIET_KERNEL_S = 11.0
#: Lines of a report that are kept as text, characters of each, and lines it may have at all.
TEXT_LINES = 80
TEXT_WIDTH = 400
REPORT_LINES = 1000
#: Events of one console: those that keep more text than their first line, and those that are emitted at all.
TEXT_EVENTS = 200
MAX_EVENTS = 10_000

_REBOOT_ASKED = re.compile(r"^reboot: |^kexec(?:_core)?: Starting new kernel|^Starting new kernel")
_SENDS_NMI = re.compile(r"^Sending NMI from CPU \d+ to CPUs ")
_NMI = re.compile(r"^NMI backtrace for cpu \d+$")
_RCU_CPU = re.compile(r"^(?:rcu: )?\t(?P<cpu>\d+)-[.O][.o][.N]")


@dataclass(frozen=True)
class ConsoleEvent:
    """Something the kernel reported.

    It is emitted when its first line has been read (`complete` false) and again, with the same `number`,
    when the report has been read to its end; a report of one line is emitted once, complete.
    """

    #: Events of one console count from 1.
    number: int
    #: The message's class and what it says, see `signatures.yaml`.
    cls: str
    kind: EventKind
    #: What a trial is when this decides it; None for a note.
    outcome: OutcomeKind | None
    title: str
    #: Where it starts: line of the console (from 1), kernel time stamp (s), host clock (s since power-on).
    line: int
    time_s: float | None
    host_s: float
    cpu: int | None
    #: `comm:pid`.
    task: str | None
    complete: bool
    #: How long it says that this has lasted, s.
    stuck_s: float | None = None
    #: Functions on the stack, innermost first, without offsets, compiler suffixes and the unwinder's guesses.
    frames: tuple[str, ...] = ()
    #: The report's lines without prefixes, from its first to the end of the call trace, at most TEXT_LINES.
    text: tuple[str, ...] = ()

    @property
    def is_failure(self) -> bool:
        """Whether this can decide a trial."""
        return self.outcome is not None


@dataclass
class _Report:
    number: int
    match: Match
    first: Line
    stacks: StackReader = field(default_factory=StackReader)
    text: list[str] = field(default_factory=list)
    cpu: int | None = None
    lines: int = 0
    last_host_s: float = 0.0
    last_time_s: float | None = None
    sent_nmi: bool = False

    def __post_init__(self) -> None:
        cpu = self.match.groups.get("cpu")
        self.cpu = int(cpu[:6]) if cpu else None
        self._keep(self.first)

    def _keep(self, line: Line) -> None:
        self.lines += 1
        self.last_host_s = line.host_s
        self.last_time_s = line.time_s if line.time_s is not None else self.last_time_s
        if len(self.text) < (TEXT_LINES if self.number <= TEXT_EVENTS else 1):
            self.text.append(line.text[:TEXT_WIDTH])

    def add(self, line: Line) -> None:
        """Take one line in that may belong to this report."""
        self.sent_nmi = self.sent_nmi or bool(_SENDS_NMI.match(line.text))
        rcu = _RCU_CPU.match(line.text)
        if rcu and self.cpu is None:
            self.cpu = int(rcu["cpu"][:6])
        if self.stacks.read(line.text):
            self._keep(line)

    @property
    def over(self) -> bool:
        """Whether its end has been read."""
        if self.lines >= REPORT_LINES:
            return True
        report = self.match.row.report
        return report == "line" or (report == "trace" and self.stacks.ended)

    def silent(self, host_s: float, time_s: float | None) -> bool:
        """Whether nothing has come for so long that nothing more will."""
        if host_s - self.last_host_s >= QUIET_S:
            return True
        if time_s is None or self.last_time_s is None:
            return False
        return time_s - self.last_time_s >= QUIET_KERNEL_S

    def event(self, *, complete: bool) -> ConsoleEvent:
        """The event as far as it has been read."""
        row, groups, stack = self.match.row, self.match.groups, self.stacks.main
        task = f"{groups['comm']}:{groups['pid']}" if {"comm", "pid"} <= groups.keys() else stack.task
        return ConsoleEvent(
            number=self.number,
            cls=row.cls,
            kind=row.kind,
            outcome=row.outcome,
            title=self.match.title,
            line=self.first.number,
            time_s=self.first.time_s,
            host_s=self.first.host_s,
            cpu=self.cpu if self.cpu is not None else stack.cpu,
            task=task,
            complete=complete,
            stuck_s=float(groups["seconds"][:6]) if "seconds" in groups else None,
            frames=tuple(stack.frames),
            text=tuple(self.text),
        )


class ConsoleParser:
    """Bytes of one console in, events out; any bytes are valid input.

    What events come, and with what content, does not depend on how the bytes are cut into reads (given the
    same host times).
    """

    def __init__(self) -> None:
        self._table = load_table()
        self._splitter = LineSplitter()
        self._prefixes = PrefixReader()
        self._numbers = 0
        #: Reports being read, by the printk caller whose lines belong to them.
        self._open: dict[str | None, _Report] = {}
        self._booted = False
        self._reboot_asked = False
        #: The first line of text, and when it came.
        self.first_line: Line | None = None

    @property
    def reading(self) -> bool:
        """Whether a report has begun that has not come to its end."""
        return bool(self._open)

    def feed(self, data: bytes, host_s: float) -> list[ConsoleEvent]:
        """Take bytes in that were read at `host_s` (s since power-on); the events they begin and complete."""
        events = self.tick(host_s)
        for number, text in self._splitter.feed(data):
            events += self._line(self._prefixes.read(number, host_s, text))
        return events

    def tick(self, host_s: float) -> list[ConsoleEvent]:
        """Say that it is `host_s` now: completes reports that have fallen silent."""
        return self._close_if(host_s, None)

    def close(self) -> list[ConsoleEvent]:
        """The console has ended: takes the last line without a newline, completes what is open."""
        host_s = max((report.last_host_s for report in self._open.values()), default=0.0)
        events: list[ConsoleEvent] = []
        for number, text in self._splitter.close():
            events += self._line(self._prefixes.read(number, host_s, text))
        for report in self._reports():
            events.append(self._complete(report))
        return events

    def _line(self, line: Line) -> list[ConsoleEvent]:
        if self.first_line is None:
            self.first_line = line
        if not line.kernel:
            return []
        events = self._close_if(line.host_s, line.time_s)
        if _REBOOT_ASKED.match(line.text):
            self._reboot_asked = True
        match = self._table.match(line.text)
        if match and match.row.kind == "reboot":
            return events + self._banner(match, line)
        if _NMI.match(line.text):
            events += self._lend(line.caller)
        report = self._open.get(line.caller)
        if match and not (report and self._belongs(match, report)):
            if report:
                events.append(self._complete(report))
            return events + self._begin(match, line)
        if report:
            report.add(line)
            if report.over:
                events.append(self._complete(report))
        return events

    def _belongs(self, match: Match, report: _Report) -> bool:
        """Whether a line that would begin a report is a part of the one that is open."""
        if match.row.kind == "note":
            return True
        return report.match.row.cls in match.row.part_of and not (
            report.stacks.ended and report.match.row.report == "trace"
        )

    def _lend(self, caller: str | None) -> list[ConsoleEvent]:
        """A CPU begins the backtrace that a report asked it for: its lines belong to that report now."""
        asked = [report for report in self._reports() if report.sent_nmi]
        own = self._open.get(caller)
        if not asked or own is asked[-1]:
            return []
        self._open[caller] = asked[-1]
        return [self._complete(own)] if own else []

    def _begin(self, match: Match, line: Line) -> list[ConsoleEvent]:
        if self._numbers >= MAX_EVENTS:
            return []
        self._numbers += 1
        report = _Report(self._numbers, match, line)
        if report.over:
            return [report.event(complete=True)]
        self._open[line.caller] = report
        return [report.event(complete=False)]

    def _banner(self, match: Match, line: Line) -> list[ConsoleEvent]:
        """A kernel says its name: expected once, and after a reboot that was asked for."""
        expected = not self._booted or self._reboot_asked
        self._booted, self._reboot_asked = True, False
        events = [self._complete(report) for report in self._reports()]
        return events if expected else events + self._begin(match, line)

    def _close_if(self, host_s: float, time_s: float | None) -> list[ConsoleEvent]:
        if not self._open:
            return []
        return [self._complete(report) for report in self._reports() if report.silent(host_s, time_s)]

    def _reports(self) -> list[_Report]:
        """The open reports, each once, in the order they began."""
        reports = {report.number: report for report in self._open.values()}
        return [reports[number] for number in sorted(reports)]

    def _complete(self, report: _Report) -> ConsoleEvent:
        self._open = {caller: other for caller, other in self._open.items() if other is not report}
        return report.event(complete=True)
