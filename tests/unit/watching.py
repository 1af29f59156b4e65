# SPDX-License-Identifier: GPL-2.0-only
"""What the tests of the watch room share: messages, and samples of CPUs that do as they are told."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeVar

from harness.target.protocol import AgentLine, ConsoleData, RawEvent, Sample, VcpuSample
from harness.watch.observation import Observation
from harness.watch.symbols import SymbolTable
from harness.watch.watcher import Watcher

T = TypeVar("T")

SAMPLE_S = 0.2
HELLO = {"type": "hello", "protocol": 1, "t": 0.5, "release": "7.3.4", "preempt": "none", "cpus": 2}
START = {"type": "start", "t": 0.6, "scenario": "trylock-starvation"}
END = {"type": "end", "t": 3.0, "iterations": 20, "windows": 18}

#: A kernel of four functions.
SYMBOLS = SymbolTable(
    (0xFFFFFFFF81000000, 0xFFFFFFFF81001000, 0xFFFFFFFF81002000, 0xFFFFFFFF81003000, 0xFFFFFFFF81004000),
    ("do_swap_page", "__handle_mm_fault", "_raw_spin_lock", "native_queued_spin_lock_slowpath", ""),
)
RIPS = dict(zip(SYMBOLS.names, SYMBOLS.addresses, strict=True))
SPIN = ("do_swap_page", "*handle_mm_fault")

At = Literal["halted", "user", "do_swap_page", "__handle_mm_fault", "native_queued_spin_lock_slowpath"]


def say(host_s: float, **message: Any) -> AgentLine:
    return AgentLine(host_s, json.dumps(message))


def progress(host_s: float, iteration: int, count: int, phase: str = "") -> AgentLine:
    threads = [{"name": "holder", "count": count}]
    return say(host_s, type="progress", t=host_s, iteration=iteration, phase=phase, threads=threads)


def console(host_s: float, *lines: str) -> ConsoleData:
    return ConsoleData(host_s, "".join(f"{line}\n" for line in lines).encode())


@dataclass
class Host:
    """Samples a guest as a host would that gives each of its threads a share of a CPU."""

    #: s since power-on.
    now: float = 0.0
    share: float = 1.0
    #: The host counts the time that threads wait for a CPU (CONFIG_SCHED_INFO).
    counts_waiting: bool = True
    _run: tuple[float, ...] = (0.0, 0.0)
    _wait: tuple[float, ...] = (0.0, 0.0)

    def sample(self, *at: At, running: bool = True, after_s: float = SAMPLE_S) -> Sample:
        """The next sample, `after_s` later: where each CPU is, and what its thread had in between."""
        busy = [running and where != "halted" for where in at]
        self.now = round(self.now + after_s, 6)
        ran_s = after_s * self.share
        waited_s = after_s - ran_s if self.counts_waiting else 0.0
        self._run = tuple(had + ran_s * is_busy for had, is_busy in zip(self._run, busy, strict=True))
        self._wait = tuple(had + waited_s * is_busy for had, is_busy in zip(self._wait, busy, strict=True))
        return Sample(self.now, running, tuple(self._vcpu(cpu, where) for cpu, where in enumerate(at)))

    def samples(self, seconds: float, *at: At, running: bool = True) -> list[RawEvent]:
        """Samples of so many seconds in which nothing changes."""
        return [self.sample(*at, running=running) for _ in range(round(seconds / SAMPLE_S))]

    def _vcpu(self, cpu: int, where: At) -> VcpuSample:
        halted = VcpuSample(cpu, 0xFFFFFFFF81FFF000, 0, True, self._run[cpu], self._wait[cpu])
        if where == "halted":
            return halted
        if where == "user":
            return replace(halted, halted=False, cpl=3, rip=0x401000)
        return replace(halted, halted=False, rip=RIPS[where])


def watch(watcher: Watcher, events: Iterable[RawEvent], ticks: Sequence[float] = ()) -> Watcher:
    """The watcher after the events; it is told the time in between."""
    times = sorted(ticks)
    for event in events:
        while times and times[0] < event.host_s:
            watcher.tick(times.pop(0))
        watcher.observe(event)
    for host_s in times:
        watcher.tick(host_s)
    return watcher


def of_kind(observations: Iterable[Observation], kind: type[T]) -> list[T]:
    return [observation for observation in observations if isinstance(observation, kind)]
