# SPDX-License-Identifier: GPL-2.0-only
from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from harness.errors import InfraError
from harness.target.box.config import Power
from harness.target.box.power import CommandSwitch

#: A power switch in a folder: state, log, and how many commands still fail.
SWITCH = """#!/bin/sh
cd "$(dirname "$0")"
echo "$1" >> log
left=$(cat failing 2>/dev/null || echo 0)
if [ "$left" -gt 0 ]; then
    echo $((left - 1)) > failing
    echo "no answer from $3 for $1" >&2
    exit 5
fi
case "$1" in
on|off) echo "$1" > state ;;
status) echo "Chassis Power is $(cat state)" ;;
hang) sleep 30 ;;
esac
"""


class Room:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.program = folder / "power"
        self.program.write_text(SWITCH)
        self.program.chmod(0o755)
        (folder / "state").write_text("on")

    def switch(self, **changes: Any) -> CommandSwitch:
        words = {name: (str(self.program), name, "-P", "hunter") for name in ("on", "off", "status")}
        return CommandSwitch("lab1", Power(**{**words, "settle_s": 0, **changes}))

    @property
    def log(self) -> list[str]:
        return (self.folder / "log").read_text().split()


@pytest.fixture
def room(tmp_path: Path) -> Room:
    return Room(tmp_path)


def test_off_and_on_again(room: Room) -> None:
    switch = room.switch()
    assert switch.cycle() == "off, on"
    assert room.log == ["off", "on"]
    assert switch.status() == "on"
    (room.folder / "state").write_text("OFF")
    assert switch.status() == "off"
    assert room.switch(status=None).status() == "unknown"


def test_a_command_that_fails_once(room: Room) -> None:
    (room.folder / "failing").write_text("1")
    said = room.switch().cycle()
    assert said.startswith("off at attempt 2 (box lab1: power off failed with status 5")
    assert room.log == ["off", "off", "on"]


def test_no_word_of_a_command_is_shown(room: Room) -> None:
    (room.folder / "failing").write_text("9")
    with pytest.raises(InfraError, match="3 times") as caught:
        room.switch(cycle=(str(room.program), "cycle", "-P", "hunter")).cycle()
    assert "no answer from *** for cycle" in caught.value.message
    (room.folder / "failing").write_text("0")
    for words in ((str(room.program), "hang", "hunter"), ("/no/such/hunter",)):
        with pytest.raises(InfraError) as caught:
            room.switch(cycle=words, timeout_s=0.1, retries=0).cycle()
        assert "hunter" not in f"{caught.value.message} {caught.value.hint}"
    echo = ("sh", "-c", 'echo "login $0 refused"; exit 1', "hunter")
    with pytest.raises(InfraError, match=r"login \*\*\* refused"):
        room.switch(cycle=echo, retries=0).cycle()
    for word in ("--password=hunter", "https://me:hunter@pdu/outlet/7"):
        with pytest.raises(InfraError, match=r"login \*\*\* refused"):
            room.switch(cycle=(*echo[:2], 'echo "login hunter refused"; exit 1', word), retries=0).cycle()


def test_a_switch_that_says_nothing(room: Room) -> None:
    with pytest.raises(InfraError, match="neither `on` nor `off`"):
        room.switch(status=("echo", "once upon a time")).status()
