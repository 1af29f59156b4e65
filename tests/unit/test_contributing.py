# SPDX-License-Identifier: GPL-2.0-only
"""The examples of CONTRIBUTING.md are commits that work: applied to a copy, compiled, loaded, tried."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from harness.target.box.config import load_box

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
LINE = "[    9.100000][   T52] get_swap_device: Bad swap file entry 3ffffffffffff\n"
#: What the additions are good for, in a process that has them.
PROGRAM = """
import json, sys
from harness.config import load_experiment
from harness.scenario.catalogue import load_scenario
from harness.watch.classify import classify_file
from pathlib import Path

print(json.dumps({
    "pages": load_scenario("round-trip").parameters["pages"].default,
    "tree": load_experiment("linux-mm").tree.revision,
    "outcome": classify_file(Path(sys.argv[1])).outcome,
}))
"""


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """This tree with all that CONTRIBUTING.md adds."""
    copy = tmp_path_factory.mktemp("copy")
    for folder in ("harness", "kmod", "patches", "qemu"):
        shutil.copytree(ROOT / folder, copy / folder, ignore=shutil.ignore_patterns("__pycache__", "*.pyc"))
    diffs = re.findall(r"^```diff\n(.*?)^```$", TEXT, re.M | re.S)
    assert len(diffs) == 3
    for diff in diffs:
        done = subprocess.run(
            ["git", "apply", "-C1", "-"], cwd=copy, input=diff, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"CONTRIBUTING.md: {done.stderr}\n{diff[:400]}"
    return copy


def test_scenario_signature_and_tree_are_found(copy: Path, tmp_path: Path) -> None:
    (tmp_path / "console.log").write_text(LINE)
    argv = [sys.executable, "-c", PROGRAM, str(tmp_path / "console.log")]
    done = subprocess.run(argv, cwd=copy, env={"PYTHONPATH": str(copy)}, capture_output=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout)
    assert found == {"pages": 64, "tree": "mm-unstable", "outcome": "corruption"}


def test_the_stressors_part_compiles_and_is_in_its_table(copy: Path) -> None:
    flags = ["-Wall", "-Wextra", "-Werror", "-fsyntax-only", "-I", str(copy / "kmod")]
    for name in ("roundtrip.c", "main.c"):
        subprocess.run(["gcc", *flags, str(copy / "kmod/stressor" / name)], check=True)
    assert "&round_trip," in (copy / "kmod/stressor/main.c").read_text()


def test_the_box_is_one(tmp_path: Path) -> None:
    (block,) = re.findall(r"^```yaml\n(.*?)^```$", TEXT, re.M | re.S)
    (tmp_path / "lab1.yaml").write_text(block)
    (tmp_path / "lab1.known_hosts").touch()
    box = load_box(tmp_path / "lab1.yaml")
    assert box.power and box.power.on == (f"{tmp_path}/switch", "lab1", "on")
    assert box.boot.method == "grub-reboot"
