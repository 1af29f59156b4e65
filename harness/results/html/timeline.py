# SPDX-License-Identifier: GPL-2.0-only
"""What happened in one trial, on one axis: the stressor's progress, what the CPUs were at, the console."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from markupsafe import Markup

from harness.guest.protocol import Garbage, Iteration, Start, parse_line
from harness.results.html.svg import Axis, drawing, level, rect, upright, words
from harness.results.runfolder import TrialResult
from harness.target.recording import agent_lines, recorded_samples
from harness.watch.console import ConsoleEvent
from harness.watch.observation import ProgressMark

#: Lines of each record that are read: ten a second, and five.
MAX_LINES = 20_000
#: Marks and spans of a lane.
MAX_MARKS = 300
_LANE = 44
_HEAD = 40
_BAR = 16


@dataclass(frozen=True)
class Span:
    """Something that lasted, s since power-on."""

    begin: float
    end: float
    state: str


@dataclass(frozen=True)
class Lane:
    """One row: what lasted, and what happened at a moment."""

    name: str
    spans: tuple[Span, ...]
    marks: tuple[float, ...] = ()


@dataclass(frozen=True)
class Timeline:
    """The rows of a trial; `damaged` says what of its record cannot be read."""

    end_s: float
    lanes: tuple[Lane, ...]
    damaged: str


def read_timeline(folder: Path, result: TrialResult | None) -> Timeline:
    """From a trial's folder, until it was judged. What is damaged ends the lane that it belongs to."""
    damaged: list[str] = []
    until = result.judged_until_s if result and result.judged_until_s else None
    progress = _progress(folder, until, damaged)
    cpus = _cpus(folder, until, damaged)
    last = max((span.end for lane in (progress, *cpus) for span in lane.spans), default=0.0)
    return Timeline(until or last, (progress, *cpus), "; ".join(damaged))


def _progress(folder: Path, until: float | None, damaged: list[str]) -> Lane:
    spans: list[Span] = []
    ends: list[float] = []
    mark, before = ProgressMark(), 0.0
    try:
        for line in islice(agent_lines(folder), MAX_LINES):
            if until is not None and line.host_s > until:
                break
            message = parse_line(line.text)
            if isinstance(message, Garbage):
                continue
            if isinstance(message, Start):
                before = line.host_s
            moved = mark.moved(message)
            if isinstance(message, Iteration):
                ends.append(line.host_s)
            if before:
                _extend(spans, Span(before, line.host_s, "moving" if moved else "still"))
                before = line.host_s
    except _DAMAGE as error:
        damaged.append(f"agent.jsonl: {error!r}")
    if spans and until is not None and until > spans[-1].end:
        _extend(spans, Span(spans[-1].end, until, "still"))
    return Lane("progress", _few(spans), tuple(islice(ends, MAX_MARKS)))


#: What a damaged record raises where it is read.
_DAMAGE = (ValueError, KeyError, TypeError, IndexError, OSError)


def _cpus(folder: Path, until: float | None, damaged: list[str]) -> tuple[Lane, ...]:
    spans: dict[int, list[Span]] = {}
    before = 0.0
    try:
        for sample in islice(recorded_samples(folder), MAX_LINES):
            if until is not None and sample.host_s > until:
                break
            for cpu in sample.cpus:
                state = "halted" if cpu.halted else "user" if cpu.cpl else "kernel"
                state = state if sample.running else "paused"
                _extend(spans.setdefault(cpu.cpu, []), Span(before, sample.host_s, state))
            before = sample.host_s
    except _DAMAGE as error:
        damaged.append(f"samples.jsonl: {error!r}")
    return tuple(Lane(f"CPU {cpu}", _few(spans[cpu])) for cpu in sorted(spans)[:64])


def _extend(spans: list[Span], span: Span) -> None:
    """Add a span, or make the last one longer."""
    if spans and spans[-1].state == span.state and spans[-1].end == span.begin:
        spans[-1] = Span(spans[-1].begin, span.end, span.state)
    else:
        spans.append(span)


