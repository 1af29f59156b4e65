# SPDX-License-Identifier: GPL-2.0-only
"""The way back of a box that a trial has used; its user space is this machine's."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import paramiko
import pytest

from harness.errors import InfraError
from harness.target.box import machine as machine_module
from harness.target.box import recover as recover_module
from harness.target.box.bootmethod import NoBoot
from harness.target.box.config import Boot, BoxConfig, Power
from harness.target.box.journal import Journal
from harness.target.box.kdump import check_loaded, dump
from harness.target.box.machine import Box
from harness.target.box.power import CommandSwitch
from harness.target.box.recover import bring_back, let_go
from harness.target.box.ssh import NotLetIn
from tests.unit.boxroom import ssh_server


class Bench:
    """A box whose trial is over when its folder is gone, which is what the power switch does to it."""

    def __init__(self, folder: Path, box: Box) -> None:
        self.folder = folder
        self.box = box
        self.journal = Journal(folder)

    @property
    def run(self) -> Path:
        return self.folder / "run"

    def switch(self, script: str) -> None:
        self.box.power = CommandSwitch("lab1", Power(cycle=("sh", "-c", script), retries=1, settle_s=0))

    @property
    def told(self) -> list[tuple[str, bool]]:
        return [(step.name, step.ok) for step in self.journal.steps]


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    tools = tmp_path / "tools"
    tools.mkdir()
    # A reset that does nothing: what is written to /proc/sysrq-trigger is kept.
    (tools / "tee").write_text(f'#!/bin/sh\necho "$1 $(cat)" >> {tmp_path}/asked\n')
    (tools / "sync").write_text("#!/bin/sh\n")
    for tool in tools.iterdir():
        tool.chmod(0o755)
    monkeypatch.setattr(machine_module, "RUN_FOLDER", str(tmp_path / "run"))
    monkeypatch.setattr(recover_module, "_GONE_S", 0.2)
    monkeypatch.setattr(machine_module, "_AGAIN_S", 0.05)
    with ssh_server(tmp_path, PATH=f"{tools}:/usr/bin:/bin") as server:
        config = BoxConfig(name="lab1", ssh=server.ssh, boot=Boot(method="none", up_s=10))
        box = Box(config, server.ssh, None, None)
        yield Bench(tmp_path, box)
        box.close()


def test_a_box_that_is_well_is_left_alone(bench: Bench) -> None:
    assert bring_back(bench.box, NoBoot(), bench.journal).clean
    assert bench.told == [("look", True)]
    assert not (bench.folder / "asked").exists()


def test_from_the_gentlest_means_to_the_last(bench: Bench) -> None:
    bench.run.mkdir()
    bench.switch(f"rm -r {bench.run}")
    assert bring_back(bench.box, NoBoot(), bench.journal).clean
    assert bench.told == [("look", False), ("reset over SSH", False), ("power cycle", True)]
    assert (bench.folder / "asked").read_text() == "/proc/sysrq-trigger b\n"
    details = [step.detail for step in bench.journal.steps]
    assert details[0].endswith("for a trial") and details[1] == "it runs on"
    assert details[2].startswith("cycle: it runs ")


def test_a_box_that_comes_up_by_itself_is_not_cycled(bench: Bench) -> None:
    bench.run.mkdir()
    bench.switch(f"touch {bench.folder}/cycled")
    # Too late for whoever waits for another boot.
    (bench.folder / "tools" / "tee").write_text(f"#!/bin/sh\nrmdir {bench.run}\n")
    assert bring_back(bench.box, NoBoot(), bench.journal).clean
    assert bench.told == [("look", False), ("reset over SSH", False), ("look", True)]
    assert not (bench.folder / "cycled").exists()


def test_a_box_that_does_not_let_us_in_is_left_alone(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recover_module, "_LET_IN_S", 0.1)
    monkeypatch.setattr(recover_module, "_WELL_S", 0.1)
    paramiko.ECDSAKey.generate().write_private_key_file(str(bench.folder / "other"))
    bench.box.ssh = bench.box.ssh.model_copy(update={"key": str(bench.folder / "other")})
    bench.switch(f"touch {bench.folder}/cycled")
    with pytest.raises(NotLetIn):
        bring_back(bench.box, NoBoot(), bench.journal)
    assert bench.told == [("look", False)] and not (bench.folder / "cycled").exists()


def test_a_box_that_is_left_in_a_hurry(bench: Bench) -> None:
    let_go(bench.box, NoBoot(), bench.journal, started=False)
    assert bench.told == [("disarm", True)] and not (bench.folder / "asked").exists()
    let_go(bench.box, NoBoot(), bench.journal, started=True)
    assert bench.told[1:] == [("reset over SSH", True)]
    assert (bench.folder / "asked").read_text() == "/proc/sysrq-trigger b\n"
    bench.box.ssh = bench.box.ssh.model_copy(update={"port": 1})
    bench.box.disconnect()
    bench.switch(f"touch {bench.folder}/cycled")
    let_go(bench.box, NoBoot(), bench.journal, started=True)
    assert bench.told[2:] == [("reset over SSH", False), ("power cycle", True)]
    assert (bench.folder / "cycled").exists()


def test_a_box_that_does_not_come_back(bench: Bench) -> None:
    bench.run.mkdir()
    bench.switch("echo fuse; exit 1")
    with pytest.raises(InfraError) as caught:
        bring_back(bench.box, NoBoot(), bench.journal, used=True)
    assert caught.value.message == (
        "box lab1 does not come back: reset over SSH: it runs on; power cycle: "
        "box lab1: power cycle failed with status 1: fuse, 2 times"
    )
    assert "--resume" in caught.value.hint
    shutil.rmtree(bench.run)


def test_a_crash_that_is_dumped_is_a_way_back(bench: Bench) -> None:
    console = bench.folder / "console.log"
    asked = bench.folder / "asked"
    for said, keys in ("", "/proc/sysrq-trigger c\n"), ("Kernel panic - not syncing: sysrq\n", ""):
        asked.write_text("")
        console.write_text(said)
        assert dump(bench.box, console, bench.journal)
        assert asked.read_text() == keys, "a kernel that has panicked dumps already"
    assert bench.told == [("dump", True)] * 2
    with pytest.raises(InfraError, match="no kernel lies ready"):
        check_loaded(bench.box.shell())
