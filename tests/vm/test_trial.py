# SPDX-License-Identifier: GPL-2.0-only
"""Single trials: what answers, what does not, and what is said when the guest or the machine fails."""

from __future__ import annotations

import base64
import json
import os
import signal
import subprocess
import threading
import time
from pathlib import Path

import pexpect
import pytest

from harness.assets import asset
from tests.vm.conftest import HARNESS, Kernels, harness, qemu_of

pytestmark = pytest.mark.vm


def run(out: Path, kernel: str, *words: str) -> tuple[int, dict[str, object], str]:
    ran = harness("run", "--kernel", kernel, "--json", *words, out=out)
    return ran.status, ran.json if ran.out else {}, ran.err


def with_cmdline(folder: Path, kernels: Kernels, *words: str) -> str:
    """The built-in experiment with further kernel parameters, as a file."""
    value = kernels.experiment.model_dump(mode="json")
    value["boot"]["cmdline"] = list(words)
    path = folder / "own.yaml"
    path.write_text(json.dumps(value))
    return str(path)


def test_the_other_entry_point_livelocks_as_well(newest: Kernels, tmp_path: Path) -> None:
    entry = "entry=hmm_range_fault_unlocked_timeout"
    status, result, err = run(tmp_path, newest.experiment.arms["unfixed"].kernel, "--set", entry)
    assert (status, result["is_bug"]) == (1, True), err


def test_every_ioctl_refuses_bad_arguments(linux_6_12: Kernels, tmp_path: Path) -> None:
    """On the newest kernel too: see test_scale."""
    kernel = linux_6_12.experiment.arms["fixed"].kernel
    status, result, err = run(tmp_path, kernel, *linux_6_12.words, "--scenario", "ioctl-check")
    assert (status, result["outcome"]) == (0, "completed"), err


def test_full_preemption_hides_the_bug(newest: Kernels, tmp_path: Path) -> None:
    status, result, err = run(tmp_path, newest.experiment.arms["unfixed"].kernel, "--preempt", "full")
    assert (status, result["outcome"], result["preempt"]) == (0, "completed", "full"), err


def test_a_mailed_fix_is_tried_by_its_mail(newest: Kernels, tmp_path: Path) -> None:
    diff = asset("patches", "trylock-starvation", "wait-on-locked-7.0.patch").read_bytes()
    mail = tmp_path / "fix.mbox"
    mail.write_bytes(
        b"From nobody Thu Jan  1 00:00:00 1970\nSubject: [PATCH] mm: wait for the lock\nMIME-Version: 1.0\n"
        b"Content-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: base64\n\n"
        + base64.encodebytes(diff)
    )
    unfixed = newest.experiment.arms["unfixed"].kernel
    status, result, err = run(tmp_path, unfixed, "--patch", str(mail))
    assert (status, result["outcome"]) == (0, "completed"), err
    kernel = json.loads((Path(str(result["evidence"])) / "run.json").read_text())["kernel"]
    assert kernel["patches"][-1]["title"] == "mm: wait for the lock"
    assert kernel["build"] == newest.by_name[newest.experiment.arms["fixed"].kernel].build.key


def test_a_patch_that_does_not_apply_names_hunk_and_file(newest: Kernels, tmp_path: Path) -> None:
    patch = tmp_path / "wrong.patch"
    patch.write_text(
        "--- a/mm/memory.c\n+++ b/mm/memory.c\n"
        "@@ -10,3 +10,3 @@\n no such line\n-nor this one\n+but this\n nor that\n"
    )
    status, _, err = run(tmp_path, newest.experiment.arms["fixed"].kernel, "--patch", str(patch))
    assert status == 2 and "mm/memory.c" in err and "hunk" in err and "nor this one" in err


def test_no_window_is_no_answer(newest: Kernels, tmp_path: Path) -> None:
    """The spinner starts so late that the holder is done."""
    words = ("--set", "jitter=100000000", "--set", "iterations=1", "--seed", "3")
    status, result, err = run(tmp_path, newest.experiment.arms["fixed"].kernel, *words)
    assert (status, result["outcome"], result["windows"]) == (1, "not_exercised", 0), err


def test_a_preemption_model_that_a_kernel_lacks_is_refused_before_it_boots(
    newest: Kernels, tmp_path: Path
) -> None:
    status, result, err = run(tmp_path, newest.experiment.arms["fixed"].kernel, "--preempt", "lazy")
    assert status == 2 and not result and "preempt=lazy cannot be had" in err and "linux-7-lazy" in err
    assert "trial of" not in err


