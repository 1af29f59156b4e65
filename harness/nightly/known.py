# SPDX-License-Identifier: GPL-2.0-only
"""Failures that somebody knows of already: their file, and which failure is one of them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Annotated

from pydantic import Field, field_validator, model_validator

from harness.config import Frozen
from harness.errors import UserError
from harness.results.night import NightCell
from harness.scenario.catalogue import load_scenario
from harness.yamlfile import load_yaml


class KnownIssue(Frozen):
    """One failure, with who looks after it and until when that is good enough."""

    #: How the failure's signature begins, up to the end of a frame, as `warning < mark_buffer_dirty`.
    signature: Annotated[str, Field(min_length=3)]
    #: Only in this scenario; empty: in any. So with the tree, by its name in the night's file.
    scenario: str = ""
    tree: str = ""
    since: date
    link: Annotated[str, Field(pattern=r"^\S+$")]
    #: From this day on it is a failure like any other.
    expires: date

    @field_validator("scenario")
    @classmethod
    def _known(cls, name: str) -> str:
        if name:
            try:
                load_scenario(name)
            except UserError as error:
                raise ValueError(error.message) from None
        return name

    @model_validator(mode="after")
    def _in_order(self) -> KnownIssue:
        if self.expires <= self.since:
            raise ValueError(f"it expires ({self.expires}) before it begins ({self.since})")
        return self

    def covers(self, cell: NightCell) -> bool:
        """Whether it is about failures of this cell at all."""
        return self.scenario in ("", cell.scenario) and self.tree in ("", cell.tree)

    def is_in(self, cell: NightCell, signature: str) -> bool:
        """Whether it is this failure."""
        same = signature == self.signature or signature.startswith(f"{self.signature} < ")
        return same and self.covers(cell)

    def trials_of(self, cell: NightCell) -> int:
        """In how many of a cell's trials it showed."""
        return sum(each.trials for each in cell.failures if self.is_in(cell, each.shown))

    def __str__(self) -> str:
        return f"{self.signature}{f' in {self.scenario}' if self.scenario else ''} ({self.link})"


class _File(Frozen):
    issues: Annotated[tuple[KnownIssue, ...], Field(strict=False)]


@dataclass(frozen=True)
class Known:
    """All of a file, as of a day."""

    issues: tuple[KnownIssue, ...] = ()
    day: date = date.min

    @classmethod
    def load(cls, path: Path, day: date) -> Known:
        """Read a file. UserError with every defect, by its line."""
        return cls(load_yaml(path, _File).issues, day)

    @property
    def valid(self) -> tuple[KnownIssue, ...]:
        """Those that have not expired."""
        return tuple(issue for issue in self.issues if self.day < issue.expires)

    @property
    def expired(self) -> tuple[KnownIssue, ...]:
        """Those that have."""
        return tuple(issue for issue in self.issues if self.day >= issue.expires)

    def issue_of(self, cell: NightCell, signature: str) -> KnownIssue | None:
        """The valid entry that a failure is; None if it is none."""
        return first(self.valid, cell, signature)


def first(issues: Iterable[KnownIssue], cell: NightCell, signature: str) -> KnownIssue | None:
    """The first of these that a failure is."""
    return next((issue for issue in issues if issue.is_in(cell, signature)), None)
