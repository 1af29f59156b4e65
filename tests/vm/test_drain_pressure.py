# SPDX-License-Identifier: GPL-2.0-only
"""Others that drain all CPUs hang with the holder, or do not disturb it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from harness.guest.protocol import Iteration, parse_line
from tests.vm.conftest import Kernels, harness

pytestmark = pytest.mark.vm

DRAINS = {"drop_caches", "compact_memory", "collapse", "mlock"}


def test_drains_from_elsewhere_hang_with_it(newest: Kernels, tmp_path: Path) -> None:
    kernel = newest.experiment.arms["unfixed"].kernel
    ran = harness("run", "--kernel", kernel, "--scenario", "drain-pressure", "--json", out=tmp_path)
    result = ran.json
    assert (ran.status, result["outcome"], result["is_bug"], result["proof"]) == (
        1, "livelock", True, "cycle"
    ), ran.err  # fmt: skip
    stacks = (Path(str(result["evidence"])) / "evidence" / "stacks.txt").read_text()
    # The holder, and others that wait for it, or that it waits for.
    assert stacks.count("lru_add_drain_all") > 1


def test_with_the_fix_all_drains_get_on(newest: Kernels, tmp_path: Path) -> None:
    kernel = newest.experiment.arms["fixed"].kernel
    ran = harness("run", "--kernel", kernel, "--scenario", "drain-pressure", "--json", out=tmp_path)
    assert (ran.status, ran.json["outcome"]) == (0, "completed"), ran.err
    lines = (Path(str(ran.json["evidence"])) / "agent.jsonl").read_text().splitlines()
    messages = [parse_line(json.loads(line)["line"]) for line in lines]
    drains = [(m.model_extra or {})["drains"] for m in messages if isinstance(m, Iteration)]
    assert all(set(of_one) == DRAINS for of_one in drains)
    assert all(sum(of_one[name] for of_one in drains) > 0 for name in DRAINS)
