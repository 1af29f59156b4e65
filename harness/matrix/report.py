# SPDX-License-Identifier: GPL-2.0-only
"""A matrix as one JSON object, and as text or Markdown: a table of all, and one for each scenario."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import astuple, dataclass
from pathlib import Path
from statistics import median
from typing import Any

from harness.display import elapsed
from harness.experiment.report import aligned
from harness.experiment.statistics import ArmTally, tally
from harness.kernel.patches import Catalogue
from harness.matrix.model import Matrix, ScenarioEntry
from harness.matrix.session import CellResult, State
from harness.results.runfolder import SCHEMA, TrialResult
from harness.scenario.catalogue import load_scenario

Rows = list[tuple[str, ...]]


@dataclass(frozen=True)
class Report:
    """A matrix that was run, or as far as it came."""

    matrix: Matrix
    found: tuple[CellResult, ...]
    folder: Path
    #: The source tree, and the machine, in words.
    tree: str
    machine: str
    day: str
    seconds: float
    #: The command that does it again.
    reproduce: str

    @property
    def complete(self) -> bool:
        """Whether every cell that can be has an answer."""
        wanted = [found for found in self.found if found.state is not State.NOT_APPLICABLE]
        return all(found.state is State.DONE and tally_of(found).answered for found in wanted)


def tally_of(found: CellResult) -> ArmTally:
    """A cell's trials, counted."""
    needs_windows = found.cell.scenario.oracle.windows
    return tally(found.cell.arm, found.results, needs_windows=needs_windows)


def medians(results: Sequence[TrialResult]) -> dict[str, float]:
    """Each metric's median over the trials that have it."""
    names = dict.fromkeys(name for result in results for name in result.metrics)
    return {
        name: median(result.metrics[name] for result in results if name in result.metrics) for name in names
    }


# JSON


def matrix_json(report: Report) -> dict[str, Any]:
    """The object that `matrix --json` prints; its keys are a promise."""
    return {
        "schema": SCHEMA,
        "tree": report.tree,
        "cells": [_cell_json(found, report.folder) for found in report.found],
        "complete": report.complete,
        "evidence": str(report.folder),
        "seconds": round(report.seconds, 1),
        "reproduce": report.reproduce,
    }


def _cell_json(found: CellResult, folder: Path) -> dict[str, Any]:
    cell, counted = found.cell, tally_of(found)
    signatures = Counter((r.signature, r.is_bug) for r in found.results if r.signature)
    return {
        "scenario": cell.entry.scenario,
        "label": cell.entry.name,
        "set": dict(cell.entry.set),
        "kernel": cell.kernel,
        "preempt": cell.preempt,
        "cpus": cell.cpus,
        "state": str(found.state),
        "reason": found.reason,
        "trials": counted.trials,
        "answered": counted.answered,
        "outcomes": {str(kind): count for kind, count in counted.outcomes},
        "reproduced": counted.reproduced,
        "failed_otherwise": counted.failed_otherwise,
        "windows": counted.windows,
        "rate": counted.rate,
        "ci95": list(astuple(counted.ci95)),
        "signatures": [
            {"signature": signature, "is_bug": is_bug, "trials": count}
            for (signature, is_bug), count in signatures.items()
        ],
        "metrics": medians(found.results),
        "evidence": [str(folder / result.folder) for result in found.results],
    }


# Text and Markdown


def matrix_text(report: Report) -> str:
    """The tables for a terminal."""
    return "\n".join(_sections(report, _plain, ""))


def _plain(rows: Rows) -> list[str]:
    unmarked = [[text.replace("**", "") for text in row] for row in rows]
    return [f"  {line}" for line in aligned(unmarked)]


def matrix_markdown(report: Report, title: str) -> str:
    """The tables as Markdown, with what is compared."""
    lines = [f"# {title}, {report.day}", ""]
    lines += ["What each kernel is, on top of the tree:", "", *_markdown(_kernel_rows(report.matrix))]
    lines += _sections(report, lambda rows: ["", *_markdown(rows)], "## ")
    return "\n".join(lines) + "\n"


def _markdown(rows: Rows) -> list[str]:
    head, *body = rows
    return [f"| {' | '.join(row)} |" for row in (head, ("---",) * len(head), *body)]


def _kernel_rows(matrix: Matrix) -> Rows:
    entries = {entry.id: entry for entry in Catalogue.load().entries}
    rows: Rows = [("kernel", "changes", "idea", "said against it")]
    for name, kernel in matrix.kernels.items():
        known = [entries[patch] for patch in kernel.patches if patch in entries]
        fixes = [entry for entry in known if entry.role == "fix"]
        rows.append(
            (
                name,
                ", ".join(Path(patch).name for patch in (*kernel.patches, *kernel.config)) or "none",
                "; ".join(entry.idea for entry in fixes),
                "; ".join(entry.against for entry in fixes),
            )
        )
    return rows


class _Notes:
    """Numbered notes below the tables, each once."""

    def __init__(self) -> None:
        self._texts: list[str] = []

    def mark(self, text: str) -> str:
        if text not in self._texts:
            self._texts.append(text)
        return f"[{self._texts.index(text) + 1}]"

    def lines(self) -> list[str]:
        return [f"[{number}] {text}" for number, text in enumerate(self._texts, start=1)]


