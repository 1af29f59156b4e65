# SPDX-License-Identifier: GPL-2.0-only
"""C source as text: where a folio's lock is tried, and in which function a line is."""

from __future__ import annotations

import re
from collections.abc import Sequence

#: How a folio's or a page's lock is tried.
NAMES = ("folio_trylock", "trylock_page")

_CALL = re.compile(rf"(?<!bool )\b(?:{'|'.join(NAMES)})\s*\(")
_NO_CODE = re.compile(r'/\*.*?\*/|//[^\n]*|"(?:\\.|[^"\\\n])*"', re.S)
#: The kernel's style starts nothing but functions, their labels and declarations in the first column.
_HEAD = re.compile(r"^[A-Za-z_][\w\s*]*?\b(\w+)\s*\((?!.*;\s*$)")


def attempts(text: str) -> list[int]:
    """The numbers of the lines, from 1, that try a lock; comments, strings and declarations do not count."""
    code = _NO_CODE.sub(lambda found: re.sub(r"[^\n]", " ", found[0]), text)
    return [number for number, line in enumerate(code.splitlines(), start=1) if _CALL.search(line)]


def function_at(lines: Sequence[str], number: int) -> tuple[str, int]:
    """Name and first line of the function that a line is in; ("", 0) if there is none."""
    for start in range(min(number, len(lines)), 0, -1):
        if head := _HEAD.match(lines[start - 1]):
            return head[1], start
    return "", 0


def body_of(lines: Sequence[str], start: int) -> str:
    """The function that starts at a line, up to the brace that closes it."""
    end = next((number for number in range(start, len(lines)) if lines[number].startswith("}")), len(lines))
    return "\n".join(lines[start - 1 : end + 1])
