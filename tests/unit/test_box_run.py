# SPDX-License-Identifier: GPL-2.0-only
"""A comparison on a box, as it is recorded and told; the guests say what was recorded."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from harness.cli import main
from harness.target.protocol import Sample
from harness.target.recording import SAMPLES, sample_line
from tests.unit.runroom import comparison
from tests.unit.schemas import folder_defects

BOX = "name: lab1\nssh: {host: 127.0.0.1, port: 1, known_hosts: known_hosts}\n"


def test_a_run_says_which_box_it_was_on(tmp_path: Path) -> None:
    folder, text, _ = comparison(tmp_path / "runs", tmp_path, trials=1, box="lab1")
    assert "  guest    box lab1, 2 CPUs, preempt=none" in text
    assert "without us" not in text and not (folder / "repro").exists()
    (trial,) = folder.glob("trials/*-unfixed/run.json")
    record = json.loads(trial.read_text())
    assert record["boot"]["box"] == "lab1"
    assert record["provenance"]["qemu"] == "" and record["provenance"]["argv"] == []
    assert record["provenance"]["kernel"]["file"] == "bzImage"
    assert record["provenance"]["boot"]["build_id"]
    assert folder_defects(folder) == []
    # That it could be heard is all that is known of its CPUs.
    samples = [Sample(1.0 + n / 2, True, ()) for n in range(20)]
    with (trial.parent / SAMPLES).open("a") as sink:
        sink.writelines(sample_line(sample) for sample in samples)
    for format in ("html", "junit", "kcidb", "markdown", "jsonl"):
        assert main(["export", str(folder), "--format", format, "-o", str(tmp_path / format)]) == 0
    page = (tmp_path / "html").read_text()
    assert "box lab1" in page and "QEMU box" not in page
    assert '"comment": "box lab1, ' in (tmp_path / "kcidb").read_text()


def test_a_target_that_cannot_be(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "lab1.yaml"
    words = ["compare", "linux-6.12", "--target", str(file), "--out", str(tmp_path / "runs")]
    file.write_text("name: lab1\nssh: {hots: a}\n")
    assert main([*words, "--cache", str(tmp_path / "cache")]) == 2
    assert "lab1.yaml:2: ssh.hots: unknown key (did you mean 'host'?)" in capsys.readouterr().err
    assert main([*words, "--clock", "virtual"]) == 2
    assert "a target is no QEMU" in capsys.readouterr().err
