# SPDX-License-Identifier: GPL-2.0-only
"""A real run in every format, read by the programs that such files are for; and runs with hostile words."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import kcidb_io
import pytest
from junitparser import Error, Failure, JUnitXml, Skipped
from pydantic import TypeAdapter

from harness.cli import main
from harness.deadline import Deadline
from harness.errors import UserError
from harness.process import run as run_process
from harness.results.formats import FORMATS
from harness.results.formats.options import Options
from harness.results.pruning import Pruned, carry_out
from harness.results.reading import load_run
from harness.results.runfolder import RECORD
from harness.watch.ktap import Case, CaseStatus, Report

XSD = Path(__file__).resolve().parents[1] / "data" / "junit.xsd"

#: What a console or a patch could say to be taken for something else.
HOSTILE = (
    "</failure><script>alert(1)</script>]]>",
    "ok 1 no test",
    "1..9",
    "KTAP version 9",
    "# Subtest: none",
    "Subtest: none",
    "reboot: System halted",
    "\x1b[31mred\x00\x9b\u202eright to left\udcff",
    "``` ````",
    "| a | b # SKIP nothing",
)


def export(folder: Path, name: str, **told: Any) -> str:
    return FORMATS[name](load_run(folder), Options(**told))


def change(folder: Path, **result: Any) -> None:
    """Give a finished trial other results."""
    path = folder / RECORD
    record = json.loads(path.read_text())
    record["result"] |= result
    path.write_text(json.dumps(record))


def verdict(folder: Path, word: str, reason: str = "because") -> None:
    change(folder, verdict=word, reason=reason)


@pytest.fixture
def hostile_run(recorded_run: Path) -> Path:
    """The recorded run, with trials of many ends and hostile words wherever a guest's words go."""
    ends = ["oops", "not_exercised", "infra_error", "timeout", "starved"]
    bug = {"is_bug": False, "proof": "", "cycle": []}
    for outcome, trial in zip(ends, sorted(recorded_run.glob("trials/*/")), strict=False):
        change(trial, outcome=outcome, title=" ".join(HOSTILE), splat=HOSTILE, **bug)
    change(recorded_run / "trials" / "003-unfixed", splat=HOSTILE)
    verdict(recorded_run, "not_fixed", " ".join(HOSTILE))
    return recorded_run


def validated_junit(text: str, place: Path) -> JUnitXml:
    """The document as a reader has it, once it is valid."""
    path = place / "junit.xml"
    path.write_text(text, encoding="utf-8")
    argv = ["xmllint", "--noout", "--schema", str(XSD), str(path)]
    done = run_process(argv, deadline=Deadline.after(30), check=False)
    assert done.ok, done.output
    return JUnitXml.fromfile(str(path))


def ends(xml: JUnitXml) -> dict[str, list[str]]:
    """What each case of a suite holds: the type of its result, or passed."""
    return {
        suite.name: [next((kind.type for kind in case.result), "passed") for case in suite] for suite in xml
    }


def test_junit_of_a_fixed_kernel_has_no_red_case(recorded_run: Path, tmp_path: Path) -> None:
    xml = validated_junit(export(recorded_run, "junit"), tmp_path)
    assert ends(xml) == {"unfixed": ["expected-failure"] * 3, "fixed": ["passed"] * 3, "compare": ["passed"]}
    (told,) = next(iter(next(iter(xml)))).result
    assert isinstance(told, Skipped)
    assert (
        "which awaits lru_add_drain_per_cpu" in told.text and "signature: livelock < hmm_range" in told.text
    )


def test_junit_tells_failures_errors_and_what_was_not_exercised(hostile_run: Path, tmp_path: Path) -> None:
    xml = validated_junit(export(hostile_run, "junit"), tmp_path)
    cases = {case.result[0].type: case for suite in xml for case in suite if case.result}
    kinds = {name: type(case.result[0]) for name, case in cases.items()}
    assert kinds == {
        "oops": Failure, "starved": Failure, "not_fixed": Failure, "not_exercised": Skipped,
        "infra_error": Error, "timeout": Error, "expected-failure": Skipped,
    }  # fmt: skip
    assert HOSTILE[0] in cases["oops"].result[0].text and "\\x1b[31mred" in cases["oops"].result[0].text
    assert (xml.tests, xml.failures, xml.errors) == (7, 3, 2)


