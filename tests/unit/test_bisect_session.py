# SPDX-License-Identifier: GPL-2.0-only
"""How a bisection is driven: what each ending of a trial leads to, and that it goes on from its records.

Trials are simulated here; tests/vm/test_bisect.py has real ones.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest

from harness.bisect import session as session_module
from harness.bisect.classic import Classic
from harness.bisect.failure import Bug, Reading, read
from harness.bisect.model import BAD
from harness.bisect.records import KERNELS, Records
from harness.bisect.report import Bisection, bisection_json, regression_text, verdicts
from harness.bisect.session import Conclusion, Session, Setup
from harness.cache import Cache
from harness.config import load_experiment
from harness.errors import HarnessError, InfraError, UserError
from harness.experiment.options import Workshop
from harness.experiment.trial import Stage, TrialPlan
from harness.guest.preempt import PreemptionError
from harness.progress import Progress
from harness.results.runfolder import TrialResult, arm_of
from harness.scenario.catalogue import UnfitKernelError, scenario_values
from harness.watch.kinds import OutcomeKind
from tests.unit.bisectroom import bisection_text
from tests.unit.bisectworld import (
    COUNT,
    CULPRIT,
    GOOD_NAME,
    NAMES,
    Quiet,
    World,
    bug_from,
    but,
    outcome,
    world,
)


def setup() -> Setup:
    experiment = load_experiment("linux-7")
    stage = Stage(cast(Any, None), "microvm", "tcg")
    return Setup(experiment, *scenario_values(experiment), lambda kernel: stage, lambda name, seed: "again")


@pytest.fixture
def bisect(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[[World], tuple[Conclusion, Bisection]]]:
    def run(subject: World) -> tuple[Conclusion, Bisection]:
        monkeypatch.setattr(session_module, "run_trial", subject.run_trial)
        records, method = Records(tmp_path), Classic(0.99)
        workshop = Workshop(Cache(tmp_path), cast(Progress, Quiet()))
        found = Session(subject, method, setup(), records, workshop).run()
        clean = method.clean_trials(found.known) if found.bug else 0
        return found, Bisection(
            tmp_path, subject, setup(), records, found, "classic", clean, 61.0, "hmm-harness bisect ..."
        )

    yield run


Bisect = Callable[[World], tuple[Conclusion, Bisection]]


def test_a_culprit_is_found_checked_and_taken_out(bisect: Bisect) -> None:
    subject = world()
    found, done = bisect(subject)
    assert found.culprit == CULPRIT and found.checked
    assert found.reverted and found.reverted.fails is False and found.reverted.trials == done.clean_trials
    result = bisection_json(done)
    assert (result["culprit"], result["checked"]) == (NAMES[CULPRIT], True)
    tested = {row["commit"]: row for row in result["tested"]}
    assert tested[NAMES[CULPRIT]]["verdict"] == "bad" and tested[NAMES[CULPRIT - 1]]["verdict"] == "good"
    assert tested[NAMES[CULPRIT - 1]]["trials"] == done.clean_trials
    assert result["builds"] == len(tested) and len(tested) <= 9
    assert dict(verdicts(done))[NAMES[CULPRIT]] == "bad"
    text = bisection_text(done)
    assert f"culprit: {NAMES[CULPRIT][:12]} change 10" in text
    text = " ".join(text.split())
    assert (
        "checked: the culprit fails, what is right before it does not" in text
        and "without it does not fail" in text
    )
    mail = regression_text(done, "mm: a change")
    assert mail.startswith("Subject: [REGRESSION] hmm_range_fault() spins")
    assert f"#regzbot introduced: {NAMES[CULPRIT]}\n" in mail and '("mm: a change")' in mail.replace(
        "\n", " "
    )
    assert max(map(len, mail.split("\n\n", 1)[1].split("To repeat it")[0].splitlines())) <= 78


def test_the_first_candidate_and_the_bad_end_itself_can_be_culprits(bisect: Bisect) -> None:
    assert bisect(world(ending=bug_from(0)))[0].culprit == 0


def test_the_bad_end_can_be_the_culprit(bisect: Bisect) -> None:
    found, _ = bisect(world(ending=bug_from(COUNT - 1)))
    assert (found.culprit, found.checked) == (COUNT - 1, True)


def test_what_does_not_build_or_fails_otherwise_is_skipped_and_listed(bisect: Bisect) -> None:
    oops = outcome("oops", signature="oops < a < b < c")
    # All but the neighbours of the culprit are of no use, so that whatever is chosen is met.
    broken = frozenset(NAMES[place] for place in (*range(5), 8, 13, 14))
    others = frozenset(NAMES[place] for place in (5, 6, 7, 12))
    healthy = bug_from(11)
    found, done = bisect(
        world(broken=broken, ending=lambda name, index: oops if name in others else healthy(name, index))
    )
    assert found.culprit == 11
    rows = {row["commit"]: row for row in bisection_json(done)["tested"]}
    assert rows.keys() & broken and rows.keys() & others
    for name, row in rows.items():
        if name in broken | others:
            reason = "does not compile" if name in broken else "in another way: the oops"
            assert row["verdict"] == "skip" and reason in row["reason"]


def test_suspects_that_cannot_be_told_apart(bisect: Bisect) -> None:
    found, done = bisect(world(broken=frozenset({NAMES[8], NAMES[9]}), ending=bug_from(9)))
    assert found.culprit is None and not found.checked
    assert bisection_json(done)["suspects"] == list(NAMES[8:11])
    assert "culprit: one of 3" in bisection_text(done)


def test_a_kernel_that_never_answers_is_skipped(bisect: Bisect) -> None:
    found, done = bisect(world(ending=but(NAMES[7], outcome("not_exercised"), bug_from(CULPRIT))))
    assert found.culprit == CULPRIT
    row = next(row for row in bisection_json(done)["tested"] if row["commit"] == NAMES[7])
    assert row["trials"] == 10 and "10 trials in a row gave no answer" in row["reason"]


def test_a_kernel_that_never_comes_up_is_skipped_while_the_machine_is_well(bisect: Bisect) -> None:
    subject = world(ending=but(NAMES[7], outcome("infra_error"), bug_from(CULPRIT)))
    found, done = bisect(subject)
    assert found.culprit == CULPRIT
    row = next(row for row in bisection_json(done)["tested"] if row["commit"] == NAMES[7])
    assert row["verdict"] == "skip" and "does not come as far as" in row["reason"]
    assert ("control", 1) in subject.ran


def test_a_machine_that_fails_is_no_verdict_and_can_go_on(bisect: Bisect) -> None:
    sick = world()
    sick.ending = lambda name, index: (
        outcome("infra_error") if len(sick.ran) > 5 else bug_from(CULPRIT)(name, index)
    )
    with pytest.raises(InfraError, match="does not come as far as the scenario"):
        bisect(sick)
    found, done = bisect(world())
    assert found.culprit == CULPRIT
    assert all(row["verdict"] != "skip" for row in bisection_json(done)["tested"])


@pytest.mark.parametrize(
    "lacking",
    [
        PreemptionError("asked for preempt=none, the kernel runs full"),
        UnfitKernelError("scenario fault-cost needs CONFIG_PERF_EVENTS, which the kernel was built without"),
    ],
)
def test_a_kernel_without_what_the_scenario_needs_is_skipped(bisect: Bisect, lacking: HarnessError) -> None:
    subject = world()
    run = subject.run_trial

    def lacks(plan: TrialPlan, folder: Path) -> TrialResult:
        if plan.kernel.build.key == NAMES[7]:
            raise lacking
        return run(plan, folder)

    subject.run_trial = lacks  # type: ignore[method-assign]
    found, done = bisect(subject)
    assert found.culprit == CULPRIT
    row = next(row for row in bisection_json(done)["tested"] if row["commit"] == NAMES[7])
    assert row["verdict"] == "skip" and row["reason"] == lacking.message


def test_an_end_that_fails_otherwise_is_bad_input(bisect: Bisect) -> None:
    with pytest.raises(UserError, match=r"the good end, .*, cannot be tested: it fails, but in another way"):
        bisect(world(ending=but(GOOD_NAME, outcome("panic"), bug_from(CULPRIT))))


def test_a_bad_end_that_does_not_build_is_bad_input(bisect: Bisect) -> None:
    with pytest.raises(UserError, match=r"the bad end, .*, cannot be tested: it does not compile"):
        bisect(world(broken=frozenset({NAMES[-1]})))


def test_a_bad_end_without_the_bug_ends_it(bisect: Bisect) -> None:
    found, done = bisect(world(ending=lambda name, index: outcome("completed")))
    assert found.culprit is None and "never showed the bug" in bisection_json(done)["reason"]
    assert "culprit: none" in bisection_text(done)


def test_one_without_the_change_that_still_fails_is_said(bisect: Bisect) -> None:
    still = but("reverted", outcome("livelock", bug=True), bug_from(CULPRIT))
    found, done = bisect(world(ending=still))
    assert found.reverted and found.reverted.fails is True
    assert "there is another cause" in " ".join(bisection_text(done).split())


def test_a_change_that_does_not_come_out_is_said(bisect: Bisect) -> None:
    found, done = bisect(world(reverts=False))
    assert found.checked and found.reverted and found.reverted.fails is None
    assert "it conflicts" in " ".join(bisection_text(done).split())


def sometimes(name: str, index: int) -> TrialResult:
    """The bug in three of ten trials, the same at every kernel that has it."""
    has_it = name in NAMES and NAMES.index(name) >= CULPRIT
    return outcome("livelock", bug=True) if has_it and (7 * index) % 10 < 3 else outcome("completed")


@pytest.mark.parametrize(
    ("patience", "ending"), [(7, bug_from(CULPRIT)), (4, sometimes)], ids=["always", "sometimes"]
)
def test_killed_after_so_many_trials_it_goes_on_and_repeats_none(
    bisect: Bisect, tmp_path: Path, patience: int, ending: Callable[[str, int], TrialResult]
) -> None:
    oops = outcome("oops", signature="oops < a < b < c")
    facts: dict[str, Any] = {"broken": frozenset({NAMES[7]}), "ending": but(NAMES[6], oops, ending)}
    whole = world(**facts)
    expected, _ = bisect(whole)
    assert expected.culprit == CULPRIT and expected.checked
    for path in sorted(tmp_path.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    ran: list[tuple[str, int]] = []
    for _ in range(len(whole.ran) + 2):
        part = world(patience=patience, **facts)
        try:
            found, _ = bisect(part)
            ran += part.ran
            break
        except KeyboardInterrupt:
            ran += part.ran
    assert (found.culprit, found.reverted) == (expected.culprit, expected.reverted)
    assert ran == whole.ran and len(set(ran)) == len(ran)


def test_a_skip_that_was_not_written_is_found_in_the_trials(bisect: Bisect, tmp_path: Path) -> None:
    oops = outcome("oops", signature="oops < a < b < c")
    facts: dict[str, Any] = {"ending": but(NAMES[7], oops, bug_from(CULPRIT))}
    bisect(world(**facts))
    lines = (tmp_path / KERNELS).read_text().splitlines()
    (tmp_path / KERNELS).write_text("\n".join(line for line in lines if "another way" not in line) + "\n")
    again = world(**facts)
    found, done = bisect(again)
    assert found.culprit == CULPRIT and again.ran == []
    row = next(row for row in bisection_json(done)["tested"] if row["commit"] == NAMES[7])
    assert row["verdict"] == "skip" and row["trials"] == 1


def test_trials_that_fail_now_so_now_so_come_to_an_end(bisect: Bisect) -> None:
    turns = itertools.cycle([outcome("infra_error"), outcome("timeout")])
    healthy = bug_from(CULPRIT)
    subject = world(ending=lambda name, index: next(turns) if name == NAMES[7] else healthy(name, index))
    found, done = bisect(subject)
    assert found.culprit == CULPRIT
    row = next(row for row in bisection_json(done)["tested"] if row["commit"] == NAMES[7])
    assert row["verdict"] == "skip" and row["trials"] == 10


def test_a_machine_that_gives_no_answers_is_no_reason_to_skip(bisect: Bisect) -> None:
    subject = world()
    subject.ending = lambda name, index: (
        outcome("timeout") if len(subject.ran) > 25 else bug_from(CULPRIT)(name, index)
    )
    with pytest.raises(InfraError, match="10 trials in a row gave no answer"):
        bisect(subject)


def test_no_trial_counts_twice(bisect: Bisect, tmp_path: Path) -> None:
    found, _ = bisect(world())
    assert found.known.at(BAD).reproduced > 0 and found.known.at(COUNT - 1).trials == 0


def test_git_hears_what_follows_from_the_culprit(bisect: Bisect) -> None:
    _, done = bisect(world())
    assert all((verdict == "bad") == (NAMES.index(name) >= CULPRIT) for name, verdict in verdicts(done))


def test_trials_of_another_module_are_not_counted_with_these(bisect: Bisect, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        bisect(world(patience=3))
    with pytest.raises(UserError, match="ran another kernel, module or stressor"):
        Records(tmp_path).check(arm_of(NAMES[-1]), "another")


def test_the_bug_is_what_the_bad_end_showed() -> None:
    oops = outcome("oops", signature="oops < a < b < c < d")
    other = outcome("oops", signature="oops < x < b < c")
    own = outcome("livelock", bug=True, signature="livelock < f")
    assert Bug.shown_by([outcome("completed"), outcome("timeout")]) is None
    assert Bug.shown_by([replace(oops, index=1), replace(own, index=2)]) == Bug(True, own.kind, ("f",))
    bug = Bug.shown_by([oops, other])
    assert bug == Bug(False, OutcomeKind.OOPS, ("a", "b", "c")) and str(bug) == "oops < a < b < c"
    assert read(replace(oops, signature="oops < a < b < c < z"), bug) is Reading.REPRODUCED
    assert read(other, bug) is Reading.OTHER
    assert read(outcome("soft_lockup", bug=True), Bug(True, OutcomeKind.LIVELOCK)) is Reading.REPRODUCED
    for kind, reading in {
        "completed": Reading.CLEAN,
        "not_exercised": Reading.NO_ANSWER,
        "timeout": Reading.NO_ANSWER,
        "infra_error": Reading.INFRA,
        "panic": Reading.OTHER,
    }.items():
        assert read(outcome(kind), bug) is reading
