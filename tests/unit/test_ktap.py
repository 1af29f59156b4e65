# SPDX-License-Identifier: GPL-2.0-only
"""The KTAP reader: a real suite's output, and what a broken one could look like. Nothing missing passes."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.watch.ktap import CaseStatus, read_ktap

DATA = Path(__file__).resolve().parents[1] / "data" / "ktap"
#: hmm-tests of Linux 7.3.4 in a guest, as the agent's channel brought it.
RECORDED = (DATA / "7.3-hmm-tests.ktap").read_text().splitlines()
#: The same with upstream-tests/mixed-livelock on a kernel without the fix, without the benchmark.
FAILING = (DATA / "7.3-livelock-test-fails.ktap").read_text().splitlines()
HEAD = ["TAP version 13", "1..3"]


def test_a_recorded_suite_is_read_case_by_case() -> None:
    report = read_ktap(RECORDED)
    assert (report.plan, len(report.cases), report.defects, report.failed) == (78, 78, (), ())
    assert report.counts == {"passed": 39, "failed": 0, "skipped": 39}
    assert report.cases[0].name == "hmm.hmm_device_private.open_close"
    skipped = report.of(CaseStatus.SKIPPED)
    assert {case.reason for case in skipped} == {"DEVICE_COHERENT not available"}
    assert "# [INFO] detected hugetlb page size: 2048 KiB" in report.cases[0].output
    assert any("PASSED: 78 / 78" in line for line in report.rest), "the suite itself counts skips as passes"


def test_a_recorded_failure_comes_with_what_the_case_said() -> None:
    report = read_ktap(FAILING)
    assert (report.plan, len(report.cases), report.defects) == (84, 84, ())
    assert report.failed == ("hmm2.hmm2_device_private.migrate_mixed_livelock",)
    assert report.counts == {"passed": 41, "failed": 1, "skipped": 42}
    assert any("stuck for 10 s after 0 rounds" in line for line in report.of(CaseStatus.FAILED)[0].output)


@pytest.mark.parametrize("kept", range(0, len(RECORDED), 7))
def test_a_suite_that_was_cut_short_is_never_whole(kept: int) -> None:
    report = read_ktap(RECORDED[:kept])
    results = sum(line.startswith(("ok ", "not ok ")) for line in RECORDED[:kept])
    assert len(report.cases) == results
    assert bool(report.defects) is (results < 78)


def test_the_case_that_ran_when_it_was_cut_short_is_named() -> None:
    begun = next(number for number, line in enumerate(RECORDED) if "RUN" in line and "anon_teardown" in line)
    assert read_ktap(RECORDED[: begun + 1]).running == "hmm.hmm_device_private.anon_teardown"
    assert read_ktap(RECORDED).running == ""


def test_one_result_turned_is_one_failure() -> None:
    number = next(n for n, line in enumerate(RECORDED) if line.startswith("ok 12 "))
    report = read_ktap([*RECORDED[:number], f"not {RECORDED[number]}", *RECORDED[number + 1 :]])
    assert report.failed == ("hmm.hmm_device_private.migrate",)
    assert report.defects == ()


@pytest.mark.parametrize(
    ("line", "status", "name", "reason"),
    [
        ("ok 1 a", CaseStatus.PASSED, "a", ""),
        ("ok 1 - a b", CaseStatus.PASSED, "a b", ""),
        ("ok 1", CaseStatus.PASSED, "", ""),
        ("not ok 1 a", CaseStatus.FAILED, "a", ""),
        ("ok 1 a # SKIP no device", CaseStatus.SKIPPED, "a", "no device"),
        ("ok 1 a # skip", CaseStatus.SKIPPED, "a", ""),
        ("not ok 1 a # SKIP no device", CaseStatus.SKIPPED, "a", "no device"),
        ("ok 1 # SKIP a", CaseStatus.SKIPPED, "a", "a"),
        ("ok 1 a # XFAIL known", CaseStatus.EXPECTED, "a", "known"),
        ("not ok 1 a # TODO later", CaseStatus.EXPECTED, "a", "later"),
        ("ok 1 a # XPASS at last", CaseStatus.PASSED, "a", "at last"),
        ("not ok 1 a # TIMEOUT 30 seconds", CaseStatus.FAILED, "a", "30 seconds"),
        ("ok 1 a # TIMEOUT 30 seconds", CaseStatus.FAILED, "a", "30 seconds"),
        ("not ok 1 # error a", CaseStatus.FAILED, "a", "a"),
        ("ok 1 a # skipping nothing", CaseStatus.PASSED, "a", "skipping nothing"),
    ],
)
def test_result_lines(line: str, status: CaseStatus, name: str, reason: str) -> None:
    report = read_ktap(["KTAP version 1", "1..1", line])
    case = report.cases[0]
    assert (case.status, case.name, case.reason, report.defects) == (status, name, reason, ())


@pytest.mark.parametrize(
    ("lines", "defect"),
    [
        ([], "no version line"),
        (["TAP version 13", "ok 1 a"], "no plan"),
        (["1..1", "ok 1 a"], "no version line"),
        ([*HEAD, "ok 1 a", "ok 2 b"], "2 of the 3 planned results"),
        ([*HEAD, "ok 1 a", "ok 2 b", "ok 3 c", "ok 4 d"], "4 of the 3 planned results"),
        ([*HEAD, "ok 1 a", "ok 3 c", "ok 2 b"], "result 3 where 2 is due"),
        ([*HEAD, "ok 1 a", "ok 1 a", "ok 3 c"], "result 1 where 2 is due"),
        ([*HEAD, "1..4", "ok 1 a", "ok 2 b", "ok 3 c"], "a second plan, 1..4"),
        ([*HEAD, "ok 1 a", *HEAD, "ok 1 a", "ok 2 b", "ok 3 c"], "a second version line"),
        ([*HEAD, "ok 1 a", "Bail out! no memory", "ok 2 b", "ok 3 c"], "bail out: no memory"),
        ([*HEAD, "ok 1 a", "ok 2 b", "ok"], "2 of the 3 planned results"),
        ([*HEAD, "ok 1 a", "ok 2 b", "ok3 c"], "2 of the 3 planned results"),
        ([*HEAD, "ok 1 a", "ok 2 b", "    ok 3 c"], "2 of the 3 planned results"),
        ([*HEAD, "ok 1 a", "ok 2 b", "# ok 3 c"], "2 of the 3 planned results"),
    ],
)
def test_what_is_wrong_with_an_output_is_said(lines: list[str], defect: str) -> None:
    assert defect in read_ktap(lines).defects


def test_a_program_may_skip_all() -> None:
    report = read_ktap(["TAP version 13", "1..0 # SKIP needs root"])
    assert (report.plan, report.cases, report.defects, report.skipped) == (0, (), (), "needs root")


NESTED = """KTAP version 1
1..2
  KTAP version 1
  1..2
    KTAP version 1
    1..2
    not ok 1 test_1
    ok 2 test_2
  not ok 1 test_3
  ok 2 test_4 # SKIP
# noise
not ok 1 outer
ok 2 other""".splitlines()


def test_cases_within_cases() -> None:
    report = read_ktap(NESTED)
    assert report.defects == ()
    assert report.failed == ("outer.test_3.test_1",)
    assert [case.name for case in report.cases[0].cases] == ["test_3", "test_4"]
    assert report.cases[1].cases == ()


@pytest.mark.parametrize(
    ("gone", "defect"),
    [
        ("    ok 2 test_2", "the cases in number 1: 1 of the 2 planned results"),
        ("  ok 2 test_4 # SKIP", "the cases in number 1: 1 of the 2 planned results"),
        ("    1..2", "the cases in number 1: no plan"),
    ],
)
def test_what_is_missing_within_a_case_is_missed(gone: str, defect: str) -> None:
    assert defect in read_ktap([line for line in NESTED if line != gone]).defects


def test_a_sum_that_hides_a_failure_is_found_out() -> None:
    lines = ["ok 1 outer" if line == "not ok 1 outer" else line for line in NESTED]
    assert "outer is ok, and a case in it is not" in read_ktap(lines).defects
