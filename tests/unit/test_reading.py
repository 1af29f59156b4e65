# SPDX-License-Identifier: GPL-2.0-only
"""Runs read back from their folders, and what is said of those that cannot be."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from harness.cli import main
from harness.errors import UserError
from harness.results.reading import load_run
from harness.results.runfolder import RECORD, TrialResult, write_record
from harness.watch.kinds import OutcomeKind


def trial(run: Path, arm: str, index: int) -> TrialResult:
    """A finished trial in its folder."""
    folder = run / "trials" / f"{index:03d}-{arm}"
    folder.mkdir(parents=True)
    result = TrialResult(
        arm=arm,
        index=index,
        seed=index,
        kind=OutcomeKind.COMPLETED,
        title="20 iterations, 20 windows hit",
        signature="",
        is_bug=False,
        windows=20,
        iterations=20,
        seconds=2.5,
        preempt="none",
        folder=str(folder.relative_to(run)),
    )
    facts = {"arm": arm, "index": index, "seed": index, "scenario": "trylock-starvation"}
    write_record(folder, {"state": "finished", **facts, "result": result.as_json()})
    return result


@pytest.fixture
def run(tmp_path: Path) -> Path:
    folder = tmp_path / "run"
    results = [trial(folder, arm, 1) for arm in ("unfixed", "fixed")]
    record = {"state": "finished", "verb": "compare", "tree": "a tree", "reproduce": "hmm-harness compare"}
    evidence = [str(folder / result.folder) for result in results]
    write_record(folder, {**record, "result": {"verdict": "fixed", "evidence": evidence}})
    return folder


def test_trials_come_in_the_order_in_which_they_were_run(run: Path) -> None:
    found = load_run(run)
    assert (found.verb, found.state, found.tree, found.damaged) == ("compare", "finished", "a tree", ())
    assert [trial.arm for trial in found.trials] == ["unfixed", "fixed"]
    assert found.result and found.result["verdict"] == "fixed"


def test_a_trial_that_is_damaged_or_gone_is_named_and_the_others_are_there(run: Path) -> None:
    record = run / "trials" / "001-fixed" / RECORD
    record.write_text(record.read_text()[:40])
    found = load_run(run)
    assert [trial.arm for trial in found.trials] == ["unfixed"]
    assert len(found.damaged) == 1 and "001-fixed/run.json: no JSON, or cut short" in found.damaged[0]
    record.unlink()
    record.parent.rmdir()
    assert load_run(run).damaged == (f"{record.parent} is not there any more",)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "cut short"),
        ("[]", "no record of schema 1"),
        ('{"schema": 1}', "is not the folder of a run"),
        ('{"schema": 2, "verb": "compare"}', "has schema 2, this program reads up to 1"),
        ('{"schema": 1, "verb": "run", "state": "finished", "reproduce": ""}', "without a result"),
    ],
)
def test_what_is_no_run_is_said_to_be_none(run: Path, content: str, message: str) -> None:
    (run / RECORD).write_text(content)
    with pytest.raises(UserError, match=message):
        load_run(run)


def test_a_trial_is_no_run_and_the_hint_names_its_run(run: Path) -> None:
    with pytest.raises(UserError) as caught:
        load_run(run / "trials" / "001-fixed")
    assert caught.value.hint == f"that is a trial of {run}"


def test_export_writes_what_is_asked_for(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["export", str(run), "--format", "jsonl"]) == 0
    shown = capsys.readouterr().out
    kinds = [json.loads(line)["kind"] for line in shown.splitlines()]
    assert kinds == ["run", "trial", "missing", "trial", "missing"]  # no guest was recorded
    file = tmp_path / "out"
    assert main(["export", str(run), "--format", "jsonl", "-o", str(file)]) == 0
    assert file.read_text() == shown and capsys.readouterr().out == ""
    assert main(["export", str(run), "--format", "jsnl"]) == 2
    assert "did you mean jsonl?" in capsys.readouterr().err
