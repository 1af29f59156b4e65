# SPDX-License-Identifier: GPL-2.0-only
"""Nights in a row, as a user has them: what is new, what is left, what was killed, who is told."""

from __future__ import annotations

import contextlib
import fcntl
import json
import re
import sqlite3
from pathlib import Path
from xml.etree import ElementTree

import pytest

from harness.arguments import experiment_named
from harness.cli import main
from harness.matrix.model import matrix_named
from harness.nightly.child import Ran
from harness.results.database import MIGRATIONS
from harness.results.runfolder import RECORD, read_record, write_record
from tests.unit.kernelroom import mounted
from tests.unit.nightroom import BUG, FILE, WARNING, Room, Verbs, as_always
from tests.unit.runroom import fill
from tests.unit.schemas import folder_defects
from tests.unit.sources import git, make_repository

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Room:
    return Room(tmp_path, monkeypatch)


def broken(tree: str, scenario: str, kernel: str) -> list[tuple[str, bool, int]]:
    """The tip of mainline has the bug itself."""
    if (tree, scenario) == ("mainline", "trylock-starvation"):
        return [(BUG, True, 6)]
    return list(as_always(tree, scenario, kernel))


def test_a_regression_is_called_with_the_command_that_finds_it(room: Room, capsys: Capture) -> None:
    good = room.tips["mainline"]
    assert room.night(Verbs()) == 0 and "none fails" in room.last["reason"]
    bad = room.advance()
    assert room.night(Verbs(broken)) == 1
    (finding,) = room.last["findings"]
    assert (finding["kind"], finding["good"], finding["bad"]) == ("new_failure", good, bad)
    assert finding["where"] == "mainline/trylock-starvation: fixed, preempt=none, 2 CPUs"
    assert finding["p_value"] < 0.05 and "6 of 6 trials, in none of 6 trials" in finding["said"]
    words = finding["bisect"].split()
    ends = ["--tree", f"git:{room.place / 'linux'}", "--good", good, "--bad", bad]
    assert words[1:8] == ["bisect", *ends] and words[8:12] == [
        "--experiment", "runs/mainline.trylock-starvation/experiment.yaml", "--kernel", "fixed",
    ]  # fmt: skip
    assert str(room.place / "store.sqlite") in finding["bisect"]
    said = capsys.readouterr().out
    assert "regression" in said and BUG in said and finding["bisect"] in said
    # A night later it is no news, and still there; then it is mended.
    assert room.night(Verbs(broken)) == 0
    (still,) = room.last["still"]
    assert still["good"] == good and "as in 1 of the last 2 nights" in still["said"]
    assert room.night(Verbs()) == 0 and not room.last["still"]
    assert [night["folder"] for night in nights(room, capsys)] == [str(path) for path in room.folders[::-1]]


def nights(room: Room, capsys: Capture) -> list[dict[str, str]]:
    capsys.readouterr()
    assert main(["history", "--of", "nightly", "--json", "--store", str(room.place / "store.sqlite")]) == 0
    found: list[dict[str, str]] = json.loads(capsys.readouterr().out)["runs"]
    return found


def test_the_command_is_one_that_the_program_takes(room: Room, capsys: Capture) -> None:
    """bisect reads it as it stands: the first thing wrong is that no real run wrote the experiment."""
    room.night(Verbs())
    room.advance()
    room.night(Verbs(broken))
    capsys.readouterr()
    assert main(room.last["findings"][0]["bisect"].split()[1:]) == 2
    assert "no experiment 'runs/mainline.trylock-starvation/experiment.yaml'" in capsys.readouterr().err


