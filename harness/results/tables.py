# SPDX-License-Identifier: GPL-2.0-only
"""A matrix as text and as Markdown: a table of all of it, and one for each scenario."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from harness.display import elapsed
from harness.layout import Part, Table, Whole, laid_out
from harness.results.matrix import CellFacts, MatrixResult, ScenarioRow

Rows = list[tuple[str, ...]]


def matrix_parts(done: MatrixResult, folder: Path) -> list[Part]:
    """The tables for a terminal."""
    _, *lines = _sections(done, _plain, "", "  ")
    return [*lines, Whole("  evidence ", str(folder))]


def matrix_markdown(done: MatrixResult) -> str:
    """The tables as Markdown, and what is compared in them."""
    lines: list[Part] = [
        f"# Matrix of {done.tree}, {done.day}",
        "",
        "What each kernel has on top of the tree:",
    ]
    lines += _markdown(_kernel_rows(done))
    text = "\n".join(laid_out([*lines, *_sections(done, _markdown, "## ", "- ")]))
    return re.sub(r"\n{3,}", "\n\n", text) + "\n"


def _plain(rows: Rows) -> list[Part]:
    return [Table([[text.replace("**", "") for text in row] for row in rows])]


def _markdown(rows: Rows) -> list[Part]:
    head, *body = rows
    return ["", *(f"| {' | '.join(row)} |" for row in (head, ("---",) * len(head), *body)), ""]


class _Notes:
    """Numbered notes below the tables, each once."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def mark(self, text: str) -> str:
        if text not in self.texts:
            self.texts.append(text)
        return f"[{self.texts.index(text) + 1}]"


def _sections(done: MatrixResult, table: Callable[[Rows], list[Part]], head: str, item: str) -> list[Part]:
    notes = _Notes()
    lines: list[Part] = ["", f"{head}All of it", *table(_summary_rows(done, notes))]
    for scenario in done.scenarios:
        lines += ["", f"{head}{_title(scenario)}", *table(_scenario_rows(done, scenario, notes))]
        lines += [f"{item}{text}" for text in _limits(scenario)]
        for rows in _metric_tables(done, scenario):
            lines += table(rows)
    facts = [f"tree: {done.tree}", f"guests: {done.guest}"]
    numbered = [f"[{number}] {text}" for number, text in enumerate(notes.texts, start=1)]
    lines += ["", f"{head}Notes", *[""] * bool(head)]
    lines += [f"{item}{text}" for text in (*numbered, *facts)]
    return [*lines, Whole(f"{item}again: ", done.reproduce), f"{item}took {elapsed(done.seconds)}"]


def _title(scenario: ScenarioRow) -> str:
    words = [f"{name}={value}" for name, value in scenario.set.items()]
    called = [] if scenario.label == scenario.scenario else [scenario.scenario]
    return f"{scenario.label}: {' '.join([*called, *words])}" if called or words else scenario.label


def _limits(scenario: ScenarioRow) -> list[str]:
    """What each metric means, and beyond which figure the scenario's guest is starved."""
    lines = []
    for name, metric in scenario.metrics.items():
        limits = [("above", metric.above), ("below", metric.below)]
        words = [f"; starved {where} {limit:g}" for where, limit in limits if limit is not None]
        lines.append(f"{name}{f' ({metric.unit})' if metric.unit else ''}: {metric.help}{''.join(words)}")
    return lines


def _kernel_rows(done: MatrixResult) -> Rows:
    rows: Rows = [("kernel", "changes", "idea", "said against it")]
    for kernel in done.kernels:
        changes = ", ".join((*kernel.patches, *kernel.config)) or "none"
        rows.append((kernel.name, changes, kernel.idea, kernel.against))
    return rows


def _summary_rows(done: MatrixResult, notes: _Notes) -> Rows:
    """Kernels x scenarios: in how many of the answering trials, over all guests, the bug showed."""
    rows: Rows = [("kernel", *(scenario.label for scenario in done.scenarios))]
    for kernel in done.kernels:
        groups = (_cells(done, label=each.label, kernel=kernel.name) for each in done.scenarios)
        rows.append((kernel.name, *(_summary(group, notes) for group in groups)))
    return rows


def _cells(done: MatrixResult, label: str, kernel: str = "") -> list[CellFacts]:
    return [cell for cell in done.cells if cell.label == label and kernel in ("", cell.kernel)]


