# SPDX-License-Identifier: GPL-2.0-only
"""Which of QEMU's machines to boot on."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from harness.config import KernelConfig
from harness.errors import InfraError
from harness.target.protocol import Machine
from harness.target.qemu import machines


def pick_machine(wanted: Literal["auto"] | Machine, kernels: Iterable[KernelConfig] = ()) -> Machine:
    """The machine that is wanted; `auto`: microvm where this QEMU has it, else q35. InfraError: neither.

    `auto` is q35 if one of the `kernels` is for a box, too: with ACPI in it, such a kernel leaves no
    vmcoreinfo on a microvm (`acpi=off`, drivers/firmware/qemu_fw_cfg.c), and nobody could read its memory.
    """
    if wanted != "auto":
        return wanted
    for_a_box = any("box" in kernel.fragments for kernel in kernels)
    order: tuple[Machine, ...] = ("q35", "microvm") if for_a_box else ("microvm", "q35")
    for machine in order:
        if machine in machines():
            return machine
    raise InfraError("this QEMU has neither microvm nor q35", hint="install the package qemu-system-x86")
