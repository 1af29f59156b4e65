# SPDX-License-Identifier: GPL-2.0-only
"""Raw events of a guest to observations, live or replayed: time is what the events say."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from harness.guest.protocol import (
    Corruption,
    End,
    Exit,
    Garbage,
    Hello,
    Message,
    ModuleMessage,
    Start,
    parse_line,
)
from harness.target.protocol import AgentLine, ConsoleData, GuestEnded, RawEvent, Sample
from harness.watch.console import ConsoleEvent, ConsoleParser
from harness.watch.examination import Examination
from harness.watch.histogram import HistogramCounter, function_at
from harness.watch.kinds import OutcomeKind
from harness.watch.observation import (
    AgentGarbage,
    AgentMessage,
    ConsoleBegan,
    Ended,
    Observation,
    ProgressMark,
    Stall,
    Starved,
)
from harness.watch.quiet import HostShare, QuietTime, effective_s
from harness.watch.suspicion import SpinDetector
from harness.watch.symbols import SymbolTable
from harness.watch.thresholds import Thresholds, slowness


class Watcher:
    """Watches one guest.

    The observations do not depend on how often `tick` is called: what a silence means is dated by when it
    became true, so a replay of the raw events and the recorded examinations gives what the live run gave
    (`harness.watch.recorded`). Samples are counted, not kept.
    """

    def __init__(
        self,
        thresholds: Thresholds,
        symbols: SymbolTable | None = None,
        spin_functions: Sequence[str] = (),
    ) -> None:
        """`thresholds`: as for a guest of reference speed; they are scaled by what the guest's hello says.

        `symbols`: of the kernel; None: functions have no names. `spin_functions`: of the scenario.
        """
        self._limits = thresholds
        self._symbols = symbols
        self._console = ConsoleParser()
        self._console_began = False
        self._mark = ProgressMark()
        self._greeted = False
        self._running = False
        self._moved_s = 0.0
        self._heard_s = 0.0
        self._quiet = QuietTime()
        self._spin = SpinDetector(thresholds, spin_functions)
        self._seen_at = HistogramCounter()
        self._share = HostShare()
        self._last_sample: Sample | None = None
        self._about: set[int] = set()
        #: An examination whose time has not come yet: what the guest said before it may still be on its way.
        self._pending: Examination | None = None
        self._proof: Examination | None = None
        #: What a look into the memory is wanted for.
        self._suspected = False
        self._reported = False
        self._over = False
        self._seen: list[Observation] = []
        self._fatal = False

    @property
    def observations(self) -> tuple[Observation, ...]:
        """Everything observed so far, in order."""
        return tuple(self._seen)

    @property
    def reading(self) -> bool:
        """Whether something has begun to be observed that is not complete.

        A report on the console that has not come to its end, or an examination whose time has not come.
        """
        return self._console.reading or self._pending is not None

    @property
    def fatal(self) -> bool:
        """Whether something was observed after which the trial cannot end well: stop once `reading` is false.

        A warning is not among them; the stressor goes on after it. A proof is, unless a counter moves after
        all; it counts once everything that the guest said before it has been observed.
        """
        return self._fatal or self._proof is not None

    @property
    def wants_examination(self) -> bool:
        """Whether a look into the guest's memory is due.

        On a suspicion (at growing distances while nothing moves), on the console's report of a hang once it
        is complete, and on a stall; not any more after a proof or the guest's end.
        """
        return (self._suspected or self._reported) and not self._over and self._proof is None

    @property
    def since_s(self) -> float:
        """The last sign of progress, s since power-on; 0 before the first."""
        return self._moved_s

    @property
    def thresholds(self) -> Thresholds:
        """The limits that hold, scaled once the guest has said how slow it is."""
        return self._limits

    def observe(self, event: RawEvent) -> list[Observation]:
        """What the event shows; first of all, that time has passed until it came."""
        new = self._pass_time(event.host_s)
        match event:
            case ConsoleData():
                new += self._read(self._console.feed(event.data, event.host_s))
                first = self._console.first_line
                if first is not None and not self._console_began:
                    self._console_began = True
                    new.insert(0, ConsoleBegan(event.host_s, first.text))
            case AgentLine():
                new.append(self._agent(event))
            case Sample():
                new += self._sample(event)
            case GuestEnded():
                new += self._read(self._console.close())
                new += self._starved(event.host_s, None, *self._share.total)
                new.append(Ended(event.host_s, event.status, event.how, event.why))
                self._running, self._over = False, True
                self._quiet.stop()
        return self._add(new)

    def examined(self, examination: Examination) -> list[Observation]:
        """Somebody has looked.

        The examination is observed when its time has come, after everything that happened before; so this
        returns nothing as a rule.
        """
        self._suspected = self._reported = False
        new = self._take_pending()
        self._pending = examination
        return self._add(new)

    def tick(self, host_s: float) -> list[Observation]:
        """What the passing of time shows, with nothing heard until `host_s`."""
        return self._add(self._pass_time(host_s))

    def close(self) -> list[Observation]:
        """Nothing more will be observed: completes what is open, and sums up. Call it before judging."""
        new = [*self._take_pending(), *self._read(self._console.close())]
        if self._last_sample and not self._over:
            new += self._starved(self._last_sample.host_s, None, *self._share.total)
        self._over = True
        return self._add(new)

    def _pass_time(self, host_s: float) -> list[Observation]:
        due: list[tuple[float, Callable[[], list[Observation]]]] = []
        stall_s = self._quiet.due_s(self._limits.stall_s)
        if stall_s is not None:
            due.append((stall_s, lambda: self._stall(stall_s)))
        if self._pending:
            due.append((self._pending.host_s, self._take_pending))
        new: list[Observation] = []
        for at_s, happens in sorted(due, key=lambda item: item[0]):
            if at_s < host_s:
                new += self._read(self._console.tick(at_s))
                new += happens()
        return [*new, *self._read(self._console.tick(host_s))]

    def _stall(self, host_s: float) -> list[Observation]:
        stall = Stall(host_s, self._moved_s, self._limits.stall_s, self._heard_s, self._seen_at.result())
        self._quiet.stop()
        self._suspected = True
        return [stall]

    def _take_pending(self) -> list[Observation]:
        examination, self._pending = self._pending, None
        if examination is None:
            return []
        # One with gaps waits for the console's report or the stall.
        if examination.proof == "cycle" and self._moved_s <= examination.since_s:
            self._proof = examination
        return [examination]

    def _read(self, events: list[ConsoleEvent]) -> list[Observation]:
        """What the console says, with what is to be known of a report of a hang."""
        new: list[Observation] = []
        for event in events:
            new.append(event)
            if event.kind != "hang" or not event.is_failure:
                continue
            if event.number not in self._about:
                self._about.add(event.number)
                new += self._starved(event.host_s, event.number, *self._share_of(event))
            self._reported = self._reported or event.complete
        return new

    def _share_of(self, event: ConsoleEvent) -> tuple[float, float]:
        """The time that a report speaks of, pauses left out, and how much of it the guest could run, s."""
        wall_s, run_s = self._share.last(self._limits.report_s if event.stuck_s is None else event.stuck_s)
        late_s = event.host_s - self._last_sample.host_s if self._last_sample else 0.0
        return wall_s + late_s if late_s > self._limits.late_s else wall_s, run_s

    def _starved(self, host_s: float, about: int | None, wall_s: float, run_s: float) -> list[Starved]:
        if wall_s > 0 and run_s < self._limits.starved_ratio * wall_s:
            return [Starved(host_s, wall_s, run_s, about)]
        return []

    def _sample(self, sample: Sample) -> list[Observation]:
        before, self._last_sample = self._last_sample, sample
        effective = effective_s(before, sample, self._limits.late_s) if before else 0.0
        if before and before.running and sample.running:
            self._share.add(sample.host_s - before.host_s, effective)
        self._quiet.sample(sample.host_s, effective)
        functions = {cpu.cpu: function_at(cpu, self._symbols) for cpu in sample.cpus}
        if sample.running and self._quiet.since_s is not None:
            for cpu, function in functions.items():
                self._seen_at.add(cpu, function)
        named = self._symbols is not None
        suspicion = self._spin.sample(sample, effective, functions, self._quiet, named=named)
        if suspicion is None:
            return []
        self._suspected = True
        return [suspicion]

    def _agent(self, event: AgentLine) -> Observation:
        message = parse_line(event.text)
        self._heard_s = event.host_s
        if isinstance(message, Garbage):
            return AgentGarbage(event.host_s, message.text, message.why)
        self._track(message, event.host_s)
        return AgentMessage(event.host_s, message)

    def _track(self, message: Message, host_s: float) -> None:
        if self._mark.moved(message):
            self._moved_s = host_s
            self._proof = None
            self._suspected = False
            self._quiet.moved(host_s)
            self._spin.moved()
            self._seen_at.clear()
        match message:
            case Hello() if not self._greeted:
                self._greeted = True
                self._limits = self._limits.scaled(slowness(message))
                self._spin.thresholds = self._limits
            case ModuleMessage() if self._symbols:
                self._symbols = self._symbols.with_module(message.name, message.address)
            case Start():
                self._running = True
            case End() | Exit() | Corruption():
                self._running = False
        if not self._running:
            self._quiet.stop()

    def _add(self, new: list[Observation]) -> list[Observation]:
        self._seen += new
        self._fatal = self._fatal or any(_is_fatal(observation) for observation in new)
        return new


def _is_fatal(observation: Observation) -> bool:
    match observation:
        case ConsoleEvent():
            return observation.is_failure and observation.outcome is not OutcomeKind.WARNING
        case AgentMessage():
            return isinstance(observation.message, Corruption)
        case Stall() | Ended():
            return True
        case _:
            return False
