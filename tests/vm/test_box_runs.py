# SPDX-License-Identifier: GPL-2.0-only
"""The main job on a box: the bug is seen, the box is brought back, and with the fix it completes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from harness.results.runfolder import read_record
from tests.unit.schemas import folder_defects
from tests.vm.box.box import Box
from tests.vm.box.login import login, said
from tests.vm.conftest import BOXED, Kernels, harness

pytestmark = [pytest.mark.box, pytest.mark.vm]

#: Beyond it, something is wrong, s.
RUN_S = 1500.0


def steps(trial: Path) -> dict[str, dict[str, Any]]:
    """What was done to the box around a trial, by name; the last of each, from its record."""
    return {step["name"]: step for step in read_record(trial)["box"]}


@pytest.fixture(scope="module")
def compared(the_box: Box, linux_6_12: Kernels, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Without and with the fix, one trial each."""
    words = ("compare", "linux-6.12", *BOXED, "--trials", "1", "--target", str(the_box.target_file))
    ran = harness(*words, "--json", out=tmp_path_factory.mktemp("compared"), timeout=RUN_S)
    assert ran.out, ran.err
    return {"status": ran.status, "folder": Path(ran.json["evidence"][0]).parents[1], **ran.json}


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
    booted = [line for line in the_box.console.splitlines() if "Booting `" in line]
    assert ["hmm-harness" in line for line in booted[-5:]] == [False, True, False, True, False]
