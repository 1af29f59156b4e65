# SPDX-License-Identifier: GPL-2.0-only
"""Where the trials of a run take place: QEMU on this machine, or a box."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from harness.config import BootConfig, Experiment, QemuConfig
from harness.deadline import Deadline
from harness.errors import InfraError, UserError
from harness.experiment.options import Workshop
from harness.experiment.trial import Stage
from harness.gpu.sysfs import LocalFiles
from harness.gpu.vfio import preflight
from harness.kernel.build import KernelBuild
from harness.target.accel import choose_accel
from harness.target.box.config import load_box
from harness.target.box.preflight import examine
from harness.target.box.target import BoxTarget
from harness.target.machine import pick_machine
from harness.target.protocol import Machine
from harness.target.qemu import QemuTarget

#: Booting a guest on KVM to see whether it runs may take so long, s.
ACCEL_LIMIT_S = 60.0


def machine_of(experiment: Experiment) -> Machine:
    """What its kernels are built for, and guests boot on."""
    if experiment.target:
        return "box"
    return pick_machine(experiment.boot.machine, experiment.kernels.values())


def check_target(experiment: Experiment) -> None:
    """UserError for what the file of the experiment's box says wrongly; asked before anything else."""
    if experiment.target:
        load_box(Path(experiment.target))


@contextlib.contextmanager
def box_of(experiment: Experiment, folder: Path) -> Iterator[BoxTarget | None]:
    """The experiment's box, for nobody else until the block is left; None: it has none.

    How it was found, and put right, is in the run's `folder`.
    UserError for what its file says wrongly. InfraError, before anything is built, if it is not fit.
    """
    if not experiment.target:
        yield None
        return
    target = BoxTarget(load_box(Path(experiment.target)))
    with contextlib.closing(target):
        target.put_right(folder)
        bad = [found for found in examine(target.box) if found.ok is False and found.needed]
        if bad:
            lines = [f"{found.what}: {found.detail}" for found in bad]
            raise InfraError(
                f"box {target.config.name} is not fit:\n" + "\n".join(lines),
                hint=f"hmm-harness doctor --target {experiment.target}",
            )
        yield target


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
    box: BoxTarget | None = None,
) -> Stage:
    """The box; without one, QEMU on this machine, on KVM only if a guest has been seen to run on it."""
    if box:
        return Stage(box, "box", "none", box=box.config.name)
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
