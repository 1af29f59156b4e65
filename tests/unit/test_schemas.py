# SPDX-License-Identifier: GPL-2.0-only
"""Every file of a run's folder is as the shipped JSON Schema says, for each verb."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator

from harness.cli import main
from harness.results.records import DOCUMENTS
from harness.results.runfolder import RECORD, read_record, write_record
from harness.results.schemas import file_of, generated
from tests.unit.runroom import simulated
from tests.unit.schemas import defects, folder_defects

CASES = """\
cases:
  - name: softlockup
    provokes: a loop in the kernel
    expect: {outcome: soft_lockup, console: soft_lockup, cpu: 1}
  - name: panic
    provokes: panic()
    expect: {outcome: panic, console: panic}
  - name: old
    provokes: what only old kernels do
    versions: "<6.0"
    expect: {outcome: panic}
"""


@pytest.mark.parametrize("name", DOCUMENTS)
def test_the_shipped_schemas_are_those_of_the_models(name: str) -> None:
    assert file_of(name).read_text() == generated(name), "run: python -m harness.results.schemas"
    Draft202012Validator.check_schema(json.loads(file_of(name).read_text()))


@pytest.mark.parametrize("state", ["finished", "interrupted", "failed"])
@pytest.mark.parametrize("verb", ["compare", "run", "selftest"])
def test_what_a_verb_leaves_is_as_described(
    verb: str, state: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    target = simulated(monkeypatch, tmp_path / "room")
    if state != "finished":
        target.breaks = (
            KeyboardInterrupt() if state == "interrupted" else OSError(28, "No space left on device")
        )
    (tmp_path / "cases.yaml").write_text(CASES)
    words = {
        "compare": ["compare", "--trials", "2"],
        "run": ["run", "--kernel", "base-without-wait"],
        "selftest": ["selftest", "--cases-file", str(tmp_path / "cases.yaml")],
    }[verb]
    status = main([*words, "--out", str(tmp_path / "runs"), "--cache", str(tmp_path / "room"), "--json"])
    assert status == {"finished": 1 if verb != "run" else 0, "interrupted": 130, "failed": 3}[state]
    (folder,) = (tmp_path / "runs").iterdir()
    assert folder_defects(folder) == []
    record = read_record(folder)
    assert (record["verb"], record["state"]) == (verb, state) and record["begun"] <= record["ended"]
    printed = capsys.readouterr()
    if state == "finished":
        assert main(["show", "--json", str(folder)]) == 0
        assert json.loads(capsys.readouterr().out) == json.loads(printed.out)
    assert main(["history", "--json"]) == 0
    newest = json.loads(capsys.readouterr().out)["runs"][0]
    assert (newest["folder"], newest["state"]) == (str(folder), state)


def test_a_real_comparison_is_as_described(recorded_run: Path) -> None:
    assert folder_defects(recorded_run) == []


def test_what_is_not_described_is_found(recorded_run: Path) -> None:
    record = read_record(recorded_run)
    write_record(recorded_run, {**record, "colour": "blue"})
    (trial, *_) = sorted(recorded_run.glob("trials/*/"))
    facts = read_record(trial)
    del facts["fingerprint"]
    write_record(trial, {**facts, "seed": "one"})
    found = folder_defects(recorded_run)
    assert len(found) == 3
    assert any("colour" in defect for defect in found) and any("fingerprint" in defect for defect in found)
    assert any("'one' is not of type 'integer'" in defect for defect in found)
    assert (trial / RECORD).is_file() and defects("run", {"schema": 1, "verb": "dance"})
