# SPDX-License-Identifier: GPL-2.0-only
"""The module as its users' trees see it: no warning at W=1, no word of checkpatch."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from harness.assets import asset
from tests.vm.conftest import Kernels

pytestmark = pytest.mark.vm


def c_files() -> list[Path]:
    files = [path for path in asset("kmod").rglob("*.[ch]") if "probes" not in path.parts]
    return sorted([*files, asset("qemu", "init.c")])


def test_the_module_builds_without_a_warning(newest: Kernels, linux_6_12: Kernels) -> None:
    kernels = [*newest.by_name.values(), *linux_6_12.by_name.values()]
    assert len(kernels) == 4
    for kernel in kernels:
        log = (kernel.programs.module.parent / "build.log").read_text()
        assert " W=1 " in log and "CC [M]" in log
        assert "warning" not in log.lower()


def test_checkpatch_of_the_tree_says_nothing(newest: Kernels) -> None:
    script = newest.tree.path / "scripts" / "checkpatch.pl"
    argv = ["perl", str(script), "--strict", "--no-tree", "--terse", "--no-summary", "-f"]
    done = subprocess.run([*argv, *map(str, c_files())], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, ""), done.stdout + done.stderr
