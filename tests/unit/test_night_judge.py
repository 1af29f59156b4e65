# SPDX-License-Identifier: GPL-2.0-only
"""What a night says of its cells: pure, case by case."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from pathlib import Path

import pytest

from harness.errors import UserError
from harness.nightly.judge import Judgement, Past, controlled, judge
from harness.nightly.known import Known
from harness.nightly.model import QEMU, NightTree
from harness.nightly.suggest import bisection
from harness.results.night import NightCell, NightResult
from tests.unit.nightroom import BUG, WARNING, cell, night

ERROR = 0.01
DAY = date(2026, 11, 29)
NOTHING = Known()
CONTROL = cell(kernel="unfixed", failures=[(BUG, True, 6)])
OTHER = "soft_lockup < migration_entry_wait < do_swap_page < handle_mm_fault < lock_vma"


def judged(*tonight: NightCell, past: Sequence[NightResult] = (), known: Known = NOTHING) -> Judgement:
    return judge(tonight, Past(tuple(past)), known, ERROR)


def kinds(found: Judgement) -> list[str]:
    return [finding.kind for finding in found.findings]


def test_one_failure_of_a_kind_never_seen_is_enough() -> None:
    clean = [night(CONTROL, cell()) for _ in range(7)]
    found = judged(CONTROL, cell(failures=[(WARNING, False, 1)]), past=clean)
    (finding,) = found.findings
    assert finding.kind == "new_failure" and finding.worse and finding.signature == WARNING
    assert "1 of 6 trials, in none of 42 trials of the last 7 nights" in finding.said


def test_a_stack_that_differs_below_is_the_same_failure() -> None:
    deeper = WARNING.replace("evict", "prune_icache_sb")
    past = [night(CONTROL, cell(failures=[(WARNING, False, 1)]))]
    found = judged(CONTROL, cell(failures=[(deeper, False, 1)]), past=past)
    assert kinds(found) == [] and [finding.kind for finding in found.still] == ["still"]
    found = judged(CONTROL, cell(failures=[(OTHER, False, 1)]), past=past)
    assert kinds(found) == ["new_failure"]
    # The scenario's own bug is one, however it shows.
    past = [night(CONTROL, cell(failures=[("soft_lockup < hmm_range_fault", True, 1)]))]
    assert kinds(judged(CONTROL, cell(failures=[(BUG, True, 1)]), past=past)) == []


def test_a_rate_that_moved_is_called_in_both_directions() -> None:
    often, seldom = cell(failures=[(BUG, True, 6)]), cell(failures=[(BUG, True, 1)])
    up = judged(CONTROL, often, past=[night(CONTROL, seldom) for _ in range(7)])
    (finding,) = up.findings
    assert (finding.kind, finding.worse) == ("rate", True) and "6/6 trials fail, 7/42" in finding.said
    assert finding.no_bisect == "no night before it was clean"
    down = judged(CONTROL, seldom, past=[night(CONTROL, often) for _ in range(7)])
    assert [(finding.kind, finding.worse) for finding in down.findings] == [("rate", False)]
    assert kinds(judged(CONTROL, often, past=[night(CONTROL, seldom)])) == [], "6/6 after 1/6 may be chance"


def test_a_control_that_weakens_is_said() -> None:
    weak = cell(kernel="unfixed", failures=[(BUG, True, 1)])
    found = judged(weak, cell(), past=[night(CONTROL, cell()) for _ in range(7)])
    (finding,) = found.findings
    assert finding.kind == "control" and finding.worse and "look at the host's load" in finding.no_bisect


def figures(
    *values: float, clock: str = "virtual", scenario: str = "fault-cost", name: str = "fault_ns"
) -> NightCell:
    return cell(label=scenario, values={name: values}, clock=clock, trials=len(values))


def test_figures_are_called_on_the_virtual_clock_if_they_are_far_apart() -> None:
    before = [night(CONTROL, figures(100.0, 101.0, 102.0)) for _ in range(7)]
    found = judged(CONTROL, figures(120.0, 121.0, 122.0), past=before)
    (finding,) = found.findings
    assert finding.kind == "figure" and finding.worse
    assert "fault_ns: 121 (120 to 122), 101 (100 to 102) in the last 7 nights: no overlap" in finding.said
    better = judged(CONTROL, figures(80.0, 81.0, 82.0), past=before)
    assert [finding.worse for finding in better.findings] == [False]
    assert kinds(judged(CONTROL, figures(103.0, 103.0, 103.0), past=before)) == [], "2 % is no news"
    assert kinds(judged(CONTROL, figures(102.0, 121.0, 122.0), past=before)) == [], "they overlap"
    assert kinds(judged(CONTROL, figures(120.0, 121.0, 122.0), past=before[:1])) == [], "3 against 3"
    host = [night(CONTROL, figures(100.0, 101.0, 102.0, clock="host")) for _ in range(7)]
    assert kinds(judged(CONTROL, figures(500.0, 501.0, 502.0, clock="host"), past=host)) == []


def test_a_kernel_that_does_not_build_is_news_once() -> None:
    unbuilt = cell(
        trials=0, state="failed", reason="fixed cannot be built: mm/hmm.c", answered=0, outcomes={}
    )
    first = judged(CONTROL, unbuilt, past=[night(CONTROL, cell())])
    assert kinds(first) == ["build"] and not first.silent and "mm/hmm.c" in first.findings[0].said
    again = judged(CONTROL, unbuilt, past=[night(*first.cells), night(CONTROL, cell())])
    assert kinds(again) == [] and [finding.kind for finding in again.still] == ["build"]


def test_a_control_must_have_failed_in_the_same_guest() -> None:
    other = cell(kernel="unfixed", failures=[(BUG, True, 6)], preempt="full")
    dead = cell(kernel="unfixed", failures=[(BUG, True, 0)], outcomes={"completed": 6})
    (_, _, candidate) = controlled([other, dead, cell()])
    assert not candidate.judged and "did not show the bug in 6 trials" in candidate.why
    left_out = cell(kernel="unfixed", state="not applicable", reason="left out: no window", answered=0)
    assert controlled([other, left_out, cell()])[2].judged, "then any of the tree will do"
    unfit = cell(kernel="unfixed", state="not applicable", reason="it does not apply", answered=0)
    assert "has no answer: it does not apply" in controlled([other, unfit, cell()])[2].why


def test_what_cannot_be_and_never_was_is_no_news_but_what_was_is_missed() -> None:
    unfit = cell(trials=6, state="not applicable", reason="it does not apply", answered=0, outcomes={})
    assert judged(CONTROL, unfit).silent == ()
    assert [each.where for each in judged(CONTROL, unfit, past=[night(CONTROL, cell())]).silent] == [
        unfit.where
    ]
    silent = cell(answered=0, outcomes={"timeout": 6})
    assert judged(CONTROL, silent).silent[0].why == "no trial answered (6 timeout)"


ENTRY = """\
issues:
  - {signature: warning < mark_buffer_dirty, since: 2026-01-01, link: "bugs/1", expires: 2027-01-01}