def _summary(cells: Sequence[CellFacts], notes: _Notes) -> str:
    tried = [cell for cell in cells if cell.state in ("done", "failed")]
    if not tried:
        return "n/a" if cells and all(cell.state == "not applicable" for cell in cells) else "-"
    answered = sum(cell.answered for cell in tried)
    if not answered:
        return ", ".join(dict.fromkeys(str(kind) for cell in tried for kind in cell.outcomes)) or "failed"
    bug, other = sum(cell.reproduced for cell in tried), sum(cell.failed_otherwise for cell in tried)
    words = [f"**{bug}/{answered}** the bug"] if bug else []
    if other:
        words.append(f"**{other}/{answered}** another failure {_others(tried, notes)}")
    return ", ".join(words) or f"0/{answered}"


def _others(cells: Iterable[CellFacts], notes: _Notes, outcome: str = "") -> str:
    """Marks of the signatures that are not the scenario's own bug: one failure swapped for another."""
    texts = dict.fromkeys(
        f"another failure than the scenario's own: {failure.signature or failure.outcome}"
        for cell in cells
        for failure in cell.failures
        if not failure.is_bug and outcome in ("", failure.outcome)
    )
    return "".join(notes.mark(text) for text in texts)


def _scenario_rows(done: MatrixResult, scenario: ScenarioRow, notes: _Notes) -> Rows:
    """Kernels x (preemption model, CPUs)."""
    mine = _cells(done, scenario.label)
    found = {(cell.kernel, cell.place): cell for cell in mine}
    places = sorted({cell.place for cell in mine}, key=lambda place: (_MODELS.index(place[0]), place[1]))
    rows: Rows = [("kernel", *(f"{preempt}, {_count(cpus)}" for preempt, cpus in places))]
    for kernel in (kernel.name for kernel in done.kernels):
        if any(cell.kernel == kernel for cell in mine):
            cells = (found.get((kernel, place)) for place in places)
            rows.append((kernel, *(_words(cell, notes) if cell else "" for cell in cells)))
    return rows


_MODELS = ("none", "voluntary", "full", "lazy")


def _count(cpus: int) -> str:
    return f"{cpus} CPU{'s' * (cpus > 1)}"


def _words(cell: CellFacts, notes: _Notes) -> str:
    """`3/6 livelock, 3/6 completed`; what is not the scenario's own bug is marked."""
    reason = [notes.mark(cell.reason)] if cell.reason else []
    if not cell.trials:
        short = {"not applicable": "n/a", "failed": "failed"}
        return " ".join([short.get(cell.state, "-"), *reason])
    bugs = Counter({f.outcome: 0 for f in cell.failures})
    for failure in cell.failures:
        bugs[failure.outcome] += failure.trials if failure.is_bug else 0
    of = f"/{cell.trials}"
    words = [f"**{count}{of} {kind}**" for kind, count in bugs.items() if count]
    for kind, count in cell.outcomes.items():
        rest = count - bugs[kind]
        if rest and kind.is_failure:
            words.append(f"**{rest}{of} {kind}, another failure** {_others([cell], notes, kind)}")
        elif rest:
            words.append(f"{rest}{of} {kind}")
    return " ".join([", ".join(words), *reason])


def _metric_tables(done: MatrixResult, scenario: ScenarioRow) -> list[Rows]:
    """For each column with metrics, kernels x metrics: medians, and as multiples of one kernel's."""
    tables = []
    mine = [cell for cell in _cells(done, scenario.label) if cell.metrics]
    for place in dict.fromkeys(cell.place for cell in mine):
        figures = {cell.kernel: cell.metrics for cell in mine if cell.place == place}
        names = list(dict.fromkeys(name for values in figures.values() for name in values))
        base = figures.get(done.relative_to, {})
        rows: Rows = [(f"medians: {place[0]}, {_count(place[1])}", *names)]
        for kernel in (each.name for each in done.kernels if each.name in figures):
            rows.append((kernel, *(_figure(name, figures[kernel], base) for name in names)))
        tables.append(rows)
    return tables


def _figure(name: str, values: Mapping[str, float], base: Mapping[str, float]) -> str:
    if name not in values:
        return "-"
    text = f"{values[name]:.4g}"
    return f"{text} ({values[name] / base[name]:.2f}x)" if base.get(name) else text