def _few(spans: list[Span]) -> tuple[Span, ...]:
    """At most MAX_MARKS spans: the shortest are given to their neighbours."""
    while len(spans) > MAX_MARKS:
        spans = list(_halved(spans))
    return tuple(spans)


def _halved(spans: Sequence[Span]) -> Iterator[Span]:
    for number in range(0, len(spans), 2):
        pair = spans[number : number + 2]
        longest = max(pair, key=lambda span: span.end - span.begin)
        yield Span(pair[0].begin, pair[-1].end, longest.state)


#: Where a state's bar begins, and how high it is: states differ by height, not by colour alone.
_SHAPES = {
    "kernel": (0, _BAR),
    "user": (_BAR / 2, _BAR / 2),
    "halted": (_BAR - 2, 2),
    "paused": (_BAR / 2 - 1, 2),
    "moving": (0, _BAR),
    "still": (_BAR - 3, 3),
}


def timeline_svg(timeline: Timeline, result: TrialResult | None, events: Sequence[ConsoleEvent]) -> Markup:
    """The drawing. Events are numbered from 1 in the order in which they are given."""
    axis = Axis(0.0, max(timeline.end_s, 0.1))
    console_top = _HEAD + _LANE * len(timeline.lanes)
    bottom = console_top + _LANE
    shapes: list[Markup] = []
    if result and result.onset_s is not None and result.decided_s is not None:
        shapes.append(rect(axis, result.onset_s, result.decided_s, _HEAD, bottom - _HEAD, "hang"))
    for number, lane in enumerate(timeline.lanes):
        shapes += _lane(axis, lane, _HEAD + _LANE * number)
    shapes += _console(axis, events, console_top)
    shapes += _moments(axis, result, bottom)
    shapes.append(level(axis, 0.0, timeline.end_s, bottom, "axis"))
    shapes += [words(axis, tick, bottom + 16, f"{tick:g} s", "small") for tick in _ticks(timeline.end_s)]
    return drawing(bottom + 22, "timeline of the trial, seconds since power-on", shapes)


def _lane(axis: Axis, lane: Lane, top: float) -> list[Markup]:
    bar = top + 22
    shapes = [Markup('<text class="label" x="1.5%" y="{:.1f}">{}</text>').format(top + 16, lane.name)]
    for span in lane.spans:
        offset, height = _SHAPES[span.state]
        shapes.append(rect(axis, span.begin, span.end, bar + offset, height, f"state {span.state}"))
    return shapes + [upright(axis, mark, bar - 3, bar + _BAR, "tick") for mark in lane.marks]


def _console(axis: Axis, events: Iterable[ConsoleEvent], top: float) -> list[Markup]:
    shapes = [Markup('<text class="label" x="1.5%" y="{:.1f}">console</text>').format(top + 16)]
    for number, event in enumerate(events, start=1):
        shapes.append(upright(axis, event.host_s, top + 20, top + _LANE - 2, "event"))
        shapes.append(words(axis, event.host_s, top + 17, str(number), "number"))
    return shapes


def _moments(axis: Axis, result: TrialResult | None, bottom: float) -> list[Markup]:
    shapes: list[Markup] = []
    if result and result.onset_s is not None:
        shapes.append(upright(axis, result.onset_s, 16, bottom, "onset"))
        shapes.append(words(axis, result.onset_s, 13, f"last progress {result.onset_s:.1f} s", "small"))
    if result and result.decided_s is not None:
        shapes.append(upright(axis, result.decided_s, 32, bottom, "decided"))
        shapes.append(words(axis, result.decided_s, 29, f"{result.kind} {result.decided_s:.1f} s", "small"))
    return shapes


def _ticks(end_s: float) -> list[float]:
    """Four to eight round numbers."""
    step = 0.1
    for factor in (2, 2.5, 2, 2, 2.5, 2, 2, 2.5, 2, 2, 2.5, 2, 2, 2.5, 2):
        if end_s / step <= 6:
            break
        step *= factor
    return [round(step * number, 3) for number in range(int(end_s / step) + 1)]
