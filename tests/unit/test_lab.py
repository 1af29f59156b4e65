# SPDX-License-Identifier: GPL-2.0-only
"""The plugin of pytest: what it collects, what each outcome is to pytest, and that it does no more."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from xml.etree import ElementTree

import pytest

from harness.config import Experiment
from harness.deadline import Deadline
from harness.errors import InfraError, UserError
from harness.experiment.trial import Stage
from harness.lab import bench
from harness.target.protocol import BootPlan, Guest
from tests.unit.runroom import RecordedTarget, kernel

pytest_plugins = "pytester"

HARNESS = """\
kernels:
  stock: {patches: [x86-preempt-choice, trylock-starvation/without-wait]}
  fixed: {patches: [x86-preempt-choice]}
arms:
  before: {kernel: stock, role: control}
  after: {kernel: fixed, role: candidate}
memory_image_mb: 0
trials: %d
"""
OWN = """
def test_own(hmm_trial, hmm_check, hmm_experiment):
    result = hmm_trial("stock", seed=7)
    assert result.seed == 7 and hmm_experiment.trials
    hmm_check(result)

def test_other():
    pass
"""


@pytest.fixture
def lab(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    """A lab's folder, where nothing but this plugin (and pytest-timeout) is loaded."""
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    monkeypatch.setenv("PYTEST_ADDOPTS", "-p harness.lab.plugin -p pytest_timeout -p no:cacheprovider")
    pytester.path.joinpath("harness.yaml").write_text(HARNESS % 1)
    return pytester


@pytest.fixture
def target(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> RecordedTarget:
    """Nothing is built or booted: guests of `fails` lock up, the others complete."""
    target = RecordedTarget("nobody")
    tree = SimpleNamespace(description="Debian linux-source-7.3 7.3.4-1", version="7.3.4")
    monkeypatch.setattr(bench, "get_tree", lambda *rest: tree)
    monkeypatch.setattr(bench, "check_preempt", lambda *rest: None)
    monkeypatch.setattr(bench, "machine_of", lambda *rest: "microvm")
    monkeypatch.setattr(bench, "set_stage", lambda *rest: Stage(target, "microvm", "tcg"))

    def make(tree: object, wanted: SimpleNamespace, *rest: object) -> object:
        return kernel(tmp_path, "stock" if len(wanted.patches) == 2 else "fixed")

    monkeypatch.setattr(bench, "make_kernel", make)
    return target


def said(text: str) -> list[str]:
    """The lines of a report, without those that hold a time or a place."""
    return [line for line in text.splitlines() if line.strip()]


def test_without_a_config_it_is_not_there(lab: pytest.Pytester) -> None:
    lab.makepyfile(OWN)
    done = lab.runpytest_inprocess("-rs")
    done.assert_outcomes(passed=1, skipped=1)
    done.stdout.fnmatch_lines(["*needs --hmm-config FILE*"])
    code = "import sys, harness.lab.plugin as p; print([m for m in sys.modules if m.startswith('harness')])"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert loaded.strip() == "['harness', 'harness.lab', 'harness.lab.plugin']"


def test_every_trial_is_a_test_beside_the_labs_own(lab: pytest.Pytester) -> None:
    lab.makepyfile(OWN)
    done = lab.runpytest_inprocess("--co", "-q", "--hmm-config", "harness.yaml")
    assert said(done.stdout.str())[:5] == [
        "harness.yaml::trylock-starvation::before[1]",
        "harness.yaml::trylock-starvation::after[1]",
        "harness.yaml::trylock-starvation::verdict",
        "test_every_trial_is_a_test_beside_the_labs_own.py::test_own",
        "test_every_trial_is_a_test_beside_the_labs_own.py::test_other",
    ]
    words = ["--hmm-config", "harness.yaml", "--hmm-scenario", "churn", "--hmm-scenario", "two-devices"]
    done = lab.runpytest_inprocess("--co", "-q", *words, "-k", "verdict")
    assert said(done.stdout.str())[:2] == [
        f"harness.yaml::{name}::verdict" for name in ("churn", "two-devices")
    ]
    done = lab.runpytest_inprocess("--co", "-q", *words, "-m", "not hmm")
    assert len([line for line in done.outlines if "::" in line]) == 2
    own = "test_every_trial_is_a_test_beside_the_labs_own.py"
    done = lab.runpytest_inprocess("--co", "-q", *words, own)  # who asks for one file gets that
    assert len([line for line in done.outlines if "::" in line]) == 2


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--hmm-config", "absent.yaml"], "*no experiment*absent.yaml*"),
        (["--hmm-config", "bad.yaml"], "*bad.yaml:2: arm: *did you mean 'arms'*"),
        (["--hmm-config", "harness.yaml", "--hmm-scenario", "chrun"], "*no scenario 'chrun'*churn*"),
        (["--hmm-config", "harness.yaml", "--hmm-target", "absent.yaml"], "*cannot read *absent.yaml*"),
        (["--hmm-config", "harness.yaml", "--hmm-target", "bad.yaml"], "*bad.yaml:1: kernels: *"),
        (["--hmm-target", "qemu"], "*need --hmm-config FILE*"),
    ],
)
def test_bad_input_is_said_before_anything_runs(lab: pytest.Pytester, words: list[str], says: str) -> None:
    lab.path.joinpath("bad.yaml").write_text("kernels: {stock: {}}\narm: {}\n")
    done = lab.runpytest_inprocess(*words)
    assert done.ret is pytest.ExitCode.USAGE_ERROR
    done.stderr.fnmatch_lines([says])


