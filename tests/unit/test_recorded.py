# SPDX-License-Identifier: GPL-2.0-only
"""A trial watched again from its folder gives the same observations, samples and looks included."""

from __future__ import annotations

import bisect
from collections.abc import Sequence
from pathlib import Path

import pytest

from harness.judge import judge
from harness.scenario.catalogue import load_scenario
from harness.target.protocol import GuestEnded, RawEvent
from harness.target.recording import Recorder
from harness.watch.examination import Examination, Proof, record_examination
from harness.watch.kinds import OutcomeKind
from harness.watch.observation import Observation, Stall, Starved, Suspicion
from harness.watch.recorded import recorded_observations
from harness.watch.thresholds import Thresholds
from harness.watch.watcher import Watcher
from tests.unit.test_judge import SPIN as STACK
from tests.unit.test_judge import lockup
from tests.unit.watching import HELLO, SPIN, START, SYMBOLS, Host, console, of_kind, progress, say

LIMITS = Thresholds(stall_s=15.0)
ORACLE = load_scenario("trylock-starvation").judge_by()
#: What a look costs, s; and how late the harness hears of what the guest said meanwhile.
LOOK_S = 0.3


def story(share: float) -> list[RawEvent]:
    """A hang: samples, two progress messages in between, the kernel's report, the end."""
    host = Host(now=1.2, share=share)
    slow = {"calibration_ms": 40.0, "calibration_loops": 12_000_000}
    events: list[RawEvent] = [
        console(0.4, "[    0.000000][    T0] Linux version 7.3.4"),
        say(1.0, **HELLO, **slow),
        say(1.05, type="module", name="hmm_harness", text="0xffffffffa0000000"),
        say(1.1, **START),
        progress(1.15, 0, 1),
        *host.samples(26.0, "halted", "do_swap_page"),
        progress(3.3, 0, 2),
        progress(2.71, 0, 2),
        lockup(8.03, "some_driver"),
        lockup(13.01, *STACK),
        GuestEnded(27.5, 0, "stopped"),
    ]
    return sorted(events, key=lambda event: event.host_s)


def live(
    events: Sequence[RawEvent], folder: Path, proof: Proof, every_s: float, until_s: float = 1e9
) -> tuple[Observation, ...]:
    """A trial as its loop runs it: what happens during a look is heard after it."""
    watcher = Watcher(LIMITS, SYMBOLS, SPIN)
    recorder = Recorder(folder, ["qemu"])
    for event in events:
        recorder.record(event)
    recorder.close()
    ticks = [round(n * every_s, 6) for n in range(1, int(28 / every_s))] if every_s else []
    now = 0.0

    def look() -> None:
        if watcher.wants_examination and now < 27.0:
            found = Examination(round(now + LOOK_S, 6), watcher.since_s, proof, "found", STACK)
            record_examination(folder, found)
            watcher.examined(found)
            # Nobody tells the watcher the time while the guest is being looked at.
            del ticks[: bisect.bisect_right(ticks, found.host_s)]

    for event in events:
        while ticks and ticks[0] < min(event.host_s, until_s):
            now = ticks.pop(0)
            watcher.tick(now)
            look()
        if event.host_s > until_s:
            watcher.tick(until_s)
            watcher.close()
            return watcher.observations
        now = event.host_s
        watcher.observe(event)
        look()
    watcher.close()
    return watcher.observations


@pytest.mark.parametrize("every_s", [0.0, 0.1, 0.013])
@pytest.mark.parametrize("share", [1.0, 0.3])
@pytest.mark.parametrize("proof", ["cycle", "none"])
def test_a_record_gives_what_was_observed_live(
    tmp_path: Path, proof: Proof, share: float, every_s: float
) -> None:
    seen = live(story(share), tmp_path, proof, every_s)
    again = recorded_observations(tmp_path, LIMITS, SYMBOLS, SPIN)
    assert again == seen
    assert judge(again, ORACLE) == judge(seen, ORACLE)
    assert of_kind(seen, Suspicion)
    assert of_kind(seen, Examination)
    assert bool(of_kind(seen, Starved)) == (share < 0.5)


def test_what_the_record_tells_of_a_proof(tmp_path: Path) -> None:
    live(story(1.0), tmp_path, "cycle", 0.1)
    outcome = judge(recorded_observations(tmp_path, LIMITS, SYMBOLS, SPIN), ORACLE)
    assert outcome.kind is OutcomeKind.LIVELOCK and outcome.is_bug and outcome.onset_s == 2.71
    assert outcome.decided_s is not None and outcome.decided_s - 2.71 < 1.2 * 40 / 30 + 0.4 + LOOK_S


@pytest.mark.parametrize("share", [1.0, 0.3])
def test_a_record_is_watched_as_far_as_the_trial_was(tmp_path: Path, share: float) -> None:
    until_s = 6.5
    seen = live(story(share), tmp_path, "none", 0.1, until_s)
    assert recorded_observations(tmp_path, LIMITS, SYMBOLS, SPIN, until_s) == seen
    assert max(observation.host_s for observation in seen) <= until_s
    assert not of_kind(seen, Stall)
    assert judge(seen, ORACLE).kind is (OutcomeKind.TIMEOUT if share == 1.0 else OutcomeKind.INFRA_ERROR)


def test_a_record_without_samples_is_judged_by_the_hosts_time(tmp_path: Path) -> None:
    events = [event for event in story(1.0) if not hasattr(event, "cpus")]
    seen = live(events, tmp_path, "none", 0.1)
    assert recorded_observations(tmp_path, LIMITS) == seen
    (stall,) = of_kind(seen, Stall)
    assert stall.host_s == pytest.approx(stall.since_s + stall.limit_s) and stall.cpus == ()
