# SPDX-License-Identifier: GPL-2.0-only
"""Pieces of GitHub-flavoured Markdown: text that stays text, tables."""

from __future__ import annotations

import re
from collections.abc import Sequence

from harness.plain import plain

#: Whatever makes Markdown or HTML of a text.
_SPECIAL = re.compile(r"[\\`*_{}\[\]<>#|&~@$]|^(?:[-+]|\d+[.)])(?= )")


def inline(text: str) -> str:
    """Text that stays text: on one line, with every special character escaped."""
    return _SPECIAL.sub(_escape, " ".join(plain(text).split()))


def _escape(match: re.Match[str]) -> str:
    html = {"<": "&lt;", ">": "&gt;", "&": "&amp;"}
    return html.get(match[0], match[0][:-1] + "\\" + match[0][-1])


def table_lines(rows: Sequence[Sequence[str]]) -> list[str]:
    """Rows, the first one the head, as the lines of a table."""
    texts = [f"| {' | '.join(inline(cell) for cell in row)} |" for row in rows]
    return [texts[0], f"|{' --- |' * len(rows[0])}", *texts[1:]]
