# SPDX-License-Identifier: GPL-2.0-only
"""The self-test's cases: none is missing, they fit the module, and mistakes in them are reported."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from harness.assets import asset
from harness.cli import main
from harness.config import BootConfig
from harness.errors import UserError
from harness.scenario.catalogue import Scenario
from harness.selftest.cases import BACKGROUND, Case, Expected, choose_cases, load_cases
from harness.selftest.run import CaseResult
from harness.watch.kinds import OutcomeKind
from harness.watch.signatures import load_table
from harness.yamlfile import load_yaml

GOOD = """
cases:
  - name: panic
    provokes: panic()
    expect: {outcome: panic, console: panic, cpu: 1}
"""


def case(name: str) -> Case:
    (found,) = choose_cases([name], load_cases())
    return found


def test_every_way_a_guest_can_fail_has_a_case() -> None:
    provoked = {case.expect.outcome for case in load_cases()}
    unprovoked = set(OutcomeKind) - provoked
    assert unprovoked == {
        # What a scenario's own trial shows.
        OutcomeKind.LIVELOCK,
        OutcomeKind.STARVED,
        OutcomeKind.TEST_FAILED,
        OutcomeKind.NOT_EXERCISED,
        # Nothing that the kernel does.
        OutcomeKind.TIMEOUT,
        OutcomeKind.INFRA_ERROR,
    }
    assert {case.name for case in load_cases()} >= {
        "silent-spin", "silent-stop-machine", "console-flood", "flood-then-lockup", "guest-exit", "user-hang",
    }  # fmt: skip


def test_cases_and_module_know_the_same_names() -> None:
    source = asset("kmod", "selftest", "provoke.c").read_text()
    table = source[source.index("hs_failures[] = {") :]
    assert re.findall(r'^\t\{ "([a-z-]+)"', table, re.MULTILINE) == [case.name for case in load_cases()]


def test_what_the_console_has_to_say_is_in_the_table_of_signatures() -> None:
    known = {(row.cls, row.outcome) for row in load_table().rows}
    for one in load_cases():
        if one.expect.console is not None:
            assert (one.expect.console, one.expect.outcome) in known, one.name


def test_a_cause_speaks_before_its_consequences() -> None:
    boot = case("workqueue-lockup").boot_from(BootConfig())
    assert boot.workqueue_thresh_s < 2 * boot.watchdog_thresh_s < boot.rcu_stall_s
    boot = case("rcu-stall").boot_from(BootConfig())
    assert boot.rcu_stall_s < 2 * boot.watchdog_thresh_s < boot.workqueue_thresh_s
    boot = case("hung-task").boot_from(BootConfig(preempt="full"))
    assert boot.preempt == "full" and boot.hung_task_s < boot.watchdog_thresh_s


def test_a_silence_is_waited_for_by_the_case() -> None:
    scenario = case("silent-spin").scenario()
    assert scenario.oracle.stall_s == case("silent-spin").stall_s
    assert load_yaml(BACKGROUND, Scenario).oracle.stall_s != scenario.oracle.stall_s


def test_a_case_that_only_some_kernels_have() -> None:
    silent = case("silent-stop-machine")
    assert silent.happens_on("7.3.4") and not silent.happens_on("6.12.117")
    assert case("panic").happens_on("5.4")


@pytest.mark.parametrize(
    ("change", "line", "message"),
    [
        (("provokes:", "provoke:"), 4, "unknown key (did you mean 'provokes'?)"),
        (("outcome: panic", "outcome: panik"), 5, "outcome"),
        (("cpu: 1", 'cpu: "1"'), 5, "cpu"),
        (("panic()", "panic()\n    boot: {rcu_stal_s: 3}"), 5, "rcu_stall_s"),
        (("panic()", "panic()\n    versions: newest"), 5, "no version comparison"),
        (("name: panic", "name: Panic!"), 3, "name"),
        (("    provokes: panic()\n", ""), 3, "provokes: is missing"),
    ],
)
def test_a_mistake_is_reported_with_its_line(
    tmp_path: Path, change: tuple[str, str], line: int, message: str
) -> None:
    path = tmp_path / "cases.yaml"
    path.write_text(GOOD.replace(*change))
    with pytest.raises(UserError) as caught:
        load_cases(path)
    assert any(
        text.startswith(f"{path}:{line}: ") and message in text for text in str(caught.value).split("\n")
    )


def test_two_cases_of_one_name_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "cases.yaml"
    path.write_text(GOOD + GOOD.replace("\ncases:", "").lstrip("\n"))
    with pytest.raises(UserError, match="two cases of one name: panic"):
        load_cases(path)


@pytest.mark.parametrize(
    ("reported", "good"),
    [
        (Expected(outcome=OutcomeKind.PANIC, console="panic", cpu=1), True),
        (Expected(outcome=OutcomeKind.PANIC, console="panic", cpu=0), False),
        (Expected(outcome=OutcomeKind.PANIC, console="oops", cpu=1), False),
        (Expected(outcome=OutcomeKind.PANIC), False),
        (Expected(outcome=OutcomeKind.OOPS, console="oops", cpu=1), False),
    ],
)
def test_only_the_very_class_counts(reported: Expected, good: bool) -> None:
    assert CaseResult(case("panic"), reported, "", 1.0, Path()).as_expected is good


def test_a_failure_on_a_console_that_should_be_silent_is_not_as_expected() -> None:
    reported = Expected(outcome=OutcomeKind.NO_PROGRESS, console="soft_lockup", cpu=1)
    assert not CaseResult(case("silent-spin"), reported, "", 1.0, Path()).as_expected


def test_the_list_names_every_case(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["selftest", "--list", "--out", str(tmp_path / "runs")]) == 0
    _, *lines = [line.split()[:2] for line in capsys.readouterr().out.splitlines()]
    assert lines == [[case.name, str(case.expect.outcome)] for case in load_cases()]
    assert main(["selftest", "--list", "--json", "--case", "oom"]) == 0
    assert [one["name"] for one in json.loads(capsys.readouterr().out)["cases"]] == ["oom"]
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--case", "soft-lokup"], "did you mean soft-lockup?"),
        (["--kernel", "bsae"], "did you mean base?"),
        (["--cases-file", "/nonexistent.yaml"], "/nonexistent.yaml"),
        (["--cpus", "1"], "2 CPUs"),
    ],
)
def test_bad_input_ends_with_two(
    words: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    places = ["--cache", str(tmp_path / "cache"), "--out", str(tmp_path / "runs")]
    assert main(["selftest", *words, *places]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()
