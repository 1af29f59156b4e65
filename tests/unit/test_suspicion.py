# SPDX-License-Identifier: GPL-2.0-only
"""A livelock is suspected in a second, from samples alone; idle, slow, starved and paused guests are not."""

from __future__ import annotations

import pytest

from harness.target.protocol import ConsoleData, GuestEnded, RawEvent
from harness.watch.examination import Examination, Proof
from harness.watch.observation import Stall, Suspicion
from harness.watch.thresholds import Thresholds
from harness.watch.watcher import Watcher
from tests.unit.test_watcher import LOCKUP
from tests.unit.watching import END, SAMPLE_S, SPIN, START, SYMBOLS, At, Host, of_kind, progress, say, watch

LIMITS = Thresholds(stall_s=20.0)


def watcher(limits: Thresholds = LIMITS) -> Watcher:
    return Watcher(limits, SYMBOLS, SPIN)


def started(host: Host) -> list[RawEvent]:
    """A guest that works for a second, then moves a last counter."""
    events: list[RawEvent] = host.samples(1.0, "halted", "user")
    return [*events, say(host.now, **START), progress(host.now, 0, 1)]


def suspicions(host: Host, seconds: float, *at: At) -> list[Suspicion]:
    events = started(host)
    return of_kind(watch(watcher(), [*events, *host.samples(seconds, *at)]).observations, Suspicion)


def look(host_s: float, since_s: float = 1.0, proof: Proof = "none") -> Examination:
    return Examination(host_s, since_s, proof, "the longest chain is short")


def test_a_spinner_is_suspected_a_second_after_the_last_movement() -> None:
    (suspicion,) = suspicions(Host(), 2.0, "halted", "do_swap_page")
    assert suspicion.since_s == 1.0 and suspicion.cpu == 1
    assert suspicion.host_s <= 1.0 + LIMITS.suspect_s + SAMPLE_S + 1e-6
    assert suspicion.functions in ((("do_swap_page", 5),), (("do_swap_page", 6),))
    assert suspicion.in_fault_path is True


def test_a_spinner_elsewhere_in_the_kernel_is_suspected_too() -> None:
    (suspicion,) = suspicions(Host(), 2.0, "native_queued_spin_lock_slowpath", "halted")
    assert suspicion.cpu == 0 and suspicion.in_fault_path is False


def test_of_two_spinners_the_one_in_the_fault_path_is_named() -> None:
    (suspicion,) = suspicions(Host(), 2.0, "native_queued_spin_lock_slowpath", "do_swap_page")
    assert suspicion.cpu == 1 and suspicion.in_fault_path


def test_without_symbols_a_spinner_is_suspected_and_not_named() -> None:
    host = Host()
    events = [*started(host), *host.samples(2.0, "halted", "do_swap_page")]
    (suspicion,) = of_kind(watch(Watcher(LIMITS), events).observations, Suspicion)
    assert suspicion.functions == () and suspicion.in_fault_path is None


def test_an_idle_guest_is_not_suspected() -> None:
    assert suspicions(Host(), 15.0, "halted", "halted") == []


def test_a_program_that_computes_is_not_suspected() -> None:
    host = Host()
    events = started(host)
    for _ in range(20):  # the timer's interrupts are in the kernel, now and then
        events += [*host.samples(0.6, "halted", "user"), host.sample("halted", "__handle_mm_fault")]
    assert of_kind(watch(watcher(), events).observations, Suspicion) == []


def test_before_the_stressor_runs_and_after_it_nothing_is_suspected() -> None:
    host = Host()
    boot = host.samples(5.0, "do_swap_page", "do_swap_page")
    assert watch(watcher(), boot).observations == ()
    host = Host()
    ended = [*started(host), say(host.now, **END), *host.samples(5.0, "do_swap_page", "halted")]
    assert of_kind(watch(watcher(), ended).observations, Suspicion) == []


def test_a_counter_that_moves_every_three_seconds_is_never_fatal() -> None:
    host, seen = Host(), watcher()
    watch(seen, started(host))
    for count in range(20):
        watch(seen, [*host.samples(3.0, "halted", "do_swap_page"), progress(host.now, 0, 2 + count)])
        assert not seen.fatal and not seen.wants_examination
    assert of_kind(seen.observations, Stall) == []


