# SPDX-License-Identifier: GPL-2.0-only
"""A box that is a place of labgrid's: a real coordinator, a real exporter, and a real client in between."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.errors import InfraError
from harness.target.box.config import load_box
from harness.target.box.labgrid import labgrid_place
from tests.vm.box.box import Box
from tests.vm.box.labgrid_lab import labgrid_lab

pytestmark = [pytest.mark.box, pytest.mark.vm]


def test_a_place_gives_ssh_console_and_power_and_is_given_back(
    box: Box, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with labgrid_lab(box, tmp_path) as lab:
        place = {"place": lab.place, "environment": str(lab.environment)}
        known_hosts = box.target["ssh"]["known_hosts"]
        file = box.write_target(
            "place.yaml", ssh=None, console=None, power=None, labgrid={**place, "known_hosts": known_hosts}
        )
        config = load_box(file)
        with labgrid_place(config) as (filled, power):
            assert filled.ssh and filled.ssh.model_dump() == box.target["ssh"]
            assert filled.console and filled.console.tcp == f"127.0.0.1:{box.ports['raw']}"
            assert power and power.status() == "on"
            assert "desk" in lab.client("who")
            # This user has it, and may use it more than once; it stays with whom it belongs to.
            with labgrid_place(config):
                pass
            assert "desk" in lab.client("who")
            box.tell("power-fails", "1")
            assert power.cycle().startswith("cycle at attempt 2")
            assert box.tell("power", "status") == "power is on"
        assert "desk" not in lab.client("who")

        monkeypatch.setenv("LG_USERNAME", "else")
        lab.client("-p", "desk", "acquire")
        monkeypatch.setenv("LG_USERNAME", "me")
        with pytest.raises(InfraError, match=r"already acquired by .*/else"), labgrid_place(config):
            pass
