# SPDX-License-Identifier: GPL-2.0-only
"""The linters are tests."""

from __future__ import annotations

import pytest

from tests.unit.linters import LINTERS, ROOT, Linters


@pytest.mark.parametrize("name", LINTERS["test_quality.py"])
def test_linter_says_nothing(name: str, linters: Linters) -> None:
    done = linters.result(name)
    assert done, f"{name} is not installed"
    assert done.returncode == 0, done.stdout + done.stderr


def test_what_boots_is_marked() -> None:
    """`-m "not vm"` needs no kernel."""
    files = sorted((ROOT / "tests" / "vm").glob("test_*.py"))
    assert files and [file.name for file in files if "pytest.mark.vm" not in file.read_text()] == []
