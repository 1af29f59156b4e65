# SPDX-License-Identifier: GPL-2.0-only
"""A run that is to be the same as an earlier one, and what it must not differ in."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from harness.errors import UserError
from harness.results.reading import RunRecord


@dataclass(frozen=True)
class Repeats:
    """What the earlier run was made of; of a run that repeats none, nothing.

    fingerprints: of kernel, module and stressor, by arm.
    """

    folder: Path | None = None
    tree: str = ""
    fingerprints: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, run: RunRecord) -> Repeats:
        """What has to be the same as in `run`."""
        marks = {trial.arm: str(trial.facts.get("fingerprint", "")) for trial in run.trials}
        return cls(run.folder, run.tree, marks)

    @property
    def facts(self) -> dict[str, str]:
        """What the record of the repetition says."""
        return {"rerun_of": str(self.folder)} if self.folder else {}

    def check_tree(self, description: str) -> None:
        """UserError if the tree is another one by now."""
        if self.tree and description != self.tree:
            raise UserError(
                f"{self.folder} is of {self.tree}; the tree is {description} by now",
                hint="it cannot be repeated exactly: give its experiment.yaml to compare, with --tree",
            )

    def check(self, fingerprints: Mapping[str, str]) -> None:
        """UserError if an arm would run another kernel, module or stressor than it did."""
        for arm, mark in fingerprints.items():
            if self.fingerprints.get(arm, mark) != mark:
                raise UserError(
                    f"{arm} ran another kernel, module or stressor in {self.folder} than there is now",
                    hint="it cannot be repeated exactly: this program or the compiler has changed since",
                )


#: What most runs repeat.
NOTHING = Repeats()


def repeated(arguments: argparse.Namespace) -> Repeats:
    """What a verb was called to repeat; nothing, if it was called by a person."""
    found = getattr(arguments, "repeats", None)
    return found if isinstance(found, Repeats) else NOTHING
