# SPDX-License-Identifier: GPL-2.0-only
"""A verb of this program, run as a user would: its own record, its own store entry, its own exit status."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from harness.deadline import Deadline
from harness.process import LateError, run

#: What one that is out of time, or interrupted, has to stop its guests and to write its record, s.
GRACE_S = 20.0


@dataclass(frozen=True)
class Ran:
    """How it ended. status: None if the time was over. result: the object that --json prints; empty: none."""

    status: int | None
    result: Mapping[str, Any] = field(default_factory=dict)
    #: What it said of an error.
    error: str = ""


class Runner(Protocol):
    """Runs a verb to its end, or to the deadline; `log` gets all that it says, `on_line` hears of it."""

    def __call__(
        self, words: Sequence[str], log: Path, deadline: Deadline, on_line: Callable[[str], None]
    ) -> Ran: ...


def run_verb(words: Sequence[str], log: Path, deadline: Deadline, on_line: Callable[[str], None]) -> Ran:
    """The `Runner` that starts a process."""
    argv = [sys.executable, "-P", "-m", "harness", *words, "--json"]
    try:
        done = run(argv, deadline=deadline, log=log, on_line=on_line, check=False, grace_s=GRACE_S)
    except LateError:
        return Ran(None)
    lines = done.output.splitlines()
    objects = [line for line in lines if line.startswith("{")]
    errors = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
    return Ran(done.status, json.loads(objects[-1]) if objects else {}, "; ".join(errors))
