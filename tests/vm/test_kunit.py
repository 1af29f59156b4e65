# SPDX-License-Identifier: GPL-2.0-only
"""KTAP as the kernel tree's own tool reads it: no error in what it prints, and every case as it was."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from harness.deadline import Deadline
from harness.process import run
from tests.unit.test_formats import export, hostile_run, suite
from tests.vm.conftest import Kernels

pytestmark = pytest.mark.vm
__all__ = ["hostile_run"]


def parsed(tree: Path, ktap: str, place: Path) -> str:
    """What `kunit.py parse` says of it. It exits with 0 even on a version that it does not know."""
    file = place / "results.ktap"
    file.write_text(ktap, encoding="utf-8")
    argv = [sys.executable, "-B", "tools/testing/kunit/kunit.py", "parse", str(file)]
    return run(argv, cwd=tree, deadline=Deadline.after(60), check=False).output


def test_the_trees_own_tool_reads_it(newest: Kernels, recorded_run: Path, tmp_path: Path) -> None:
    said = parsed(newest.tree.path, export(recorded_run, "ktap"), tmp_path)
    assert "[ERROR]" not in said and "errors:" not in said, said
    assert re.search(r"Testing complete\. Ran 7 tests: passed: 7$", said, re.M), said
    assert "[PASSED] unfixed trial 3 seed 3" in said and "[PASSED] verdict" in said


def test_nothing_a_guest_says_is_taken_for_a_result(
    newest: Kernels, hostile_run: Path, tmp_path: Path
) -> None:
    said = parsed(newest.tree.path, export(hostile_run, "ktap"), tmp_path)
    assert "[ERROR]" not in said and "errors:" not in said, said
    assert re.search(r"Testing complete\. Ran 7 tests: passed: 1, failed: 5, skipped: 1$", said, re.M), said


def test_the_cases_of_a_suite_are_subtests(newest: Kernels, recorded_run: Path, tmp_path: Path) -> None:
    suite(recorded_run / "trials" / "001-fixed")
    said = parsed(newest.tree.path, export(recorded_run, "ktap"), tmp_path)
    assert "[ERROR]" not in said and "errors:" not in said, said
    assert "[FAILED] group.deep" in said and "[SKIPPED] not here (no device)" in said, said
    assert re.search(r"Testing complete\. Ran 11 tests: passed: 9, failed: 1, skipped: 1$", said, re.M), said


def test_it_would_say_if_it_did_not_know_the_version(
    newest: Kernels, recorded_run: Path, tmp_path: Path
) -> None:
    text = export(recorded_run, "ktap").replace("KTAP version 1\n", "KTAP version 9\n", 1)
    assert "[ERROR]" in parsed(newest.tree.path, text, tmp_path)
