# SPDX-License-Identifier: GPL-2.0-only
"""A summary for a merge request: the verdict, the table, the evidence folded away (GitLab, GitHub, Gitea)."""

from __future__ import annotations

import re

from harness.plain import plain
from harness.results.formats.evidence import evidence_text
from harness.results.formats.inline import inline, table_lines
from harness.results.formats.night import night_markdown
from harness.results.formats.options import Options
from harness.results.reading import RunRecord
from harness.results.summary import COLUMNS, Summary, summarize

_MARK = {"good": "✅", "bad": "❌", "open": "❔"}


def markdown(run: RunRecord, options: Options) -> str:
    """The run as GitHub-flavoured Markdown."""
    summary = summarize(run)
    if summary.night:
        return night_markdown(summary.night)
    lines = [
        f"### {_MARK[summary.standing]} hmm-harness: {inline(summary.headline)}",
        "",
        inline(summary.reason),
        "",
    ]
    if summary.arms:
        lines += table_lines([COLUMNS, *(arm.row for arm in summary.arms)])
    if summary.compared and summary.compared.p_value is not None:
        lines += ["", f"Fisher's exact p (two-sided): {summary.compared.p_value:.2g}"]
    lines += ["", *_facts(summary), ""]
    shown = summary.shown
    if shown:
        said = f"{shown.arm}, trial {shown.index}: {shown.kind}"
        lines += _folded(said, evidence_text(shown) or plain(shown.title))
    lines += _folded("again", plain(run.reproduce))
    return "\n".join(lines)


def _facts(summary: Summary) -> list[str]:
    facts = [f"scenario {summary.scenario} {summary.settings}".strip(), f"tree {summary.tree}"]
    facts += [f"guest {arm.guest}" for arm in summary.arms[:1]]
    for arm in summary.arms:
        facts += [f"{arm.name}: {patch.role} {patch.name}, {patch.status}" for patch in arm.patches]
    return [f"- {inline(fact)}" for fact in facts]


def _folded(title: str, text: str) -> list[str]:
    """A block that opens on a click; no text ends its fence."""
    fence = "`" * max(3, *(len(run) + 1 for run in re.findall("`+", text)), 3)
    head = f"<details><summary>{inline(title)}</summary>"
    return [head, "", f"{fence}text", *text.splitlines(), fence, "", "</details>", ""]
