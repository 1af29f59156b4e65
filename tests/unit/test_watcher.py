# SPDX-License-Identifier: GPL-2.0-only
"""From raw events to observations: progress, stalls, silence, and a replay that sees what was seen live."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from harness.guest.protocol import End, Hello, Iteration, ProgressMessage, Start, UnknownMessage
from harness.target.protocol import AgentLine, ConsoleData, GuestEnded, RawEvent
from harness.watch.console import QUIET_S, ConsoleEvent
from harness.watch.observation import AgentGarbage, AgentMessage, ConsoleBegan, Ended, Observation, Stall
from harness.watch.thresholds import Thresholds
from harness.watch.watcher import Watcher
from tests.unit import watching

STALL_S = 5.0
LIMITS = Thresholds(stall_s=STALL_S)
HELLO = {"type": "hello", "protocol": 1, "t": 0.5, "release": "7.3.4", "preempt": "none", "cpus": 2}
START = {"type": "start", "t": 0.6, "scenario": "trylock-starvation"}
END = {"type": "end", "t": 3.0, "iterations": 20, "windows": 18}


def say(host_s: float, **message: Any) -> AgentLine:
    return AgentLine(host_s, json.dumps(message))


def progress(host_s: float, iteration: int, count: int) -> AgentLine:
    threads = [{"name": "holder", "count": count}]
    return say(host_s, type="progress", t=host_s, iteration=iteration, threads=threads)


def watch(events: Sequence[RawEvent], ticks: Sequence[float] = ()) -> Watcher:
    """A watcher that saw the events, and was told the time in between."""
    return watching.watch(Watcher(LIMITS), events, ticks)


def stalls(observations: Sequence[Observation]) -> list[Stall]:
    return [observation for observation in observations if isinstance(observation, Stall)]


def test_messages_become_observations_in_order() -> None:
    watcher = watch(
        [say(1.0, **HELLO), say(1.1, **START), say(2.0, type="iteration", t=1.5, n=0), say(3.0, **END)]
    )
    messages = [o.message for o in watcher.observations if isinstance(o, AgentMessage)]
    assert [type(message) for message in messages] == [Hello, Start, Iteration, End]
    assert [o.host_s for o in watcher.observations] == [1.0, 1.1, 2.0, 3.0]
    assert not watcher.fatal


def test_garbage_is_kept_and_harmless() -> None:
    watcher = watch(
        [
            AgentLine(1.0, '{"type":"hel'),
            AgentLine(1.1, "\\x00\\xff"),
            AgentLine(1.2, ""),
            AgentLine(1.3, "[1]"),
        ]
    )
    assert len(watcher.observations) == 4
    assert all(isinstance(o, AgentGarbage | AgentMessage) for o in watcher.observations)
    assert (
        isinstance(watcher.observations[0], AgentGarbage) and watcher.observations[0].text == '{"type":"hel'
    )
    assert not watcher.fatal


def test_unknown_messages_are_kept() -> None:
    (observation,) = watch([say(1.0, type="weather", sun=True)]).observations
    assert isinstance(observation, AgentMessage) and isinstance(observation.message, UnknownMessage)


def test_life_without_progress_is_a_stall() -> None:
    events = [say(1.0, **START), progress(1.1, 0, 1), *(progress(1.1 + n / 10, 0, 1) for n in range(1, 80))]
    watcher = watch(events)
    (stall,) = stalls(watcher.observations)
    assert stall.since_s == 1.1 and stall.limit_s == STALL_S and stall.host_s == 1.1 + STALL_S
    assert 5.9 < stall.heard_s < 6.3, "the agent still spoke"
    assert watcher.fatal


def test_silence_is_a_stall_too() -> None:
    watcher = watch([say(1.0, **START), progress(1.1, 0, 1)], ticks=[6.0, 6.2, 9.0, 20.0])
    (stall,) = stalls(watcher.observations)
    assert (stall.since_s, stall.heard_s) == (1.1, 1.1)


def test_a_counter_that_moves_or_an_iteration_is_progress() -> None:
    moving: list[RawEvent] = [say(1.0, **START), *(progress(1.0 + n, 0, n) for n in range(1, 30))]
    assert stalls(watch(moving).observations) == []
    iterating: list[RawEvent] = [
        say(1.0, **START),
        *(say(1.0 + n, type="iteration", t=1.0, n=n) for n in range(1, 30)),
    ]
    assert stalls(watch(iterating).observations) == []


def test_before_the_start_and_after_the_end_nothing_stalls() -> None:
    assert stalls(watch([say(1.0, **HELLO)], ticks=[50.0]).observations) == []
    assert stalls(watch([say(1.0, **START), say(2.0, **END)], ticks=[50.0]).observations) == []
    ended: list[RawEvent] = [say(1.0, **START), GuestEnded(2.0, 0, "exited")]
    assert stalls(watch(ended, ticks=[50.0]).observations) == []
    left = [say(1.0, **START), say(2.0, type="exit", path="/hmm-stressor", status=3)]
    assert stalls(watch(left, ticks=[50.0]).observations) == []


def test_a_second_stall_needs_progress_in_between() -> None:
    events = [say(1.0, **START), progress(8.0, 0, 1), progress(20.0, 0, 1)]
    assert [stall.since_s for stall in stalls(watch(events, ticks=[7.5, 30.0]).observations)] == [1.0, 8.0]


def test_the_end_of_the_guest_is_the_last_word() -> None:
    raw: list[RawEvent] = [ConsoleData(1.0, b"[    1.0"), GuestEnded(2.0, -9, "killed")]
    watcher = watch(raw)
    assert watcher.observations[-1] == Ended(2.0, -9, "killed")
    assert watcher.fatal


def test_the_first_text_shows_that_the_machine_lives() -> None:
    watcher = watch(
        [
            ConsoleData(0.1, b"\x1bc\r\n\x00"),
            ConsoleData(0.4, b"[    0.000000] Linux"),
            ConsoleData(0.5, b" version 7.3.4\n"),
        ]
    )
    assert watcher.observations == (ConsoleBegan(0.5, "Linux version 7.3.4"),)


LOCKUP = [
    b"[   14.500000][    C1] watchdog: BUG: soft lockup - CPU#1 stuck for 13s! [stress:53]\n",
    b"[   14.500000][    C1] RIP: 0010:pud_flags+0x0/0x23\n[   14.500000][    C1] Call Trace:\n",
    b"[   14.500000][    C1]  <TASK>\n[   14.500000][    C1]  hmm_range_fault+0xf/0x11\n",
    b"[   14.500000][    C1]  </TASK>\n",
]


def test_a_live_loop_knows_when_a_report_began_and_when_it_is_whole() -> None:
    watcher = Watcher(LIMITS)
    states = []
    for step, data in enumerate(LOCKUP):
        watcher.observe(ConsoleData(15.0 + step / 100, data))
        states.append((watcher.fatal, watcher.reading))
    assert states == [(True, True), (True, True), (True, True), (True, False)]
    last = watcher.observations[-1]
    assert (
        isinstance(last, ConsoleEvent) and last.complete and last.frames == ("pud_flags", "hmm_range_fault")
    )
    assert last.host_s == 15.0


def test_a_report_cut_off_is_whole_after_a_silence() -> None:
    watcher = Watcher(LIMITS)
    watcher.observe(ConsoleData(15.0, LOCKUP[0] + LOCKUP[1]))
    watcher.tick(15.0 + QUIET_S / 2)
    assert watcher.reading
    watcher.tick(15.0 + QUIET_S)
    assert not watcher.reading


def test_a_warning_does_not_stop_the_trial() -> None:
    line = b"[    9.100000][   T52] WARNING: mm/memory.c:4321 at do_swap_page+0x1a2/0x9f0, CPU#1: stress/52\n"
    watcher = watch([ConsoleData(1.0, line)])
    assert not watcher.fatal and watcher.reading


def test_corruption_stops_the_trial() -> None:
    assert watch([say(1.0, **START), say(2.0, type="corruption", t=1.0, page=3)]).fatal


def test_a_replay_sees_what_the_live_run_saw() -> None:
    events: list[RawEvent] = [
        ConsoleData(0.5, b"[    0.000000] Linux version 7.3.4\n"),
        say(1.0, **HELLO),
        say(1.1, **START),
        progress(1.2, 0, 1),
        ConsoleData(15.0, LOCKUP[0]),
        ConsoleData(15.1, LOCKUP[1]),
        GuestEnded(19.0, 0, "stopped"),
    ]
    live = watch(events, ticks=[n / 10 for n in range(190)])
    replayed = watch(events)
    assert live.observations == replayed.observations
    assert len(stalls(live.observations)) == 1


def test_a_replay_keeps_the_order_of_silences() -> None:
    for start_s, order in ((9.4, [Stall, ConsoleEvent]), (9.6, [ConsoleEvent, Stall])):
        events: list[RawEvent] = [
            AgentLine(start_s, json.dumps(START)),
            ConsoleData(13.5, LOCKUP[0]),
            GuestEnded(19.0, 0, "stopped"),
        ]
        live = watch(events, ticks=[n / 100 for n in range(1900)])
        assert live.observations == watch(events).observations
        assert [type(observation) for observation in live.observations[3:5]] == order


def test_progress_messages_are_kept() -> None:
    (observation,) = watch([progress(1.0, 3, 9)]).observations
    assert isinstance(observation, AgentMessage) and isinstance(observation.message, ProgressMessage)
    assert observation.message.threads[0].count == 9
