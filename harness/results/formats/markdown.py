# SPDX-License-Identifier: GPL-2.0-only
"""A summary for a merge request: the verdict, the table, the evidence folded away (GitLab, GitHub, Gitea)."""

from __future__ import annotations

import re
from collections.abc import Sequence

from harness.plain import plain
from harness.results.formats.evidence import evidence_text
from harness.results.formats.options import Options
from harness.results.reading import RunRecord
from harness.results.summary import COLUMNS, Summary, summarize

_MARK = {"good": "✅", "bad": "❌", "open": "❔"}
#: Whatever makes Markdown or HTML of a text.
_SPECIAL = re.compile(r"[\\`*_{}\[\]<>#|&~@$]|^(?:[-+]|\d+[.)])(?= )")


def markdown(run: RunRecord, options: Options) -> str:
    """The run as GitHub-flavoured Markdown."""
    summary = summarize(run)
    lines = [
        f"### {_MARK[summary.standing]} hmm-harness: {_inline(summary.headline)}",
        "",
        _inline(summary.reason),
        "",
    ]
    if summary.arms:
        lines += _table([COLUMNS, *(arm.row for arm in summary.arms)])
    if summary.compared and summary.compared.p_value is not None:
        lines += ["", f"Fisher's exact p (two-sided): {summary.compared.p_value:.2g}"]
    lines += ["", *_facts(summary), ""]
    shown = summary.shown
    if shown:
        said = f"{shown.arm}, trial {shown.index}: {shown.kind}"
        lines += _folded(said, evidence_text(shown) or plain(shown.title))
    lines += _folded("again", plain(run.reproduce))
    return "\n".join(lines)


def _table(rows: Sequence[Sequence[str]]) -> list[str]:
    texts = [f"| {' | '.join(_inline(cell) for cell in row)} |" for row in rows]
    return [texts[0], f"|{' --- |' * len(rows[0])}", *texts[1:]]


def _facts(summary: Summary) -> list[str]:
    facts = [f"scenario {summary.scenario} {summary.settings}".strip(), f"tree {summary.tree}"]
    facts += [f"guest {arm.guest}" for arm in summary.arms[:1]]
    for arm in summary.arms:
        facts += [f"{arm.name}: {patch.role} {patch.name}, {patch.status}" for patch in arm.patches]
    return [f"- {_inline(fact)}" for fact in facts]


def _folded(title: str, text: str) -> list[str]:
    """A block that opens on a click; no text ends its fence."""
    fence = "`" * max(3, *(len(run) + 1 for run in re.findall("`+", text)), 3)
    head = f"<details><summary>{_inline(title)}</summary>"
    return [head, "", f"{fence}text", *text.splitlines(), fence, "", "</details>", ""]


def _inline(text: str) -> str:
    """Text that stays text: on one line, with every special character escaped."""
    return _SPECIAL.sub(_escape, " ".join(plain(text).split()))


def _escape(match: re.Match[str]) -> str:
    html = {"<": "&lt;", ">": "&gt;", "&": "&amp;"}
    return html.get(match[0], match[0][:-1] + "\\" + match[0][-1])
