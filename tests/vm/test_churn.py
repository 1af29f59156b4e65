# SPDX-License-Identifier: GPL-2.0-only
"""Many processes at device memory: with the fix nothing fails, and every kind of operation came by."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from harness.guest.protocol import End, parse_line
from tests.vm.conftest import Kernels, harness

pytestmark = pytest.mark.vm

#: What a guest that has just come up may not get to, a kernel may refuse altogether, or nobody has asked for.
RARE = {
    "collapse",
    "split",
    "huge",
    "hog",
    "drop_caches",
    "compact",
    "ballast",
    "hold_open",
    "behave",
    "evict",
}


@pytest.mark.parametrize(("tree", "preempt"), [("newest", "none"), ("linux_6_12", "full")])
def test_no_page_changes_and_none_is_left(
    tree: str, preempt: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    kernels: Kernels = request.getfixturevalue(tree)
    kernel = kernels.experiment.arms["fixed"].kernel
    words = ("--scenario", "churn", "--preempt", preempt, "--set", "operations=4000", "--json")
    ran = harness("run", "--kernel", kernel, *kernels.words, *words, out=tmp_path)
    assert (ran.status, ran.json["outcome"]) == (0, "completed"), ran.err
    metrics = ran.json["metrics"]
    assert metrics["leaked_pages"] == metrics["overdue_s"] == 0 < metrics["slowest_s"]
    done = done_in(Path(str(ran.json["evidence"])))
    assert sum(done.values()) > 2500
    assert [kind for kind, count in done.items() if not count and kind not in RARE] == []


def done_in(trial: Path) -> dict[str, int]:
    """How often each kind of operation was done."""
    lines = [json.loads(line)["line"] for line in (trial / "agent.jsonl").read_text().splitlines()]
    (end,) = [message for line in lines if isinstance(message := parse_line(line), End)]
    done = (end.model_extra or {})["done"]
    assert isinstance(done, dict)
    return done
