# SPDX-License-Identifier: GPL-2.0-only
"""What a log says, offline: a serial console, the output of dmesg, or of `journalctl -k`."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from harness.errors import UserError
from harness.judge import deciding_event, latest
from harness.watch.console import ConsoleEvent, ConsoleParser
from harness.watch.kinds import OutcomeKind

_CHUNK = 1 << 16
#: What a kernel's own line looks like when it has a time stamp.
_STAMP = re.compile(rb"\[ *\d+\.\d{6}\]")


@dataclass(frozen=True)
class Classification:
    """What one log says."""

    file: str
    #: By the earliest failure on it; `completed` if there is none.
    outcome: OutcomeKind
    title: str
    #: Everything recognised, notes too, in order of the lines.
    events: tuple[ConsoleEvent, ...]

    @property
    def found(self) -> bool:
        """Whether the log tells of a failure."""
        return self.outcome is not OutcomeKind.COMPLETED

    def as_json(self) -> dict[str, Any]:
        """The shape that `classify --json` prints: one object a file."""
        return {
            "file": self.file,
            "outcome": str(self.outcome),
            "title": self.title,
            "events": [
                {
                    "class": event.cls,
                    "title": event.title,
                    "line": event.line,
                    "time_s": event.time_s,
                    "cpu": event.cpu,
                    "task": event.task,
                }
                for event in self.events
            ],
        }


def classify_file(path: Path) -> Classification:
    """Read a log to its end. UserError if it cannot be read; its content may be anything."""
    parser = ConsoleParser()
    events: list[ConsoleEvent] = []
    stamped = False
    try:
        with path.open("rb") as source:
            while data := source.read(_CHUNK):
                stamped = stamped or bool(_STAMP.search(data))
                events += parser.feed(data, 0.0)
    except OSError as error:
        reason = error.strerror or str(error)
        raise UserError(f"cannot read {path}: {reason}", hint="give the file of a console log") from error
    events += parser.close()
    result = classify_events(str(path), events)
    if result.found or stamped:
        return result
    return replace(result, title="nothing found, and no line with a kernel time stamp: is this a console?")


def classify_events(name: str, events: list[ConsoleEvent]) -> Classification:
    """What the events of one console say together."""
    final = tuple(event for event in latest(events) if isinstance(event, ConsoleEvent))
    first = deciding_event(final)
    if first is None or first.outcome is None:
        return Classification(name, OutcomeKind.COMPLETED, "nothing found", final)
    return Classification(name, first.outcome, first.title, final)
