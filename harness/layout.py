# SPDX-License-Identifier: GPL-2.0-only
"""Text in columns: reports as lines, tables, and words that stay whole, and how these fit a terminal."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

#: Before the columns of a table.
_GAP = 2
#: Narrower than this no column is made while another one can give way.
_LEAST = 6
#: Rows, with the head, that a table has at most to be turned.
_FEW = 4
#: Longest line of sentences.
_PROSE = 110
#: `  tree     Debian ...`: what goes on below the value stands below the value.
_LABELLED = re.compile(r" *(?:\S+ )+ +(?=\S)")


@dataclass(frozen=True)
class Table:
    """Rows of one length, the first one the head; `indent` columns from the left."""

    rows: Sequence[Sequence[str]]
    indent: int = 2


@dataclass(frozen=True)
class Whole:
    """A label, and a path or command after it that only the terminal breaks, so that it can be copied."""

    label: str
    text: str


@dataclass(frozen=True)
class Prose:
    """Sentences, broken even where a line may have any length; further lines are indented by `hang`."""

    text: str
    indent: int = 2
    hang: int = 4


#: A line, or more than that.
Part = str | Table | Whole | Prose


def laid_out(parts: Sequence[Part], width: int = 0) -> list[str]:
    """The parts as lines of at most `width` columns (0: any number), but for what has to stay whole."""
    lines: list[str] = []
    for part in parts:
        match part:
            case str():
                lines += [line for text in part.split("\n") for line in wrapped(text, width)]
            case Table(rows, indent):
                lines += [f"{' ' * indent}{line}" for line in _table(rows, width - indent if width else 0)]
            case Whole(label, text):
                lines += _whole(label, text, width)
            case Prose(text, indent, hang):
                columns = min(width or _PROSE, _PROSE)
                lines += textwrap.wrap(
                    text,
                    columns,
                    initial_indent=" " * indent,
                    subsequent_indent=" " * hang,
                    break_long_words=False,
                )
    return lines


def _table(rows: Sequence[Sequence[str]], width: int) -> list[str]:
    """A table that fits: as it is, else (of few rows) turned, else each row as a list of its own."""
    if not width or _least(rows) <= width:
        return folded(rows, width)
    turned = list(zip(*rows, strict=True))
    if len(rows) <= _FEW and _least(turned) <= width:
        return folded(turned, width)
    head, *body = rows
    lines = []
    for first, *cells in body:
        lines += wrapped(f"{head[0]} {first}".strip(), width)
        pairs = [("  " + name, cell) for name, cell in zip(head[1:], cells, strict=True) if cell]
        lines += folded(pairs, width)
    return lines


def _least(rows: Sequence[Sequence[str]]) -> int:
    """Columns that a table takes at least if no word is broken."""
    return sum(_longest(rows)) + _GAP * (len(rows[0]) - 1)


def _longest(rows: Sequence[Sequence[str]]) -> list[int]:
    """The longest word of each column."""
    columns = zip(*rows, strict=True)
    return [max((len(word) for cell in column for word in _words(cell)), default=0) for column in columns]


def _whole(label: str, text: str, width: int) -> list[str]:
    line = f"{label}{text}"
    if not width or len(line) <= width or not label.strip():
        return [line]
    lead = " " * (len(label) - len(label.lstrip()) + 2)
    return [label.rstrip(), f"{lead}{text}"]


def wrapped(line: str, width: int) -> list[str]:
    """A line broken at blanks, further lines below its text; words are never broken."""
    if not width or len(line) <= width:
        return [line]
    labelled = _LABELLED.match(line)
    lead = len(line) - len(line.lstrip()) + 2
    hang = len(labelled[0]) if labelled and len(labelled[0]) <= width // 3 else lead
    return textwrap.wrap(
        line,
        width,
        subsequent_indent=" " * hang,
        break_long_words=False,
        break_on_hyphens=False,
        expand_tabs=False,
        replace_whitespace=False,
    )


def folded(rows: Sequence[Sequence[str]], width: int) -> list[str]:
    """The rows with flush columns, no line longer than `width` (0: any).

    Nothing is cut: the cells of the widest columns go on in further lines.
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    over = sum(widths) + _GAP * (len(widths) - 1) - width if width else 0
    if over <= 0:
        return aligned(rows)
    # Columns give way down to their longest word before words are broken; one alone if that is enough.
    words = _longest(rows)
    slack = [now - low for now, low in zip(widths, words, strict=True)]
    if max(slack) >= over:
        widths[slack.index(max(slack))] -= over
        over = 0
    for least in (words, [min(_LEAST, word) for word in words], [1] * len(words)):
        while over > 0 and any(now > low for now, low in zip(widths, least, strict=True)):
            place = max(range(len(widths)), key=lambda at: (widths[at] > least[at], widths[at], at))
            widths[place] -= 1
            over -= 1
    lines: list[str] = []
    for row in rows:
        cells = [_cell(cell, room) for cell, room in zip(row, widths, strict=True)]
        for number in range(max(map(len, cells))):
            parts = [
                (cell[number] if number < len(cell) else "").ljust(room)
                for cell, room in zip(cells, widths, strict=True)
            ]
            lines.append((" " * _GAP).join(parts).rstrip())
    return lines


def _words(cell: str) -> list[str]:
    """What a cell can be broken into: at blanks, and after hyphens."""
    return re.split(r"\s+|(?<=\w-)(?=[^\W\d])", cell)


def _cell(cell: str, room: int) -> list[str]:
    return textwrap.wrap(cell, room) or [""]


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Rows of one length as lines whose columns are flush."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    ]


def fitted(rows: Sequence[Sequence[str]], width: int, whole: int = 0) -> list[str]:
    """`aligned`, but no line is longer than `width` (0: any): the widest columns are cut, with a `…`.

    No column gets narrower than its head (the first row), or 6; the first `whole` columns are never cut.
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    least = [min(now, max(6, len(head))) for now, head in zip(widths, rows[0], strict=True)]
    least[:whole] = widths[:whole]
    over = sum(widths) + 2 * (len(widths) - 1) - width if width else 0
    while over > 0 and any(now > low for now, low in zip(widths, least, strict=True)):
        place = max(range(len(widths)), key=lambda at: (widths[at] > least[at], widths[at], at))
        widths[place] -= 1
        over -= 1
    return aligned([[_cut(cell, width) for cell, width in zip(row, widths, strict=True)] for row in rows])


def _cut(cell: str, width: int) -> str:
    return cell if len(cell) <= width else f"{cell[: width - 1]}…"