def test_a_self_test_fails_where_a_failure_was_not_noticed(recorded_run: Path, tmp_path: Path) -> None:
    path = recorded_run / RECORD
    record = json.loads(path.read_text())
    reported = {"outcome": "livelock", "console": None, "cpu": None}
    case = {"provokes": "a livelock", "expected": reported, "reported": reported, "title": "", "seconds": 1.0}
    cases = [
        {**case, "name": "unfixed", "as_expected": True, "evidence": ""},
        {**case, "name": "fixed", "as_expected": False, "evidence": ""},
    ]
    kernel = record["result"]["arms"][0]["kernel"]
    done = {"schema": 1, "kernel": kernel, "cases": cases, "missed": ["fixed"], "skipped": []}
    done |= {"evidence": "", "seconds": 1.0}
    path.write_text(json.dumps(record | {"verb": "selftest", "kernel": "base", "result": done}))
    found = ends(validated_junit(export(recorded_run, "junit"), tmp_path))
    assert found == {
        "unfixed": ["expected-failure"] * 3,
        "fixed": ["completed"] * 3,  # the failure that nobody noticed
        "selftest": ["1 of 2 as expected"],
    }
    assert "MISSED" in export(recorded_run, "html")


def suite(trial: Path) -> None:
    """Give a trial the record of a suite of tests: one of each end, one in another, some hostile."""
    words = [line.encode(errors="backslashreplace").decode() for line in HOSTILE]
    deep = [Case(1, "deep", CaseStatus.FAILED, "", ("# it broke", *words))]
    cases = (
        Case(1, "group", CaseStatus.FAILED, cases=tuple(deep)),
        Case(2, "fine", CaseStatus.PASSED),
        Case(3, "not here", CaseStatus.SKIPPED, "no device"),
        Case(4, "known", CaseStatus.EXPECTED, "a known bug"),
        Case(5, HOSTILE[0] + " # SKIP\n1..9", CaseStatus.PASSED),
    )
    report = TypeAdapter(Report).dump_json(Report(plan=5, cases=cases, defects=()))
    (trial / "tests.json").write_bytes(report)
    change(trial, outcome="test_failed", is_bug=False, title="group.deep failed", cycle=[])


def test_the_cases_of_a_suite_are_told_one_by_one(recorded_run: Path, tmp_path: Path) -> None:
    suite(recorded_run / "trials" / "001-fixed")
    xml = validated_junit(export(recorded_run, "junit"), tmp_path)
    cases = next(suite for suite in xml if suite.name == "fixed")
    found = {case.name: [kind.type for kind in case.result] for case in cases}
    assert found["group.deep"] == ["test_failed"] and found["fine"] == [] and found["not here"] == ["skipped"]
    assert found["known"] == ["expected-failure"] and found["trial 1, seed 1"] == ["test_failed"]
    report = json.loads(export(recorded_run, "kcidb"))
    kcidb_io.schema.V5_3.validate(report)
    paths = {test["path"].rpartition("starvation.")[2]: test["status"] for test in report["tests"]}
    assert paths["group.deep"] == "FAIL" and paths["known"] == "PASS" and paths["not_here"] == "SKIP"
    assert len({test["id"] for test in report["tests"]}) == len(report["tests"]) == 6 + 5


def test_kcidb_takes_it(recorded_run: Path) -> None:
    report = json.loads(export(recorded_run, "kcidb", origin="my_lab"))
    kcidb_io.schema.V5_3.validate(report)
    assert Counter(test["status"] for test in report["tests"]) == {"FAIL": 3, "PASS": 3}
    # The schema does not follow its references.
    assert {test["build_id"] for test in report["tests"]} == {build["id"] for build in report["builds"]}
    assert {b["checkout_id"] for b in report["builds"]} == {c["id"] for c in report["checkouts"]}
    assert len({checkout["patchset_hash"] for checkout in report["checkouts"]}) == 2
    failed = next(test for test in report["tests"] if test["status"] == "FAIL")
    assert failed["id"].startswith("my_lab:") and "lru_add_drain_all" in failed["log_excerpt"]


def test_kcidb_is_told_the_commit_of_a_tree_from_git_and_none_of_a_package(recorded_run: Path) -> None:
    def checkouts() -> list[dict[str, Any]]:
        report = json.loads(export(recorded_run, "kcidb"))
        kcidb_io.schema.V5_3.validate(report)
        found: list[dict[str, Any]] = report["checkouts"]
        return found

    package = checkouts()
    assert all("git_commit_hash" not in one and "Debian linux-source" in one["comment"] for one in package)
    for path in recorded_run.rglob(RECORD):
        text = path.read_text().replace('"config_sha"', f'"commit": "{"c" * 40}", "config_sha"')
        path.write_text(text)
    assert {one["git_commit_hash"] for one in checkouts()} == {"c" * 40}
    assert not {one["id"] for one in checkouts()} & {one["id"] for one in package}


def test_kcidb_has_a_status_for_each_end(hostile_run: Path) -> None:
    report = json.loads(export(hostile_run, "kcidb"))
    kcidb_io.schema.V5_3.validate(report)
    found = Counter(test["status"] for test in report["tests"])
    assert found == {"FAIL": 3, "SKIP": 1, "MISS": 1, "ERROR": 1}
    with pytest.raises(UserError, match="--origin"):
        export(hostile_run, "kcidb", origin="My Lab")


