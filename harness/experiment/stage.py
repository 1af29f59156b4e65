# SPDX-License-Identifier: GPL-2.0-only
"""Where the trials of a run take place: QEMU on this machine, and how it is run."""

from __future__ import annotations

from harness.config import BootConfig
from harness.deadline import Deadline
from harness.experiment.options import Workshop
from harness.experiment.trial import Stage
from harness.kernel.build import KernelBuild
from harness.target.accel import choose_accel
from harness.target.protocol import Machine
from harness.target.qemu import QemuTarget

#: Booting a guest on KVM to see whether it runs may take so long, s.
ACCEL_LIMIT_S = 60.0


def set_stage(boot: BootConfig, machine: Machine, kernel: KernelBuild, workshop: Workshop) -> Stage:
    """QEMU on this machine, on KVM only if a guest has been seen to run on it."""
    accel = choose_accel(
        "tcg" if boot.clock == "virtual" else boot.accel,
        kernel.boot_image,
        machine,
        workshop.cache,
        workshop.progress,
        Deadline.after(ACCEL_LIMIT_S),
    )
    return Stage(QemuTarget(), machine, accel)
