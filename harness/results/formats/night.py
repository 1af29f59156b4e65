# SPDX-License-Identifier: GPL-2.0-only
"""A night for other programs: as Markdown, and cell by cell for whoever counts red cases."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from harness.plain import plain
from harness.results.formats.inline import inline, table_lines
from harness.results.night import NightResult
from harness.results.nighttext import HEAD, KINDS, cell_rows, ends, facts, lists, sections

_MARK = {"nothing_new": "✅", "regression": "❌", "not_judged": "❔"}


def night_markdown(done: NightResult) -> str:
    """The report as GitHub-flavoured Markdown."""
    word = done.verdict.replace("_", " ")
    lines = [f"# {_MARK[done.verdict]} Night of {done.night}, {inline(done.name)}: {word}", ""]
    lines += [inline(done.reason), ""]
    for title, findings in sections(done):
        lines += [f"## {title.capitalize()}", ""]
        for finding in findings:
            lines += [f"- **{inline(finding.where)}**: {KINDS[finding.kind]}: {inline(finding.said)}"]
            lines += [f"  - {inline(finding.signature)}"] if finding.signature else []
            lines += [f"  - {inline(words)}" for words in ends(finding)]
            lines += ["", "  ```sh", f"  {plain(finding.bisect)}", "  ```"] if finding.bisect else []
        lines.append("")
    for title, items in lists(done):
        lines += [f"## {title.capitalize()}", "", *(f"- {inline(item)}" for item in items), ""]
    if done.cells:
        lines += ["## All of it", "", *table_lines([HEAD, *cell_rows(done)]), ""]
    lines += [f"- {name}: {inline(words)}" for name, words in facts(done)]
    return "\n".join(lines) + "\n"


@dataclass(frozen=True)
class NightCase:
    """A candidate's cell, or a unit that was not run. kind: a word for what it came to."""

    tree: str
    name: str
    standing: Literal["passed", "failed", "silent"]
    kind: str
    said: str


def night_cases(done: NightResult) -> Iterator[NightCase]:
    """A case for each candidate, failed where something is worse tonight; and for what has no answer."""
    worse = {finding.series: finding for finding in done.findings if finding.worse}
    for cell in done.cells:
        finding = worse.pop(cell.series, None)
        name = cell.where.removeprefix(f"{cell.tree}/")
        if finding:
            said = "\n".join(filter(None, [finding.said, finding.signature, *ends(finding), finding.bisect]))
            yield NightCase(cell.tree, name, "failed", finding.kind, said)
        elif cell.role == "candidate" and cell.judged:
            yield NightCase(cell.tree, name, "passed", "", f"{cell.outcomes}; see {cell.run}")
        elif cell.role == "candidate" and cell.state != "not applicable":
            yield NightCase(cell.tree, name, "silent", "not_judged", cell.why)
    for unit in done.units:
        if unit.state == "failed":
            tree, _, name = unit.name.partition("/")
            yield NightCase(tree, name, "silent", unit.state, unit.reason)
