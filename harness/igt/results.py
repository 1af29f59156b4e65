# SPDX-License-Identifier: GPL-2.0-only
"""What igt_runner makes of a run, its `results.json` (runner/resultgen.c of IGT GPU tools), as a report.

IGT's words stay in the cases' reasons. Only `pass` is passed: a `warn` or `dmesg-warn` is a failed case.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from harness.watch.ktap import Case, CaseStatus, Report

#: What a case says in its record at most: lines, from the end; letters of a reason.
OUTPUT_LINES, REASON_LETTERS = 200, 240

#: What every program of IGT says whatever happens, in its output.
_USUAL = re.compile(
    r"IGT-Version: |Using IGT_SRANDOM=|Opened device: |Starting (?:dynamic )?subtest: |"
    r"(?:Dynamic s|S)ubtest \S+: [A-Z]+ \(|Test requirement not met in function |Stack trace:|  #\d+ |"
    r"Last errno: "
)
#: igt_core.c puts it behind the message, on a line of its own only if that ended one.
_ERRNO = re.compile(r"Last errno: \d+, .*$")
_REQUIREMENT = "Test requirement: "
_CRITICAL = re.compile(r".*\) (?:\S+-)?CRITICAL: (.*)$")
_LOG = re.compile(r"<\d+> \[\s*[\d.]+\] (.*)$")
_UNKNOWN = re.compile(r"Unknown subtest: .*")
#: The words of resultgen.c that say that there is no result.
_NOT_RUN = "notrun"


class _Test(BaseModel):
    """One test of a results.json; other members are there as well."""

    model_config = ConfigDict(frozen=True)

    result: str
    out: str = ""
    err: str = ""
    dmesg: str = ""
    dmesg_warnings: str = Field(default="", alias="dmesg-warnings")


class _Results(BaseModel):
    model_config = ConfigDict(frozen=True)

    tests: dict[str, _Test]


def report_of(text: str) -> Report:
    """The report of a results.json. One that cannot be read is a report without cases that says so."""
    try:
        results = _Results.model_validate_json(text)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(map(str, first["loc"]))
        return Report(None, (), (f"results.json: {place + ': ' if place else ''}{first['msg']}",))
    ran = [(name, test) for name, test in results.tests.items() if test.result != _NOT_RUN]
    cases = tuple(_case(number, name, test) for number, (name, test) in enumerate(ran, start=1))
    planned = len(results.tests)
    missing = (f"{len(ran)} of the {planned} planned results",) if len(ran) < planned else ()
    return Report(planned, cases, missing)


def _case(number: int, name: str, test: _Test) -> Case:
    if test.result == "pass":
        return Case(number, name, CaseStatus.PASSED)
    unknown = next((line[0] for line in map(_UNKNOWN.search, test.err.splitlines()) if line), "")
    if test.result == "skip" and not unknown:
        reason = "; ".join(_said(test.out)) or "no reason given"
        return Case(number, name, CaseStatus.SKIPPED, reason[:REASON_LETTERS])
    why = unknown or next((words for words in _reasons(test) if words), "")
    reason = f"{test.result}: {why}" if why else test.result
    output = [*test.out.splitlines(), *test.err.splitlines(), *test.dmesg_warnings.splitlines()]
    return Case(number, name, CaseStatus.FAILED, reason[:REASON_LETTERS], tuple(output[-OUTPUT_LINES:]))


def _said(out: str) -> list[str]:
    """What a test says for itself: its message, or the requirement that it has if there is no message."""
    lines = [_ERRNO.sub("", line).strip() for line in out.splitlines() if not _USUAL.match(line)]
    message = [line for line in lines if line and not line.startswith(_REQUIREMENT)]
    return message or [line for line in lines if line]


def _reasons(test: _Test) -> Iterator[str]:
    """Why a test did not pass, the most telling first."""
    warnings = [found[1] for line in test.dmesg_warnings.splitlines() if (found := _LOG.match(line))]
    if warnings and test.result != "fail":
        yield warnings[0]
    critical = list(
        dict.fromkeys(found[1] for line in test.err.splitlines() if (found := _CRITICAL.match(line)))
    )
    assertions = [line for line in critical if not line.startswith(("Test assertion failure", "Last errno"))]
    yield "; ".join(assertions)
    yield next((line for line in test.err.splitlines() if line.startswith("Received signal")), "")
    yield next((line.partition("WARNING: ")[2] for line in test.err.splitlines() if "WARNING: " in line), "")
    yield "; ".join(_said(test.out))
