# SPDX-License-Identifier: GPL-2.0-only
"""What igt_runner left, as cases: results of every kind, and those of a run that was cut short."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from harness.errors import UserError
from harness.igt.reader import IgtReader
from harness.igt.results import report_of
from harness.outcome import Oracle, Outcome
from harness.scenario.catalogue import load_scenario
from harness.target.protocol import RawEvent
from harness.watch.kinds import OutcomeKind
from harness.watch.ktap import Report
from tests.unit.test_judge import BOOT, SPIN, judged, lockup, say
from tests.unit.test_suite import over

DATA = Path(__file__).parents[1] / "data" / "igt"
ORACLE = Oracle((), needs_windows=False, suite=True)
NO_GPU = "No known gpu found for chipset flags 0x128 (xe)"


def recorded(name: str) -> str:
    return (DATA / f"{name}.json").read_text()


def short(report: Report) -> dict[str, str]:
    """What became of each case, by its last name."""
    return {case.name.rpartition("@")[2]: case.reason or str(case.status) for case in report.cases}


def igt_lines(said: Sequence[str], begin_s: float = 2.0) -> list[RawEvent]:
    return [say(begin_s + 0.01 * n, type="igt", t=1.0, line=line) for n, line in enumerate(said)]


def igt_results(text: str, size: int = 1200) -> list[RawEvent]:
    data = text.encode()
    pieces = [data[at : at + size] for at in range(0, len(data), size)]
    left = len(data)
    events: list[RawEvent] = []
    for number, piece in enumerate(pieces):
        left -= len(piece)
        events.append(
            say(8.0 + 0.001 * number, type="igt_results", t=7.0, text=piece.decode("latin-1"), left=left)
        )
    return events


def of_igt(name: str, status: int = 0, signal: int = 0) -> Outcome:
    return judged([*BOOT, *igt_results(recorded(name)), *over(status, signal)], ORACLE)


def test_every_word_of_igt_is_kept_and_only_a_pass_is_passed() -> None:
    report = report_of(recorded("every-kind"))
    assert short(report) == {
        "warn": "warn: This is a test that should fail with a warning",
        "fail-result": "fail: Failed assertion: result == 1; error: 0 != 1",
        "dmesg-pass": "passed",
        "dmesg-warn": "dmesg-warn: [drm: IGT inserted string.",
        "user-crash": "crash: Received signal SIGSEGV.",
        "piglit-timeout": "timeout: [IGT] Per-test timeout exceeded. Killing the current test with SIGQUIT.",
        "abort": "abort: [IGT] meta_test[19]: Abort in function __igt_unique____real_main120, "
        "file ../tests/meta_test.c:153, true",
    }
    assert report.counts == {"passed": 1, "failed": 6, "skipped": 0} and not report.defects
    assert report.cases[1].output[0].startswith("Using IGT_SRANDOM")


def test_a_run_that_was_killed_is_incomplete_and_its_rest_is_missing() -> None:
    report = report_of(recorded("killed"))
    assert short(report) == {
        "dmesg-fail": "dmesg-fail: plain: the kernel says that something is wrong",
        "kills-runner": "incomplete",
    }
    assert report.defects == ("2 of the 3 planned results",)
    outcome = of_igt("killed", signal=9)
    assert outcome.kind is OutcomeKind.TEST_FAILED
    assert outcome.title.startswith(
        "igt@plain@dmesg-fail, igt@plain@kills-runner failed "
        "(dmesg-fail: plain: the kernel says that something is wrong); 0 passed, 2 failed"
    )


def test_without_a_gpu_all_is_skipped_with_igts_reason_and_nothing_is_answered() -> None:
    outcome = of_igt("no-gpu")
    assert outcome.kind is OutcomeKind.NOT_EXERCISED and not outcome.is_answer
    assert outcome.title == f"no case tested anything; 0 passed, 0 failed, 2 skipped (2 {NO_GPU})"


def test_synthetic_results_of_an_xe() -> None:
    report = report_of(recorded("synthetic-xe"))
    assert short(report) == {
        "once-malloc": "passed",
        "twice-malloc": "dmesg-warn: WARNING: CPU: 2 PID: 900 at drivers/gpu/drm/drm_gpusvm.c:1000 "
        "drm_gpusvm_range_get_pages+0x100/0x400",
        "many-malloc": "fail: Failed assertion: "
        "__xe_wait_ufence(fd, addr, value, exec_queue, &timeout) == 0; error: -62 != 0",
        "prefetch-benchmark": "Test requirement: xe_has_vram(fd)",
    }
    good = json.loads(recorded("synthetic-xe"))
    for name in ("twice-malloc", "many-malloc"):
        del good["tests"][f"igt@xe_exec_system_allocator@{name}"]
    outcome = judged([*BOOT, *igt_results(json.dumps(good)), *over()], ORACLE)
    assert outcome.kind is OutcomeKind.COMPLETED
    assert outcome.metrics == {"passed": 1, "failed": 0, "skipped": 1}


def test_a_subtest_that_igt_does_not_know_is_no_skip() -> None:
    """igt_runner calls it one: seen with 2.5."""
    results = {
        "tests": {"igt@a@b": {"result": "skip", "err": "(a:7) igt_core-CRITICAL: Unknown subtest: b\n"}}
    }
    assert short(report_of(json.dumps(results))) == {"b": "skip: Unknown subtest: b"}


@pytest.mark.parametrize("text", ["", "{", '{"tests": []}', '{"tests": {"a": {}}}', "[1, 2]"])
def test_results_that_cannot_be_read_are_no_results(text: str) -> None:
    report = report_of(text)
    assert report.cases == () and report.defects[0].startswith("results.json: ")


def test_what_the_runner_says_is_provisional_until_the_results_have_come() -> None:
    reader = IgtReader()
    for line in (
        "[14303.640456] Warning: Adjusting oom score failed.",
        "[14303.640665] [01/12] (600s left) xe_exec_system_allocator (once-malloc)",
        "[14303.640666] Starting subtest: once-malloc",
        "[14303.736935] Subtest once-malloc: SUCCESS (0.100s)",
        "[14303.737748] [02/12] (599s left) xe_exec_system_allocator (twice-malloc)",
    ):
        reader.feed(line)
    report = reader.report()
    assert (reader.done, report.plan, report.running) == (1, 12, "igt@xe_exec_system_allocator@twice-malloc")
    assert report.defects == ("no results.json",)
    text = recorded("no-gpu")
    reader.results(text[:1000], len(text) - 1000)
    assert reader.report().defects == ("results.json is cut off",)
    reader.results(text[1000:], 0)
    assert reader.report() == report_of(text)


def test_a_hang_names_the_test_that_ran() -> None:
    said = ["[1.0] [1/2] xe_exec_system_allocator (many-malloc)"]
    outcome = judged([*BOOT, *igt_lines(said), lockup(12.0, *SPIN)], ORACLE)
    assert outcome.kind is OutcomeKind.SOFT_LOCKUP
    assert outcome.title.endswith(", while igt@xe_exec_system_allocator@many-malloc ran")


def test_a_filter_that_matches_nothing_is_said_in_the_runners_words() -> None:
    said = ["Filter didn't match any job name", "", "usage: runner [options] [test_root] results-path"]
    outcome = judged([*BOOT, *igt_lines(said), *over(status=1)], ORACLE)
    assert outcome.kind is OutcomeKind.INFRA_ERROR
    assert outcome.title == "the tests did not run; they said: Filter didn't match any job name"


def test_a_guest_without_a_system_is_refused_before_anything_is_built() -> None:
    from harness.config import load_experiment
    from harness.scenario.catalogue import scenario_values

    plain = load_experiment("linux-7").model_copy(update={"scenario": "xe-system-allocator"})
    with pytest.raises(UserError, match="needs a system that has IGT") as error:
        scenario_values(plain)
    assert "userland" in error.value.hint and "box" in error.value.hint
    scenario = load_scenario("xe-system-allocator")
    with pytest.raises(UserError, match="CONFIG_DRM_XE, CONFIG_DRM_XE_GPUSVM, CONFIG_DRM_XE_PAGEMAP"):
        scenario.check_kernel("7.3.4", "CONFIG_DEVICE_PRIVATE=y\n")


def test_a_filter_is_one_word() -> None:
    scenario = load_scenario("xe-system-allocator")
    assert scenario.values({"include": "^igt@xe_.*@(a|b)$"})["include"] == "^igt@xe_.*@(a|b)$"
    with pytest.raises(UserError, match="include=a b: must be one word"):
        scenario.values({"include": "a b"})