def test_a_new_phase_is_movement() -> None:
    host, seen = Host(), watcher()
    watch(seen, started(host))
    for phase in ("fork", "race", "verify", "fork"):
        watch(seen, [*host.samples(0.8, "halted", "do_swap_page"), progress(host.now, 0, 1, phase)])
    assert of_kind(seen.observations, Suspicion) == [] and seen.since_s == host.now


def test_a_starved_spinner_is_waited_for() -> None:
    host = Host(share=0.1)
    (suspicion,) = suspicions(host, 12.0, "halted", "do_swap_page")
    assert 9.9 < suspicion.host_s - suspicion.since_s < 11.0, "it had a second by then"


def test_a_host_that_does_not_count_waiting_is_seen_to_starve_a_cpu_that_never_halts() -> None:
    (suspicion,) = suspicions(Host(share=0.1, counts_waiting=False), 12.0, "halted", "do_swap_page")
    assert 9.9 < suspicion.host_s - suspicion.since_s < 11.0


def test_a_paused_guest_is_not_suspected() -> None:
    host = Host()
    events = [
        *started(host),
        *host.samples(0.6, "halted", "do_swap_page"),
        *host.samples(10.0, "halted", "do_swap_page", running=False),
        *host.samples(0.4, "halted", "do_swap_page"),
    ]
    seen = watch(watcher(), events)
    assert of_kind(seen.observations, Suspicion) == []
    watch(seen, host.samples(0.6, "halted", "do_swap_page"))
    (suspicion,) = of_kind(seen.observations, Suspicion)
    assert suspicion.functions[0][1] <= 8, "a frozen CPU is not counted as seen again"


def test_a_short_pause_between_two_samples_is_taken_off() -> None:
    host = Host()
    events = [*started(host), *host.samples(0.6, "halted", "do_swap_page")]
    host.share, host.counts_waiting = 0.0, False
    events.append(host.sample("halted", "do_swap_page"))
    host.share = 1.0
    events += host.samples(1.0, "halted", "do_swap_page")
    (late,) = of_kind(watch(watcher(), events).observations, Suspicion)
    (early,) = suspicions(Host(), 1.6, "halted", "do_swap_page")
    assert late.host_s == pytest.approx(early.host_s + SAMPLE_S)


# -- when a look is wanted ---------------------------------------------------------------------------------


def test_a_look_is_wanted_until_somebody_has_looked() -> None:
    host, seen = Host(), watcher()
    watch(seen, [*started(host), *host.samples(1.4, "halted", "do_swap_page")])
    assert seen.wants_examination and seen.since_s == 1.0 and not seen.fatal
    seen.examined(look(host.now + 0.3))
    assert not seen.wants_examination


def test_looks_that_prove_nothing_come_at_growing_distances() -> None:
    host, seen = Host(), watcher()
    watch(seen, started(host))
    looked = []
    while host.now < 18.0:
        seen.observe(host.sample("halted", "do_swap_page"))
        if seen.wants_examination:
            looked.append(host.now - 1.0)
            seen.examined(look(host.now + 0.1))
    assert looked == pytest.approx([1.0, 3.0, 7.0, 15.0], abs=5 * SAMPLE_S)


def test_a_movement_ends_the_suspicion() -> None:
    host, seen = Host(), watcher()
    watch(seen, [*started(host), *host.samples(1.4, "halted", "do_swap_page")])
    seen.observe(progress(host.now, 0, 2))
    assert not seen.wants_examination


def test_a_cycle_is_fatal_once_its_time_has_come() -> None:
    host, seen = Host(), watcher()
    watch(seen, [*started(host), *host.samples(1.4, "halted", "do_swap_page")])
    seen.examined(look(host.now + 0.3, proof="cycle"))
    assert not seen.fatal and seen.reading, "what the guest said before may still be on its way"
    seen.tick(host.now + 0.31)
    assert seen.fatal and not seen.reading and not seen.wants_examination
    watch(seen, host.samples(8.0, "halted", "do_swap_page"))
    assert not seen.wants_examination, "one proof is enough"


