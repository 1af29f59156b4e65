# SPDX-License-Identifier: GPL-2.0-only
"""The linters are tests."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SCRIPTS = sorted(str(path.relative_to(ROOT)) for path in ROOT.glob("ci/*/*.py"))


def test_mypy_says_nothing_of_package_and_tests(mypy: subprocess.Popen[str]) -> None:
    out, _ = mypy.communicate()
    assert mypy.returncode == 0, out


@pytest.mark.parametrize(
    "command",
    [
        ["ruff", "check", "harness", "tests", "ci"],
        ["ruff", "format", "--check", "harness", "tests", "ci"],
        ["mypy", "--strict", *SCRIPTS],
    ],
    ids=["ruff-check", "ruff-format", "mypy-ci"],
)
def test_linter_says_nothing(command: list[str]) -> None:
    argv = [sys.executable, "-m", *command]
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_what_boots_is_marked() -> None:
    """`-m "not vm"` needs no kernel."""
    files = sorted((ROOT / "tests" / "vm").glob("test_*.py"))
    assert files and [file.name for file in files if "pytest.mark.vm" not in file.read_text()] == []
