# SPDX-License-Identifier: GPL-2.0-only
"""The command line: exit codes, messages, and that nothing but JSON is on standard output with --json."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from harness.cli import main
from harness.errors import UserError
from harness.verbs import compare as compare_verb
from harness.verbs import run as run_verb
from tests.unit.runroom import simulated

DATA = Path(__file__).resolve().parents[1] / "data" / "console"
LOCKUP = DATA / "7.3-unfixed-preempt-none-soft-lockup.log"
CLEAN = DATA / "7.3-fixed-preempt-none-completes.log"


def test_classify_tells_a_lockup_from_a_clean_log(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["classify", "--json", str(LOCKUP), str(CLEAN)]) == 1
    first, second = (json.loads(line) for line in capsys.readouterr().out.splitlines())
    assert first["outcome"] == "soft_lockup" and first["file"] == str(LOCKUP)
    event = first["events"][0]
    assert (event["class"], event["cpu"], event["task"]) == ("soft_lockup", 1, "stress:53")
    assert second == {"file": str(CLEAN), "outcome": "completed", "title": second["title"], "events": []}


def test_classify_ends_with_zero_when_nothing_is_found(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["classify", str(CLEAN)]) == 0
    assert "completed" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["classify", "/nonexistent/log"], "/nonexistent/log"),
        (["compare", "linux-8"], "did you mean linux-7?"),
        (["compare", "--scenario", "trylock-starvatoin"], "did you mean trylock-starvation?"),
        (["compare", "--patch", "fxied=/dev/null"], "did you mean fixed?"),
        (["compare", "--patch", "no-such-file.patch"], "no patch 'no-such-file.patch'"),
        (["compare", "--set", "iterations=none"], "must be a whole number"),
        (["run", "--kernel", "base", "--fragment", "debgu"], "did you mean debug?"),
        (["compare", "--trials", "0"], "trials"),
        (["compare", "--cpus", "1"], "needs 2 CPUs"),
        (["compare", "--seeds", "1-20"], "cannot read --seeds '1-20'"),
        (["compare", "--seeds", "20..1"], "--seeds FIRST..LAST"),
        (["compare", "--seeds", "1..99999"], "trials"),
        (["compare", "--seeds", "2147483648..2147483649"], "seed"),
        (["compare", "--seeds", "1..3", "--trials", "3"], "--trials"),
        (["compare", "--clock", "virtual", "--accel", "kvm"], "clock: virtual needs TCG"),
        (["compare", "--tree", "cvs:x"], "cannot read the tree"),
        (["compare", "--resume", "/nonexistent"], "/nonexistent"),
        (["run", "--kernel", "bsae"], "did you mean base?"),
        (["run", "--kernel", "base", "--set", "pages"], "--set 'pages'"),
    ],
)
def test_bad_input_ends_with_two_and_says_what_to_do(
    words: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    places = ["--cache", str(tmp_path / "cache"), "--out", str(tmp_path / "runs")]
    assert main([*words, *(places if words[0] != "classify" else [])]) == 2
    said = capsys.readouterr().err
    assert message in said and said.startswith("error: ")
    assert not (tmp_path / "runs").exists(), "bad input must leave nothing behind"


@pytest.mark.parametrize("words", [["compare"], ["run", "--kernel", "base"]], ids=lambda words: words[0])
def test_what_is_refused_late_leaves_nothing_behind_either(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    simulated(monkeypatch, tmp_path / "room")

    def refuse(*rest: object) -> None:
        (kept,) = tmp_path.glob("runs/*/patches/*")
        raise UserError(f"{kept} is damaged: no hunk")

    monkeypatch.setattr(compare_verb, "arm_kernels", refuse)
    monkeypatch.setattr(run_verb, "ready", refuse)
    (tmp_path / "fix.patch").write_text("--- a/x\n+++ b/x\n@@ -1 +1 @@\n-a\n+b\n")
    places = ["--cache", str(tmp_path / "cache"), "--out", str(tmp_path / "runs")]
    store = ["--store", str(tmp_path / "store")]
    assert main([*words, "--patch", str(tmp_path / "fix.patch"), *places, *store]) == 2
    assert "error: 01-fix.patch is damaged: no hunk" in capsys.readouterr().err
    assert list((tmp_path / "runs").iterdir()) == [] and not (tmp_path / "store").exists()


def recorded(folder: Path, **record: object) -> Path:
    """A run's folder with a `run.json`."""
    folder.mkdir()
    (folder / "run.json").write_text(json.dumps({"schema": 1, **record}))
    return folder


def test_a_finished_comparison_is_not_resumed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = recorded(tmp_path / "run", verb="compare", state="finished", result={"verdict": "fixed"})
    before = (folder / "run.json").read_bytes()
    assert main(["compare", "--resume", str(folder)]) == 2
    assert "is finished: fixed" in capsys.readouterr().err
    assert (folder / "run.json").read_bytes() == before


def test_resume_refuses_what_would_change_the_experiment(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = recorded(tmp_path / "run", verb="compare", state="interrupted")
    assert main(["compare", "--resume", str(folder), "--trials", "3", "--set", "pages=1"]) == 2
    said = capsys.readouterr().err
    assert "--trials" in said and "--set" in said


def test_a_trial_is_no_comparison(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = recorded(tmp_path / "trial", state="finished")
    assert main(["compare", "--resume", str(folder)]) == 2
    assert "not the folder of a comparison" in capsys.readouterr().err


def test_classify_reads_the_other_files_too(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["classify", "--json", "/nonexistent/log", str(LOCKUP)]) == 2
    out, err = capsys.readouterr()
    assert json.loads(out)["outcome"] == "soft_lockup" and "/nonexistent/log" in err


def test_a_file_that_is_no_console_is_doubted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "empty").touch()
    assert main(["classify", str(tmp_path / "empty")]) == 0
    assert "is this a console?" in capsys.readouterr().out


def test_boot_without_a_terminal_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["boot", "base"]) == 2
    assert "needs a terminal" in capsys.readouterr().err


def test_a_place_that_cannot_be_written_is_a_fault_of_the_machine(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    words = ["run", "--kernel", "base", "--cache", str(tmp_path), "--out", str(tmp_path / "file" / "runs")]
    assert main(words) == 3
    assert str(tmp_path / "file") in capsys.readouterr().err


def test_an_unknown_verb_ends_with_two() -> None:
    with pytest.raises(SystemExit) as caught:
        main(["reproduce"])
    assert caught.value.code == 2


def test_doctor_names_what_is_missing_and_how_to_mend_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    words = ["doctor", "--json", "--cache", str(tmp_path), "--out", str(tmp_path)]
    assert main(words) == 3
    found = {finding["what"]: finding for finding in json.loads(capsys.readouterr().out)}
    assert found["qemu-system-x86_64"]["ok"] is False
    assert found["qemu-system-x86_64"]["mend"] == "apt-get install qemu-system-x86"
    assert found["busybox"]["ok"] is False and found["busybox"]["needed"] is False
