# SPDX-License-Identifier: GPL-2.0-only
"""The main job: the verdict on a real fix, on two trees, with the evidence on disk."""

from __future__ import annotations

import contextlib
import json
import math
import os
import re
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from harness.cache import default_cache_folder
from harness.cli import main
from harness.config import load_experiment
from harness.judge import judge
from harness.results.runfolder import TrialResult, read_record
from harness.scenario.catalogue import load_scenario
from harness.watch.examination import recorded_examinations
from harness.watch.recorded import recorded_observations
from tests.unit.schemas import folder_defects
from tests.vm.conftest import HARNESS, Kernels, Ran, harness, qemu_of

pytestmark = pytest.mark.vm


def arm(result: dict[str, Any], name: str) -> dict[str, Any]:
    return next(arm for arm in result["arms"] if arm["name"] == name)


def check_proven(ran: Ran, version: str) -> dict[str, Any]:
    """What a verdict `fixed` must stand on."""
    assert ran.status == 0, ran.err
    result = ran.json
    assert (
        result["schema"] == 1 and result["verdict"] == "fixed" and result["scenario"] == "trylock-starvation"
    )
    control, candidate = arm(result, "unfixed"), arm(result, "fixed")
    assert control["trials"] == candidate["trials"] == 6
    assert control["reproduced"] == 6 and control["rate"] == 1.0
    assert candidate["outcomes"] == {"completed": 6} and candidate["rate"] == 0.0
    assert control["ci95"][0] > candidate["ci95"][1]
    assert candidate["windows"] >= control["reproduced"]
    assert result["p_value"] < 0.01
    for side in (control, candidate):
        assert side["kernel"]["release"].startswith(version)
        assert side["boot"]["preempt"] == "none" and side["boot"]["cpus"] == 2
    assert control["kernel"]["config_sha"] == candidate["kernel"]["config_sha"]
    for place in result["evidence"]:
        assert read_record(Path(place))["state"] == "finished"
        assert (Path(place) / "console.log").is_file() and (Path(place) / "agent.jsonl").is_file()
    return result


