# SPDX-License-Identifier: GPL-2.0-only
"""A console as blocks to read: what the kernel reported in full, what is noise folded away."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

from harness.plain import plain
from harness.results.excerpt import ConsoleExcerpt, ConsoleLine, ConsolePart
from harness.results.text import is_noise
from harness.watch.console import ConsoleEvent

#: So many lines that say nothing are not worth a click.
FEW = 4
#: Lines of one console on the page, and characters of each.
MAX_LINES = 2000
MAX_WIDTH = 400


@dataclass(frozen=True)
class Piece:
    """Lines that are shown alike: `loud` (of a report), `quiet`, or `folded` behind its title."""

    style: str
    title: str
    text: str


@dataclass(frozen=True)
class Block:
    """Lines of one report, or between reports. `number`: of the report in the timeline; 0: none."""

    number: int
    title: str
    pieces: tuple[Piece, ...]


def console_blocks(excerpt: ConsoleExcerpt) -> tuple[Block, ...]:
    """All parts in order; between them, how much was not read."""
    blocks: list[Block] = []
    at, numbered, lines = 0, 0, 0
    for part in excerpt.parts:
        if part.begin - at > 1 and blocks:
            blocks.append(_gap(part.begin - at))
        for block in _part(part, numbered):
            lines += sum(piece.text.count("\n") + 1 for piece in block.pieces)
            if lines > MAX_LINES:
                return (*blocks, _gap(excerpt.size - part.begin))
            blocks.append(block)
        numbered += len(part.events)
        at = part.end
    return tuple(blocks)


def _gap(size: int) -> Block:
    return Block(0, "", (Piece("gap", "", f"{size:,} bytes are not shown"),))


def _part(part: ConsolePart, before: int) -> Iterator[Block]:
    for owner, group in groupby(part.lines, key=lambda line: line.event):
        lines = list(group)
        if owner is None:
            yield Block(0, "", tuple(_between(lines)))
        else:
            yield Block(before + owner + 1, _title(part.events[owner]), tuple(_report(lines)))


def _title(event: ConsoleEvent) -> str:
    cpu = f", CPU {event.cpu}" if event.cpu is not None else ""
    return f"{event.title}: at {event.host_s:.2f} s{cpu}"


def _between(lines: Sequence[ConsoleLine]) -> Iterator[Piece]:
    style = "quiet" if len(lines) <= FEW else "folded"
    yield Piece(style, f"{len(lines)} lines: {plain(lines[0].text[:60])} ...", _text(lines))


def _report(lines: Sequence[ConsoleLine]) -> Iterator[Piece]:
    for noise, group in groupby(lines, key=lambda line: is_noise(line.text)):
        some = list(group)
        style = "loud" if not noise else "quiet" if len(some) <= FEW else "folded"
        yield Piece(style, f"{len(some)} lines of registers, code and guesses", _text(some))


def _text(lines: Sequence[ConsoleLine]) -> str:
    return "\n".join(line.shown[:MAX_WIDTH] for line in lines)