def _sections(report: Report, table: Callable[[Rows], list[str]], head: str) -> list[str]:
    notes = _Notes()
    lines = ["", f"{head}All of it", *table(_summary_rows(report, notes))]
    for entry in report.matrix.scenarios:
        lines += ["", f"{head}{_scenario_title(entry)}", *table(_scenario_rows(report, entry, notes))]
        lines += [""] * bool(head) + _limits(entry)
        for rows in _metric_rows(report, entry):
            lines += table(rows)
    lines += ["", f"{head}Notes", *[""] * bool(head)]
    facts = [
        *notes.lines(),
        f"tree {report.tree}",
        f"guests {report.machine}",
        f"again {report.reproduce}",
        f"evidence {report.folder}",
        f"took {elapsed(report.seconds)}",
    ]
    return [*lines, *(f"{'- ' if head else '  '}{fact}" for fact in facts)]


def _scenario_title(entry: ScenarioEntry) -> str:
    words = [f"{name}={value}" for name, value in entry.set.items()]
    called = [] if entry.name == entry.scenario else [f"({entry.scenario})"]
    return " ".join([entry.name, *called, *words])


def _limits(entry: ScenarioEntry) -> list[str]:
    """What a metric means, and beyond which figure the scenario's guest is starved."""
    lines = []
    for name, metric in load_scenario(entry.scenario).oracle.metrics.items():
        limits = [("above", metric.above), ("below", metric.below)]
        words = [f"starved {where} {limit:g}" for where, limit in limits if limit is not None]
        lines.append(f"  {name} ({metric.unit or 'number'}): {metric.help}; {', '.join(words)}")
    return lines


def _summary_rows(report: Report, notes: _Notes) -> Rows:
    """Kernels x scenarios: in how many answering trials, over all guests, the bug showed."""
    rows: Rows = [("kernel", *(entry.name for entry in report.matrix.scenarios))]
    for kernel in report.matrix.kernels:
        row = [kernel]
        for entry in report.matrix.scenarios:
            mine = [f for f in report.found if (f.cell.kernel, f.cell.entry) == (kernel, entry)]
            row.append(_summary(mine, notes))
        rows.append(tuple(row))
    return rows


def _summary(cells: Sequence[CellResult], notes: _Notes) -> str:
    tried = [found for found in cells if found.state in (State.DONE, State.FAILED)]
    if not tried:
        return "n/a" if any(found.state is State.NOT_APPLICABLE for found in cells) else "-"
    counted = [tally_of(found) for found in tried]
    answered = sum(each.answered for each in counted)
    if not answered:
        kinds = dict.fromkeys(str(kind) for each in counted for kind, _ in each.outcomes)
        return ", ".join(kinds) or "failed"
    bug, other = sum(t.reproduced for t in counted), sum(t.failed_otherwise for t in counted)
    words = [f"**{bug}/{answered}** bug"] if bug else []
    if other:
        marks = _other_marks([result for found in tried for result in found.results], notes)
        words.append(f"**{other}/{answered}** other {marks}")
    return ", ".join(words) or f"0/{answered}"


def _other_marks(results: Sequence[TrialResult], notes: _Notes) -> str:
    texts = dict.fromkeys(
        f"another failure than the scenario's: {result.signature or result.title}"
        for result in results
        if result.kind.is_failure and not result.is_bug
    )
    return " ".join(notes.mark(text) for text in texts)


def _scenario_rows(report: Report, entry: ScenarioEntry, notes: _Notes) -> Rows:
    """Kernels x (preempt, CPUs) of one scenario."""
    mine = {(f.cell.kernel, (f.cell.preempt, f.cell.cpus)): f for f in report.found if f.cell.entry == entry}
    places = [
        (p, c) for p in entry.preempt or report.matrix.preempt for c in entry.cpus or report.matrix.cpus
    ]
    rows: Rows = [("kernel", *(f"{preempt}, {cpus} CPUs" for preempt, cpus in places))]
    for kernel in entry.kernels or report.matrix.kernels:
        texts = (_cell_text(mine[(kernel, place)], notes) for place in places)
        rows.append((kernel, *texts))
    return rows


def _cell_text(found: CellResult, notes: _Notes) -> str:
    reason = [notes.mark(found.reason)] if found.reason else []
    if not found.results:
        short = {State.NOT_APPLICABLE: "n/a", State.FAILED: "failed"}
        return " ".join([short.get(found.state, "-"), *reason])
    counts = Counter((result.kind, result.is_bug) for result in found.results)
    words = []
    for (kind, is_bug), count in sorted(counts.items(), key=lambda item: (not item[0][1], -item[1])):
        text = f"{count}/{len(found.results)} {kind}"
        if kind.is_failure and not is_bug:
            same = [result for result in found.results if (result.kind, result.is_bug) == (kind, False)]
            text += f", another failure {_other_marks(same, notes)}"
        words.append(f"**{text}**" if kind.is_failure else text)
    return " ".join([", ".join(words), *reason])


def _metric_rows(report: Report, entry: ScenarioEntry) -> list[Rows]:
    """For each (preempt, CPUs) with metrics, kernels x metrics: medians, and as multiples of one kernel's."""
    tables = []
    for place in dict.fromkeys((f.cell.preempt, f.cell.cpus) for f in report.found if f.cell.entry == entry):
        figures = {
            f.cell.kernel: medians(f.results)
            for f in report.found
            if f.cell.entry == entry and (f.cell.preempt, f.cell.cpus) == place
        }
        names = list(dict.fromkeys(name for values in figures.values() for name in values))
        if names:
            base = figures.get(report.matrix.relative_to, {})
            head = (f"{place[0]}, {place[1]} CPUs, median", *names)
            body = [
                (kernel, *(_figure(name, values, base) for name in names))
                for kernel, values in figures.items()
            ]
            tables.append([head, *body])
    return tables


def _figure(name: str, values: Mapping[str, float], base: Mapping[str, float]) -> str:
    if name not in values:
        return "-"
    text = f"{values[name]:.4g}"
    return f"{text} ({values[name] / base[name]:.2f}x)" if base.get(name) else text
