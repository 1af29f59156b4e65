# SPDX-License-Identifier: GPL-2.0-only
"""What ci/ ships for other machines: linted by those who read it, and true to what is there."""

from __future__ import annotations

import re
import subprocess
from datetime import date
from pathlib import Path

import pytest

from harness.cli import grammar
from harness.nightly.known import Known
from harness.nightly.model import load_nightly
from harness.nightly.units import units_of
from harness.results.night import NightTreeFacts
from tests.unit.linters import LINTERS as ALL_LINTERS
from tests.unit.linters import ROOT, Linters

CI = ROOT / "ci"
LINTERS = ALL_LINTERS["test_ci_files.py"]


@pytest.mark.parametrize("name", LINTERS)
def test_linter_says_nothing(name: str, linters: Linters) -> None:
    done = linters.result(name)
    if done is None:
        pytest.skip(f"there is no {LINTERS[name][0]} here")
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == "" and done.stdout in ("", "ok -- validation done\n")


@pytest.mark.parametrize("name", ["github", "gitlab", "container"])
def test_a_linter_sees_a_mistake(name: str, tmp_path: Path) -> None:
    *argv, file = LINTERS[name]
    wrong = {"github": ("runs-on:", "run-on:"), "gitlab": ("expire_in: 30 days", "expire_in: [30]")}
    old, new = wrong.get(name, ("debian:trixie", "debian"))
    text = (ROOT / file).read_text()
    assert old in text
    (tmp_path / Path(file).name).write_text(text.replace(old, new))
    argv.append(str(tmp_path / Path(file).name))
    assert subprocess.run(argv, capture_output=True, check=False).returncode != 0


def test_every_command_in_them_is_one_that_the_program_takes() -> None:
    files = [path for path in CI.rglob("*") if path.suffix in (".yml", ".service")] + [CI / "README.md"]
    text = "\n".join(path.read_text() for path in files)
    commands = re.findall(r"hmm-harness ((?:nightly|export|history) [^\n`]+)", text)
    assert len(commands) >= 5
    for command in commands:
        words = re.sub(r'"\$\(.*\)"', "RUN", command).split("#")[0].split()
        grammar().parse_args(words)
    for place in re.findall(r"\bci/[a-z/.-]+[a-z]", text):
        assert (ROOT / place).exists() or place == "ci/systemd/hmm-nightly", place


def test_the_projects_own_night_can_be_planned() -> None:
    night = load_nightly(CI / "nightly.yaml")
    assert Known.load(Path(night.known_issues), date(2026, 12, 1)).issues == ()
    trees = [NightTreeFacts(name=name, source="", revision="1") for name in night.trees]
    names = [unit.name for unit in units_of(night, trees)]
    assert names[:2] == ["newest/trylock-starvation", "newest/trylock-starvation-forced"]
    assert len(names) == len(set(names)) == 6


def test_the_example_of_a_known_issue_is_one(tmp_path: Path) -> None:
    lines = (CI / "known-issues.yaml").read_text().splitlines()
    example = [line[1:] for line in lines if re.match(r"#   ", line)]
    path = tmp_path / "known.yaml"
    path.write_text("\n".join(["issues:", *example]))
    (issue,) = Known.load(path, date(2026, 12, 1)).valid
    assert issue.scenario == "churn" and issue.signature.startswith("warning < ")
