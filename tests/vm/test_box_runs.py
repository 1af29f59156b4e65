# SPDX-License-Identifier: GPL-2.0-only
"""The main job on a box: the bug is seen, the box is brought back, and with the fix it completes.

The harness is killed on the way; what the box was left in does not matter to the next one.
"""

from __future__ import annotations

import json
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from harness.deadline import Deadline
from harness.results.runfolder import read_record
from harness.target.box.journal import STEPS
from tests.unit.schemas import folder_defects
from tests.vm.box.box import Box
from tests.vm.box.login import login, said
from tests.vm.conftest import BOXED, HARNESS, Kernels, harness

pytestmark = [pytest.mark.box, pytest.mark.vm]

#: Among the words of the power commands.
SECRET = "Hunter2!"
#: Beyond it, something is wrong, s.
RUN_S = 1500.0


def steps(trial: Path) -> dict[str, dict[str, Any]]:
    """What was done to the box around a trial, by name; the last of each, from its record."""
    return {step["name"]: step for step in read_record(trial)["box"]}


def boots_of(box: Box) -> list[bool]:
    """All that GRUB booted since the box was made; whether it was a kernel that is tested."""
    return ["hmm-harness" in line for line in box.console.splitlines() if "Booting `" in line]


def killed(*words: str, out: Path) -> Path:
    """Run the program, and kill it while the first trial is under way on the box; the run's folder."""
    deadline = Deadline.after(RUN_S)
    with subprocess.Popen([HARNESS, *words, "--out", out], stderr=subprocess.PIPE, text=True) as running:
        while not any('"name": "agent"' in steps.read_text() for steps in out.glob(f"*/trials/*/{STEPS}")):
            assert running.poll() is None and not deadline.expired, running.communicate()
            time.sleep(0.2)
        running.kill()
    (folder,) = out.iterdir()
    return folder


@pytest.fixture(scope="module")
def compared(the_box: Box, linux_6_12: Kernels, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Without and with the fix, one trial each."""
    out = tmp_path_factory.mktemp("compared")
    power = {word: [*argv, "-P", SECRET] for word, argv in the_box.target["power"].items()}
    target = the_box.write_target("secret.yaml", power=power)
    with login(the_box):  # whoever had it before
        booted = len(boots_of(the_box))
    folder = killed("compare", "linux-6.12", *BOXED, "--trials", "1", "--target", str(target), out=out)
    ran = harness("compare", "--resume", str(folder), "--json", out=out, timeout=RUN_S)
    assert ran.out, ran.err
    assert SECRET not in ran.out + ran.err
    assert Path(ran.json["evidence"][0]).parents[1] == folder
    return {"status": ran.status, "folder": folder, "boots": boots_of(the_box)[booted:], **ran.json}


def test_one_kernel_hangs_on_the_box_and_the_other_completes(compared: dict[str, Any]) -> None:
    unfixed, fixed = compared["arms"]
    assert unfixed["name"] == "unfixed" and unfixed["reproduced"] == unfixed["trials"] == 1
    assert fixed["outcomes"] == {"completed": 1} and fixed["windows"] > 0
    # By the rule for every comparison, two trials are too few to say more.
    assert compared["verdict"] == "inconclusive" and compared["status"] == 1
    assert folder_defects(compared["folder"]) == []


def test_the_hang_is_seen_from_outside_and_asked_over_the_serial_line(compared: dict[str, Any]) -> None:
    trial = compared["folder"] / "trials" / "001-unfixed"
    record = read_record(trial)
    assert record["boot"]["box"] == "box"
    assert record["result"]["is_bug"] and "hmm_range_fault" in record["result"]["signature"]
    assert record["result"]["proof"] in ("", "none", "partial"), "nobody could look into its memory"
    console = (trial / "console.log").read_text(encoding="utf-8", errors="replace")
    for answer in ("Show backtrace of all active CPUs", "Show Blocked State", "Show State"):
        assert f"sysrq: {answer}" in console
    assert "migrate_vma_setup" in console.partition("sysrq: Show Blocked State")[2], "the holder's stack"


def test_it_comes_back_to_its_default_kernel_after_each(compared: dict[str, Any], the_box: Box) -> None:
    for arm in ("001-unfixed", "001-fixed"):
        done = steps(compared["folder"] / "trials" / arm)
        assert done["kernel"]["ok"] and "build ID" in done["kernel"]["detail"]
        assert any(done.get(means, {}).get("ok") for means in ("reset over SSH", "sysrq b", "power cycle")), (
            arm
        )
    with login(the_box) as client:
        assert "hmm_box" not in said(client, "cat /proc/cmdline"), "back on its default kernel"
        assert "hmm-harness" not in said(client, "sudo -n grub-editenv list")
    boots = compared["boots"]
    assert boots.count(True) == 3, "the one that was killed, and two"
    assert not any(boots[at] and boots[at + 1 :][:1] != [False] for at in range(len(boots))), boots


def test_what_a_killed_harness_left_was_put_right(compared: dict[str, Any]) -> None:
    lines = (compared["folder"] / STEPS).read_text().splitlines()
    found = [(step["name"], step["ok"]) for step in map(json.loads, lines)]
    assert found[:2] == [("look", True), ("look", False)] and found[-1][1], found


def test_no_word_of_a_power_command_is_kept(compared: dict[str, Any]) -> None:
    files = [path for path in compared["folder"].rglob("*") if path.is_file()]
    assert len(files) > 20 and not [path for path in files if SECRET.encode() in path.read_bytes()]
