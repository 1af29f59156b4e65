# SPDX-License-Identifier: GPL-2.0-only
"""Which of QEMU's machines to boot on."""

from __future__ import annotations

from typing import Literal

from harness.errors import InfraError
from harness.target.protocol import Machine
from harness.target.qemu import machines


def pick_machine(wanted: Literal["auto"] | Machine) -> Machine:
    """The machine that is wanted; `auto`: microvm where this QEMU has it, else q35. InfraError: neither."""
    if wanted != "auto":
        return wanted
    if "microvm" in machines():
        return "microvm"
    if "q35" in machines():
        return "q35"
    raise InfraError("this QEMU has neither microvm nor q35", hint="install the package qemu-system-x86")
