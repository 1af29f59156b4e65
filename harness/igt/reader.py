# SPDX-License-Identifier: GPL-2.0-only
"""What igt_runner says while it runs, and its results.json once it has come whole."""

from __future__ import annotations

import re

from harness.igt.results import report_of
from harness.watch.ktap import Case, CaseStatus, Report

_BEGIN = re.compile(r"(?:\[\s*[\d.]+\] )?\[\s*(\d+)/\s*(\d+)\](?: \(\d+s left\))? (\S+)(?: \((\S+)\))?$")
_RESULT = re.compile(r"(?:\[\s*[\d.]+\] )?Subtest (\S+): ([A-Z]+)\b")
#: Lines that are neither, kept from the beginning: what is wrong comes first, then pages of help.
_SAID = 20
_WORDS = {"SUCCESS": CaseStatus.PASSED, "SKIP": CaseStatus.SKIPPED}


class IgtReader:
    """Takes lines, and pieces of results.json, as they come; `report` is what they amount to so far.

    What the lines say is provisional: IGT has not yet looked at the kernel's log. Without results.json the
    report has a defect.
    """

    def __init__(self) -> None:
        self._planned: int | None = None
        self._begun = 0
        self._running = ""
        self._cases: list[Case] = []
        self._said: list[str] = []
        self._results: list[str] = []
        self._whole = False

    def feed(self, text: str) -> None:
        """Take one line, without its newline."""
        if found := _BEGIN.match(text):
            self._begun, self._planned = int(found[1]), int(found[2])
            self._running = "@".join(filter(None, ("igt", found[3], found[4])))
        elif (found := _RESULT.match(text)) and self._running.endswith(f"@{found[1]}"):
            status = _WORDS.get(found[2], CaseStatus.FAILED)
            reason = "" if status is CaseStatus.PASSED else found[2].lower()
            self._cases.append(Case(len(self._cases) + 1, self._running, status, reason))
            self._running = ""
        else:
            self._said = [*self._said, text][:_SAID]

    def results(self, piece: str, left: int) -> None:
        """Take the next piece of results.json: its bytes as Latin-1, and how many are still to come."""
        self._results.append(piece)
        self._whole = left == 0

    @property
    def done(self) -> int:
        """Cases that have a result."""
        return max(self._begun - bool(self._running), len(self._cases))

    def report(self) -> Report:
        """What has come so far amounts to if no more comes."""
        if self._whole:
            return report_of(
                "".join(self._results).encode("latin-1", errors="replace").decode("utf-8", "replace")
            )
        missing = "results.json is cut off" if self._results else "no results.json"
        return Report(
            plan=self._planned,
            cases=tuple(self._cases),
            defects=(missing,),
            running=self._running,
            rest=tuple(self._said),
        )
