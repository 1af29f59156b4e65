# SPDX-License-Identifier: GPL-2.0-only
"""What was done to a box around a trial, step by step: on disk at once, and in the trial's record."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from harness.disk import append_line
from harness.errors import HarnessError
from harness.target.protocol import MachineStep

#: In a trial's folder: a line for each step.
STEPS = "box.jsonl"


@dataclass
class Note:
    """What a step says of itself when it is over."""

    detail: str = ""
    ok: bool = True


class Journal:
    """Steps in order. Safe for several threads."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / STEPS
        self._lock = threading.Lock()
        self._steps: list[MachineStep] = []
        #: On `time.monotonic()`'s axis; times count from it. Steps before it was set: from the first.
        self.power_on = time.monotonic()

    @property
    def steps(self) -> tuple[MachineStep, ...]:
        """All that were taken so far."""
        return tuple(self._steps)

    @contextlib.contextmanager
    def step(self, name: str) -> Iterator[Note]:
        """A step; one that raises is not ok, and the exception goes on."""
        note = Note()
        begin = time.monotonic()
        try:
            yield note
        except BaseException as error:
            note.ok = False
            note.detail = error.message if isinstance(error, HarnessError) else type(error).__name__
            raise
        finally:
            self._add(begin, name, note)

    @contextlib.contextmanager
    def attempt(self, name: str) -> Iterator[Note]:
        """A step whose failure is only written down."""
        with contextlib.suppress(HarnessError), self.step(name) as note:
            yield note

    def note(self, name: str, detail: str, *, ok: bool = True) -> None:
        """Something that was seen, and took no time."""
        self._add(time.monotonic(), name, Note(detail, ok))

    def _add(self, begin: float, name: str, note: Note) -> None:
        step = MachineStep(
            host_s=round(begin - self.power_on, 3),
            name=name,
            ok=note.ok,
            detail=note.detail,
            seconds=round(time.monotonic() - begin, 3),
        )
        with self._lock:
            self._steps.append(step)
            append_line(self._file, json.dumps(asdict(step), ensure_ascii=False))
