# SPDX-License-Identifier: GPL-2.0-only
"""The virtual clock in real guests: what a guest says is the same every time, and a replay shows when not."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from harness.deadline import Deadline
from harness.experiment.kernels import BootableKernel
from harness.experiment.replay import agent_of, console_of, provenance
from harness.experiment.trial import INITRAMFS, guest_entries
from harness.guest.guesttime import check_guest_time
from harness.guest.initramfs import write_initramfs
from harness.guest.plan import Exec, Insmod, PowerOff, Step
from harness.guest.protocol import End, Hello
from harness.results.runfolder import write_record
from harness.target.protocol import BootPlan, GuestEnded, RawEvent
from harness.target.qemu import QemuTarget
from tests.vm.conftest import HARNESS, Kernels, harness
from tests.vm.guests import messages_of

pytestmark = pytest.mark.vm

#: Longer than any of these guests takes on a busy machine.
LIMIT_S = 120.0


@dataclass(frozen=True)
class Trial:
    """A trial of the virtual clock and its record."""

    folder: Path
    events: Sequence[RawEvent]

    @property
    def console(self) -> bytes:
        return console_of(self.events)

    @property
    def agent(self) -> tuple[str, ...]:
        return agent_of(self.events)


def trial(kernel: BootableKernel, folder: Path, *, seed: int = 1, iterations: int = 20) -> Trial:
    """Boot and record, to the guest's own end."""
    folder.mkdir()
    stressor = ("trylock-starvation", f"iterations={iterations}", f"seed={seed}")
    steps: list[Step] = [Insmod("/hmm_harness.ko"), Exec("/hmm-stressor", stressor), PowerOff()]
    plan = BootPlan(
        kernel=kernel.build.boot_image,
        initramfs=write_initramfs(folder / INITRAMFS, guest_entries(kernel.programs, steps)),
        cmdline=("preempt=none",),
        clock="virtual",
        seed=seed,
    )
    record = {"state": "finished", "seed": seed, "command": "hmm-harness run ..."}
    write_record(folder, {**record, "provenance": provenance(plan, kernel.programs)})
    deadline = Deadline.after(LIMIT_S)
    events: list[RawEvent] = []
    with QemuTarget().boot(plan, folder, deadline) as guest:
        while event := guest.next_event(deadline):
            events.append(event)
    assert isinstance(events[-1], GuestEnded) and events[-1].how == "exited", events[-1]
    return Trial(folder, events)


def replay(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    argv = [str(HARNESS), "replay", str(folder), *words]
    return subprocess.run(
        argv, capture_output=True, text=True, timeout=LIMIT_S, check=False, stdin=subprocess.DEVNULL
    )


@pytest.fixture(scope="module")
def hang(unfixed_kernel: BootableKernel, tmp_path_factory: pytest.TempPathFactory) -> Trial:
    """A livelock."""
    return trial(unfixed_kernel, tmp_path_factory.mktemp("hang") / "001-unfixed")


def test_a_livelock_ends_by_the_kernels_own_watchdog(hang: Trial) -> None:
    assert b"BUG: soft lockup - CPU#1 stuck for 2" in hang.console
    assert b"hmm_range_fault" in hang.console
    assert b"Kernel panic - not syncing: softlockup" in hang.console


def test_guest_time_is_sane(hang: Trial) -> None:
    hello = messages_of(hang.events)[0]
    assert isinstance(hello, Hello)
    check_guest_time(hello)


def test_a_livelock_repeats_byte_for_byte(
    hang: Trial, unfixed_kernel: BootableKernel, tmp_path: Path
) -> None:
    again = trial(unfixed_kernel, tmp_path / "in another folder with a longer name")
    assert (again.console, again.agent) == (hang.console, hang.agent)


def test_another_seed_is_another_interleaving(
    hang: Trial, unfixed_kernel: BootableKernel, tmp_path: Path
) -> None:
    other = trial(unfixed_kernel, tmp_path / "002-unfixed", seed=2)
    assert other.agent != hang.agent


def test_the_fixed_kernel_completes_and_repeats(base_kernel: BootableKernel, tmp_path: Path) -> None:
    one, two = (trial(base_kernel, tmp_path / name) for name in ("001-fixed", "002-fixed"))
    assert (one.console, one.agent) == (two.console, two.agent)
    ends = [message for message in messages_of(one.events) if isinstance(message, End)]
    assert [end.iterations for end in ends] == [20]
    assert ends[0].windows >= 10


def test_the_verb_says_identical(hang: Trial) -> None:
    done = replay(hang.folder, "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    said = json.loads(done.stdout)
    assert said["identical"] and said["difference"] is None
    assert (said["console_bytes"], said["agent_lines"]) == (len(hang.console), len(hang.agent))
    assert f"identical: {len(hang.console)} bytes of console" in done.stderr


def test_what_run_records_replay_repeats(newest: Kernels, tmp_path: Path) -> None:
    kernel = newest.experiment.arms["unfixed"].kernel
    ran = harness("run", "--kernel", kernel, "--clock", "virtual", "--seed", "5", "--json", out=tmp_path)
    assert (ran.status, ran.json["is_bug"]) == (1, True), ran.err
    done = replay(Path(ran.json["evidence"]))
    assert done.returncode == 0 and "identical: " in done.stdout, done.stdout + done.stderr


def test_a_changed_byte_in_the_record_is_the_first_difference(hang: Trial) -> None:
    log = hang.folder / "console.log"
    try:
        log.write_bytes(hang.console.replace(b"soft lockup", b"soft lookup", 1))
        line = hang.console[: hang.console.index(b"soft lockup")].count(b"\n") + 1
        done = replay(hang.folder, "--json")
    finally:
        log.write_bytes(hang.console)
    difference = json.loads(done.stdout)["difference"]
    assert done.returncode == 1
    assert (difference["log"], difference["line"]) == ("console", line)
    assert "soft lookup" in difference["recorded"] and "soft lockup" in difference["replayed"]


def test_another_initramfs_is_refused(hang: Trial) -> None:
    image = hang.folder / INITRAMFS
    content = image.read_bytes()
    try:
        image.write_bytes(content + b"\0")
        done = replay(hang.folder)
    finally:
        image.write_bytes(content)
    assert done.returncode == 2 and "ran with another initramfs" in done.stderr, done.stderr


def test_gdb_stops_at_the_onset_with_symbols(hang: Trial) -> None:
    done = replay(hang.folder, "--gdb")
    assert done.returncode == 0, done.stdout + done.stderr
    for function in ("hmm_range_fault_locked (", "hh_range_fault (", "hh_ioctl_fault ("):
        assert function in done.stdout, done.stdout + done.stderr
