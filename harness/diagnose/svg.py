# SPDX-License-Identifier: GPL-2.0-only
"""A diagnosis as a picture: one column of boxes, an arrow for each edge, and the one that closes the circle.

Self-contained SVG, no script, no font of its own. Every line is measured by the widest monospaced font in use
before its box is drawn, so no text leaves a box.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from harness.diagnose.diagnosis import Diagnosis
from harness.diagnose.graph import Edge, Node

_MARGIN = 24
_PAD = 12
_LABEL = 15
_SMALL = 12
#: The width of a character in its height. DejaVu Sans Mono and Menlo have 0.602, others less.
_ADVANCE = 0.61
_LINE = 1.45
#: From a box to the next one: room for what the arrow says.
_GAP = 58
#: The way back, left of the boxes.
_LANE = 34
#: From an arrow to what it says.
_ARROW = 16
_CLIP = 72

_STYLE = """
  text { font-family: ui-monospace, "DejaVu Sans Mono", Menlo, Consolas, monospace; fill: #1f2328; }
  .paper { fill: #ffffff; }
  .box { fill: #f3f5f8; stroke: #57606a; stroke-width: 1.5; }
  .task { fill: #e3efff; stroke: #2f6fc4; }
  .cpu { fill: #ffeede; stroke: #bc5a00; }
  .arrow { fill: none; stroke: #57606a; stroke-width: 1.8; }
  .back { stroke: #c4302b; stroke-width: 2.4; }
  .derived { stroke-dasharray: 6 4; }
  .head { fill: #57606a; }
  .backhead { fill: #c4302b; }
  .dim { fill: #57606a; }
  @media (prefers-color-scheme: dark) {
    text { fill: #e6edf3; }
    .paper { fill: #0d1117; }
    .box { fill: #1c2129; stroke: #8b949e; }
    .task { fill: #12284a; stroke: #6ba6ff; }
    .cpu { fill: #3d2308; stroke: #f0883e; }
    .arrow { stroke: #8b949e; }
    .back { stroke: #ff7b72; }
    .head { fill: #8b949e; }
    .backhead { fill: #ff7b72; }
    .dim { fill: #9da7b3; }
  }
"""


@dataclass(frozen=True)
class _Line:
    text: str
    size: int
    classes: str = ""
    bold: bool = False

    @property
    def width(self) -> float:
        return len(self.text) * self.size * _ADVANCE

    @property
    def height(self) -> float:
        return self.size * _LINE

    def at(self, x: float, y: float) -> str:
        weight = ' font-weight="bold"' if self.bold else ""
        style = f' class="{self.classes}"' if self.classes else ""
        place = f'x="{x:.1f}" y="{y:.1f}" font-size="{self.size}"'
        return f"<text {place}{weight}{style}>{escape(self.text)}</text>"


def cycle_svg(diagnosis: Diagnosis) -> str:
    """The cycle, or the longest chain, as an SVG document."""
    graph = diagnosis.graph
    edges = diagnosis.chain
    closed = bool(edges) and edges[-1].target in {edge.source for edge in edges}
    ids = [edge.source for edge in edges]
    if edges and not closed:
        ids.append(edges[-1].target)
    boxes = [_box(graph.node(id)) for id in ids]
    down = edges[: len(ids) - 1]
    notes = [_notes(edge) for edge in edges]
    title = [_Line(line, _LABEL, bold=number == 0) for number, line in enumerate(_heading(diagnosis))]

    left = _MARGIN + (_LANE if closed else 0)
    box_width = max((line.width for box in boxes for line in box), default=0.0) + 2 * _PAD
    beside = box_width / 2 + _ARROW + max((line.width for note in notes for line in note), default=0.0)
    width = left + max(box_width, beside, *(line.width for line in title)) + _MARGIN

    parts: list[str] = []
    y = float(_MARGIN)
    for line in title:
        y += line.height
        parts.append(line.at(_MARGIN, y - line.size * 0.4))
    y += 12
    middles: list[float] = []
    for number, box in enumerate(boxes):
        height = sum(line.height for line in box) + _PAD
        middles.append(y + height / 2)
        parts.append(_drawn(graph.node(ids[number]), box, (left, y, box_width, height)))
        y += height
        if number < len(down):
            parts.append(_arrow(down[number], notes[number], left + box_width / 2, y))
            y += _GAP
    if closed:
        first = ids.index(edges[-1].target)
        parts.append(_way_back(edges[-1], notes[-1], left, middles[-1], middles[first], y + 6))
        y += sum(line.height for line in notes[-1]) + 6
    return _document(width, y + _MARGIN, diagnosis.title, parts)


def _heading(diagnosis: Diagnosis) -> Sequence[str]:
    says = {"cycle": "proof: cycle", "partial": "proof: partial", "none": "no cycle"}[diagnosis.proof]
    release = f"Linux {diagnosis.facts.release}, " if diagnosis.facts.release else ""
    return (says, f"{release}preempt={diagnosis.facts.model}")


def _box(node: Node) -> list[_Line]:
    return [
        _Line(_clipped(node.label), _LABEL, bold=True),
        *(_Line(_clipped(fact), _SMALL, "dim") for fact in node.facts[:4]),
    ]


def _notes(edge: Edge) -> list[_Line]:
    words = [edge.kind]
    words += [f"{edge.since_s:.1f} s"] if edge.since_s is not None else []
    words += ["derived"] if edge.sure != "data" else []
    words += ["gives way"] if not edge.blocks else []
    lines = [_Line(", ".join(words), _SMALL, bold=True)]
    return lines + [_Line(_clipped(fact), _SMALL, "dim") for fact in edge.evidence[:1]]


def _clipped(text: str) -> str:
    return text if len(text) <= _CLIP else text[: _CLIP - 1] + "…"


def _drawn(node: Node, box: Sequence[_Line], place: tuple[float, float, float, float]) -> str:
    left, top, width, height = place
    kind = f"box {node.kind}" if node.kind in ("task", "cpu") else "box"
    size = f'x="{left:.1f}" y="{top:.1f}" width="{width:.1f}" height="{height:.1f}" rx="8"'
    parts = [f'<rect class="{kind}" {size}/>']
    return "\n".join([*parts, *_lines(box, left + _PAD, top + _PAD / 2)])


def _arrow(edge: Edge, notes: Sequence[_Line], x: float, top: float) -> str:
    bottom = top + _GAP
    height = sum(line.height for line in notes)
    parts = [
        f"<g><title>{escape(_hover(edge))}</title>",
        f'<path class="arrow{_dashed(edge)}" d="M{x:.1f} {top:.1f}V{bottom - 9:.1f}"/>',
        f'<path class="head" d="M{x - 6:.1f} {bottom - 11:.1f}h12l-6 10z"/>',
        *_lines(notes, x + _ARROW, (top + bottom - height) / 2),
    ]
    return "\n".join([*parts, "</g>"])


def _way_back(edge: Edge, notes: Sequence[_Line], left: float, begin: float, end: float, below: float) -> str:
    path = f"M{left:.1f} {begin:.1f}H{_MARGIN + 4}V{end:.1f}H{left - 10:.1f}"
    parts = [
        f"<g><title>{escape(_hover(edge))}</title>",
        f'<path class="arrow back{_dashed(edge)}" d="{path}"/>',
        f'<path class="backhead" d="M{left - 11:.1f} {end - 6:.1f}v12l10 -6z"/>',
        *_lines(notes, left + _PAD, below),
    ]
    return "\n".join([*parts, "</g>"])


def _lines(lines: Sequence[_Line], x: float, y: float) -> list[str]:
    parts = []
    for line in lines:
        y += line.height
        parts.append(line.at(x, y - line.size * 0.4))
    return parts


def _dashed(edge: Edge) -> str:
    return "" if edge.sure == "data" else " derived"


def _hover(edge: Edge) -> str:
    return "\n".join((edge.text, *edge.evidence))


def _document(width: float, height: float, title: str, parts: Sequence[str]) -> str:
    size = f'width="{width:.0f}" height="{height:.0f}" viewBox="0 0 {width:.0f} {height:.0f}"'
    return "\n".join(
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img">',
            f"<title>{escape(title)}</title>",
            f"<style>{_STYLE}</style>",
            '<rect class="paper" width="100%" height="100%"/>',
            *parts,
            "</svg>\n",
        )
    )