def test_what_a_night_leaves_is_as_described_and_shown_again(room: Room, capsys: Capture) -> None:
    room.night(Verbs())
    room.advance()
    capsys.readouterr()
    assert room.night(Verbs(broken), "--json") == 1
    printed = json.loads(capsys.readouterr().out)
    (folder,) = [path for path in room.folders if read_record(path)["result"]["verdict"] == "regression"]
    assert folder_defects(folder) == [] and read_record(folder)["result"] == printed
    assert main(["show", str(folder)]) == 0
    assert capsys.readouterr().out.strip() == (folder / "report.txt").read_text().strip()
    markdown, page = (folder / "report.md").read_text(), (folder / "report.html").read_text()
    assert "# ❌ Night of" in markdown and f"```sh\n  {printed['findings'][0]['bisect']}\n" in markdown
    assert "What differs" in page and "new failure" in page and "mainline" in page
    assert "The night" in page and "2 of 2 as expected" in page
    assert main(["export", str(folder), "--format", "junit"]) == 0
    suites = ElementTree.fromstring(capsys.readouterr().out)
    marks = {
        (case.get("classname"), case.get("name", "").split(":")[0]): [child.tag for child in case]
        for case in suites.iter("testcase")
        if case.get("name") != "verdict"
    }
    assert marks == {
        ("mainline", "trylock-starvation"): ["failure"],
        ("mainline", "churn"): ["system-out"],
        ("stable", "trylock-starvation"): ["system-out"],
        ("stable", "churn"): ["system-out"],
    }
    assert printed["findings"][0]["bisect"] in "".join(suites.itertext())
    assert main(["export", str(folder), "--format", "markdown"]) == 0
    assert capsys.readouterr().out == markdown
    assert main(["export", str(folder), "--format", "ktap"]) == 0
    told = [line.split(":")[0] for line in capsys.readouterr().out.splitlines() if "ok " in line]
    assert told == [
        "  not ok 1 mainline trylock-starvation", "  ok 2 mainline churn", "not ok 1 mainline",
        "  ok 1 stable trylock-starvation", "  ok 2 stable churn", "ok 2 stable",
        "not ok 3 verdict # regression",
    ]  # fmt: skip
    assert main(["export", str(folder), "--format", "kcidb"]) == 2  # no matrix left a folder


def test_without_the_control_nothing_is_said(room: Room) -> None:
    def weak(tree: str, scenario: str, kernel: str) -> list[tuple[str, bool, int]]:
        return [] if tree == "mainline" else list(as_always(tree, scenario, kernel))

    assert room.night(Verbs(weak)) == 3
    assert room.last["verdict"] == "not_judged"
    why = {(cell["tree"], cell["label"]): cell["why"] for cell in room.last["cells"] if not cell["judged"]}
    assert why == {
        ("mainline", "trylock-starvation"): "the control, unfixed, did not show the bug in 6 trials",
        ("mainline", "churn"): "no control of this tree showed its bug",
    }


@pytest.mark.parametrize(
    ("verbs", "said"),
    [
        (Verbs(missed=("oops",)), r"the self-test missed oops \(panic instead of panic"),
        (Verbs(instead={"selftest": Ran(3, {}, "no QEMU")}), "did not come to its end: no QEMU"),
        (Verbs(instead={"selftest": Ran(None)}), "did not come to its end: the budget was over"),
    ],
    ids=["missed", "machine", "time"],
)
def test_without_detectors_nothing_is_run(room: Room, verbs: Verbs, said: str) -> None:
    assert room.night(verbs) == 3
    assert re.search(said, room.last["reason"]) and verbs.units == [] and room.last["cells"] == []


def test_what_the_self_test_missed_for_a_moment_is_tried_again(room: Room) -> None:
    verbs = Verbs(missed=("oops",), recovers=True)
    assert room.night(verbs) == 0 and room.last["detectors"]["good"] == 2
    assert [words[-8:-6] for words in verbs.called[:2]][1] == ("--case", "oops")


def test_a_unit_that_fails_or_a_tree_that_is_away_takes_itself_only(room: Room) -> None:
    del room.tips["stable"]
    room.file.write_text(FILE.replace("url: linux, revision: v1", 'url: "http://127.0.0.1:9/x"'))
    verbs = Verbs(instead={"mainline.churn": Ran(3, {}, "no space left")})
    assert room.night(verbs) == 3
    states = {unit["name"]: (unit["state"], unit["reason"]) for unit in room.last["units"]}
    assert states["mainline/trylock-starvation"] == ("done", "")
    assert states["mainline/churn"] == ("failed", "no space left")
    assert "does not answer" in states["stable/*"][1]
    # A regression that was seen is said all the same.
    room.advance()
    assert room.night(Verbs(broken, instead=verbs.instead)) == 1


def test_interrupted_it_goes_on_without_repeating(room: Room, capsys: Capture) -> None:
    verbs = Verbs(instead={"stable.trylock-starvation": KeyboardInterrupt()})
    assert room.night(verbs) == 130 and "go on with:" in capsys.readouterr().err
    (folder,) = room.folders
    assert read_record(folder)["state"] == "interrupted" and folder_defects(folder) == []
    again = Verbs()
    assert room.night(again) == 0 and room.folders == [folder]
    assert again.units == ["stable.trylock-starvation", "stable.churn"]
    assert not [words for words in again.called if words[0] == "selftest"]
    assert len(room.last["cells"]) == 6
    # Killed without a word: the record still says running.
    room.advance()
    room.night(Verbs(instead={"mainline.churn": KeyboardInterrupt()}))
    newest = max(room.folders, key=lambda path: read_record(path)["begun"])
    record = {key: value for key, value in read_record(newest).items() if key not in ("schema", "ended")}
    write_record(newest, {**record, "state": "running"})
    assert room.night(Verbs()) == 0 and len(room.folders) == 2
    # A tip that moved is another night.
    room.night(Verbs(instead={"mainline.churn": KeyboardInterrupt()}))
    room.advance()
    assert room.night(Verbs()) == 0 and len(room.folders) == 4


