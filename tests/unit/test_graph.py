# SPDX-License-Identifier: GPL-2.0-only
"""Circles and chains in small graphs made by hand."""

from __future__ import annotations

import itertools

import pytest

from harness.diagnose.graph import (
    Edge,
    Node,
    Sure,
    WaitGraph,
    find_cycles,
    longest_chain,
    rotated,
)


def edge(source: str, target: str, sure: Sure = "data", blocks: bool = True) -> Edge:
    return Edge(source, target, "waits for", f"waits for {target}", sure, ("made by hand",), None, blocks)


def graph(*edges: Edge, alone: str = "") -> WaitGraph:
    names = dict.fromkeys([*alone, *(name for e in edges for name in (e.source, e.target))])
    return WaitGraph(tuple(Node(name, "task", name) for name in names), edges)


def way(edges: tuple[Edge, ...]) -> str:
    return "".join([*(e.source for e in edges), edges[-1].target]) if edges else ""


def find_cycle(tangle: WaitGraph) -> tuple[Edge, ...]:
    """The first circle."""
    return next(iter(find_cycles(tangle)), ())


def test_nobody_waits() -> None:
    assert find_cycle(graph(alone="abc")) == () and longest_chain(graph(alone="abc")) == ()
    assert find_cycle(WaitGraph()) == () and longest_chain(WaitGraph()) == ()


def test_a_chain_is_no_circle() -> None:
    line = graph(edge("b", "c"), edge("a", "b"), edge("c", "d"), edge("x", "c"))
    assert find_cycle(line) == ()
    assert way(longest_chain(line)) == "abcd"


def test_one_circle_is_found_once_whatever_leads_to_it() -> None:
    found = find_cycles(graph(edge("x", "a"), edge("a", "b"), edge("b", "c"), edge("c", "a"), edge("c", "y")))
    assert [way(cycle) for cycle in found] == ["abca"]


def test_who_waits_for_itself_is_a_circle() -> None:
    assert way(find_cycle(graph(edge("a", "b"), edge("b", "b")))) == "bb"


def test_of_several_circles_the_one_from_data_and_then_the_shortest_is_told() -> None:
    short = (edge("a", "b"), edge("b", "a", "derived"))
    both = graph(*short, edge("c", "d"), edge("d", "e"), edge("e", "c"), edge("b", "c"))
    assert [way(cycle) for cycle in find_cycles(both)] == ["cdec", "aba"]
    shorter = graph(edge("a", "b"), edge("b", "c"), edge("c", "a"), edge("b", "a"))
    assert way(find_cycle(shorter)) == "aba"


def test_who_would_give_way_closes_no_circle_but_is_told_in_the_chain() -> None:
    soft = graph(edge("a", "b"), edge("b", "c", blocks=False), edge("c", "a"))
    assert find_cycles(soft) == []
    assert way(longest_chain(soft)) == "abca"


def test_a_circle_is_told_from_any_node_on() -> None:
    cycle = find_cycle(graph(edge("a", "b"), edge("b", "c"), edge("c", "a")))
    assert way(rotated(cycle, "c")) == "cabc"
    assert rotated(cycle, "z") == cycle


def test_an_edge_needs_its_nodes() -> None:
    with pytest.raises(ValueError, match="without its node"):
        WaitGraph((Node("a", "task", "a"),), (edge("a", "b"),))


def test_a_thousand_waiters_are_searched_within_the_bounds() -> None:
    names = [f"n{number}" for number in range(1000)]
    edges = [edge(a, b) for a, b in itertools.pairwise(names)]
    edges += [edge(names[number], names[0]) for number in range(0, 1000, 10)]
    tangled = WaitGraph(tuple(Node(name, "task", name) for name in names), tuple(edges))
    assert find_cycle(tangled) and longest_chain(tangled)
