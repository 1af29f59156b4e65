# SPDX-License-Identifier: GPL-2.0-only
"""The installed package has everything that a build needs."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_the_wheel_carries_the_folders_that_are_no_python(tmp_path: Path) -> None:
    argv = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(argv, cwd=ROOT, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    members = set(zipfile.ZipFile(wheel).namelist())
    for folder in ("kmod", "patches", "qemu"):
        argv = ["git", "ls-files", folder]
        listed = subprocess.run(argv, cwd=ROOT, check=True, capture_output=True, text=True)
        files = listed.stdout.split()
        assert files and {f"harness/_assets/{file}" for file in files} <= members
    for kind, least in (("*.yaml", 4), ("*.schema.json", 5), ("*.j2", 1), ("*.css", 1)):
        data = {str(path.relative_to(ROOT)) for path in (ROOT / "harness").rglob(kind)}
        assert len(data) >= least and data <= members


def test_it_runs_as_a_module() -> None:
    argv = [sys.executable, "-m", "harness", "--version"]
    done = subprocess.run(argv, cwd="/", check=True, capture_output=True, text=True)
    assert done.stdout.startswith("hmm-harness ")
