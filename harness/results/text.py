# SPDX-License-Identifier: GPL-2.0-only
"""Pieces of text that several reports have: tables, and the evidence of one trial."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # tables are made without the models, which take a quarter of a second to load
    from harness.results.runfolder import TrialResult


#: Lines of a splat shown at the end of a comparison, and those that a reader of a report skips.
SHOWN_SPLAT = 20
_NOISE = re.compile(r"(Code|R[0-9A-Z]{2}|FS|CS|CR2|DR\d|Modules linked in|Tainted|PKRU): ?| \? ")


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Rows of one length as lines whose columns are flush."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    ]


def fitted(rows: Sequence[Sequence[str]], width: int) -> list[str]:
    """`aligned`, but no line is longer than `width` (0: any): the widest columns are cut, with a `…`.

    No column gets narrower than its head (the first row), or 6.
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    least = [min(now, max(6, len(head))) for now, head in zip(widths, rows[0], strict=True)]
    over = sum(widths) + 2 * (len(widths) - 1) - width if width else 0
    while over > 0 and any(now > low for now, low in zip(widths, least, strict=True)):
        place = max(range(len(widths)), key=lambda at: (widths[at] > least[at], widths[at], at))
        widths[place] -= 1
        over -= 1
    return aligned([[_cut(cell, width) for cell, width in zip(row, widths, strict=True)] for row in rows])


def _cut(cell: str, width: int) -> str:
    return cell if len(cell) <= width else f"{cell[: width - 1]}…"


def evidence_lines(result: TrialResult) -> list[str]:
    """The cycle, and below it what the console said."""
    lines = [f"    {line}" for line in result.cycle]
    if result.cycle and result.signature:
        lines.append(f"    signature: {result.signature}")
    return lines + splat_lines(result.splat)


def is_noise(line: str) -> bool:
    """Whether a line of a splat is registers, code bytes, a list of modules, or a guess of the unwinder."""
    return _NOISE.match(line) is not None and not line.startswith("RIP: 0010")


def splat_lines(splat: Sequence[str]) -> list[str]:
    """The lines that name task, place and stack; registers and the unwinder's guesses are left to the log."""
    return [f"    {line}" for line in _telling(splat)][:SHOWN_SPLAT]


def _telling(splat: Sequence[str]) -> Iterator[str]:
    for number, line in enumerate(splat):
        if line.lstrip().startswith("entry_SYSCALL"):
            yield line
            return
        kernel_ip = line.startswith("RIP: 0010") and number < 10
        if kernel_ip or not (_NOISE.match(line) or line.startswith("RIP")):
            yield line
