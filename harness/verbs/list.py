# SPDX-License-Identifier: GPL-2.0-only
"""`hmm-harness list`: 0 if what was asked for is told, 2 if nothing has the name."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.config import builtin_experiments, load_experiment
from harness.display import Display
from harness.errors import UserError
from harness.kernel.patches import Catalogue
from harness.layout import Part, Table
from harness.matrix.model import builtin_matrices, matrix_named
from harness.results import SCHEMA
from harness.scenario.catalogue import load_scenario, scenario_names
from harness.suggest import did_you_mean
from harness.verbs.listed import comment, experiment_parts, matrix_parts, patch_parts, scenario_parts


def main(arguments: argparse.Namespace, display: Display) -> int:
    """Carry the verb out; its exit status."""
    asked = arguments.what
    one = asked is not None and asked not in KINDS
    if one:
        found = {kind: [asked] for kind in KINDS if asked in KINDS[kind].names()}
    else:
        found = {kind: KINDS[kind].names() for kind in ([asked] if asked else KINDS)}
    if not found:
        raise UserError(
            f"nothing is called {asked!r}{did_you_mean(asked, listed_words())}",
            hint=f"`hmm-harness list` has all names; NAME can also be {', '.join(KINDS)}",
        )
    if arguments.json:
        told = {kind: [KINDS[kind].as_json(name) for name in names] for kind, names in found.items()}
        print(json.dumps({"schema": SCHEMA, **told}))
        return 0
    parts: list[Part] = []
    for kind, names in ((KINDS[title], names) for title, names in found.items()):
        parts.append("")
        if one:
            parts += [f"{kind.singular} {asked}", *kind.parts(kind.load(asked), asked)]
        else:
            rows = [(name, kind.about(kind.load(name), name)["title"]) for name in names]
            parts.append(Table([(kind.singular, "is"), *rows], indent=0))
    display.result(*parts[1:])
    return 0


def listed_words() -> list[str]:
    """All that the verb takes, each once."""
    return [*KINDS, *dict.fromkeys(name for kind in KINDS.values() for name in kind.names())]


@dataclass(frozen=True)
class Kind:
    """What comes with the harness under a name: how it is found, and told of."""

    singular: str
    names: Callable[[], list[str]]
    load: Callable[[str], Any]
    #: Of one, with its name: what it is, at least its `title`; and all that is known of it.
    about: Callable[[Any, str], Mapping[str, str]]
    parts: Callable[[Any, str], Iterable[Part]]

    def as_json(self, name: str) -> dict[str, Any]:
        """All that is known of one."""
        one = self.load(name)
        return {"name": name, **self.about(one, name), **one.model_dump(mode="json")}


def _by_title(one: Any, name: str) -> dict[str, str]:
    return {"title": one.title}


def _of_files(
    singular: str,
    files: Callable[[], Mapping[str, Path]],
    load: Callable[[str], Any],
    parts: Callable[[Any, str], Iterable[Part]],
) -> Kind:
    """A kind whose files say in a comment what they are."""

    def about(one: Any, name: str) -> dict[str, str]:
        text = comment(files()[name])
        return {"title": text.partition(". ")[0].rstrip("."), "description": text}

    return Kind(singular, lambda: list(files()), load, about, parts)


KINDS: Mapping[str, Kind] = {
    "scenarios": Kind("scenario", scenario_names, load_scenario, _by_title, scenario_parts),
    "patches": Kind(
        "patch",
        lambda: Catalogue.load().ids,
        lambda name: Catalogue.load().entry(name),
        _by_title,
        patch_parts,
    ),
    "experiments": _of_files("experiment", builtin_experiments, load_experiment, experiment_parts),
    "matrices": _of_files("matrix", builtin_matrices, matrix_named, matrix_parts),
}
