# SPDX-License-Identifier: GPL-2.0-only
"""Where the trials of a run take place: QEMU on this machine, and how it is run."""

from __future__ import annotations

from pathlib import Path

from harness.config import BootConfig, Experiment, QemuConfig
from harness.deadline import Deadline
from harness.errors import UserError
from harness.experiment.options import Workshop
from harness.experiment.trial import Stage
from harness.gpu.sysfs import LocalFiles
from harness.gpu.vfio import preflight
from harness.kernel.build import KernelBuild
from harness.target.accel import choose_accel
from harness.target.protocol import Machine
from harness.target.qemu import QemuTarget

#: Booting a guest on KVM to see whether it runs may take so long, s.
ACCEL_LIMIT_S = 60.0


def check_stage(experiment: Experiment) -> None:
    """UserError if this machine lacks what guests shall have of it; asked before anything is built."""
    userland, vfio = experiment.qemu.userland, experiment.qemu.vfio
    if userland and not Path(userland).is_dir():
        raise UserError(f"qemu.userland: no folder {userland}", hint="a system that is unpacked there")
    if vfio:
        preflight(LocalFiles(), vfio, experiment.boot.memory_mb)


def set_stage(
    boot: BootConfig,
    machine: Machine,
    kernel: KernelBuild,
    workshop: Workshop,
    qemu: QemuConfig = QemuConfig(),  # noqa: B008 (frozen)
) -> Stage:
    """QEMU on this machine, on KVM only if a guest has been seen to run on it."""
    accel = choose_accel(
        "tcg" if boot.clock == "virtual" else boot.accel,
        kernel.boot_image,
        machine,
        workshop.cache,
        workshop.progress,
        Deadline.after(ACCEL_LIMIT_S),
    )
    userland = Path(qemu.userland) if qemu.userland else None
    return Stage(QemuTarget(), machine, accel, userland, qemu.vfio or "")
