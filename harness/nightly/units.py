# SPDX-License-Identifier: GPL-2.0-only
"""What a night is made of: a scenario on a tree, with all kernels of its matrix; and in which order."""

from __future__ import annotations

import itertools
import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from harness.cache import digest, sha256_file
from harness.config import DebianTree, GitTree, TreeConfig, validated
from harness.disk import write_atomically
from harness.experiment.kernels import get_tree
from harness.experiment.options import Workshop
from harness.matrix.model import Matrix, matrix_values, restricted
from harness.nightly.model import QEMU, Nightly
from harness.results.matrix import CellFacts, MatrixResult
from harness.results.night import NightCell, NightResult, NightTreeFacts
from harness.results.reading import load_run

#: A unit that was cut off after so much of a budget does not fit into it.
MOST = 0.6


@dataclass(frozen=True)
class Unit:
    """One scenario on one tree. series: part of what names a cell from night to night."""

    tree: NightTreeFacts
    matrix: Matrix
    control: str
    target: str

    @property
    def name(self) -> str:
        """`mainline/trylock-starvation`."""
        return f"{self.tree.name}/{self.matrix.scenarios[0].name}"

    @property
    def controlled(self) -> bool:
        """Whether it has a control of its own, in a guest at least."""
        (entry,) = self.matrix.scenarios
        if self.control not in (entry.kernels or self.matrix.kernels):
            return False
        guests = itertools.product(entry.preempt or self.matrix.preempt, entry.cpus or self.matrix.cpus)
        return any(
            not any(left_out.covers(entry.name, self.control, *guest) for left_out in self.matrix.exclude)
            for guest in guests
        )

    def write(self, folder: Path) -> Path:
        """Leave it as a file that `matrix` takes."""
        path = folder / f"{self.name.replace('/', '.')}.yaml"
        text = yaml.safe_dump(matrix_values(self.matrix), sort_keys=False)
        write_atomically(path, text.encode())
        return path

    def cells(self, result: MatrixResult) -> tuple[NightCell, ...]:
        """What its matrix came to, as cells of the night."""
        return tuple(self._cell(cell, result) for cell in result.cells)

    def _cell(self, cell: CellFacts, result: MatrixResult) -> NightCell:
        clock = self.matrix.scenarios[0].clock or self.matrix.boot.clock
        kernel = self.matrix.kernels[cell.kernel]
        asked: dict[str, Any] = {
            "place": [self.target, self.tree.name, cell.scenario, cell.label, cell.kernel, *cell.place],
            "guest": self.matrix.boot.model_dump(mode="json", exclude={"preempt", "cpus"}) | {"clock": clock},
            "kernel": kernel.model_dump(mode="json")
            | {"patches": [_content(name) for name in kernel.patches]},
        }
        return NightCell(
            **cell.model_dump(),
            tree=self.tree.name,
            source=result.tree,
            revision=self.tree.revision,
            role="control" if cell.kernel == self.control else "candidate",
            clock=clock,
            series=digest([json.dumps([asked, cell.set], sort_keys=True)])[:20],
            values=_values(cell, Path(result.evidence)),
            run=result.evidence,
        )


def _content(patch: str) -> str:
    """What a patch holds; an id of the catalogue stays as it is."""
    return sha256_file(Path(patch)) if Path(patch).is_file() else patch


def _values(cell: CellFacts, folder: Path) -> dict[str, tuple[float, ...]]:
    """What each answering trial of a cell measured."""
    if not cell.metrics:
        return {}
    mine = {Path(place).name for place in cell.evidence}
    trials = [trial.result for trial in load_run(folder).trials if trial.folder.name in mine and trial.result]
    answers = [trial.metrics for trial in trials if trial.kind.is_answer]
    return {
        name: tuple(each[name] for each in answers if name in each)
        for name in dict.fromkeys(name for each in answers for name in each)
    }


def tree_facts(name: str, wanted: TreeConfig, workshop: Workshop) -> NightTreeFacts:
    """The tree as it is tonight: a branch's tip, the newest package. As `get_tree` says else."""
    tree = get_tree(wanted, workshop)
    match wanted:
        case GitTree():
            revision = tree.commit
        case DebianTree():
            revision = tree.description.split()[-1]
        case _:
            revision = tree.ident
    return NightTreeFacts(name=name, source=tree.description, revision=revision)


def units_of(night: Nightly, trees: Sequence[NightTreeFacts]) -> list[Unit]:
    """All of them, in the order of the file. A branch stays at the tip that it had when the night began."""
    found = []
    for facts in trees:
        chosen = night.matrix_of(facts.name)
        tree = night.trees[facts.name].tree
        if isinstance(tree, GitTree) and facts.revision:
            tree = tree.model_copy(update={"revision": facts.revision})
        for entry in chosen.scenarios:
            values = matrix_values(restricted(chosen, [entry.name], []))
            values = {key: value for key, value in values.items() if key != "control"}
            values["tree"] = tree.model_dump(mode="json")
            values["target"] = "" if night.target == QEMU else night.target
            matrix = validated(Matrix, values, f"{facts.name}/{entry.name}")
            found.append(Unit(facts, matrix, chosen.control, night.target))
    return found


def in_turn(names: Sequence[str], past: Sequence[NightResult], budget_s: float) -> list[str]:
    """The names, those first whose turn was the longest ago; the nights are given newest first.

    What most of a budget was not enough for comes last, or nothing else would be run any more.
    """

    def waited(name: str) -> int:
        for nights, result in enumerate(past):
            if any(unit.name == name and unit.state == "done" for unit in result.units):
                return nights
        return len(past)

    return sorted(names, key=lambda name: (in_vain(name, past) > MOST * budget_s, -waited(name)))


def behind_controls(
    turns: Sequence[Unit], past: Sequence[NightResult], budget_s: float, run: Collection[str]
) -> list[Unit]:
    """The units in turn; before one without a control comes one of its tree that has one, turn or not.

    run: those that were run tonight before. A control that most of a budget was not enough for is not moved.
    """
    order: dict[str, Unit] = {}
    for unit in turns:
        able = [each for each in turns if each.controlled and each.tree.name == unit.tree.name]
        if not unit.controlled and not any(each.name in (*run, *order) for each in able):
            able = [each for each in able if in_vain(each.name, past) <= MOST * budget_s]
            order |= {each.name: each for each in able[:1]}
        order[unit.name] = unit
    return [unit for unit in order.values() if unit.name not in run]


def in_vain(name: str, past: Sequence[NightResult]) -> float:
    """The longest that a unit ran without coming to its end, since it last did, s."""
    longest = 0.0
    for result in past:
        for unit in result.units:
            if unit.name == name and unit.state == "done":
                return longest
            if unit.name == name and unit.state == "cut":
                longest = max(longest, unit.seconds)
    return longest


def took(name: str, past: Sequence[NightResult]) -> float:
    """What a unit took when it was done last, s; 0 if it never was."""
    for result in past:
        for unit in result.units:
            if unit.name == name and unit.state == "done":
                return unit.seconds
    return 0.0
