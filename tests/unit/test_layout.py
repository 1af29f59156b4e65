# SPDX-License-Identifier: GPL-2.0-only
"""Reports fit the terminal: real ones, at 60, 80 and 120 columns, and nothing of them is lost."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from harness.experiment.report import comparison_json
from harness.layout import Part, Prose, Table, Whole, fitted, folded, laid_out, wrapped
from harness.results.night import Finding
from harness.results.report import REPORTED, report_parts
from harness.results.schema import CaseFacts, CaseOutcome
from harness.selftest.cases import load_cases
from tests.unit.nightroom import cell, night
from tests.unit.runroom import comparison
from tests.unit.test_matrix import cells_of

WIDTHS = (60, 80, 120)


def checked(parts: list[Part], width: int) -> list[str]:
    """The lines, none of which is too long but for one that has a path or command to copy."""
    whole = [part.text for part in parts if isinstance(part, Whole)]
    lines = laid_out(parts, width)
    for line in lines:
        assert len(line) <= width or line.strip() in whole or " " not in line.strip(), line
    return lines


def lost(lines: list[str], whole: list[str]) -> str:
    """The characters that `whole` has and `lines` have not, in no order: cells go on below."""
    seen, wanted = (Counter(re.sub(r"\s", "", "".join(text))) for text in (lines, whole))
    return "".join(sorted((wanted - seen).elements()))


#: A kernel of a bisection as its record has it.
TESTED = {
    "trials": 19, "reproduced": 19, "verdict": "bad", "reason": "", "build_s": 32.0, "cached": False,
    "evidence": [],
}  # fmt: skip
BISECTION: dict[str, Any] = {
    "culprit": 40 * "9",
    "suspects": [40 * "9"],
    "labels": {40 * "9": "999999999999 mm: retry the fault when a device-private page is locked"},
    "confidence": 0.99,
    "reason": "The bad end showed the bug in 19 of 19 trials: its rate is above 0.748, error 0.004.",
    "checked": True,
    "checks": "checked: the culprit fails, what is right before it does not in 5 trials",
    "reverted": None,
    "method": "classic",
    "scenario": "trylock-starvation",
    "set": {"policy": "fifo"},
    "patches": ["x86-preempt-choice (makes a configuration that upstream forbids)"],
    "bug": "livelock < hmm_range_fault_locked",
    "tested": [
        {**TESTED, "commit": 40 * "7", "title": "777777777777 lib/sort: what lsbit is for"},
        {**TESTED, "commit": 40 * "3", "title": "333333333333 Linux, as imported", "verdict": "good"},
        {**TESTED, "commit": 40 * "5", "title": "555555555555 mm/maccess: drop a hint that gains nothing",
         "verdict": "skip", "reason": "the kernel does not build: error"},
        {**TESTED, "commit": "reverted", "title": "the bad end without the culprit's change"},
    ],
    "builds": 14,
    "seconds": 240.0,
    "evidence": "",
    "reproduce": "hmm-harness bisect --tree git:/src/linux --good v7.2 --bad v7.3-rc1 --confidence 0.999",
}  # fmt: skip


def selftest_result() -> dict[str, Any]:
    """All cases, as expected but one; one of another kernel."""
    cases = load_cases()
    fact = {"outcome": "soft_lockup", "console": "workqueue_lockup", "cpu": 1}
    found = [
        CaseOutcome(
            name=case.name, provokes=case.provokes, expected=CaseFacts.model_validate(fact),
            reported=CaseFacts.model_validate(fact), as_expected=case is not cases[0], seconds=3.0,
            title="soft lockup - CPU#1 stuck for 13s [hmm-stressor:53]", evidence=f"trials/{case.name}",
        )
        for case in cases
    ]  # fmt: skip
    kernel = {"release": "7.3.4", "tree": "", "patches": [], "config_sha": "", "build": ""}
    return {
        "kernel": kernel, "cases": [case.model_dump() for case in found], "missed": [cases[0].name],
        "skipped": ["silent-stop-machine"], "only_on": {"silent-stop-machine": ">=7.0"}, "evidence": "",
        "seconds": 90.0,
    }  # fmt: skip


def night_result() -> dict[str, Any]:
    """A night with something new in it."""
    bug = ("livelock < hmm_range_fault_locked < hmm_range_fault", True, 6)
    found = Finding(
        kind="new_failure", worse=True, tree="mainline", series="",
        where="mainline/trylock-starvation: fixed, preempt=none, 2 CPUs", signature=bug[0],
        said="6 of 6 trials failed so tonight, none of 42 in the nights before", good=40 * "a", bad=40 * "b",
        bisect="hmm-harness bisect --tree git:/src/linux --good v7.2 --bad v7.3-rc1 --kernel fixed",
    )  # fmt: skip
    more = {"verdict": "regression", "reason": "mainline: livelock", "findings": [found.model_dump()]}
    return night(cell(kernel="unfixed", failures=[bug]), cell(failures=[bug]), **more).model_dump(mode="json")


@pytest.fixture(scope="module")
def reports(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[list[Part], Path]]:
    """A report of every verb that has one, and its run's folder."""
    place = tmp_path_factory.mktemp("reports")
    folder, _, done = comparison(place / "runs", place / "room")
    trials = {trial.arm: trial for trial in done.results}
    results: dict[str, Any] = {
        "compare": comparison_json(done, 61.0),
        "run": trials["unfixed"].as_json(),
        "bisect": {**BISECTION, "shown": trials["unfixed"].folder},
        "selftest": selftest_result(),
        "matrix": cells_of(place)[1].model_dump(mode="json"),
        "nightly": night_result(),
    }
    return {verb: (report_parts(verb, results[verb], done.results, folder), folder) for verb in REPORTED}


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("verb", REPORTED)
def test_a_report_fits_and_loses_nothing(
    verb: str, width: int, reports: dict[str, tuple[list[Part], Path]]
) -> None:
    parts, folder = reports[verb]
    lines = checked(parts, width)
    assert lost(lines, laid_out(parts)) == ""
    if verb != "nightly":  # it names what is in its record
        assert any(line.endswith(str(folder)) or f"{folder}/" in line for line in lines)


