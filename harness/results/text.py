# SPDX-License-Identifier: GPL-2.0-only
"""Pieces of text that several reports have: the evidence of one trial."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from harness.results.runfolder import TrialResult

#: Lines of a splat shown at the end of a comparison, and those that a reader of a report skips.
SHOWN_SPLAT = 20
_NOISE = re.compile(r"(Code|R[0-9A-Z]{2}|FS|CS|CR2|DR\d|Modules linked in|Tainted|PKRU): ?| \? ")


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