@pytest.fixture(scope="module")
def verdict(newest: Kernels, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    out = tmp_path_factory.mktemp("newest")
    return check_proven(harness("compare", "--json", out=out), newest.tree.version)


def test_newest_tree_livelocks_without_the_fix_and_not_with_it(verdict: dict[str, Any]) -> None:
    patches = {patch["name"]: patch for patch in arm(verdict, "fixed")["kernel"]["patches"]}
    assert "upstream" in patches["x86-preempt-choice"]["note"], "the report must say what the enabler makes"


def test_6_12_livelocks_with_the_trylock_change_alone(linux_6_12: Kernels, tmp_path: Path) -> None:
    result = check_proven(
        harness("compare", "linux-6.12", *linux_6_12.words, "--json", out=tmp_path), "6.12."
    )
    statuses = [patch["status"] for patch in arm(result, "fixed")["kernel"]["patches"]]
    assert statuses == ["applied", "applied"]


def test_the_folder_is_as_described_and_shows_what_was_printed(
    verdict: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    folder = Path(verdict["evidence"][0]).parents[1]
    assert folder_defects(folder) == []
    assert main(["show", str(folder)]) == 0
    assert capsys.readouterr().out.strip() == (folder / "report.txt").read_text().strip()


def test_every_hang_is_proven_by_a_cycle_and_nothing_else_is(verdict: dict[str, Any]) -> None:
    control, candidate = arm(verdict, "unfixed"), arm(verdict, "fixed")
    assert control["outcomes"] == {"livelock": 6} and control["proofs"] == {
        "cycle": 6,
        "partial": 0,
        "none": 0,
    }
    assert 0 < control["onset_to_verdict_s"]["median"] <= control["onset_to_verdict_s"]["max"]
    assert candidate["proofs"] == {"cycle": 0, "partial": 0, "none": 0}
    assert candidate["onset_to_verdict_s"] is None
    for place in map(Path, verdict["evidence"]):
        looks = list(recorded_examinations(place))
        assert place.name.endswith("-unfixed") or all(look.proof == "none" for look in looks)


def test_a_hang_names_the_spinner_and_leaves_its_evidence(
    verdict: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    place = Path(next(place for place in verdict["evidence"] if place.endswith("-unfixed")))
    record = read_record(place)["result"]
    assert record["is_bug"] and "hmm_range_fault" in record["signature"]
    cycle = "\n".join(record["cycle"])
    assert re.search(r"hmm-stressor:(\d+) spins on CPU 1 .*occupied by hmm-stressor:\1 ", cycle, re.DOTALL)
    evidence = place / "evidence"
    pieces = {
        piece["name"]: piece for piece in json.loads((evidence / "evidence.json").read_text())["pieces"]
    }
    assert all(piece["there"] for piece in pieces.values()), pieces
    assert {"stacks.txt", "cycle.svg", "registers.txt", "sysrq-l", "nmi", "memory.elf.zst"} <= set(pieces)
    assert (evidence / "cycle.txt").read_text().splitlines() == record["cycle"]
    stacks = (evidence / "stacks.txt").read_text()
    assert re.search(r"hmm_range_fault\w* mm/hmm\.c:\d+", stacks)
    assert re.search(r"migrate_vma_setup mm/migrate_device\.c:\d+", stacks)
    symbols = ["--vmlinux", str(vmlinux_of(place)), "--module", str(module_of(place))]
    assert main(["diagnose", str(evidence / "memory.elf.zst"), *symbols]) == 1
    said = capsys.readouterr().out
    assert "proof: cycle" in said and "lru_add_drain_per_cpu" in said


def vmlinux_of(place: Path) -> Path:
    """The vmlinux with DWARF of the kernel that a trial booted."""
    return default_cache_folder() / str(read_record(place)["provenance"]["kernel"]["entry"]) / "vmlinux"


def module_of(place: Path) -> Path:
    """The module with debug info that a trial loaded."""
    module = read_record(place)["provenance"]["module"]
    return default_cache_folder() / str(module["entry"]) / str(module["debug"])


def test_a_trial_judged_from_disk_comes_to_the_same(verdict: dict[str, Any]) -> None:
    scenario = load_scenario("trylock-starvation")
    limits = scenario.limits(load_experiment("linux-7").boot)
    for place in map(Path, verdict["evidence"]):
        recorded = TrialResult.from_json(read_record(place)["result"])
        until_s = math.inf if recorded.judged_until_s is None else recorded.judged_until_s
        observations = recorded_observations(place, limits, until_s=until_s)
        outcome = judge(observations, scenario.judge_by())
        assert (outcome.kind, outcome.title, outcome.is_bug) == (
            recorded.kind,
            recorded.title,
            recorded.is_bug,
        )
        assert (outcome.proof or "", outcome.onset_s) == (recorded.proof, recorded.onset_s)
        assert (outcome.windows, outcome.iterations) == (recorded.windows, recorded.iterations)


def test_the_repro_folder_shows_the_hang_with_qemu_alone(verdict: dict[str, Any]) -> None:
    script = Path(verdict["repro"]) / "run.sh"
    child = subprocess.Popen(
        [str(script)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env={"PATH": "/usr/bin:/bin"},
        start_new_session=True,
    )
    try:
        assert child.stdout is not None
        seen = b""
        until = time.monotonic() + 120
        while b"soft lockup" not in seen and time.monotonic() < until and (line := child.stdout.readline()):
            seen += line
        assert b"soft lockup" in seen, seen.decode(errors="replace")
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
        child.wait()


def own_experiment(folder: Path, kernels: Kernels, control: str, candidate: str) -> str:
    """An experiment file with the given kernels of the built-in one as its arms."""
    value = kernels.experiment.model_dump(mode="json")
    value["arms"] = {
        "unfixed": {"kernel": control, "role": "control"},
        "fixed": {"kernel": candidate, "role": "candidate"},
    }
    path = folder / "own.yaml"
    path.write_text(json.dumps(value))
    return str(path)


def names(kernels: Kernels) -> tuple[str, str]:
    return kernels.experiment.arms["unfixed"].kernel, kernels.experiment.arms["fixed"].kernel


def test_a_candidate_that_still_hangs_is_not_fixed(newest: Kernels, tmp_path: Path) -> None:
    unfixed, _ = names(newest)
    own = own_experiment(tmp_path, newest, unfixed, unfixed)
    ran = harness("compare", own, "--trials", "1", "--json", out=tmp_path)
    assert (ran.status, ran.json["verdict"]) == (1, "not_fixed")


def test_until_sure_ends_when_the_verdict_stands(newest: Kernels, tmp_path: Path) -> None:
    ran = harness("compare", "--until-sure", "--trials", "20", "--json", out=tmp_path)
    result = ran.json
    assert (ran.status, result["verdict"]) == (0, "fixed"), ran.err
    sequential = result["sequential"]
    # Of a bug that always shows, three trials an arm are enough; one that was lost adds a pair.
    assert sequential["error"] == 0.05 and sequential["e_value"] >= 20
    assert 6 <= sequential["stopped_after"] <= 8 and arm(result, "fixed")["reproduced"] == 0


def test_without_a_positive_control_nothing_is_fixed(newest: Kernels, tmp_path: Path) -> None:
    _, fixed = names(newest)
    own = own_experiment(tmp_path, newest, fixed, fixed)
    ran = harness("compare", own, "--trials", "2", "--json", out=tmp_path)
    assert (ran.status, ran.json["verdict"]) == (1, "not_reproduced")


def test_ctrl_c_keeps_what_was_measured_and_resume_goes_on(newest: Kernels, tmp_path: Path) -> None:
    argv = [str(HARNESS), "compare", "--trials", "2", "--json", "--out", str(tmp_path)]
    child = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    until = time.monotonic() + 120
    while time.monotonic() < until and not list(tmp_path.glob("*/trials/002-*/console.log")):
        assert child.poll() is None
        time.sleep(0.05)
    child.send_signal(signal.SIGINT)
    _, err = child.communicate(timeout=120)
    assert child.returncode == 130 and "--resume" in err
    assert qemu_of(tmp_path) == []
    (folder,) = tmp_path.iterdir()
    assert read_record(folder)["state"] == "interrupted"
    finished = {path: path.stat().st_mtime_ns for path in folder.glob("trials/001-*/console.log")}
    assert len(finished) == 2
    ran = harness("compare", "--resume", str(folder), "--json", out=tmp_path)
    assert ran.status == 1 and ran.json["verdict"] == "inconclusive", ran.err
    assert {path: path.stat().st_mtime_ns for path in finished} == finished, "a finished trial ran again"
    assert arm(ran.json, "unfixed")["trials"] == 2
