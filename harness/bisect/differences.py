# SPDX-License-Identifier: GPL-2.0-only
"""What differs between two resolved configurations, as steps from one to the other."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from harness.kernel.kconfig import Setting
from harness.kernel.language import Block, Kconfig

_LEVELS = {"n": 0, "m": 1, "y": 2}


@dataclass(frozen=True)
class Change:
    """A symbol's value before and after, as .config writes it ("n": not set, or not there)."""

    symbol: str
    before: str
    after: str

    @property
    def adds(self) -> bool:
        """False if it takes something away, so that what depends on it has to go first."""
        return _LEVELS.get(self.after, 2) >= _LEVELS.get(self.before, 2)

    def __str__(self) -> str:
        return f"CONFIG_{self.symbol}: {self.before} -> {self.after}"


@dataclass(frozen=True)
class Difference:
    """One step: a symbol that differs, or all members of a choice that do."""

    changes: tuple[Change, ...]

    @property
    def name(self) -> str:
        """The symbol; of a choice the member that is chosen."""
        return next((change.symbol for change in self.changes if change.after == "y"), self.changes[0].symbol)

    @property
    def symbols(self) -> frozenset[str]:
        """All symbols that it changes."""
        return frozenset(change.symbol for change in self.changes)

    def settings(self, where: str) -> Iterator[Setting]:
        """What is asked for to take the step."""
        return (Setting(change.symbol, change.after, where) for change in self.changes)

    def __str__(self) -> str:
        return ", ".join(map(str, self.changes))


def differences(good: Mapping[str, str], bad: Mapping[str, str], kconfig: Kconfig) -> tuple[Difference, ...]:
    """The steps from one configuration (symbol -> value, without what is not set) to another.

    Only symbols with a prompt are steps: the others follow from those. A symbol is set after what it depends
    on and before what selects it, and goes the other way round; else the order is that of the Kconfig files.
    A number or text that is gone at the bad end is no step: it went with what it depends on.
    """
    grouped: dict[str, list[Change]] = {}
    for symbol, blocks in kconfig.entries.items():
        change = Change(symbol, good.get(symbol, "n"), bad.get(symbol, "n"))
        if change.before == change.after or not any(block.prompt for block in blocks):
            continue
        if symbol not in bad and not any(block.type in ("bool", "tristate") for block in blocks):
            continue
        choice = next((block.choice for block in blocks if block.choice), None)
        grouped.setdefault(f"choice {choice.where}" if choice else symbol, []).append(change)
    steps = [Difference(tuple(changes)) for changes in grouped.values()]
    hidden = {symbol for symbol in good.keys() | bad.keys() if good.get(symbol) != bad.get(symbol)}
    return tuple(steps[place] for place in _order(steps, hidden, kconfig))


def _order(steps: list[Difference], differing: set[str], kconfig: Kconfig) -> list[int]:
    """Positions of `steps`, needs first; a circle of needs is entered where the Kconfig files begin it."""
    of_symbol = {change.symbol: place for place, step in enumerate(steps) for change in step.changes}
    waits: list[set[int]] = [set() for _ in steps]
    followers: list[set[int]] = [set() for _ in steps]
    for place, step in enumerate(steps):
        for change in step.changes:
            needs = [name for block in kconfig.entries[change.symbol] for name in _conditions(block)]
            holders = [block.name for block, _, _ in kconfig.selectors.get(change.symbol, ())]
            below = _reached(needs, of_symbol, differing, kconfig) - {place}
            above = _reached(holders, of_symbol, differing, kconfig) - {place}
            for first in below if change.adds else above:
                waits[place].add(first)
                followers[first].add(place)
            for then in above if change.adds else below:
                waits[then].add(place)
                followers[place].add(then)
    ready = [place for place, before in enumerate(waits) if not before]
    left = set(range(len(steps)))
    order: list[int] = []
    while left:
        place = heapq.heappop(ready) if ready else min(left)
        if place not in left:
            continue
        left.remove(place)
        order.append(place)
        for then in followers[place]:
            waits[then].discard(place)
            if not waits[then]:
                heapq.heappush(ready, then)
    return order


def _reached(
    names: Iterable[str], of_symbol: Mapping[str, int], differing: set[str], kconfig: Kconfig
) -> set[int]:
    """The steps among some symbols, and those that decide about the others of them that differ."""
    found: set[int] = set()
    seen: set[str] = set()
    todo = list(names)
    while todo:
        name = todo.pop()
        if name in seen:
            continue
        seen.add(name)
        if name in of_symbol:
            found.add(of_symbol[name])
        elif name in differing:
            todo += [other for block in kconfig.entries.get(name, ()) for other in _origins(block)]
            todo += [block.name for block, _, _ in kconfig.selectors.get(name, ())]
    return found


def _conditions(block: Block) -> Iterator[str]:
    for expr in (*block.all_depends, *([block.prompt] if block.prompt else [])):
        yield from expr.symbols()


def _origins(block: Block) -> Iterator[str]:
    yield from _conditions(block)
    for expr in block.defaults:
        yield from expr.symbols()