def test_json_lines_hold_what_the_trials_were_judged_by(recorded_run: Path) -> None:
    rows = [json.loads(line) for line in export(recorded_run, "jsonl").splitlines()]
    kinds = Counter(row["kind"] for row in rows)
    assert kinds["run"] == 1 and kinds["trial"] == 6 and kinds["examination"] == 3
    assert kinds["agent_message"] > 60 and kinds["console_began"] == 6
    for trial in {row["trial"] for row in rows if "host_s" in row}:
        times = [row["host_s"] for row in rows if row.get("trial") == trial and "host_s" in row]
        assert times == sorted(times) and (recorded_run / trial / RECORD).is_file()
    looked = next(row for row in rows if row["kind"] == "examination")
    assert looked["proof"] == "cycle" and "hmm_range_fault_locked" in looked["frames"]


def test_json_lines_say_which_trial_has_no_record(recorded_run: Path) -> None:
    (recorded_run / "trials" / "001-fixed" / "console.log").unlink()
    rows = [json.loads(line) for line in export(recorded_run, "jsonl").splitlines()]
    (missing,) = [row for row in rows if row["kind"] == "missing"]
    assert missing["trial"] == "trials/001-fixed" and "no record of a guest" in missing["why"]


def test_markdown_has_the_table_and_no_word_of_a_guest_is_markup(hostile_run: Path) -> None:
    text = export(hostile_run, "markdown")
    assert "hmm-harness: not\\_fixed" in text and "| unfixed | base-without-wait | 3 |" in text
    outside: list[str] = []
    fenced: list[str] = []
    fence = ""
    for line in text.splitlines():
        mark = re.fullmatch("(`{3,})(?:text)?", line)
        if mark and fence in ("", mark[1]):
            fence = "" if fence else mark[1]
        else:
            (fenced if fence else outside).append(line)
    assert fence == "" and "``` ````" in fenced and any("<script>" in line for line in fenced)
    assert not any("<script>" in line for line in outside)
    rows = [line for line in outside if line.startswith("|")]
    assert {len(re.findall(r"(?<!\\)\|", row)) for row in rows} == {9}


@pytest.mark.parametrize("name", FORMATS)
def test_a_run_that_was_cut_short_can_be_exported(recorded_run: Path, tmp_path: Path, name: str) -> None:
    for path in (recorded_run / RECORD, recorded_run / "trials" / "003-fixed" / RECORD):
        record = json.loads(path.read_text())
        del record["result"]
        path.write_text(json.dumps(record | {"state": "interrupted"}))
    target = tmp_path / "file"
    assert main(["export", str(recorded_run), "--format", name, "-o", str(target)]) == 0
    text = target.read_text()
    assert "interrupted" in text and "lru_add_drain_all" in text
    if name == "junit":
        assert ends(validated_junit(text, tmp_path))["fixed"] == ["passed", "passed", "interrupted"]
    if name == "kcidb":
        kcidb_io.schema.V5_3.validate(json.loads(text))


def test_a_run_without_its_evidence_says_so_and_keeps_its_verdict(recorded_run: Path) -> None:
    carry_out(Pruned(load_run(recorded_run), "evidence", 0))
    rows = [json.loads(line) for line in export(recorded_run, "jsonl").splitlines()]
    assert Counter(row["kind"] for row in rows) == {"run": 1, "trial": 6, "missing": 6}
    page = export(recorded_run, "html")
    assert "the evidence was removed on 20" in page and "✓</span> fixed" in page
    assert "lru_add_drain_all" in page and "softleaf_entry_wait_on_locked" in page  # the cycle, and the patch


def test_a_place_that_is_none_is_said_before_anything_is_read(
    recorded_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["export", str(recorded_run), "--format", "junit", "-o", str(recorded_run / "no" / "x")]) == 2
    assert "there is no folder" in capsys.readouterr().err


def test_a_result_that_is_damaged_is_no_report(
    recorded_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = recorded_run / RECORD
    record = json.loads(path.read_text())
    del record["result"]["arms"]
    path.write_text(json.dumps(record))
    assert main(["export", str(recorded_run), "--format", "junit"]) == 2
    assert "result is damaged" in capsys.readouterr().err


def test_the_help_names_every_format(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["export", "--help"])
    shown = " ".join(capsys.readouterr().out.split())
    assert all(re.search(rf"\b{name}\b", shown) for name in FORMATS)


def test_xml_has_an_order_that_a_person_can_read(recorded_run: Path) -> None:
    top = ElementTree.fromstring(export(recorded_run, "junit"))
    assert [suite.get("name") for suite in top] == ["unfixed", "fixed", "compare"]