def test_beside_a_plugin_that_asks_for_fixtures(lab: pytest.Pytester, target: RecordedTarget) -> None:
    lab.makeconftest("def pytest_runtest_setup(item): assert 'strategy' not in item.fixturenames")
    target.fails = "stock"
    lab.runpytest_inprocess("--hmm-config", "harness.yaml", "-k", "after").assert_outcomes(
        passed=1, deselected=2
    )


def test_a_fix_that_works(lab: pytest.Pytester, target: RecordedTarget) -> None:
    lab.path.joinpath("harness.yaml").write_text(HARNESS % 4 + "error: 0.05\n")
    target.fails = "stock"
    done = lab.runpytest_inprocess("--hmm-config", "harness.yaml", "-rsx", "--junitxml", "j.xml")
    done.assert_outcomes(passed=4, xfailed=3, skipped=2)  # sure after three pairs
    done.stdout.fnmatch_lines(
        ["*the verdict stands already*", "*XFAIL*before[[]1]*the control shows the bug*"]
    )
    (folder,) = lab.path.joinpath("runs").iterdir()
    assert (folder / "report.txt").read_text().startswith("verdict: fixed")
    xml = ElementTree.parse(lab.path / "j.xml")
    found = {
        case.get("name"): {p.get("name"): p.get("value") for p in case.iter("property")}
        for case in xml.iter("testcase")
    }
    assert found["after[2]"]["outcome"] == "completed" and found["after[2]"]["windows"] == "1"
    assert str(found["before[1]"]["signature"]).startswith("soft_lockup < ")
    assert Path(str(found["before[1]"]["folder"])).joinpath("console.log").is_file()
    assert found["verdict"]["verdict"] == "fixed"


