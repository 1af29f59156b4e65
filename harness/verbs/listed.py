# SPDX-License-Identifier: GPL-2.0-only
"""All that is known of a scenario, a patch, an experiment or a matrix, as `list` tells it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import takewhile
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from harness.config import Experiment, KernelConfig, builtin_experiments
from harness.kernel.patches import Entry
from harness.layout import Part, Prose, Table
from harness.matrix.model import Matrix, builtin_matrices
from harness.scenario.catalogue import ChoiceParameter, IntParameter, Parameter, Scenario


def scenario_parts(scenario: Scenario, name: str) -> Iterable[Part]:
    """Needs, parameters and metrics of a scenario."""
    needs, oracle = scenario.needs, scenario.oracle
    wants = [
        f"{needs.cpus} CPU{'s' if needs.cpus > 1 else ''}",
        f"preempt={'|'.join(needs.preempt)}",
        f"{needs.memory_mb} MB" if needs.memory_mb else "",
        f"kernels {needs.versions}" if needs.versions else "",
        *needs.config,
        "huge pages" if needs.huge_pages else "",
    ]
    needed = ", ".join(filter(None, wants))
    yield from _facts({"title": scenario.title, "bug": scenario.bug, "needs": needed})
    yield from ("", Prose(scenario.description.strip(), hang=2))
    yield from _table(
        ("parameter", "default", "range", "unit", "is"),
        [
            (key, str(one.default), _range(one), one.unit if isinstance(one, IntParameter) else "", one.help)
            for key, one in scenario.parameters.items()
        ],
    )
    yield from _table(
        ("metric", "starved", "unit", "is"),
        [(key, metric.limit, metric.unit, metric.help) for key, metric in oracle.metrics.items()],
    )


def _range(parameter: Parameter) -> str:
    match parameter:
        case IntParameter(minimum=low, maximum=high):
            return f"{low} to {high}"
        case ChoiceParameter(choices=choices):
            return "|".join(choices)
    return "a word"


def patch_parts(patch: Entry, name: str) -> Iterable[Part]:
    """What the catalogue says of a change."""
    versions = " or ".join(file.versions for file in patch.files)
    keys = ("title", "role", "bug", "upstream", "note", "idea", "against")
    return _facts({key: getattr(patch, key) for key in keys} | {"versions": versions})


def experiment_parts(experiment: Experiment, name: str) -> Iterable[Part]:
    """Kernels and arms of a built-in experiment, and what differs from the defaults."""
    yield Prose(comment(builtin_experiments()[name]), hang=2)
    facts = {"versions": experiment.versions, "scenario": experiment.scenario}
    facts |= {"set": _settings(experiment.set), "tree": _settings(_given(experiment.tree))}
    yield from ("", *_facts(facts | {"boot": _settings(_given(experiment.boot))}))
    yield from _kernels(experiment.kernels)
    rows = [(key, arm.role, arm.kernel, " ".join(arm.patches)) for key, arm in experiment.arms.items()]
    yield from _table(("arm", "role", "kernel", "patches"), rows)


def matrix_parts(matrix: Matrix, name: str) -> Iterable[Part]:
    """Kernels and rows of a built-in matrix."""
    yield Prose(comment(builtin_matrices()[name]), hang=2)
    facts = {"versions": matrix.versions, "preempt": " ".join(matrix.preempt)}
    facts |= {"CPUs": " ".join(map(str, matrix.cpus)), "trials": str(matrix.trials)}
    facts |= {"tree": _settings(_given(matrix.tree)), "boot": _settings(_given(matrix.boot))}
    yield from ("", *_facts(facts))
    yield from _kernels(matrix.kernels)
    rows = [
        (one.name, one.scenario, _settings(one.set), " ".join(one.kernels or ()), " ".join(one.preempt or ()))
        for one in matrix.scenarios
    ]
    yield from _table(("row", "scenario", "set", "kernels", "preempt"), rows)


def _kernels(kernels: Mapping[str, KernelConfig]) -> Iterable[Part]:
    rows = [
        (key, " ".join(one.patches), " ".join(one.fragments), " ".join(one.config))
        for key, one in kernels.items()
    ]
    return _table(("kernel", "patches", "fragments", "config"), rows)


def _settings(values: Mapping[str, object]) -> str:
    return " ".join(f"{key}={value}" for key, value in values.items())


def _given(model: BaseModel) -> dict[str, Any]:
    """What the file says of it, without defaults."""
    return model.model_dump(exclude_unset=True)


def _facts(facts: Mapping[str, str]) -> list[Part]:
    width = max(map(len, facts))
    return [f"  {key.ljust(width)}  {value}" for key, value in facts.items() if value]


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[Part]:
    """A table after an empty line, without the columns in which nothing is; of no rows nothing."""
    filled = [column for column in zip(head, *rows, strict=True) if any(column[1:])]
    return ["", Table(list(zip(*filled, strict=True)))] if filled else []


def comment(path: Path) -> str:
    """What a built-in file says of itself: the comment below its licence."""
    _, *lines = path.read_text(encoding="utf-8").splitlines()
    return " ".join(line.lstrip("# ") for line in takewhile(lambda line: line.startswith("#"), lines))
