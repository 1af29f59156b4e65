# SPDX-License-Identifier: GPL-2.0-only
"""The window that the module makes: one iteration decides, however late the spinner comes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from harness.guest.protocol import Iteration, parse_line
from tests.vm.conftest import Kernels, harness

pytestmark = pytest.mark.vm

FORCED = ("--scenario", "trylock-starvation-forced")


def forced_compare(out: Path, window: str) -> dict[str, dict[str, Any]]:
    words = ("--set", f"window={window}", "--set", "iterations=1", "--trials", "1")
    ran = harness("compare", *FORCED, *words, "--json", out=out)
    assert ran.status in (0, 1), ran.err
    return {arm["name"]: arm for arm in ran.json["arms"]}


@pytest.mark.parametrize("window", ["notifier", "work", "fault"])
def test_one_iteration_decides(newest: Kernels, tmp_path: Path, window: str) -> None:
    arms = forced_compare(tmp_path, window)
    assert arms["unfixed"]["outcomes"] == {"livelock": 1}
    assert arms["unfixed"]["reproduced"] == 1
    assert arms["unfixed"]["proofs"]["cycle"] == 1
    assert arms["fixed"]["outcomes"] == {"completed": 1}
    assert arms["unfixed"]["windows"] == arms["fixed"]["windows"] == 1


@pytest.mark.parametrize("window", ["notifier", "work", "fault"])
def test_a_late_spinner_is_waited_for(newest: Kernels, tmp_path: Path, window: str) -> None:
    """So late that in the race the holder is done: see test_trial."""
    words = ("--set", f"window={window}", "--set", "jitter=100000000", "--seed", "3", "--json")
    ran = harness("run", "--kernel", newest.experiment.arms["fixed"].kernel, *FORCED, *words, out=tmp_path)
    result = ran.json
    assert (ran.status, result["outcome"], result["windows"]) == (0, "completed", 1), ran.err
    assert held_of(Path(str(result["evidence"]))) == ["sleeps"]


def test_a_spinner_that_does_not_come_in_time_is_not_waited_for(newest: Kernels, tmp_path: Path) -> None:
    words = ("--set", "hold_ms=1", "--set", "jitter=100000000", "--seed", "3", "--json")
    ran = harness("run", "--kernel", newest.experiment.arms["unfixed"].kernel, *FORCED, *words, out=tmp_path)
    assert (ran.status, ran.json["outcome"], ran.json["windows"]) == (1, "not_exercised", 0), ran.err
    assert held_of(Path(str(ran.json["evidence"]))) == ["timeout"]


def held_of(trial: Path) -> list[str]:
    """How each iteration's hold ended, as the stressor reports it."""
    lines = [json.loads(line)["line"] for line in (trial / "agent.jsonl").read_text().splitlines()]
    rounds = [line for line in lines if isinstance(parse_line(line), Iteration)]
    return [json.loads(line)["window"]["held"] for line in rounds]