"""


def known(tmp_path: Path, text: str = ENTRY, day: date = DAY) -> Known:
    path = tmp_path / "known.yaml"
    path.write_text(text)
    return Known.load(path, day)


def test_a_known_failure_counts_as_none_in_the_rates_too(tmp_path: Path) -> None:
    past = [night(CONTROL, cell()) for _ in range(7)]
    tonight = cell(failures=[(WARNING, False, 6)])
    assert kinds(judged(CONTROL, tonight, past=past)) == ["new_failure"]
    found = judged(CONTROL, tonight, past=past, known=known(tmp_path))
    assert kinds(found) == [] and found.known[0].trials == 6
    # A night whose failures are all known is clean enough to bisect from.
    after = judged(
        CONTROL, cell(failures=[(BUG, True, 6)]), past=[night(*found.cells)], known=known(tmp_path)
    )
    assert after.findings[0].good == "b" * 40


def test_an_entry_whose_failure_stays_away_is_complained_of(tmp_path: Path) -> None:
    issues = known(tmp_path)
    always = [night(CONTROL, cell(failures=[(WARNING, False, 6)])) for _ in range(3)]
    (said,) = judged(CONTROL, cell(), past=always, known=issues).complaints
    assert "does not appear any more: in 3 of the last 3 nights (18/18 trials), not tonight (0/6)" in said
    seldom = [night(CONTROL, cell(failures=[(WARNING, False, 1)])) for _ in range(3)]
    assert judged(CONTROL, cell(), past=seldom, known=issues).complaints == (), "that may be chance"
    never = [night(CONTROL, cell()) for _ in range(3)]
    assert (
        "was not seen in the last 4 nights" in judged(CONTROL, cell(), past=never, known=issues).complaints[0]
    )
    assert judged(CONTROL, cell(), past=never[:2], known=issues).complaints == ()
    silent = cell(answered=0, outcomes={"timeout": 6})
    assert judged(CONTROL, silent, past=always, known=issues).complaints == (), "it had no chance to show"
    late = known(tmp_path, day=date(2027, 1, 1))
    assert "expired on 2027-01-01" in judged(CONTROL, cell(), past=always, known=late).complaints[0]


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("2027-01-01", "2025-01-01", "before it begins"),
        ("link:", "lnik:", "known.yaml:2: .*lnik"),
        ("since:", "scenario: chrun, since:", "did you mean churn"),
        ("2027-01-01", "soon", "expires"),
        ("warning < mark_buffer_dirty", "w", "signature"),
    ],
)
def test_a_wrong_entry_is_said_with_its_line(old: str, new: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=said) as caught:
        known(tmp_path, ENTRY.replace(old, new))
    assert "known.yaml:2" in caught.value.message


def test_a_package_is_bisected_in_the_history_that_is_named() -> None:
    old, new = "7.3.4-1~bpo13+1", "7.3.5-1~bpo13+1"
    past = [night(CONTROL, cell(revision=old))]
    (finding,) = judged(CONTROL, cell(failures=[(BUG, True, 6)], revision=new), past=past).findings
    tonight = cell(revision=new, set={"iterations": 5})
    debian = {"tree": {"kind": "debian"}}
    words, why = bisection(finding, tonight, NightTree.model_validate(debian), QEMU, [])
    assert words == [] and "no history" in why
    words, why = bisection(
        finding, tonight, NightTree.model_validate({**debian, "history": "/src/stable"}), QEMU, ["-q"]
    )
    assert words[:7] == ["bisect", "--tree", "git:/src/stable", "--good", "v7.3.4", "--bad", "v7.3.5"]
    assert words[-1] == "-q" and words[words.index("--set") + 1] == "iterations=5" and not why
    (same,) = judged(CONTROL, cell(failures=[(BUG, True, 6)], revision=old), past=past).findings
    assert "of the same revision" in bisection(same, tonight, NightTree.model_validate(debian), QEMU, [])[1]
    package = finding.model_copy(update={"bad": "7.3.4-2"})
    words, why = bisection(package, tonight, NightTree.model_validate({**debian, "history": "x"}), QEMU, [])
    assert words == [] and "only the package has changed" in why
