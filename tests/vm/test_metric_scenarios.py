# SPDX-License-Identifier: GPL-2.0-only
"""Scenarios that measure: what is bad is `starved`, what is good is not, and the data is there in the end."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.vm.conftest import BOXED, Kernels, harness

pytestmark = pytest.mark.vm


#: What is measured in a guest that the host does not let run says nothing, and the harness says so: so many
#: trials in a row, and the machine cannot do it.
TRIES = 3


def run(
    kernel: str, scenario: str, *settings: str, out: Path, words: Sequence[str] = ()
) -> tuple[int, dict[str, Any]]:
    words = [*words, *(word for setting in settings for word in ("--set", setting))]
    for number in range(TRIES):
        place = out / str(number)
        ran = harness("run", "--kernel", kernel, "--scenario", scenario, *words, "--json", out=place)
        assert ran.status in (0, 1, 3), ran.err
        if ran.status != 3:
            return ran.status, ran.json
        assert "host overloaded" in str(ran.json["title"]), ran.err
    pytest.fail(f"infrastructure, {TRIES} times in a row: {ran.json['title']}", pytrace=False)


def said(trial: Path, kind: str) -> list[dict[str, Any]]:
    """The stressor's messages of one type."""
    lines = [json.loads(line)["line"] for line in (trial / "agent.jsonl").read_text().splitlines()]
    messages = [json.loads(line) for line in lines if line.startswith("{")]
    return [message for message in messages if message["type"] == kind]


def test_readers_of_one_page_starve_before_1afaeb8293c9_and_not_with_it(tmp_path: Path) -> None:
    ran = harness("compare", "refcount-livelock", *BOXED, "--trials", "1", "--json", out=tmp_path)
    assert ran.status in (0, 1), ran.err
    arms = {arm["name"]: arm for arm in ran.json["arms"]}
    assert arms["unfixed"]["outcomes"] == {"starved": 1} and arms["unfixed"]["reproduced"] == 1
    assert arms["fixed"]["outcomes"] == {"completed": 1}
    faults = {name: arm["metrics"]["faults_per_migration"]["median"] for name, arm in arms.items()}
    assert faults["unfixed"] >= 100 * faults["fixed"]
    (report,) = tmp_path.glob("*/report.txt")
    assert "faults_per_migration" in report.read_text() and "above 50" in report.read_text()


def test_one_reader_has_its_page_by_one_fault(linux_6_12: Kernels, tmp_path: Path) -> None:
    kernel = linux_6_12.experiment.arms["unfixed"].kernel
    status, result = run(kernel, "refcount-livelock", "threads=1", "iterations=3", out=tmp_path, words=BOXED)
    assert (status, result["outcome"], result["metrics"]["faults_per_migration"]) == (0, "completed", 1)


def test_a_fault_gets_past_a_hog_that_lets_go(newest: Kernels, tmp_path: Path) -> None:
    kernel = newest.experiment.arms["fixed"].kernel
    words = ("on_us=200", "off_us=20000", "iterations=5", "faulter=child")
    status, result = run(kernel, "lock-hog", *words, out=tmp_path)
    assert (status, result["outcome"]) == (0, "completed")
    assert 0 < result["metrics"]["duty_percent"] < 50


def test_a_hog_that_keeps_the_lock_starves_a_fault(newest: Kernels, tmp_path: Path) -> None:
    kernel = newest.experiment.arms["fixed"].kernel
    words = ("on_us=600000", "limit_ms=500", "iterations=1", "faulter=cpu")
    status, result = run(kernel, "lock-hog", *words, out=tmp_path)
    assert (status, result["outcome"], result["is_bug"]) == (1, "starved", True)
    assert result["signature"] == "starved < wait_ms"


def test_whoever_waits_for_a_holder_that_fails_gets_its_pages(linux_6_12: Kernels, tmp_path: Path) -> None:
    """Fixed: a migration that failed leaves pages off the LRU, and the next one may have to drain."""
    kernel = linux_6_12.experiment.arms["fixed"].kernel
    status, result = run(kernel, "failed-migration", "failures=2", "iterations=1", out=tmp_path, words=BOXED)
    assert (status, result["outcome"], result["metrics"]["leaked_pages"]) == (0, "completed", 0)
    assert (result["windows"], result["metrics"]["untested_cases"]) == (6, 0)
    (iteration,) = said(Path(result["evidence"]), "iteration")
    cases = {(case["holder"], case["step"]): case for case in iteration["cases"]}
    assert set(cases) == {
        (who, step) for who in ("fault", "migration") for step in ("alloc", "reference", "copy")
    }
    assert all(case["failures"] == 2 and case["waiter_stuck"] for case in cases.values())
    assert all(cases["migration", step]["holder_tries"] == 3 for step in ("alloc", "reference", "copy"))


def test_two_devices_take_a_range_from_each_other_and_get_on(newest: Kernels, tmp_path: Path) -> None:
    kernel = newest.experiment.arms["fixed"].kernel
    words = ("who=processes", "interval_ms=200", "iterations=2", "pages=16")
    status, result = run(kernel, "two-devices", *words, out=tmp_path)
    assert (status, result["outcome"]) == (0, "completed")
    rounds = said(Path(result["evidence"]), "iteration")
    assert len(rounds) == 2
    # In one interval a busy host may not let one of them run at all.
    assert all(sum(turn[who]["rounds"] for turn in rounds) > 0 for who in ("first", "second"))
