# SPDX-License-Identifier: GPL-2.0-only
"""KTAP version 1 (Documentation/dev-tools/ktap.rst), as the tree's own `kunit.py parse` reads it.

A subtest for each arm, a line for each trial, and the verdict. A control that shows the bug is `XFAIL`. Of a
night a subtest for each tree, a line for each candidate.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from itertools import groupby
from operator import attrgetter

from harness.plain import plain
from harness.results.cases import case_text, trial_cases
from harness.results.formats.evidence import evidence_text, trial_title
from harness.results.formats.night import NightCase, night_cases
from harness.results.formats.options import Options
from harness.results.reading import RunRecord, TrialRecord
from harness.results.summary import Arm, Summary, summarize
from harness.watch.kinds import OutcomeKind
from harness.watch.ktap import Case, CaseStatus

#: What kunit_parser.py takes for the end of all results wherever it stands in a line, or for a header even
#: in a diagnostic line: a console may say anything.
_TAKEN = re.compile(r"List of all partitions:|Kernel panic - not syncing: VFS:|reboot: System halted")


def ktap(run: RunRecord, options: Options) -> str:
    """The run as a KTAP document."""
    summary = summarize(run)
    groups: list[Callable[[int], list[str]]] = [partial(_arm, arm=arm) for arm in summary.arms if arm.trials]
    if summary.night:
        trees = groupby(sorted(night_cases(summary.night), key=attrgetter("tree")), attrgetter("tree"))
        groups += [partial(_night, tree=tree, cases=tuple(cases)) for tree, cases in trees]
    lines = ["KTAP version 1", f"1..{len(groups) + 1}"]
    for number, group in enumerate(groups, start=1):
        lines += group(number)
    lines += _diagnostics([f"{summary.headline}: {summary.reason}", f"again: {run.reproduce}"])
    lines.append(_result(len(groups) + 1, summary.standing == "good", "verdict", _note(summary)))
    return "\n".join(lines) + "\n"


def _night(number: int, tree: str, cases: Sequence[NightCase]) -> list[str]:
    """The candidates of a tree; what has no answer is no result."""
    name = _name(tree)
    inner = ["KTAP version 1", f"# Subtest: {name}", f"1..{len(cases)}"]
    for place, case in enumerate(cases, start=1):
        inner += _diagnostics(case.said.splitlines())
        note = {"passed": "", "failed": case.kind, "silent": f"ERROR {case.kind}"}[case.standing]
        inner.append(_result(place, case.standing == "passed", f"{name} {_name(case.name)}", note))
    good = all(case.standing == "passed" for case in cases)
    return [*(f"  {line}" for line in inner), _result(number, good, name, "")]


def _arm(number: int, arm: Arm) -> list[str]:
    name = _name(arm.name)
    inner = ["KTAP version 1", f"# Subtest: {name}", f"1..{len(arm.trials)}"]
    if arm.kernel:
        inner += _diagnostics([f"kernel {arm.label} ({arm.kernel.release})", f"tree {arm.kernel.tree}"])
    good = True
    for place, trial in enumerate(arm.trials, start=1):
        passed, note = _judged(arm, trial)
        good = good and passed
        evidence = evidence_text(trial.result) if trial.result else ""
        called = f"{name} trial {trial.index} seed {trial.seed}"
        inner += _diagnostics(evidence.splitlines())
        inner += [f"  {line}" for line in _cases(called, trial_cases(trial))]
        inner.append(_result(place, passed, called, note))
    return [*(f"  {line}" for line in inner), _result(number, good, name, "")]


def _cases(trial: str, cases: Sequence[Case]) -> list[str]:
    """What a suite of tests said within the trial."""
    if not cases:
        return []
    lines = ["KTAP version 1", f"# Subtest: {trial}", f"1..{len(cases)}"]
    for place, case in enumerate(cases, start=1):
        if case.status is CaseStatus.FAILED:
            lines += _diagnostics(case_text(case).splitlines())
        directive = {CaseStatus.SKIPPED: "SKIP ", CaseStatus.EXPECTED: "XFAIL "}.get(case.status, "")
        good = case.status is not CaseStatus.FAILED
        lines.append(_result(place, good, _name(case.name), directive + case.reason if directive else ""))
    return lines


def _judged(arm: Arm, trial: TrialRecord) -> tuple[bool, str]:
    """Whether it is `ok`, and the directive with its reason."""
    result = trial.result
    if result is None:
        return False, f"ERROR the trial is {trial.state}"
    title = trial_title(result)
    match arm.mark(result):
        case "passed":
            return True, ""
        case "expected":
            return True, f"XFAIL {title}"
        case "skipped":
            return True, f"SKIP {title}"
        case "failed":
            return False, title
        case "silent":
            word = "TIMEOUT" if result.kind is OutcomeKind.TIMEOUT else "ERROR"
            return False, f"{word} {title}"


def _note(summary: Summary) -> str:
    return f"{summary.headline}: {summary.reason}"


def _result(number: int, good: bool, name: str, note: str) -> str:
    line = f"{'ok' if good else 'not ok'} {number} {name}"
    return f"{line} # {_line(note)}" if note else line


def _diagnostics(lines: Iterable[str]) -> list[str]:
    # The bar keeps a console's "Subtest: ..." from being read as the header of one.
    return [f"# | {_line(line)}".rstrip() for line in lines]


def _name(text: str) -> str:
    """A test's name: no `#`, which begins a directive, and no leading dash."""
    return re.sub(r"\s+", " ", plain(text).replace("#", "_")).strip(" -") or "unnamed"


def _line(text: str) -> str:
    """One line that no parser takes for another one."""
    flat = plain(text).replace("\n", " ").replace(" # ", " ")
    return _TAKEN.sub(lambda match: match[0].replace(":", ";"), flat)