def test_another_preemption_model_than_asked_for_is_no_result(newest: Kernels, tmp_path: Path) -> None:
    """The last word on the command line holds."""
    own = with_cmdline(tmp_path, newest, "preempt=full")
    kernel = newest.experiment.arms["fixed"].kernel
    status, result, err = run(tmp_path, kernel, "--experiment", own)
    assert status == 3 and not result and "asked for preempt=none" in err and "hint:" in err


def test_a_module_that_does_not_load_shows_the_guests_words(newest: Kernels, tmp_path: Path) -> None:
    own = with_cmdline(tmp_path, newest, "module_blacklist=hmm_harness")
    kernel = newest.experiment.arms["fixed"].kernel
    status, result, err = run(tmp_path, kernel, "--experiment", own)
    assert (status, result["outcome"]) == (3, "infra_error"), err
    assert "insmod" in str(result["title"]) and "blacklisted" in str(result["title"])


def test_a_kernel_that_panics_at_once_is_a_panic(newest: Kernels, tmp_path: Path) -> None:
    own = with_cmdline(tmp_path, newest, "rdinit=/nonexistent")
    status, result, err = run(tmp_path, newest.experiment.arms["fixed"].kernel, "--experiment", own)
    assert (status, result["outcome"]) == (1, "panic"), err
    assert "No working init" in str(result["title"]) or "VFS" in str(result["title"])


def test_a_guest_killed_from_outside_is_lost_not_judged(newest: Kernels, tmp_path: Path) -> None:
    killed: list[int] = []

    def kill() -> None:
        until = time.monotonic() + 120
        while not killed and time.monotonic() < until:
            killed.extend(qemu_of(tmp_path))
            time.sleep(0.05)
        for pid in killed:
            os.kill(pid, signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    status, result, err = run(tmp_path, newest.experiment.arms["fixed"].kernel, "--set", "iterations=100000")
    killer.join()
    assert killed and (status, result["outcome"]) == (3, "target_lost"), err


def test_the_program_works_without_a_network(newest: Kernels, tmp_path: Path) -> None:
    argv = ["unshare", "--map-root-user", "--net", str(HARNESS), "run", "--json", "--out", str(tmp_path)]
    argv += ["--kernel", newest.experiment.arms["fixed"].kernel, "--set", "iterations=2"]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0 and json.loads(done.stdout)["outcome"] == "completed", done.stderr


def test_a_shell_in_the_guest(newest: Kernels) -> None:
    fixed = newest.experiment.arms["fixed"].kernel
    child = pexpect.spawn(str(HARNESS), ["boot", fixed], timeout=120, encoding="utf-8", dimensions=(24, 200))
    child.expect_exact("# ")
    child.sendline("uname -r; ls -d /hmm*")
    child.expect_exact(newest.by_name[fixed].build.release)
    child.expect_exact("/hmm_harness.ko")
    child.expect_exact("# ")
    child.sendline("insmod /hmm_harness.ko && /hmm-stressor ioctl-check | tail -n 1")
    child.expect_exact('"type":"end"')
    child.expect_exact("# ")
    child.sendline("exit")
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 0


def test_a_full_disk_is_a_fault_of_the_machine(newest: Kernels, tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.mkdir()
    kernel = newest.experiment.arms["fixed"].kernel
    script = 'mount -t tmpfs -o size=64k none "$1" && shift && exec "$@"'
    argv = ["unshare", "--map-root-user", "--mount", "sh", "-c", script, "sh", str(small)]
    argv += [str(HARNESS), "run", "--kernel", kernel, "--out", str(small)]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 3 and f"cannot write {small}" in done.stderr, done.stderr


def test_two_harnesses_share_a_cache(newest: Kernels, tmp_path: Path) -> None:
    kernel = newest.experiment.arms["fixed"].kernel
    argv = [str(HARNESS), "run", "--kernel", kernel, "--set", "iterations=2", "--json", "--out"]
    pair = [
        subprocess.Popen([*argv, str(tmp_path / name)], stdout=subprocess.PIPE, text=True)
        for name in ("a", "b")
    ]
    results = [json.loads(child.communicate(timeout=300)[0]) for child in pair]
    assert [result["outcome"] for result in results] == ["completed", "completed"]