def test_a_second_night_on_the_target_says_who_is_there(room: Room, capsys: Capture) -> None:
    assert room.night(Verbs()) == 0
    with (room.place / "cache/locks/nightly-qemu.lock").open() as holder:
        fcntl.flock(holder, fcntl.LOCK_EX)
        assert room.night(Verbs()) == 3
    said = capsys.readouterr().err
    assert f"another night is at work on qemu: {room.file}, process" in said and "since 20" in said


def test_a_night_on_a_box_has_its_self_test_in_qemu(room: Room, capsys: Capture) -> None:
    box = room.place / "lab1.yaml"
    box.write_text("name: lab1\nssh: {hots: 127.0.0.1}\n")
    room.file.write_text(FILE.replace("nights: 3", "nights: 3\ntarget: lab1.yaml"))
    verbs = Verbs()
    assert room.night(verbs) == 2 and verbs.called == []
    assert "lab1.yaml:2: ssh.hots: unknown key" in capsys.readouterr().err
    (room.place / "known_hosts").touch()
    box.write_text("name: lab1\nssh: {host: 127.0.0.1, known_hosts: known_hosts}\n")
    assert room.night(verbs) == 0 and room.last["target"] == "lab1.yaml"
    assert {matrix_named(words[1]).target for words in verbs.called if words[0] == "matrix"} == {str(box)}
    (selftest,) = [words for words in verbs.called if words[0] == "selftest"]
    experiment = experiment_named(selftest[selftest.index("--experiment") + 1])
    assert experiment.target == "" and selftest[selftest.index("--fragment") + 1] == "box"
    # Nights in QEMU are no nights on the box, and the box's regressions are none of QEMU's.
    room.advance()
    assert room.night(Verbs(broken)) == 1
    (finding,) = room.last["findings"]
    assert (finding["bisect"], finding["no_bisect"]) == (
        "",
        "bisect runs in QEMU, and this was seen on a box",
    )
    assert room.last["compared"]
    room.file.write_text(FILE)
    assert room.night(Verbs()) == 0 and not room.last["compared"]


def test_a_full_disk_and_a_newer_store_are_said(room: Room, tmp_path: Path, capsys: Capture) -> None:
    with mounted(tmp_path / "disk", "400k") as disk:
        fill(disk)
        assert room.night(Verbs(), "--out", str(disk)) == 3
        assert "No space left" in capsys.readouterr().err
    assert room.night(Verbs()) == 0
    with contextlib.closing(sqlite3.connect(room.place / "store.sqlite")) as connection:
        connection.execute(f"PRAGMA user_version = {len(MIGRATIONS) + 1}")
    verbs = Verbs()
    assert room.night(verbs) == 2 and "newer version" in capsys.readouterr().err and verbs.called == []


def test_bisections_are_run_on_request(room: Room) -> None:
    room.file.write_text(FILE + "auto_bisect: true\n")
    room.night(Verbs())
    room.advance()
    verbs = Verbs(broken)
    assert room.night(verbs) == 1
    assert room.last["findings"][0]["bisected"] == 'culprit: cccccccccccc ("mm: break it") (see runs/2)'
    assert verbs.called[-1][0] == "bisect"
    room.advance()
    room.night(Verbs())
    room.advance()
    # None is begun for what is not new; one that is out of time can go on.
    late = Verbs(broken, instead={"bisect": Ran(None)})
    room.file.write_text(FILE.replace("nights: 3", "nights: 1") + "auto_bisect: true\n")
    assert room.night(late) == 1 and "goes on where this was ended" in room.last["findings"][0]["bisected"]


