# SPDX-License-Identifier: GPL-2.0-only
"""Real guests watched from outside: a livelock is suspected at once, a guest that gets on never."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from fnmatch import fnmatchcase
from pathlib import Path

import pytest

from harness.deadline import Deadline
from harness.experiment.kernels import BootableKernel
from harness.experiment.trial import guest_entries
from harness.guest.initramfs import write_initramfs
from harness.guest.plan import Exec, Insmod, PowerOff, Step
from harness.guest.protocol import Iteration
from harness.judge import judge
from harness.scenario.catalogue import load_scenario
from harness.target.cmdline import KernelParameters, trial_arguments
from harness.target.protocol import BootPlan, Guest, Sample
from harness.target.qemu import QemuGuest, QemuTarget
from harness.target.recording import replay
from harness.watch.histogram import histogram
from harness.watch.kinds import OutcomeKind
from harness.watch.observation import AgentMessage, Observation, Stall, Suspicion
from harness.watch.recorded import recorded_observations
from harness.watch.symbols import SymbolTable
from harness.watch.thresholds import Thresholds
from harness.watch.watcher import Watcher
from tests.vm.guests import PATIENCE_S

pytestmark = pytest.mark.vm

SCENARIO = load_scenario("trylock-starvation")
#: A kernel whose own watchdog is too slow to help.
WATCHDOG_S = 10
LIMITS = Thresholds.of(SCENARIO.oracle.stall_s, WATCHDOG_S)


def watched(
    kernel: BootableKernel,
    folder: Path,
    iterations: int,
    over: Callable[[list[Observation], Guest, Watcher], bool],
    limits: Thresholds = LIMITS,
) -> Watcher:
    """Boot and watch until `over` says so or the guest has ended; the record gives the same observations."""
    steps: list[Step] = [
        Insmod("/hmm_harness.ko"),
        Exec("/hmm-stressor", (SCENARIO.name, f"iterations={iterations}", "seed=1")),
        PowerOff(),
    ]
    folder.mkdir()
    plan = BootPlan(
        kernel=kernel.build.boot_image,
        initramfs=write_initramfs(folder / "initramfs.cpio", guest_entries(kernel.programs, steps)),
        cmdline=trial_arguments(KernelParameters(preempt="none", watchdog_thresh_s=WATCHDOG_S)),
    )
    symbols = SymbolTable.load(kernel.build.system_map)
    watcher = Watcher(limits, symbols, SCENARIO.oracle.spin_functions)
    deadline = Deadline.after(PATIENCE_S)
    with QemuTarget().boot(plan, folder, deadline) as guest:
        while event := guest.next_event(deadline):
            if over(watcher.observe(event), guest, watcher):
                break
        guest.stop()
        while event := guest.next_event(Deadline.after(1.0)):
            watcher.observe(event)
    watcher.close()
    again = recorded_observations(folder, limits, symbols, SCENARIO.oracle.spin_functions)
    assert again == watcher.observations
    return watcher


def suspicions(watcher: Watcher) -> list[Suspicion]:
    return [observation for observation in watcher.observations if isinstance(observation, Suspicion)]


def to_the_end(new: list[Observation], guest: Guest, watcher: Watcher) -> bool:
    return False


def test_a_livelock_is_suspected_where_it_spins(unfixed_kernel: BootableKernel, tmp_path: Path) -> None:
    folder = tmp_path / "guest"
    watcher = watched(
        unfixed_kernel, folder, 50, lambda new, *rest: any(isinstance(seen, Suspicion) for seen in new)
    )
    (suspicion,) = suspicions(watcher)
    assert suspicion.in_fault_path and suspicion.cpu == SCENARIO.values({})["spinner_cpu"]
    assert watcher.wants_examination is False, "the guest has ended"
    samples = [event for event in replay(folder) if isinstance(event, Sample)]
    since = [sample for sample in samples if sample.host_s > suspicion.since_s]
    holder, spinner = histogram(since, SymbolTable.load(unfixed_kernel.build.system_map))
    assert dict(holder.functions).get("(halted)", 0) > holder.samples / 2
    # A busy host lets few samples be taken: which of the spinning functions they meet is chance.
    patterns = SCENARIO.oracle.spin_functions
    assert any(fnmatchcase(name, pattern) for name, _ in spinner.functions for pattern in patterns)


def test_a_guest_that_gets_on_is_never_suspected(base_kernel: BootableKernel, tmp_path: Path) -> None:
    watcher = watched(base_kernel, tmp_path / "guest", 60, to_the_end)
    assert suspicions(watcher) == []
    assert judge(watcher.observations, SCENARIO.judge_by()).kind is OutcomeKind.COMPLETED
    assert watcher.thresholds.stall_s >= LIMITS.stall_s, "scaled by what the guest measured of its speed"


def freeze(guest: Guest, seconds: float) -> None:
    guest.pause()
    time.sleep(seconds)
    guest.resume()


def hold_up(guest: Guest, seconds: float) -> None:
    assert isinstance(guest, QemuGuest)
    os.kill(guest.pid, signal.SIGSTOP)
    time.sleep(seconds)
    os.kill(guest.pid, signal.SIGCONT)


@pytest.mark.parametrize("stop", [freeze, hold_up])
def test_a_guest_that_was_not_let_run_has_not_stalled(
    base_kernel: BootableKernel, tmp_path: Path, stop: Callable[[Guest, float], None]
) -> None:
    limits = Thresholds(stall_s=2.5, soft_lockup_s=2.0)
    stopped_s = 0.0

    def once(new: list[Observation], guest: Guest, watcher: Watcher) -> bool:
        nonlocal stopped_s
        messages = [seen.message for seen in new if isinstance(seen, AgentMessage)]
        if not stopped_s and any(isinstance(message, Iteration) for message in messages):
            stopped_s = 1.5 * watcher.thresholds.stall_s
            stop(guest, stopped_s)
        return False

    watcher = watched(base_kernel, tmp_path / "guest", 20, once, limits)
    assert stopped_s > watcher.thresholds.stall_s
    assert not suspicions(watcher)
    assert not any(isinstance(seen, Stall) for seen in watcher.observations)
    assert judge(watcher.observations, SCENARIO.judge_by()).kind is OutcomeKind.COMPLETED