def test_a_proof_with_gaps_waits_for_more() -> None:
    host, seen = Host(), watcher()
    watch(seen, [*started(host), *host.samples(1.4, "halted", "do_swap_page")])
    seen.examined(look(host.now + 0.3, proof="partial"))
    watch(seen, host.samples(1.0, "halted", "do_swap_page"))
    assert not seen.fatal
    watch(seen, host.samples(4.0, "halted", "do_swap_page"))
    assert seen.wants_examination, "the next look may see more"


def test_a_proof_is_void_if_a_counter_had_moved_after_all() -> None:
    host, seen = Host(), watcher()
    watch(seen, [*started(host), *host.samples(1.4, "halted", "do_swap_page")])
    seen.examined(look(host.now + 0.3, proof="cycle"))
    seen.observe(progress(host.now + 0.1, 0, 2))
    seen.tick(host.now + 0.4)
    assert not seen.fatal
    watch(seen, host.samples(3.0, "halted", "do_swap_page"))
    assert seen.wants_examination, "if it was the truth, it comes again"


def test_a_report_of_the_console_wants_a_look_once_it_is_complete() -> None:
    seen = watcher()
    wanted = []
    for step, data in enumerate(LOCKUP):
        seen.observe(ConsoleData(15.0 + step / 100, data))
        wanted.append(seen.wants_examination)
    assert wanted == [False, False, False, True]
    seen.examined(look(15.4, since_s=0.0))
    assert not seen.wants_examination


def test_a_stall_wants_a_look_and_tells_where_the_cpus_were() -> None:
    host, seen = Host(), watcher()
    watch(seen, [*started(host), *host.samples(21.0, "halted", "native_queued_spin_lock_slowpath")])
    (stall,) = of_kind(seen.observations, Stall)
    assert seen.wants_examination and seen.fatal
    assert stall.since_s == 1.0 and stall.host_s == pytest.approx(21.0, abs=SAMPLE_S + 1e-6)
    halted, spinner = stall.cpus
    assert str(halted) == f"CPU 0 halted ({halted.samples} of {halted.samples})" and halted.samples >= 100
    assert spinner.functions == (("native_queued_spin_lock_slowpath", spinner.samples),)


def test_an_idle_guest_that_does_not_get_on_stalls() -> None:
    host = Host()
    seen = watch(watcher(), [*started(host), *host.samples(21.0, "halted", "halted")])
    assert len(of_kind(seen.observations, Stall)) == 1


def test_a_starved_or_paused_guest_does_not_stall() -> None:
    for share, running in ((0.1, True), (1.0, False)):
        host = Host(share=share)
        events = [*started(host), *host.samples(60.0, "halted", "do_swap_page", running=running)]
        assert of_kind(watch(watcher(), events).observations, Stall) == []


def test_a_host_that_held_up_qemu_itself_is_waited_for() -> None:
    """No sample for a minute, then one: the CPUs did not run in between, halted or not."""
    for at in ("halted", "do_swap_page"):
        host, seen = Host(), watcher()
        watch(seen, [*started(host), *host.samples(0.4, "halted", at)])
        host.share = 0.0
        seen.observe(host.sample("halted", at, after_s=60.0))
        host.share = 1.0
        watch(seen, host.samples(0.2, "halted", at))
        assert of_kind(seen.observations, Stall) == []
        assert of_kind(seen.observations, Suspicion) == []


def test_after_the_guests_end_nobody_needs_to_look() -> None:
    host, seen = Host(), watcher()
    watch(seen, [*started(host), *host.samples(1.4, "halted", "do_swap_page"), GuestEnded(9.0, 0, "exited")])
    assert not seen.wants_examination


def test_a_slow_guest_is_given_more_time() -> None:
    limits = LIMITS.scaled(1.5)
    host = Host()
    events = [*started(host), *host.samples(3.0, "halted", "do_swap_page")]
    (suspicion,) = of_kind(watch(watcher(limits), events).observations, Suspicion)
    assert 1.5 <= suspicion.host_s - suspicion.since_s <= 1.5 + 2 * SAMPLE_S


def test_the_watcher_keeps_no_samples() -> None:
    host, seen = Host(), watcher()
    watch(seen, started(host))
    kept = len(seen.observations)
    for _ in range(500):
        seen.observe(host.sample("halted", "halted"))
        if host.now > 15:
            break
    assert len(seen.observations) == kept
