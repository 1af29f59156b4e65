# SPDX-License-Identifier: GPL-2.0-only
"""What a program of tests says in KTAP, case by case (Documentation/dev-tools/ktap.rst).

TAP 13 and 14 are read as well. Nothing that a program says raises; nothing that is missing is taken for good.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum

_VERSION = re.compile(r"K?TAP version (\d+)$")
_PLAN = re.compile(r"1\.\.(\d+)(?:\s*#\s*(?:SKIP\b)?\s*(.*))?$", re.I)
_RESULT = re.compile(
    r"(?P<result>ok|not ok)\s+(?P<number>\d+)(?:\s+(?:-\s+)?(?P<name>[^#]*?))?"
    r"\s*(?:#\s*(?:(?P<directive>SKIP|TODO|XFAIL|XPASS|TIMEOUT|ERROR)\b)?\s*(?P<reason>.*))?$",
    re.I,
)
_BAIL_OUT = re.compile(r"Bail out!\s*(.*)$")
#: What kselftest_harness.h prints before it forks for a case.
_RUN = re.compile(r"#\s+RUN\s+(\S+) \.\.\.$")
_INDENT = 2


class CaseStatus(StrEnum):
    """How one case ended."""

    PASSED = "passed"
    FAILED = "failed"
    #: Nothing was tested; the reason says why.
    SKIPPED = "skipped"
    #: It was known to fail, and did: XFAIL, TODO.
    EXPECTED = "expected"


@dataclass(frozen=True)
class Case:
    """One result line, with what was said before it."""

    number: int
    name: str
    status: CaseStatus
    #: What comes behind the directive, or behind a `#` without one.
    reason: str = ""
    #: Lines between the last result and this one.
    output: tuple[str, ...] = ()
    #: Of a case with cases of its own.
    cases: tuple[Case, ...] = ()


@dataclass(frozen=True)
class Report:
    """All that a program said. Good only if nothing failed and `defects` is empty."""

    #: None: it never said.
    plan: int | None
    cases: tuple[Case, ...]
    #: What is wrong with the output itself: no plan, results missing, numbers out of order, bail out.
    defects: tuple[str, ...]
    #: The case that had begun, and has no result.
    running: str = ""
    #: Why the whole program was skipped, if it was.
    skipped: str = ""
    #: Lines after the last result.
    rest: tuple[str, ...] = ()

    def of(self, status: CaseStatus) -> tuple[Case, ...]:
        """The cases that ended so, in order."""
        return tuple(case for case in self.cases if case.status is status)

    @property
    def failed(self) -> tuple[str, ...]:
        """The names of what failed; of a case with cases, what failed in it."""
        return tuple(name for case in self.cases for name in _failed(case))

    @property
    def counts(self) -> dict[str, int]:
        """How many cases ended how, by the words of `CaseStatus`; what never happened only if it is usual."""
        usual = (CaseStatus.PASSED, CaseStatus.FAILED, CaseStatus.SKIPPED)
        counts = {status: len(self.of(status)) for status in CaseStatus}
        return {str(status): count for status, count in counts.items() if count or status in usual}


def _failed(case: Case) -> tuple[str, ...]:
    if case.status is not CaseStatus.FAILED:
        return ()
    return tuple(f"{case.name}.{name}" for inner in case.cases for name in _failed(inner)) or (case.name,)


@dataclass
class _Level:
    """The results of one depth, as far as they have come."""

    versions: int = 0
    plan: int | None = None
    skipped: str = ""
    cases: list[Case] = field(default_factory=list)
    output: list[str] = field(default_factory=list)
    running: str = ""
    defects: list[str] = field(default_factory=list)

    def close(self, where: str = "") -> tuple[str, ...]:
        """What is wrong with it, now that nothing more comes."""
        defects = list(self.defects)
        if not self.versions:
            defects.append("no version line")
        if self.plan is None:
            defects.append("no plan")
        elif len(self.cases) != self.plan:
            defects.append(f"{len(self.cases)} of the {self.plan} planned results")
        return tuple(f"{where}: {defect}" if where else defect for defect in defects)


class KtapReader:
    """Takes lines as they come; `report` is what they amount to so far."""

    def __init__(self) -> None:
        self._levels = [_Level()]
        #: The last level of cases that was left for a result further out, which is its sum.
        self._inner: tuple[Case, ...] = ()
        self._defects: list[str] = []
        self._bailed_out = False

    def feed(self, text: str) -> None:
        """Take one line, without its newline."""
        text = text.rstrip()
        bare = text.lstrip(" ")
        depth, odd = divmod(len(text) - len(bare), _INDENT)
        if self._bailed_out or not bare:
            return
        if found := _BAIL_OUT.match(bare):
            self._bailed_out = True
            self._defects.append(f"bail out: {found[1]}".rstrip(": "))
        elif _VERSION.match(bare) and not odd:
            self._version(depth)
        elif odd or depth >= len(self._levels):
            self._say(text, bare)  # looks like a result, but nobody has announced cases within the case
        elif found := _PLAN.match(bare):
            self._plan(self._at(depth), found)
        elif found := _RESULT.match(bare):
            self._result(self._at(depth), found)
        else:
            self._say(text, bare)

    @property
    def done(self) -> int:
        """Cases that have a result."""
        return len(self._levels[0].cases)

    def report(self) -> Report:
        """What the lines so far amount to if no more come."""
        outer = self._levels[0]
        defects = [*self._defects]
        for inner in self._levels[1:]:
            defects += inner.close("a case within a case")
        return Report(
            plan=outer.plan,
            cases=tuple(outer.cases),
            defects=(*defects, *outer.close()),
            skipped=outer.skipped,
            running=next((level.running for level in reversed(self._levels) if level.running), ""),
            rest=tuple(outer.output),
        )

    def _say(self, text: str, bare: str) -> None:
        level = self._levels[-1]
        level.output.append(text)
        if found := _RUN.match(bare):
            level.running = found[1]

    def _version(self, depth: int) -> None:
        if depth >= len(self._levels):
            self._levels.append(_Level())
        level = self._at(depth)
        level.versions += 1
        if level.versions > 1:
            level.defects.append("a second version line")

    def _at(self, depth: int) -> _Level:
        """The level that a line of this depth belongs to; deeper ones are over."""
        while len(self._levels) - 1 > depth:
            done = self._levels.pop()
            self._defects += done.close(f"the cases in number {len(self._levels[-1].cases) + 1}")
            self._inner = tuple(done.cases)
        return self._levels[-1]

    def _plan(self, level: _Level, found: re.Match[str]) -> None:
        if level.plan is not None:
            level.defects.append(f"a second plan, {found[0]}")
            return
        level.plan = int(found[1])
        level.skipped = (found[2] or "no reason given") if level.plan == 0 else ""

    def _result(self, level: _Level, found: re.Match[str]) -> None:
        number = int(found["number"])
        if number != len(level.cases) + 1:
            level.defects.append(f"result {number} where {len(level.cases) + 1} is due")
        inner, self._inner = self._inner, ()
        status = _status(found["result"].lower() == "ok", (found["directive"] or "").upper())
        reason = (found["reason"] or "").strip()
        name = (found["name"] or "").strip() or reason  # kselftest.h: "ok 3 # SKIP name"
        if status is CaseStatus.PASSED and any(case.status is CaseStatus.FAILED for case in inner):
            level.defects.append(f"{name or number} is ok, and a case in it is not")
        level.cases.append(Case(number, name, status, reason, tuple(level.output), inner))
        level.output.clear()
        level.running = ""


def _status(ok: bool, directive: str) -> CaseStatus:
    # "the result ... can be either ok or not ok if the SKIP directive is used"
    if directive == "SKIP":
        return CaseStatus.SKIPPED
    if directive in ("TODO", "XFAIL"):
        return CaseStatus.EXPECTED
    return CaseStatus.PASSED if ok and directive not in ("TIMEOUT", "ERROR") else CaseStatus.FAILED


def read_ktap(lines: Iterable[str]) -> Report:
    """The report of a whole output."""
    reader = KtapReader()
    for line in lines:
        reader.feed(line)
    return reader.report()
