# SPDX-License-Identifier: GPL-2.0-only
"""The parts of a recorded console that a reader wants: its ends, and what is around a moment.

However large the console is, only these parts are read: a guest that floods it costs nothing.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from harness.judge import latest
from harness.plain import plain
from harness.target.recording import CONSOLE, TIMES
from harness.watch.console import TEXT_WIDTH, ConsoleEvent, ConsoleParser
from harness.watch.lines import LineSplitter, PrefixReader

#: Bytes read at the beginning, at the end, before a moment and after it; a console that is smaller than
#: WHOLE is read as it is.
HEAD = 16 << 10
TAIL = 8 << 10
BEFORE = 8 << 10
AFTER = 24 << 10
WHOLE = 96 << 10
#: Moments of one console that are looked at.
MOMENTS = 4
#: Lines after which the search for the rest of a report is given up.
_REACH = 1500


@dataclass(frozen=True)
class ConsoleLine:
    """One line as a reader sees it: escape sequences and control characters are gone, at most 4096 bytes.

    `event`: the index in its part's `events` of the report it belongs to; None if it belongs to none.
    `text`: what the parser took it for, without time stamp and caller.
    """

    shown: str
    text: str
    event: int | None


@dataclass(frozen=True)
class ConsolePart:
    """Consecutive bytes of a console, as lines."""

    begin: int
    end: int
    #: Of its first byte, s since power-on.
    host_s: float
    lines: tuple[ConsoleLine, ...]
    #: In the order of their lines; `line` counts from the part's own beginning.
    events: tuple[ConsoleEvent, ...]


@dataclass(frozen=True)
class ConsoleExcerpt:
    """What was read of a console of `size` bytes, in order; gaps between the parts were not read."""

    size: int
    parts: tuple[ConsolePart, ...]

    @property
    def events(self) -> tuple[ConsoleEvent, ...]:
        """The reports in all parts."""
        return tuple(event for part in self.parts for event in part.events)


def console_excerpt(
    folder: Path,
    moments_s: Iterable[float],
    *,
    begin: int = 0,
    end: int | None = None,
    whole: int = WHOLE,
) -> ConsoleExcerpt:
    """The console recorded in `folder`: its beginning, its end, and what is around each of the moments.

    `moments_s`: s since power-on. Nothing before the byte `begin` and behind `end` is read; what is not
    larger than `whole` is read as it is. A folder without a console gives an excerpt of nothing.
    """
    try:
        log = (folder / CONSOLE).open("rb")
    except OSError:
        return ConsoleExcerpt(0, ())
    with log, _Times.open(folder) as times:
        size = (folder / CONSOLE).stat().st_size
        stop = size if end is None else min(end, size)
        if stop - begin <= whole:
            wanted = [(begin, stop)]
        else:
            places = [times.offset(moment) for moment in sorted(set(moments_s))[:MOMENTS]]
            around = [(place - BEFORE, place + AFTER) for place in places]
            wanted = [(begin, begin + HEAD), *around, (stop - TAIL, stop)]
        parts = [_read(log, times, *span) for span in _merged(wanted, begin, stop)]
    return ConsoleExcerpt(size, tuple(part for part in parts if part.lines))


def _merged(spans: Iterable[tuple[int, int]], start: int, stop: int) -> list[tuple[int, int]]:
    """The spans in order, within the limits, those that touch as one."""
    merged: list[tuple[int, int]] = []
    for begin, end in sorted((max(start, begin), min(end, stop)) for begin, end in spans):
        if begin >= end:
            continue
        if merged and begin <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((begin, end))
    return merged


def _read(log: IO[bytes], times: _Times, begin: int, end: int) -> ConsolePart:
    log.seek(max(0, begin - 1))
    data = log.read(end - max(0, begin - 1))
    if begin:  # a line that began before is no line
        cut = data.find(b"\n") + 1
        begin, data = begin - 1 + cut, data[cut:]
    begun_s = times.host_s(begin)
    splitter, prefixes, parser = LineSplitter(), PrefixReader(), ConsoleParser()
    found: list[ConsoleEvent] = []
    numbered: list[tuple[int, str]] = []
    for offset, piece in _pieces(data):
        found += parser.feed(piece, times.host_s(begin + offset))
        numbered += splitter.feed(piece)
    found += parser.close()
    numbered += splitter.close()
    events = tuple(event for event in latest(found) if isinstance(event, ConsoleEvent))
    texts = [prefixes.read(number, 0.0, shown).text for number, shown in numbered]
    owners = _owners([number for number, _ in numbered], texts, events)
    lines = [
        ConsoleLine(plain(shown), text, owner)
        for (_, shown), text, owner in zip(numbered, texts, owners, strict=True)
    ]
    return ConsolePart(begin, begin + len(data), begun_s, tuple(lines), events)


def _pieces(data: bytes) -> Iterator[tuple[int, bytes]]:
    """(offset, line with its newline): what is read with a time of its own."""
    begin = 0
    while begin < len(data):
        end = data.find(b"\n", begin) + 1 or len(data)
        yield begin, data[begin:end]
        begin = end


def _owners(numbers: list[int], texts: list[str], events: Iterable[ConsoleEvent]) -> list[int | None]:
    """For each line the report that kept it as its text."""
    owners: list[int | None] = [None] * len(texts)
    for index, event in enumerate(events):
        wanted = list(event.text)
        for place in range(len(texts)):
            if not wanted or numbers[place] > event.line + _REACH:
                break
            if numbers[place] >= event.line and texts[place][:TEXT_WIDTH] == wanted[0]:
                owners[place] = index if owners[place] is None else owners[place]
                wanted.pop(0)
    return owners


class _Times:
    """`console.times` without reading all of it: which byte came when, by bisection on the disk."""

    def __init__(self, source: IO[bytes] | None, size: int) -> None:
        self._source = source
        self._size = size
        #: Between these offsets everything came at this time: where one looks, one looks again.
        self._span: tuple[int, float, float] = (0, 0.0, 0.0)

    @classmethod
    def open(cls, folder: Path) -> _Times:
        try:
            path = folder / TIMES
            return cls(path.open("rb"), path.stat().st_size)
        except OSError:
            return cls(None, 0)

    def __enter__(self) -> _Times:
        return self

    def __exit__(self, *_: object) -> None:
        if self._source:
            self._source.close()

    def offset(self, host_s: float) -> int:
        """The first byte that came at `host_s` or later."""
        before, after = self._search(1, host_s)
        return (after or before)[0]

    def host_s(self, offset: int) -> float:
        """When the byte at `offset` came; 0 where nothing says so."""
        begin, end, host_s = self._span
        if not begin <= offset < end:
            before, after = self._search(0, offset + 1)
            host_s = before[1]
            self._span = (before[0], after[0] if after else math.inf, host_s)
        return host_s

    def _search(self, column: int, value: float) -> tuple[tuple[int, float], tuple[int, float] | None]:
        """The last mark, (offset, time), whose `column` is less than `value`, and the next, if any."""
        low, high = 0, self._size
        before = (0, 0.0)
        after: tuple[int, float] | None = None
        while low < high:
            middle = (low + high) // 2
            begin, mark = self._mark(middle)
            if mark is None or begin >= high:
                high = middle
            elif mark[column] >= value:
                high, after = middle, mark
            else:
                low, before = begin + 1, mark
        return before, after

    def _mark(self, place: int) -> tuple[int, tuple[int, float] | None]:
        """The first whole line that begins at `place` or behind it: where, and what it says."""
        if self._source is None:
            return place, None
        self._source.seek(max(0, place - 1))
        skipped = self._source.readline(4096) if place else b""
        begin = max(0, place - 1) + len(skipped)
        words = self._source.readline(4096).split()
        try:
            return begin, (int(words[0]), float(words[1]))
        except (IndexError, ValueError):
            return begin, None
