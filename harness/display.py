# SPDX-License-Identifier: GPL-2.0-only
"""How progress and results look: live on a terminal, plain time-stamped lines elsewhere."""

from __future__ import annotations

import contextlib
import os
import re
import time
from collections.abc import Iterator, Sequence
from typing import Protocol, TextIO

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.spinner import Spinner
from rich.text import Text

from harness.layout import Part, aligned, folded, laid_out, wrapped
from harness.plain import plain
from harness.progress import Progress, Step

#: On a pipe, at most one line of a running step every so many seconds.
PLAIN_INTERVAL_S = 10.0
#: Lines of a terminal that are not for the table's rows.
LIVE_MARGIN = 8
#: What a step has done of its total before its pace says how long it will take.
_OWN_PACE = 0.1
#: What a table does without, in this order, while it is live on a narrow terminal: the run's folder has it.
_SPARE = ("iterations", "seed")
#: The first line of a report, and how it is meant.
_HEADLINE = re.compile(r"(?:verdict|outcome|culprit|selftest|proof): (.*)")
_GOOD = re.compile(r"(?:fixed|completed|nothing_new|(\d+) of \1 as expected)$")
_OPEN = re.compile(r"inconclusive|not_judged|not_reproduced|not_exercised|none")


class Display(Progress, Protocol):
    """Progress and results that are shown somewhere, and can be ended."""

    @property
    def stream(self) -> TextIO: ...

    @property
    def columns(self) -> int:
        """How long a line may be; 0: any length."""

    def result(self, *parts: Part) -> None:
        """What a verb has to say in the end, as wide as it is shown; nothing is shown live after it."""

    def close(self) -> None:
        """Leave the place as it should stay; nothing is shown live after this."""


def make_progress(stream: TextIO, *, quiet: bool = False) -> Display:
    """Live progress if `stream` is a terminal that can be drawn on, plain lines if it is not.

    quiet: results alone. Colours are for terminals, and follow NO_COLOR, FORCE_COLOR and TERM.
    """
    if quiet:
        return QuietProgress(stream)
    drawn = stream.isatty() and os.environ.get("TERM", "").lower() not in ("", "dumb", "unknown")
    return LiveProgress(stream) if drawn else PlainProgress(stream)


