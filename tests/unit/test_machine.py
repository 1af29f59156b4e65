# SPDX-License-Identifier: GPL-2.0-only
"""The machine that is chosen where none is wanted."""

from __future__ import annotations

import pytest

from harness.config import KernelConfig
from harness.errors import InfraError
from harness.target import machine
from harness.target.machine import pick_machine

PLAIN, FOR_A_BOX = KernelConfig(), KernelConfig(fragments=("debug", "box"))


def test_a_kernel_for_a_box_has_acpi_under_it_where_that_can_be(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "machines", lambda: {"microvm", "q35"})
    assert [pick_machine("auto"), pick_machine("auto", [PLAIN])] == ["microvm", "microvm"]
    assert pick_machine("auto", [PLAIN, FOR_A_BOX]) == "q35"
    assert pick_machine("microvm", [FOR_A_BOX]) == "microvm", "as it is wanted"
    monkeypatch.setattr(machine, "machines", lambda: {"microvm"})
    assert pick_machine("auto", [FOR_A_BOX]) == "microvm"
    monkeypatch.setattr(machine, "machines", lambda: {"q35"})
    assert pick_machine("auto", [PLAIN]) == "q35"
    monkeypatch.setattr(machine, "machines", set)
    with pytest.raises(InfraError, match="neither microvm nor q35"):
        pick_machine("auto")
