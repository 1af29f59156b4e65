# SPDX-License-Identifier: GPL-2.0-only
"""labgrid around a box: a real coordinator and a real exporter on the loopback, and a place of one box."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import yaml

from harness.deadline import Deadline
from harness.process import run, running, start
from tests.ports import free_port

from .box import Box

_BIN = Path(sys.executable).parent


@dataclass(frozen=True)
class LabgridLab:
    """A coordinator with one place, and the environment file by which labgrid's users reach it."""

    place: str
    environment: Path
    coordinator: str

    @property
    def env(self) -> Mapping[str, str]:
        """What labgrid-client needs to be told."""
        return {"LG_COORDINATOR": self.coordinator, "LG_PLACE": self.place}

    def client(self, *words: str) -> str:
        """What labgrid-client says; InfraError if it fails."""
        argv = [str(_BIN / "labgrid-client"), *words]
        return run(argv, deadline=Deadline.after(60), env=self.env).output


@contextlib.contextmanager
def labgrid_lab(box: Box, folder: Path) -> Iterator[LabgridLab]:
    """The box as labgrid's place `desk`, acquired by nobody yet."""
    folder.mkdir(parents=True, exist_ok=True)
    coordinator = f"127.0.0.1:{free_port()}"
    ssh = box.target["ssh"]
    exported = {
        "desk": {
            "NetworkService": {"address": ssh["host"], "port": ssh["port"], "username": ssh["user"]},
            "NetworkSerialPort": {"host": "127.0.0.1", "port": box.ports["raw"], "protocol": "raw"},
            "NetworkPowerPort": {
                "model": "simplerest",
                "host": f"http://127.0.0.1:{box.ports['rest']}/power/{{index}}/{{value}}",
                "index": "0",
            },
        }
    }
    (folder / "exporter.yaml").write_text(yaml.safe_dump(exported))
    environment = {
        "options": {"coordinator_address": coordinator},
        "targets": {
            "main": {
                "resources": {"RemotePlace": {"name": "desk"}},
                "drivers": {"SSHDriver": {"keyfile": ssh["key"]}},
            }
        },
    }
    (folder / "environment.yaml").write_text(yaml.safe_dump(environment))
    lab = LabgridLab("desk", folder / "environment.yaml", coordinator)
    exporter = [
        *("-c", coordinator, "--name", "exporter", "--hostname", "127.0.0.1", str(folder / "exporter.yaml"))
    ]
    with contextlib.ExitStack() as stack:
        for name, words in (("coordinator", ["-l", coordinator]), ("exporter", exporter)):
            log = stack.enter_context((folder / f"{name}.log").open("wb"))
            argv = [str(_BIN / f"labgrid-{name}"), *words]
            stack.enter_context(running(start(argv, cwd=folder, stdout=log)))
            if name == "coordinator":
                _wait_for("listening on", folder / "coordinator.log")
        lab.client("create")
        lab.client("add-match", "exporter/desk/*")
        deadline = Deadline.after(30)
        while lab.client("resources").count("desk") < 3:
            assert not deadline.expired, (folder / "exporter.log").read_text()
            time.sleep(0.2)
        yield lab


def _wait_for(words: str, log: Path) -> None:
    deadline = Deadline.after(30)
    while words not in log.read_text():
        assert not deadline.expired, log.read_text()
        time.sleep(0.1)