def elapsed(seconds: float) -> str:
    """Seconds as a person reads them: `4.2 s`, `3 min 05 s`."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    return f"{int(seconds) // 60} min {int(seconds) % 60:02d} s"


def about(seconds: float) -> str:
    """An estimate as a person reads it: `about 20 s left`, `about 4 min left`; nothing if there is none."""
    if seconds <= 0:
        return ""
    if seconds < 55:
        return f"about {max(5, round(seconds / 5) * 5)} s left"
    return f"about {round(seconds / 60)} min left" if seconds < 5700 else f"about {seconds / 3600:.1f} h left"


def _count(done: int, total: int) -> str:
    if not done:
        return ""
    return f" {done}/{total}" if total else f" {done}"


class _Shown:
    """Where things are shown: the stream, its colours, its width."""

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream
        self._console = Console(file=stream, highlight=False)

    @property
    def columns(self) -> int:
        return self._console.width if self.stream.isatty() else 0

    def result(self, *parts: Part) -> None:
        self.close()
        for line in laid_out(parts, self.columns):
            if style := _style(line):
                self._say(line, style)
            else:  # without rich, which takes its time over a listing of 100,000 lines
                print(plain(line), file=self.stream)
        self.stream.flush()

    def _say(self, line: str, style: str = "") -> None:
        self._console.print(Text(plain(line), style=style), soft_wrap=True)

    def close(self) -> None:
        """Nothing to put back."""


def _style(line: str) -> str:
    headline = _HEADLINE.match(line)
    if not headline:
        return ""
    return f"bold {'green' if _GOOD.match(headline[1]) else 'yellow' if _OPEN.match(headline[1]) else 'red'}"


def _broken_off(error: BaseException) -> str:
    """How a step ended that did not come to its end."""
    return "interrupted" if isinstance(error, KeyboardInterrupt) else "failed"


class _Step:
    """A phase: how long it has been going on, and how far it is."""

    def __init__(self, title: str) -> None:
        self.title = title
        self.begin = time.monotonic()
        self._what = ""
        self._done = self._total = 0

    def update(self, what: str, done: int = 0, total: int = 0) -> None:
        self._what, self._done, self._total = what, done, total

    @property
    def spent_s(self) -> float:
        return time.monotonic() - self.begin

    @property
    def left_s(self) -> float:
        """By its own pace, once that says something; 0: nobody knows."""
        part = self._done / self._total if self._total else 0.0
        return self.spent_s * (1 / part - 1) if part >= _OWN_PACE else 0.0

    def line(self, columns: int) -> str:
        """What is known of it: the times are always there, of the rest as much as fits."""
        times = ", ".join(word for word in (elapsed(self.spent_s), about(self.left_s)) if word)
        room = columns - len(times) - 4
        title = self.title if len(self.title) <= room else f"{self.title[: room - 1]}…"
        return f" {title}  {times}{_count(self._done, self._total)}  {self._what}"


class _PlainStep(_Step):
    def __init__(self, owner: PlainProgress, title: str) -> None:
        super().__init__(title)
        self._owner = owner
        self._last = self.begin

    def update(self, what: str, done: int = 0, total: int = 0) -> None:
        super().update(what, done, total)
        now = time.monotonic()
        if now - self._last >= PLAIN_INTERVAL_S:
            self._last = now
            left = f", {about(self.left_s)}" if self.left_s else ""
            self._owner.note(f"{self.title}:{_count(done, total)} {what}{left}")


class PlainProgress(_Shown):
    """One time-stamped line a phase begun, ended, or worth a word."""

    def __init__(self, stream: TextIO) -> None:
        super().__init__(stream)
        self._start = time.monotonic()
        self._rows: set[tuple[str, ...]] = set()

    def note(self, text: str) -> None:
        self._stamped(text)

    def _stamped(self, text: str, style: str = "") -> None:
        self._say(f"[{time.monotonic() - self._start:7.1f}s] {text}", style)
        self.stream.flush()

    @contextlib.contextmanager
    def step(self, title: str) -> Iterator[Step]:
        step = _PlainStep(self, title)
        self.note(f"{title} ...")
        try:
            yield step
        except BaseException as error:
            self._stamped(f"{title}: {_broken_off(error)} after {elapsed(step.spent_s)}", "red")
            raise
        self._stamped(f"{title}: done in {elapsed(step.spent_s)}")

    def table(self, header: Sequence[str], rows: Sequence[Sequence[str]], running: str = "") -> None:
        for row in rows:
            if tuple(row) not in self._rows:
                self._rows.add(tuple(row))
                self.note("  ".join(f"{name}={cell}" for name, cell in zip(header, row, strict=True) if cell))


class QuietProgress(_Shown):
    """Results, and nothing on the way to them."""

    def note(self, text: str) -> None:
        """Not worth a word."""

    @contextlib.contextmanager
    def step(self, title: str) -> Iterator[Step]:
        yield _Step(title)

    def table(self, header: Sequence[str], rows: Sequence[Sequence[str]], running: str = "") -> None:
        """The report has it."""


class LiveProgress(_Shown):
    """Phases with elapsed time and a table of trials, redrawn in place."""

    def __init__(self, stream: TextIO) -> None:
        super().__init__(stream)
        self._steps: list[tuple[_Step, Spinner]] = []
        self._header: Sequence[str] = ()
        self._rows: Sequence[Sequence[str]] = ()
        self._running: tuple[_Step, Spinner] | None = None
        self._live: Live | None = None

    def __rich__(self) -> RenderableType:
        # What does not fit would hide what is going on below it.
        last = max(3, self._console.height - LIVE_MARGIN)
        parts: list[RenderableType] = [self._table(self._rows[-last:])] if self._header else []
        for step, spinner in [*self._steps, *([self._running] if self._running else [])]:
            spinner.update(
                text=Text(plain(step.line(self._console.width - 2)), no_wrap=True, overflow="ellipsis")
            )
            parts.append(spinner)
        return Group(*parts)

    def _ensure_live(self) -> None:
        if self._live is None:
            self._live = Live(self, console=self._console, refresh_per_second=4, transient=True)
            self._live.start()

    def note(self, text: str) -> None:
        for line in wrapped(text, self.columns):
            self._say(line)

    @contextlib.contextmanager
    def step(self, title: str) -> Iterator[Step]:
        step = _Step(title)
        shown = (step, Spinner("dots"))
        self._steps.append(shown)
        self._ensure_live()
        try:
            yield step
        except BaseException as error:
            self._say(f"✗ {title}  {_broken_off(error)} after {elapsed(step.spent_s)}", "red")
            raise
        else:
            self._say(f"✓ {title}  {elapsed(step.spent_s)}", "green")
        finally:
            self._steps.remove(shown)

    def table(self, header: Sequence[str], rows: Sequence[Sequence[str]], running: str = "") -> None:
        self._running = (_Step(running), Spinner("dots")) if running else None
        self._header, self._rows = tuple(header), tuple(rows)
        self._ensure_live()

    def _table(self, rows: Sequence[Sequence[str]]) -> RenderableType:
        table = [self._header, *rows]
        for name in _SPARE:
            if name in table[0] and max(map(len, aligned(table))) > self._console.width:
                place = table[0].index(name)
                table = [[*row[:place], *row[place + 1 :]] for row in table]
        head, *lines = folded(table, self._console.width)
        return Group(Text(head, style="bold"), *(Text(plain(line)) for line in lines))

    def close(self) -> None:
        """Give the terminal back, leaving the last table on it."""
        if self._live is not None:
            self._live.stop()
            self._live = None
            if self._header:
                self._console.print(self._table(self._rows))
                self._header = ()