def test_known_issues_are_none_until_they_expire(room: Room) -> None:
    entry = "issues:\n  - {signature: %s, since: 2026-01-01, link: 'https://example.org/1', expires: %s}\n"
    room.file.write_text(FILE + "known_issues: known.yaml\n")

    def warns(tree: str, scenario: str, kernel: str) -> list[tuple[str, bool, int]]:
        return [(WARNING, False, 2)] if scenario == "churn" else list(as_always(tree, scenario, kernel))

    known = room.place / "known.yaml"
    known.write_text(entry % ('"warning < mark_buffer_dirty"', "2999-01-01"))
    assert room.night(Verbs(warns)) == 0
    assert {seen["link"] for seen in room.last["known"]} == {"https://example.org/1"}
    known.write_text(entry % ('"warning < mark_buffer"', "2999-01-01"))
    assert room.night(Verbs(warns)) == 0 and not room.last["known"], "part of a frame's name is none"
    assert len(room.last["still"]) == 2
    known.write_text(entry % ('"warning < mark_buffer_dirty"', "2026-02-01"))
    assert room.night(Verbs(warns)) == 1
    assert {finding["kind"] for finding in room.last["findings"]} == {"expired"}
    assert "expired on 2026-02-01" in room.last["complaints"][0]


def test_a_branch_is_followed_to_its_tip(room: Room, capsys: Capture) -> None:
    repository = make_repository(room.place / "repository")
    room.tips.clear()
    room.file.write_text(FILE.replace("url: linux", "url: repository").replace("next", "main"))
    verbs = Verbs()
    assert room.night(verbs) == 0
    tips = {tree["name"]: tree["revision"] for tree in room.last["trees"]}
    assert tips == {
        name: git(repository, "rev-parse", place) for name, place in (("mainline", "main"), ("stable", "v1"))
    }
    # What is run is that commit, whatever becomes of the branch meanwhile.
    job = (room.folders[0] / "jobs/mainline.churn.yaml").read_text()
    assert f"revision: {tips['mainline']}" in job and f"url: {repository}" in job
    room.file.write_text(room.file.read_text().replace("revision: v1", "revision: v7"))
    assert room.night(verbs) == 2
    assert "trees.stable:" in (said := capsys.readouterr().err) and "has no revision 'v7'" in said


@pytest.mark.parametrize(
    ("good", "bad", "said"),
    [
        ("budget_minutes: 30", "budget_minutes: 0", "hmm.yaml:1: budget_minutes"),
        ("nights: 3", "nihgts: 3", "hmm.yaml:2: nihgts"),
        ("revision: v1}}", "revision: v1}, matrix: six}", "names the matrix six"),
        ("control: unfixed", "control: unfixd", "did you mean unfixed"),
        ("- trylock-starvation\n", "- trylock-starvatoin\n", "did you mean trylock-starvation"),
        ("x86-preempt-choice]", "x86-preempt-chioce]", "did you mean x86-preempt-choice"),
        ("    trials: 6", "    trials: 6\n    tree: {kind: debian}", "has its trees under `trees`"),
        ("nights: 3", "nights: 3\ntarget: box.yaml", "target: no file 'box.yaml'"),
        ("    trials: 6", "    trials: 6\n    target: box.yaml", "a night has one `target`"),
        (
            "    trials: 6",
            "    trials: 6\n    boot: {clock: virtual}\ntarget: box.yaml",
            "matrices.seven: a target is no QEMU: leave out boot.clock",
        ),
        ("nights: 3", "nights: 3\nknown_issues: none.yaml", "known_issues: no file"),
        ("nights: 3", "nights: 3\nselftest: {cases: [soft-lokcup]}", "did you mean soft-lockup"),
        ("nights: 3", "nights: 3\nnotify: {mail: {to: [a@b], from: a@b, user: x}}", "password_file"),
    ],
)
def test_bad_input_is_said_before_anything_runs(
    room: Room, good: str, bad: str, said: str, capsys: Capture
) -> None:
    room.file.write_text(FILE.replace(good, bad))
    verbs = Verbs()
    assert room.night(verbs) == 2
    assert re.search(said, capsys.readouterr().err) and verbs.called == []
    assert not (room.place / "runs").exists()


def test_all_errors_of_a_file_are_reported_at_once(room: Room, capsys: Capture) -> None:
    text = FILE.replace("nights: 3", "nights: 0").replace("trials: 6", "trails: 6")
    room.file.write_text(text.replace("budget_minutes: 30\n", ""))
    assert room.night(Verbs()) == 2
    said = capsys.readouterr().err
    assert "hmm.yaml:1: nights" in said and "trails" in said and "budget_minutes" in said


def test_the_record_of_a_night_can_be_put_into_a_store_that_lost_it(room: Room, tmp_path: Path) -> None:
    room.night(Verbs())
    other = tmp_path / "other.sqlite"
    assert main(["history", "--rebuild", str(room.place / "runs"), "--store", str(other)]) == 0
    room.advance()
    assert room.night(Verbs(broken), "--store", str(other)) == 1
    assert len(room.last["compared"]) == 1 and (room.folders[0] / RECORD).is_file()
