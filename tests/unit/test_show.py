# SPDX-License-Identifier: GPL-2.0-only
"""A run is shown again as it was printed at its end."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from harness.cli import main
from harness.results.runfolder import RECORD, open_record, read_record, run_facts
from tests.unit.runroom import REPRODUCE, comparison

Capture = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def printed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A run's folder, and what was printed at its end."""
    room = tmp_path_factory.mktemp("room")
    folder, text, _ = comparison(room / "runs", room)
    return folder, text


def test_a_comparison_is_shown_byte_for_byte(printed: tuple[Path, str], capsys: Capture) -> None:
    folder, text = printed
    assert "verdict: inconclusive" in text and "BUG: soft lockup" in text and REPRODUCE in text
    assert main(["show", str(folder)]) == 0
    assert capsys.readouterr().out == f"{text}\n"
    assert (folder / "report.txt").read_text() == f"{text.strip()}\n"
    assert main(["show", "--json", str(folder)]) == 0
    assert json.loads(capsys.readouterr().out) == read_record(folder)["result"]


def test_a_trial_is_shown_by_its_number_or_name(printed: tuple[Path, str], capsys: Capture) -> None:
    folder, _ = printed
    assert main(["show", str(folder), "--trial", "002-unfixed"]) == 0
    shown = capsys.readouterr().out
    assert "trial 2 of unfixed, seed 2" in shown and "outcome: soft_lockup" in shown
    assert f"evidence: {folder}/trials/002-unfixed" in shown and "again: " in shown
    assert main(["show", str(folder), "--trial", "1", "--json"]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert {row["arm"] for row in rows} == {"unfixed", "fixed"}
    assert main(["show", str(folder), "--trial", "9"]) == 2
    assert "has no trial '9'" in capsys.readouterr().err


def test_missing_evidence_is_said_and_the_rest_is_shown(
    printed: tuple[Path, str], tmp_path: Path, capsys: Capture
) -> None:
    folder = tmp_path / "moved"
    shutil.copytree(printed[0], folder)
    shutil.rmtree(folder / "trials" / "001-unfixed")
    record = folder / "trials" / "002-fixed" / RECORD
    record.write_text(record.read_text()[:99])
    assert main(["show", str(folder)]) == 2
    out, err = capsys.readouterr()
    assert "verdict: inconclusive" in out and f"evidence     {folder}" in out
    assert "001-unfixed is not there any more" in err and "002-fixed/run.json: no JSON, or cut short" in err


def test_evidence_that_somebody_removed_by_hand_is_missed(
    printed: tuple[Path, str], tmp_path: Path, capsys: Capture
) -> None:
    folder = tmp_path / "run"
    shutil.copytree(printed[0], folder)
    for trial in ("001-unfixed", "002-unfixed"):
        (folder / "trials" / trial / "console.log").unlink()
    assert main(["show", str(folder)]) == 0
    assert "of 001-unfixed and 1 more trials is not there any more" in capsys.readouterr().err
    assert main(["export", str(folder), "--format", "markdown"]) == 0
    assert "of 001-unfixed and 1 more trials is not there any more" in capsys.readouterr().err


def test_a_run_that_did_not_come_to_its_end_is_shown_as_far_as_it_came(
    printed: tuple[Path, str], tmp_path: Path, capsys: Capture
) -> None:
    folder = tmp_path / "run"
    shutil.copytree(printed[0], folder)
    with pytest.raises(OSError), open_record(folder, run_facts("compare", "again")):
        raise OSError("no space")
    assert main(["show", str(folder)]) == 0
    shown = capsys.readouterr().out
    assert "compare: failed\n  no space\n  4 trials finished" in shown and "001-unfixed" in shown
    record = read_record(folder)
    (folder / RECORD).write_text(json.dumps({**record, "state": "running"}))
    assert main(["show", str(folder)]) == 0
    assert "compare: killed" in capsys.readouterr().out
