# SPDX-License-Identifier: GPL-2.0-only
"""A diagnosis as lines that a person pastes into a mail."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from harness.diagnose.diagnosis import Diagnosis
from harness.diagnose.graph import Edge, WaitGraph

WIDTH = 78


def cycle_text(diagnosis: Diagnosis) -> tuple[str, ...]:
    """The cycle, a line an edge; without one `no cycle`, the longest chain, and why it is none."""
    lines: list[str] = []
    if diagnosis.proof == "none":
        lines.append("no cycle")
        if diagnosis.chain:
            lines.append("the longest chain:")
    lines += told(diagnosis.graph, diagnosis.chain)
    if diagnosis.proof != "cycle":
        lines += _wrapped([f"gap: {gap}" for gap in diagnosis.gaps])
    return tuple(lines)


def told(graph: WaitGraph, edges: Sequence[Edge]) -> list[str]:
    """A path of edges as one sentence, broken before each edge."""
    lines: list[str] = []
    for edge in edges:
        if not lines:
            lines.append(f"{graph.node(edge.source).label} {edge.text}")
        elif edge.kind == "needs":
            # One line says who it is, that it could run, and what it lacks.
            lines[-1] += f", {edge.text}"
        elif edge.kind == "held by" and edge.source.startswith("folio:"):
            lines.append(f"on {graph.node(edge.source).label}, {_state(graph, edge)}{edge.text}")
        else:
            who = "which " if edge.source.startswith("task:") else ""
            lines.append(who + edge.text)
    return _wrapped(lines)


def _state(graph: WaitGraph, edge: Edge) -> str:
    facts = graph.node(edge.source).facts
    return f"{facts[0]}, " if facts else ""


def _wrapped(lines: Sequence[str]) -> list[str]:
    whole: list[str] = []
    for number, line in enumerate(lines):
        lead = "" if number == 0 else "  "
        whole += textwrap.wrap(
            line, WIDTH, initial_indent=lead, subsequent_indent="    ", break_on_hyphens=False
        )
    return whole
