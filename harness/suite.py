# SPDX-License-Identifier: GPL-2.0-only
"""The outcome of a trial whose program is a suite of tests: what it said decides, not how it exited.

A case that failed, results that are missing, a bail out, or a program that was killed is `test_failed`. A
suite in which no case tested anything is `not_exercised`. Only what is whole and has no failed case is
`completed`.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

from harness.guest.protocol import ProgramEnd
from harness.outcome import Oracle, Outcome, Signature
from harness.watch.kinds import OutcomeKind
from harness.watch.ktap import CaseStatus, Report
from harness.watch.observation import AgentMessage

#: Names of cases, and reasons, in a title.
_SHOWN = 4


def suite_outcome(report: Report, ended: ProgramEnd | None, end: AgentMessage, oracle: Oracle) -> Outcome:
    """What a suite came to that ran to its end in a guest that is well; `ended` is how its program did."""
    outcome = _judged(report, ended, oracle)
    return replace(outcome, decided_by=end, tests=report)


def _judged(report: Report, ended: ProgramEnd | None, oracle: Oracle) -> Outcome:
    if report.plan is None and not report.cases:
        said = next(iter(report.rest), "nothing")
        return Outcome(OutcomeKind.INFRA_ERROR, f"the tests did not run; they said: {said}")
    if report.failed:
        why = next((case.reason for case in report.of(CaseStatus.FAILED) if case.reason), "")
        title = f"{_some(report.failed, ', ')} failed{f' ({why})' if why else ''}; {counted(report)}"
        return _failed(title, report.failed, oracle)
    wrong = [*report.defects, *_end_of(ended)]
    if wrong:
        where = f", after {report.running} began" if report.running else ""
        title = f"{'; '.join(wrong)}{where}; {counted(report)}"
        return _failed(title, (report.running or "the output",), oracle)
    if not report.of(CaseStatus.PASSED) and not report.of(CaseStatus.EXPECTED):
        reason = f": {report.skipped}" if report.skipped else ""
        return Outcome(OutcomeKind.NOT_EXERCISED, f"no case tested anything{reason}; {counted(report)}")
    return Outcome(OutcomeKind.COMPLETED, counted(report))


def _failed(title: str, places: tuple[str, ...], oracle: Oracle) -> Outcome:
    kind = OutcomeKind.TEST_FAILED
    is_bug = oracle.rule(kind, places) is not None
    return Outcome(kind, title, Signature(kind, places[:_SHOWN]), is_bug=is_bug)


def _end_of(ended: ProgramEnd | None) -> list[str]:
    """What is wrong with how the program ended."""
    if ended and ended.signal:
        return [f"the program was killed by signal {ended.signal}"]
    return [f"the program ended with status {ended.status}"] if ended and ended.status else []


def timed_out(report: Report) -> bool:
    """Whether cases failed, and all of them by the time limit that kselftest_harness.h sets."""
    failed = report.of(CaseStatus.FAILED)
    limit = "Test terminated by timeout"
    return bool(failed) and all(any(limit in line for line in case.output) for case in failed)


def counted(report: Report) -> str:
    """The counts in words, with the reasons of what was skipped."""
    words = ", ".join(f"{count} {status}" for status, count in report.counts.items())
    reasons = Counter(case.reason or "no reason given" for case in report.of(CaseStatus.SKIPPED))
    if not reasons:
        return words
    return f"{words} ({_some([f'{count} {reason}' for reason, count in reasons.most_common()], '; ')})"


def _some(words: list[str] | tuple[str, ...], between: str) -> str:
    more = len(words) - _SHOWN
    return between.join(words[:_SHOWN]) + (f" and {more} more" if more > 0 else "")
