# SPDX-License-Identifier: GPL-2.0-only
"""A matrix as a map for each scenario: kernels down, guests across, the bug's rate as shade and number."""

from __future__ import annotations

from dataclasses import dataclass

from harness.plain import plain
from harness.results.matrix import CellFacts, MatrixResult

#: Shades of the map, the lightest for a rate of 0.
SHADES = 5


@dataclass(frozen=True)
class Field:
    """One cell as it is shown."""

    #: 0 to SHADES - 1 by the rate; -1: no answer.
    shade: int
    figure: str
    words: str
    detail: str


@dataclass(frozen=True)
class HeatMap:
    """The cells of one scenario. A row: the kernel, and for each column a field, or None for no cell."""

    scenario: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, tuple[Field | None, ...]], ...]


def heat_maps(done: MatrixResult) -> tuple[HeatMap, ...]:
    """A map for each scenario, in the matrix's order."""
    maps = []
    for name in dict.fromkeys(cell.label for cell in done.cells):
        mine = [cell for cell in done.cells if cell.label == name]
        places = sorted({cell.place for cell in mine}, key=_order)
        found = {(cell.kernel, *cell.place): _field(cell) for cell in mine}
        rows = tuple(
            (plain(kernel), tuple(found.get((kernel, *place)) for place in places))
            for kernel in dict.fromkeys(cell.kernel for cell in mine)
        )
        columns = tuple(f"{preempt}, {cpus} CPU{'s' * (cpus != 1)}" for preempt, cpus in places)
        maps.append(HeatMap(plain(name), columns, rows))
    return tuple(maps)


def _order(place: tuple[str, int]) -> tuple[int, str, int]:
    """From the model that yields least to the one that yields most; fewer CPUs first."""
    known = ("none", "voluntary", "lazy", "full")
    return known.index(place[0]) if place[0] in known else len(known), *place


def _field(cell: CellFacts) -> Field:
    words = ", ".join(f"{count} {kind}" for kind, count in cell.outcomes.items())
    if cell.failed_otherwise:
        words += f" ({cell.failed_otherwise} failed in another way)"
    if cell.rate is None:
        said = plain(words or cell.reason or cell.state)
        return Field(-1, "-", said, said)
    shade = min(int(cell.rate * SHADES), SHADES - 1)
    detail = f"{words}; 95 % interval {cell.ci95[0]:.2f} to {cell.ci95[1]:.2f} of {cell.trials} trials"
    return Field(shade, f"{cell.rate:.2f}", words, detail)
