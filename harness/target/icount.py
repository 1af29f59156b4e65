# SPDX-License-Identifier: GPL-2.0-only
"""QEMU's virtual clock: guest time is what the guest has executed, the same in every run."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from harness.target.protocol import Machine

#: An instruction takes 2**SHIFT ns of guest time. At 5 the guest says hello after 2.1 s of its time, each CPU
#: has turns of 125,000 instructions (one runs at a time, to the next tick), and the 20 s of the soft lockup
#: watchdog pass in 2 s. At 8 a guest no longer shuts down, at 9 it reports lockups that are none.
SHIFT = 5


#: The device whose queues the port's messages go through.
_TRANSPORT: dict[Machine, str] = {"microvm": "virtio-mmio", "q35": "virtio-serial-pci"}


def virtual_clock(machine: Machine, seed: int) -> list[str]:
    """The options of QEMU that leave nothing to the host: time, random numbers, threads."""
    return [
        # sleep=off: an idle guest's clock jumps to its next timer.
        "-icount", f"shift={SHIFT},sleep=off",
        "-rtc", "base=2026-01-01T00:00:00,clock=vm",
        "-seed", str(seed),
        # With an eventfd another thread would take the guest's messages, whenever the host lets it.
        "-global", f"{_TRANSPORT[machine]}.ioeventfd=off",
    ]  # fmt: skip


def keep_on_one_cpu(pid: int) -> None:
    """Let a QEMU that has just been started run on one CPU of the host only, with all its threads to come.

    The guest's timers belong to the thread that runs its CPUs. Should QEMU's main thread, which wakes at
    each of them, look at the wrong moment, it takes one itself, and the turns of the CPUs change: so it is
    thought of 4 repeats in 40 that differed. On one CPU none did.
    """
    cpus = sorted(os.sched_getaffinity(0))
    with contextlib.suppress(OSError):  # ended already
        for task in sorted(int(path.name) for path in Path(f"/proc/{pid}/task").iterdir()):
            os.sched_setaffinity(task, {cpus[pid % len(cpus)]})
