# SPDX-License-Identifier: GPL-2.0-only
"""Who waits for whom: nodes, edges with their evidence, and the circles among them. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

#: `data`: read from the kernel's own data. `derived`: concluded from it.
Sure = Literal["data", "derived"]
NodeKind = Literal["task", "folio", "lock", "work", "pool", "cpu", "other"]

#: A search stops after so many steps; what it has found by then is its answer.
_STEPS = 20000
#: No more circles than these are told apart.
_CYCLES = 64


@dataclass(frozen=True)
class Node:
    """A thing that waits or is waited for. `label`: as a line of text names it."""

    id: str
    kind: NodeKind
    label: str
    #: Further facts, a line each.
    facts: tuple[str, ...] = ()


@dataclass(frozen=True)
class Edge:
    """`source` cannot go on before `target` does something."""

    source: str
    target: str
    #: A few words for an arrow: "held by".
    kind: str
    #: A sentence without its subject's name repeated.
    text: str
    sure: Sure
    #: Addresses, field values, `task PID frame #N`.
    evidence: tuple[str, ...]
    #: How long it has been so, s of the guest's time; None where the kernel does not tell.
    since_s: float | None = None
    #: False: named for the chain's sake, but the target would give way; no part of a circle.
    blocks: bool = True


@dataclass(frozen=True)
class WaitGraph:
    """`gaps`: what could not be found out, a line each."""

    nodes: tuple[Node, ...] = ()
    edges: tuple[Edge, ...] = ()
    gaps: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for edge in self.edges:
            if edge.source not in self._by_id or edge.target not in self._by_id:
                raise ValueError(f"an edge without its node: {edge.source} -> {edge.target}")

    @cached_property
    def _by_id(self) -> Mapping[str, Node]:
        return {node.id: node for node in self.nodes}

    @cached_property
    def _out(self) -> Mapping[str, tuple[Edge, ...]]:
        out: dict[str, tuple[Edge, ...]] = {}
        for edge in self.edges:
            out[edge.source] = (*out.get(edge.source, ()), edge)
        return out

    def node(self, id: str) -> Node:
        """The node of this id; KeyError if there is none."""
        return self._by_id[id]

    def edges_from(self, id: str) -> Sequence[Edge]:
        """What a node waits for."""
        return self._out.get(id, ())


def find_cycles(graph: WaitGraph) -> list[tuple[Edge, ...]]:
    """The circles of blocking edges, each once, from its first node in the order of `graph.nodes`.

    Those that say most first: all from data before derived, then short ones. At most a few dozen, found
    within a bounded number of steps.
    """
    rank = {node.id: number for number, node in enumerate(graph.nodes)}
    found: list[tuple[Edge, ...]] = []
    steps = 0
    for node in graph.nodes:
        stack: list[tuple[str, tuple[Edge, ...]]] = [(node.id, ())]
        while stack and len(found) < _CYCLES and steps < _STEPS:
            steps += 1
            at, path = stack.pop()
            for edge in graph.edges_from(at):
                if not edge.blocks or rank[edge.target] < rank[node.id]:
                    continue
                if edge.target == node.id:
                    found.append((*path, edge))
                elif all(edge.target != passed.target for passed in path):
                    stack.append((edge.target, (*path, edge)))
    return sorted(found, key=lambda cycle: (guesses(cycle), len(cycle)))


def rotated(cycle: Sequence[Edge], first: str) -> tuple[Edge, ...]:
    """The same circle, told from node `first` on, if that is part of it."""
    for number, edge in enumerate(cycle):
        if edge.source == first:
            return (*cycle[number:], *cycle[:number])
    return tuple(cycle)


def guesses(edges: Sequence[Edge]) -> int:
    """How many of the edges are derived."""
    return sum(edge.sure != "data" for edge in edges)


def longest_chain(graph: WaitGraph) -> tuple[Edge, ...]:
    """The longest path without a node twice, but for an edge that closes a circle; empty without edges."""
    best: tuple[Edge, ...] = ()
    for path in _paths(graph):
        if len(path) > len(best):
            best = path
    return best


def _paths(graph: WaitGraph) -> Iterator[tuple[Edge, ...]]:
    steps = 0
    for node in graph.nodes:
        stack: list[tuple[str, tuple[Edge, ...]]] = [(node.id, ())]
        while stack and steps < _STEPS:
            steps += 1
            at, path = stack.pop()
            yield path
            passed = {node.id, *(edge.target for edge in path)}
            for edge in graph.edges_from(at):
                if edge.target in passed:
                    yield (*path, edge)
                else:
                    stack.append((edge.target, (*path, edge)))
