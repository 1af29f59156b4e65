# SPDX-License-Identifier: GPL-2.0-only
"""How progress looks: live on a terminal, plain time-stamped lines elsewhere."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Sequence
from typing import Protocol, TextIO

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from harness.progress import Progress, Step

#: On a pipe, at most one line of a running step every so many seconds.
PLAIN_INTERVAL_S = 10.0
#: Lines of a terminal that are not for the table's rows.
LIVE_MARGIN = 8


class Display(Progress, Protocol):
    """Progress that is shown somewhere, and can be ended."""

    @property
    def stream(self) -> TextIO: ...

    def close(self) -> None:
        """Leave the place as it should stay; nothing is shown live after this."""


def make_progress(stream: TextIO) -> Display:
    """Live progress if `stream` is a terminal, plain lines if it is not."""
    return LiveProgress(stream) if stream.isatty() else PlainProgress(stream)


def elapsed(seconds: float) -> str:
    """Seconds as a person reads them: `4.2 s`, `3 min 05 s`."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    return f"{int(seconds) // 60} min {int(seconds) % 60:02d} s"


def _count(done: int, total: int) -> str:
    if not done:
        return ""
    return f" {done}/{total}" if total else f" {done}"


class _PlainStep:
    def __init__(self, owner: PlainProgress, title: str) -> None:
        self._owner = owner
        self._title = title
        self._last = time.monotonic()

    def update(self, what: str, done: int = 0, total: int = 0) -> None:
        now = time.monotonic()
        if now - self._last >= PLAIN_INTERVAL_S:
            self._last = now
            self._owner.note(f"{self._title}:{_count(done, total)} {what}")


class PlainProgress:
    """One time-stamped line a phase begun, ended, or worth a word."""

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream
        self._start = time.monotonic()
        self._rows: set[tuple[str, ...]] = set()

    def note(self, text: str) -> None:
        print(f"[{time.monotonic() - self._start:7.1f}s] {text}", file=self.stream, flush=True)

    @contextlib.contextmanager
    def step(self, title: str) -> Iterator[Step]:
        begin = time.monotonic()
        self.note(f"{title} ...")
        try:
            yield _PlainStep(self, title)
        except BaseException:
            self.note(f"{title}: failed after {elapsed(time.monotonic() - begin)}")
            raise
        self.note(f"{title}: done in {elapsed(time.monotonic() - begin)}")

    def table(self, header: Sequence[str], rows: Sequence[Sequence[str]], running: str = "") -> None:
        for row in rows:
            if tuple(row) not in self._rows:
                self._rows.add(tuple(row))
                self.note("  ".join(f"{name}={cell}" for name, cell in zip(header, row, strict=True) if cell))

    def close(self) -> None:
        """Nothing to put back."""


class _LiveStep:
    def __init__(self, title: str) -> None:
        self.title = title
        self.begin = time.monotonic()
        self.what = ""
        self.count = ""
        self.spinner = Spinner("dots")

    def update(self, what: str, done: int = 0, total: int = 0) -> None:
        self.what = what
        self.count = _count(done, total)

    def line(self) -> str:
        return f" {self.title}  {elapsed(time.monotonic() - self.begin)}{self.count}  {self.what}"


class LiveProgress:
    """Phases with elapsed time and a table of trials, redrawn in place."""

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream
        self._console = Console(file=stream, highlight=False)
        self._steps: list[_LiveStep] = []
        self._header: Sequence[str] = ()
        self._rows: Sequence[Sequence[str]] = ()
        self._running: _LiveStep | None = None
        self._live: Live | None = None

    def __rich__(self) -> RenderableType:
        # What does not fit would hide what is going on below it.
        last = max(3, self._console.height - LIVE_MARGIN)
        parts: list[RenderableType] = [self._table(self._rows[-last:])] if self._header else []
        for step in [*self._steps, *([self._running] if self._running else [])]:
            step.spinner.update(text=Text(step.line(), no_wrap=True, overflow="ellipsis"))
            parts.append(step.spinner)
        return Group(*parts)

    def _ensure_live(self) -> None:
        if self._live is None:
            self._live = Live(self, console=self._console, refresh_per_second=4, transient=True)
            self._live.start()

    def note(self, text: str) -> None:
        self._console.print(Text(text))

    @contextlib.contextmanager
    def step(self, title: str) -> Iterator[Step]:
        step = _LiveStep(title)
        self._steps.append(step)
        self._ensure_live()
        try:
            yield step
        except BaseException:
            self._console.print(Text(f"✗ {title}  {elapsed(time.monotonic() - step.begin)}", style="red"))
            raise
        else:
            self._console.print(Text(f"✓ {title}  {elapsed(time.monotonic() - step.begin)}", style="green"))
        finally:
            self._steps.remove(step)

    def table(self, header: Sequence[str], rows: Sequence[Sequence[str]], running: str = "") -> None:
        self._running = _LiveStep(running) if running else None
        self._header, self._rows = tuple(header), tuple(rows)
        self._ensure_live()

    def _table(self, rows: Sequence[Sequence[str]]) -> Table:
        table = Table(box=None, pad_edge=False)
        for name in self._header:
            table.add_column(name, style="bold" if name == "outcome" else None)
        for row in rows:
            table.add_row(*row)
        return table

    def close(self) -> None:
        """Give the terminal back, leaving the last table on it."""
        if self._live is not None:
            self._live.stop()
            self._live = None
            if self._header:
                self._console.print(self._table(self._rows))
                self._header = ()
