# SPDX-License-Identifier: GPL-2.0-only
"""A run is repeated from what its folder keeps, and only if it would be the same."""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest

from harness.cli import main
from harness.results.runfolder import EXPERIMENT, open_record, read_record, run_facts
from harness.verbs import bisect as bisect_verb
from tests.unit.runroom import simulated
from tests.unit.schemas import folder_defects
from tests.unit.test_schemas import CASES

Capture = pytest.CaptureFixture[str]
PATCH = "--- a/x\n+++ b/x\n@@ -1 +1 @@\n-a\n+b\n"


def run(place: Path, *words: str) -> tuple[int, Path]:
    """The exit status, and the new folder."""
    out = place / "runs"
    before = set(out.glob("*"))
    status = main([*words, "--out", str(out), "--cache", str(place / "room")])
    new = set(out.glob("*")) - before
    return status, next(iter(new), out)


@pytest.mark.parametrize(
    "words",
    [
        ["compare", "--trials", "2", "--seed", "7", "--set", "pages=64", "--try", "PATCH"],
        ["run", "--kernel", "base", "--seed", "3", "--patch", "PATCH"],
        ["selftest", "--case", "softlockup", "--cases-file", "CASES"],
    ],
    ids=lambda words: words[0],
)
def test_a_run_is_repeated_with_its_experiment_seeds_and_patches(
    words: Sequence[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    simulated(monkeypatch, tmp_path / "room")
    files = {"PATCH": tmp_path / "fix.patch", "CASES": tmp_path / "cases.yaml"}
    files["PATCH"].write_text(PATCH)
    files["CASES"].write_text(CASES)
    status, first = run(tmp_path, *(str(files.get(word, word)) for word in words))
    files["PATCH"].unlink()
    capsys.readouterr()
    again, second = run(tmp_path, "show", str(first), "--rerun")
    assert again == status and second != first
    kept = (second / EXPERIMENT).read_text().replace(str(second), str(first))
    assert kept == (first / EXPERIMENT).read_text()
    record = read_record(second)
    assert record["rerun_of"] == str(first) and folder_defects(second) == []
    trials = [
        {**read_record(path.parent), "provenance": None} for path in sorted(first.glob("trials/*/run.json"))
    ]
    repeated = [read_record(second / "trials" / path["result"]["folder"][7:]) for path in trials]
    assert [(trial["seed"], trial["parameters"]) for trial in repeated] == [
        (trial["seed"], trial["parameters"]) for trial in trials
    ]
    count = len(trials)
    assert f"repeated     {first}: {count} of {count} trials ended alike" in capsys.readouterr().out


@pytest.mark.parametrize("change", ["tree", "kernel", "experiment"])
def test_what_would_not_be_the_same_is_refused(
    change: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    room = tmp_path / "room"
    simulated(monkeypatch, room)
    _, first = run(tmp_path, "compare", "--trials", "1")
    if change == "tree":
        record = (first / "run.json").read_text()
        (first / "run.json").write_text(record.replace("7.3.4-1", "7.3.3-1"))
        message = "is of Debian linux-source-7.3 7.3.3-1; the tree is Debian linux-source-7.3 7.3.4-1 by now"
    elif change == "kernel":
        trial = first / "trials" / "001-fixed" / "run.json"
        mark = read_record(trial.parent)["fingerprint"]
        trial.write_text(trial.read_text().replace(mark, "0" * 20))
        message = "fixed ran another kernel, module or stressor"
    else:
        (first / EXPERIMENT).unlink()
        message = f"keeps no {EXPERIMENT}"
    assert run(tmp_path, "show", str(first), "--rerun")[0] == 2
    assert message in capsys.readouterr().err


def test_a_trial_that_ends_otherwise_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    target = simulated(monkeypatch, tmp_path / "room")
    _, first = run(tmp_path, "compare", "--trials", "1")
    target.fails = "nothing"
    capsys.readouterr()
    run(tmp_path, "show", str(first), "--rerun")
    shown = capsys.readouterr().out
    assert "1 of 2 trials ended alike\n    unfixed, trial 1: soft_lockup then, completed now" in shown
    shutil.rmtree(first)


def test_a_bisection_is_asked_again_as_it_was_asked_where_it_was_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    asked: list[list[str]] = []

    def main_(arguments: argparse.Namespace, display: object) -> int:
        asked.append([arguments.bad, *arguments.good, str(arguments.out), str(arguments.repeats.folder)])
        return 1

    monkeypatch.setattr(bisect_verb, "main", main_)
    folder = tmp_path / "runs" / "before"
    folder.mkdir(parents=True)
    facts = run_facts("bisect", "hmm-harness bisect --good v1 --out=old --json --bad v2", key="k")
    with open_record(folder, facts) as update:
        update("interrupted")
    assert run(tmp_path, "show", str(folder), "--rerun")[0] == 1
    assert asked == [["v2", "v1", str(tmp_path / "runs"), str(folder)]]
    monkeypatch.chdir(tmp_path)
    assert run(tmp_path, "show", str(folder), "--rerun")[0] == 2
    assert "is repeated where it was begun" in capsys.readouterr().err
