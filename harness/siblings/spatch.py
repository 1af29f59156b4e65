# SPDX-License-Identifier: GPL-2.0-only
"""Coccinelle on one file: the lines that the semantic patch marks."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal

from harness.deadline import Deadline
from harness.errors import InfraError
from harness.process import require_program, run

RULE = Path(__file__).resolve().parent / "retry-on-trylock.cocci"
#: C that has the shape once, and the lines of it that are to be marked.
CONTROL = Path(__file__).resolve().parent / "control.c"
CONTROL_LINES = [9, 14, 16]

#: What the rule is run for: the bug's shape, or every attempt at a lock that spatch could read.
Mode = Literal["shape", "attempts"]

#: Seconds for one file. mm/memory.c, the slowest, takes one second.
_FILE_S = 300.0
_HUNK = re.compile(r"@@ -(\d+)(?:,(\d+))? \+\d+(?:,\d+)? @@")


def require_spatch() -> None:
    """InfraError if Coccinelle is not installed."""
    require_program("spatch", hint="apt-get install coccinelle")


def check_control(scratch: Path, deadline: Deadline) -> None:
    """InfraError if this spatch does not find what is there: finding nothing elsewhere would mean nothing."""
    marked = marked_lines(CONTROL, "shape", scratch, deadline)
    if marked != CONTROL_LINES:
        raise InfraError(
            f"spatch marks lines {marked} of {CONTROL}, not {CONTROL_LINES}",
            hint="try another version of Coccinelle: 1.1.1 does",
        )


def marked_lines(file: Path, mode: Mode, scratch: Path, deadline: Deadline) -> list[int]:
    """The numbers of the lines that the rule marks in a file, ascending, from 1.

    `scratch` is where spatch puts its own files. A function that spatch cannot parse has no marks. InfraError
    if spatch fails or does not end in time.
    """
    done = run(
        ["spatch", "--very-quiet", "--no-includes", "-D", mode, str(RULE), str(file)],
        cwd=scratch,
        env={"TMPDIR": str(scratch), "LC_ALL": "C"},
        deadline=deadline.sooner(_FILE_S),
        merge_stderr=False,
    )
    return removed_lines(done.output)


def removed_lines(diff: str) -> list[int]:
    """The numbers of the lines that a unified diff of one file takes out; text around hunks is ignored."""
    found: list[int] = []
    number = left = 0
    for line in diff.splitlines():
        if hunk := _HUNK.match(line):
            number, left = int(hunk[1]), int(hunk[2] or 1)
        elif left > 0 and line[:1] in ("", " ", "-"):
            if line.startswith("-"):
                found.append(number)
            number, left = number + 1, left - 1
    return found