def test_a_fix_that_does_not_work(lab: pytest.Pytester, target: RecordedTarget) -> None:
    target.fails = "fixed"
    lab.makepyfile(OWN)
    done = lab.runpytest_inprocess("--hmm-config", "harness.yaml", "-rX", "--junitxml", "j.xml")
    done.assert_outcomes(passed=2, failed=2, xpassed=1)
    done.stdout.fnmatch_lines(
        [
            "*trylock-starvation::after[[]1]*",
            "soft_lockup: soft lockup - CPU#1*",
            "    RIP: *",
            "     hmm_range_fault_locked*",
            "    signature: soft_lockup < *hmm_range_fault*",
            "see */trials/001-after",
            "*trylock-starvation::verdict*",
            "verdict: not_fixed",
            "*XPASS*before[[]1]*the control did not show the bug*",
        ]
    )
    done.stdout.no_fnmatch_line("*Traceback*")
    done.stdout.no_fnmatch_line("*suite.py*")
    failure = ElementTree.parse(lab.path / "j.xml").find(".//testcase[@name='after[1]']/failure")
    assert failure is not None and "hmm_range_fault" in str(failure.text)


def test_what_says_nothing_of_the_kernel_is_an_error(lab: pytest.Pytester, target: RecordedTarget) -> None:
    target.breaks = InfraError("no QEMU here", hint="install it")
    lab.makepyfile(OWN)
    done = lab.runpytest_inprocess("--hmm-config", "harness.yaml", "--junitxml", "j.xml", "-rs")
    done.assert_outcomes(errors=3, skipped=1, passed=1)
    done.stdout.fnmatch_lines(["no QEMU here", "hint: install it", "*no verdict: 2 of 2 trials*"])
    done.stdout.no_fnmatch_line("*Traceback*")
    assert len(ElementTree.parse(lab.path / "j.xml").findall(".//error")) == 3


def test_a_kernel_that_cannot_be_built(
    lab: pytest.Pytester, target: RecordedTarget, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*rest: object) -> object:
        raise UserError("fix.patch does not apply: hunk 1")

    monkeypatch.setattr(bench, "make_kernel", refused)
    done = lab.runpytest_inprocess("--hmm-config", "harness.yaml")
    done.assert_outcomes(errors=2, skipped=1)
    done.stdout.fnmatch_lines(["fix.patch does not apply: hunk 1"])


def test_a_box_that_is_not_fit_is_asked_once(
    lab: pytest.Pytester, target: RecordedTarget, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab.path.joinpath("known_hosts").touch()
    lab.path.joinpath("lab1.yaml").write_text("name: lab1\nssh: {host: a, known_hosts: known_hosts}\n")
    asked: list[str] = []

    def unfit(experiment: Experiment, folder: Path) -> object:
        asked.append(experiment.target)
        raise InfraError("box lab1 is not fit")

    monkeypatch.setattr(bench, "box_of", unfit)
    done = lab.runpytest_inprocess("--hmm-config", "harness.yaml", "--hmm-target", "lab1.yaml")
    done.assert_outcomes(errors=2, skipped=1)
    done.stdout.fnmatch_lines(["box lab1 is not fit"])
    assert asked == [str(lab.path / "lab1.yaml")]


def test_part_of_it_is_left_to_go_on_with(lab: pytest.Pytester, target: RecordedTarget) -> None:
    words = ["--hmm-config", "harness.yaml"]
    done = lab.runpytest_inprocess(*words, "harness.yaml::trylock-starvation::after[1]")
    done.assert_outcomes(passed=1)
    (folder,) = lab.path.joinpath("runs").iterdir()
    assert '"state": "interrupted"' in (folder / "run.json").read_text()


def test_the_outer_guard_is_no_verdict(
    lab: pytest.Pytester, target: RecordedTarget, monkeypatch: pytest.MonkeyPatch
) -> None:
    @contextmanager
    def hangs(plan: BootPlan, folder: Path, deadline: Deadline) -> Iterator[Guest]:
        time.sleep(20)
        raise AssertionError("nobody ended it")
        yield

    monkeypatch.setattr(target, "boot", hangs)
    monkeypatch.setattr(bench, "EVIDENCE_S", 0.1 - 120)
    done = lab.runpytest_inprocess("--hmm-config", "harness.yaml", "-k", "after")
    done.assert_outcomes(errors=1, deselected=2)
    done.stdout.fnmatch_lines(["ended from outside: Timeout*"])