@pytest.mark.parametrize("width", WIDTHS)
def test_the_table_of_cases_fits(width: int) -> None:
    rows = [(case.name, str(case.expect.outcome), case.provokes) for case in load_cases()]
    table = Table([("case", "reported as", "what is done to the guest"), *rows], indent=0)
    assert lost(checked([table], width), laid_out([table])) == ""


def test_columns_give_way_where_words_end_before_words_are_broken() -> None:
    rows = [("arm", "kernel", "outcomes"), ("unfixed", "base-without-wait", "3 livelock, 3 completed")]
    assert folded(rows, 0) == [
        "arm      kernel             outcomes",
        "unfixed  base-without-wait  3 livelock, 3 completed",
    ]
    assert folded(rows, 40) == [
        "arm      kernel             outcomes",
        "unfixed  base-without-wait  3 livelock,",
        "                            3 completed",
    ]
    narrow = folded(rows, 20)
    assert max(map(len, narrow)) <= 20 and lost(narrow, folded(rows, 0)) == ""


def test_a_table_too_wide_is_turned_or_taken_apart_rather_than_broken_inside_words() -> None:
    head = ("arm", "trials", "windows", "outcomes")
    rows = [head, ("unfixed", "6", "6", "6 livelock"), ("fixed", "6", "9", "6 completed")]
    assert laid_out([Table(rows)], 32) == [
        "  arm       unfixed    fixed",
        "  trials    6          6",
        "  windows   6          9",
        "  outcomes  6          6",
        "            livelock   completed",
    ]
    assert laid_out([Table([*rows, *rows[1:]])], 32)[:4] == [
        "  arm unfixed",
        "    trials    6",
        "    windows   6",
        "    outcomes  6 livelock",
    ]


def test_a_listing_keeps_the_names_by_which_more_is_shown() -> None:
    rows = [
        ("run", "outcome", "scenario"),
        ("20261129-123929", "not_reproduced", "trylock-starvation-forced"),
    ]
    lines = fitted(rows, 40, whole=1)
    assert lines[1].startswith("20261129-123929  ") and max(map(len, lines)) <= 40


def test_what_is_copied_is_not_broken() -> None:
    command = "hmm-harness compare --experiment /a/very/long/path/to/an/experiment.yaml --trials 6"
    assert laid_out([Whole("  again   ", command)], 60) == ["  again", f"    {command}"]
    assert laid_out([Whole("  again   ", "hmm-harness compare")], 60) == ["  again   hmm-harness compare"]


def test_a_line_goes_on_below_its_value() -> None:
    line = "  guest    microvm on tcg, 2 CPUs, preempt=none, watchdog_thresh=1, and more of it"
    first, second = wrapped(line, 60)
    assert second.startswith(" " * 11) and f"{first} {second.strip()}" == line
    assert wrapped(line, 0) == [line]


def test_sentences_are_broken_even_in_a_file() -> None:
    lines = laid_out([Prose("word " * 100)])
    assert all(len(line) <= 110 for line in lines) and lines[1].startswith("    word")
