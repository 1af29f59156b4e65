# SPDX-License-Identifier: GPL-2.0-only
"""Guests that fail on purpose: every detector, end to end; and that a detector which is blind is told of."""

from __future__ import annotations

import json
import tracemalloc
from pathlib import Path

import pytest

from harness.experiment.options import Workshop
from harness.experiment.stage import set_stage
from harness.selftest.cases import CASES, choose_cases, load_cases
from harness.selftest.run import run_case
from harness.target.machine import pick_machine
from harness.watch.kinds import OutcomeKind
from tests.vm.conftest import Kernels, harness

pytestmark = pytest.mark.vm


@pytest.mark.parametrize("tree", ["newest", "linux_6_12"])
def test_every_failure_is_reported_as_what_it_is(
    tree: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    kernels: Kernels = request.getfixturevalue(tree)
    kernel = kernels.experiment.arms["fixed"].kernel
    ran = harness("selftest", "--kernel", kernel, *kernels.words, "--json", out=tmp_path)
    report = ran.json
    missed = [case for case in report["cases"] if not case["as_expected"]]
    assert (ran.status, report["missed"], missed) == (0, [], []), ran.err
    version = kernels.tree.version
    assert [case["name"] for case in report["cases"]] == [
        c.name for c in load_cases() if c.happens_on(version)
    ]
    assert all((Path(case["evidence"]) / "console.log").is_file() for case in report["cases"])


def test_a_failure_reported_as_something_else_is_missed(newest: Kernels, tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.yaml"
    text = CASES.read_text()
    right = "expect: {outcome: warning, console: warning, cpu: 1}"
    assert right in text
    wrong.write_text(text.replace(right, "expect: {outcome: oops, console: oops, cpu: 1}"))
    words = ["--kernel", newest.experiment.arms["fixed"].kernel, "--cases-file", str(wrong)]
    ran = harness("selftest", *words, "--case", "warning", "--case", "guest-exit", "--json", out=tmp_path)
    assert (ran.status, ran.json["missed"]) == (1, ["warning"]), ran.err
    assert "warning: warning" in ran.err and "instead of oops" in ran.err


def test_a_machine_that_fails_is_no_blind_detector(newest: Kernels, tmp_path: Path) -> None:
    """The module cannot be loaded: nothing is said about the case."""
    own = newest.experiment.model_dump(mode="json")
    own["boot"]["cmdline"] = ["module_blacklist=hmm_selftest"]
    path = tmp_path / "own.yaml"
    path.write_text(json.dumps(own))
    words = ["--experiment", str(path), "--kernel", newest.experiment.arms["fixed"].kernel]
    ran = harness("selftest", *words, "--case", "panic", "--json", out=tmp_path)
    assert ran.status == 3 and ran.json["cases"][0]["reported"]["outcome"] == "infra_error", ran.err


def test_a_flood_takes_no_memory(newest: Kernels, workshop: Workshop, tmp_path: Path) -> None:
    """What the console says is on disk; of it only what is a report stays in memory."""
    kernel = newest.by_name[newest.experiment.arms["fixed"].kernel]
    stage = set_stage(newest.experiment.boot, pick_machine("auto"), kernel.build, workshop)
    (case,) = choose_cases(["console-flood"], load_cases())
    grown: list[tuple[int, int]] = []
    for index, lives_s in enumerate((1, 8), start=1):
        longer = case.model_copy(update={"lives_s": lives_s})
        tracemalloc.start()
        result = run_case(longer, index, kernel, newest.experiment.boot, stage, tmp_path, "")
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert result.reported.outcome is OutcomeKind.COMPLETED, result.title
        grown.append(((result.evidence / "console.log").stat().st_size, peak))
    (short, little), (long, much) = grown
    assert long - short > 300_000
    assert much - little < (long - short) / 2, grown
