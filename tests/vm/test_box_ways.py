# SPDX-License-Identifier: GPL-2.0-only
"""Other ways to boot a box, to see it, and to get it back, than the one by GRUB, serial line and switch."""

from __future__ import annotations

import contextlib
import json
import socket
from pathlib import Path
from typing import Any

import pytest

from harness.config import load_experiment
from harness.diagnose.elf import read_elf
from harness.experiment.options import Workshop
from harness.experiment.trial import Stage, run_trial
from harness.selftest.cases import choose_cases, load_cases
from harness.selftest.run import run_case
from harness.target.box.config import load_box
from harness.target.box.preflight import examine
from harness.target.box.target import BoxTarget
from harness.watch.kinds import OutcomeKind
from tests.ports import free_port
from tests.vm.box.box import Box
from tests.vm.box.kdump import DUMPS, RESERVED, install_kdump
from tests.vm.box.login import login, said
from tests.vm.box.newer import install_igt
from tests.vm.box.unplugged import BOOTING, unplugged
from tests.vm.conftest import BOXED, Kernels, harness
from tests.vm.test_box_runs import steps
from tests.vm.test_igt_trial import plan_of
from tests.vm.userland import IGT, MAKEDUMPFILE

pytestmark = [pytest.mark.box, pytest.mark.vm]

#: Beyond it, something is wrong, s.
RUN_S = 900.0
#: The box and this machine, as the box's network card sees them.
CARD, HERE = "@10.0.2.15/eth0", "@10.0.2.2/"


def reproduced(target: Path, out: Path) -> dict[str, dict[str, Any]]:
    """What the record of one trial on a box says of each step; the trial showed the bug."""
    words = ("run", "--experiment", "linux-6.12", *BOXED, "--kernel", "trylock")
    ran = harness(*words, "--target", str(target), "--json", out=out, timeout=RUN_S)
    assert ran.out, ran.err
    assert ran.json["is_bug"], ran.out
    (trial,) = out.glob("*/trials/*")
    return steps(trial)


@pytest.mark.nightly
def test_kexec_boots_a_kernel_and_what_resets_the_box_brings_its_own_back(
    box: Box, linux_6_12: Kernels, tmp_path: Path
) -> None:
    # Emulated, code that lies where the new kernel is unpacked makes that take a minute or two.
    boot = {**box.target["boot"], "method": "kexec", "up_s": 600}
    target = box.write_target("kexec.yaml", boot=boot)
    booted = box.console.count(BOOTING)
    done = reproduced(target, tmp_path)
    build_id = read_elf(linux_6_12.by_name["trylock"].build.vmlinux).build_id
    assert done["kernel"]["ok"] and build_id in done["kernel"]["detail"]
    assert done["reset over SSH"]["ok"], done
    # GRUB has booted once, on the way back: what the box always boots.
    seen = box.console.split(BOOTING)[booted + 1 :]
    assert len(seen) == 1 and seen[0].startswith("Debian"), [part[:40] for part in seen]
    with login(box) as client:
        assert "hmm_box" not in said(client, "cat /proc/cmdline")


@pytest.mark.nightly
def test_sysrq_over_the_line_brings_a_box_back_from_a_hang(
    box: Box, linux_6_12: Kernels, tmp_path: Path
) -> None:
    target = box.write_target("no-switch.yaml", power=None)
    # The last answer of the kernel that hangs: from then on, SSH is no way back.
    with unplugged(box, once="sysrq: Show State"):
        done = reproduced(target, tmp_path)
    assert not done["reset over SSH"]["ok"] and done["sysrq b"]["ok"], done
    with login(box) as client:
        assert "hmm_box" not in said(client, "cat /proc/cmdline")


def test_a_panic_is_heard_by_netconsole_and_its_last_words_are_fetched_from_pstore(
    box: Box, linux_6_12: Kernels, tmp_path: Path
) -> None:
    port = free_port(socket.SOCK_DGRAM)
    where = f"{CARD},{port}{HERE}"
    config = load_box(
        box.write_target(
            "netconsole.yaml",
            console={"netconsole": f"127.0.0.1:{port}"},
            boot={**box.target["boot"], "cmdline": [f"netconsole={where}"]},
        )
    )
    (case,) = choose_cases(["panic"], load_cases())
    with contextlib.closing(BoxTarget(config)) as target:
        target.put_right(tmp_path / "found")
        with login(box) as client:
            said(client, f"sudo -n modprobe netconsole netconsole={where}")
        findings = {found.what: found for found in examine(target.box)}
        assert findings["console"].ok, findings["console"]
        stage = Stage(target, "box", "none", box="box")
        boot = load_experiment("linux-6.12").boot
        result = run_case(case, 1, linux_6_12.by_name["trylock"], boot, stage, tmp_path, "")
    assert result.as_expected, result.title
    done = steps(result.evidence)
    assert done["pstore"]["ok"], done
    kept = sorted((result.evidence / "evidence" / "pstore").iterdir())
    assert any("hmm_selftest: provoked" in path.read_text(errors="replace") for path in kept), kept
    console = (result.evidence / "console.log").read_text(errors="replace")
    assert console.startswith("[    0.000000]") and "Linux version 6.12" in console.splitlines()[0]
    with login(box) as client:
        assert said(client, "sudo -n find /sys/fs/pstore -type f") == "", "there is room again"


@pytest.mark.nightly
def test_igts_tests_of_xe_are_skipped_on_the_box_with_igts_reason(
    box: Box, linux_6_12: Kernels, workshop: Workshop, tmp_path: Path
) -> None:
    boot = load_experiment("linux-6.12").boot.model_copy(update={"preempt": "full"})
    with contextlib.closing(BoxTarget(load_box(box.target_file))) as target:
        target.put_right(tmp_path / "found")
        with login(box) as client:
            install_igt(client, IGT.at(workshop.cache))
        plan = plan_of(
            linux_6_12.by_name["trylock-with-wait"],
            boot,
            Stage(target, "box", "none", box="box"),
            include="^igt@xe_exec_system_allocator@(once|twice)-malloc$",
            beside="nothing",
        )
        result = run_trial(plan, tmp_path)
    assert result.kind is OutcomeKind.NOT_EXERCISED, result.title
    assert result.title.startswith("no case tested anything; 0 passed, 0 failed, 2 skipped (2 No known gpu")
    assert steps(tmp_path / result.folder)["reset over SSH"]["ok"]


@pytest.mark.nightly
def test_a_hang_is_written_down_by_kdump_and_the_circle_found_in_the_dump(
    box: Box, linux_6_12: Kernels, workshop: Workshop, tmp_path: Path
) -> None:
    with login(box) as client:
        install_kdump(client, MAKEDUMPFILE.at(workshop.cache))
    boot = {**box.target["boot"], "cmdline": [RESERVED]}
    target = box.write_target("kdump.yaml", vmcore=DUMPS, boot=boot)
    words = ("run", "--experiment", "linux-6.12", *BOXED, "--kernel", "trylock")
    ran = harness(*words, "--target", str(target), "--json", out=tmp_path, timeout=RUN_S)
    assert ran.out, ran.err
    (trial,) = tmp_path.glob("*/trials/*")
    done = steps(trial)
    assert done["kdump"]["ok"] and done["dump"]["ok"] and done["vmcore"]["ok"], done
    assert "reset over SSH" not in done, "a crash is a way back"
    assert ran.json["is_bug"]
    diagnosis = json.loads((trial / "evidence" / "diagnosis.json").read_text())
    assert diagnosis["proof"] == "cycle", (trial / "evidence" / "cycle.txt").read_text()
