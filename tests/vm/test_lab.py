# SPDX-License-Identifier: GPL-2.0-only
"""The plugin of pytest on real guests: the example of its README, run as a lab would."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

from tests.vm.conftest import Kernels

pytestmark = pytest.mark.vm

README = Path(__file__).resolve().parents[2] / "harness" / "lab" / "README.md"


def example(folder: Path) -> None:
    """Write the files that the README shows, each after a line that names it."""
    found = re.findall(r"^`([\w.]+)`:\n+```\w+\n(.*?)^```", README.read_text(), re.M | re.S)
    assert [name for name, _ in found] == ["harness.yaml", "test_lab.py"]
    for name, text in found:
        (folder / name).write_text(text)


def test_the_readmes_example(newest: Kernels, tmp_path: Path) -> None:
    example(tmp_path)
    words = ["-p", "harness.lab.plugin", "-p", "pytest_timeout", "-p", "no:cacheprovider", "-v", "-rA"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *words, "--hmm-config", "harness.yaml", "--junitxml", "j.xml"],
        cwd=tmp_path, capture_output=True, text=True, timeout=600, check=False,
        env={**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
    )  # fmt: skip
    out = done.stdout
    assert done.returncode == 1, out + done.stderr
    assert "harness.yaml::trylock-starvation-forced::unfixed[1] XFAIL" in out
    assert "harness.yaml::trylock-starvation-forced::fixed[1] PASSED" in out
    assert "test_lab.py::test_the_module_answers PASSED" in out
    assert "test_lab.py::test_the_stock_kernel_lives FAILED" in out
    assert (
        "harness.yaml::trylock-starvation-forced::verdict FAILED" in out
    )  # one trial an arm says too little
    told = out[out.index("test_the_stock_kernel_lives ___") :]
    assert (
        "livelock: hmm-stressor" in told and "spins on CPU 1 in" in told and "runnable, not running" in told
    )
    assert "signature: livelock < hmm_range_fault" in told and "Traceback" not in out
    cases = {case.get("name"): case for case in ElementTree.parse(tmp_path / "j.xml").iter("testcase")}
    failure = cases["test_the_stock_kernel_lives"].find("failure")
    assert failure is not None and "held by hmm-stressor" in str(failure.text)
    said = {p.get("name"): str(p.get("value")) for p in cases["fixed[1]"].iter("property")}
    assert said["outcome"] == "completed" and int(said["windows"]) >= 1
    assert Path(said["folder"], "console.log").stat().st_size > 1000
    assert {p.get("value") for p in cases["verdict"].iter("property")} >= {"inconclusive"}
