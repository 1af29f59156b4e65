# SPDX-License-Identifier: GPL-2.0-only
"""The tree's own HMM suite in a guest: every case that the tree has is planned, has a result, and passes."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from harness.experiment.trial import TESTS
from tests.unit.schemas import folder_defects
from tests.vm.conftest import Kernels, harness

pytestmark = pytest.mark.vm

SKIPPED = "DEVICE_COHERENT not available"
BENCHMARK = "benchmark_thp_migration"


def cases_of(tree: Path) -> set[str]:
    """The names of the cases in the tree's source: each test of a fixture, once for each variant of it."""
    text = (tree / "tools/testing/selftests/mm/hmm-tests.c").read_text()
    variants = re.findall(r"^FIXTURE_VARIANT_ADD\((\w+), (\w+)\)", text, re.M)
    tests = re.findall(r"^TEST_F(?:_TIMEOUT)?\((\w+), (\w+)", text, re.M)
    return {
        f"{fixture}.{variant}.{name}"
        for fixture, name in tests
        for owner, variant in variants
        if owner == fixture
    }


def test_the_suite_of_the_tree_passes_case_by_case(newest: Kernels, tmp_path: Path) -> None:
    words = ("--scenario", "upstream-hmm-tests", "--set", "benchmark=leave-out")
    ran = harness("run", "--kernel", "base", *words, "--json", out=tmp_path)
    assert ran.status == 0, ran.err
    result = ran.json
    assert folder_defects(Path(result["evidence"]).parents[1]) == []
    tests = json.loads((Path(result["evidence"]) / TESTS).read_text())
    planned = {name for name in cases_of(newest.tree.path) if not name.endswith(f".{BENCHMARK}")}
    assert {case["name"] for case in tests["cases"]} == planned
    assert (tests["plan"], tests["defects"]) == (len(planned), [])
    # Coherent memory is real memory of the device, which this guest has none of.
    skipped = {name for name in planned if "_coherent." in name}
    assert {case["name"] for case in tests["cases"] if case["status"] == "skipped"} == skipped
    assert {case["reason"] for case in tests["cases"] if case["status"] == "skipped"} == {SKIPPED}
    assert result["metrics"] == {"passed": len(planned - skipped), "failed": 0, "skipped": len(skipped)}
