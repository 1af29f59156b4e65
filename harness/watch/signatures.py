# SPDX-License-Identifier: GPL-2.0-only
"""The table of console messages (`signatures.yaml`), read once and compiled."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field

from harness.watch.kinds import OutcomeKind
from harness.yamlfile import FastLoader

TABLE = Path(__file__).resolve().parent / "signatures.yaml"

EventKind = Literal["hang", "splat", "oom", "reboot", "note"]
ReportEnd = Literal["trace", "quiet", "line"]


class _RowText(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    cls: str = Field(alias="class")
    outcome: OutcomeKind | None = None
    kind: EventKind
    report: ReportEnd
    part_of: tuple[str, ...] = ()
    needles: tuple[str, ...] = Field(min_length=1)
    regex: tuple[str, ...] = Field(min_length=1)
    title: str
    source: str
    examples: tuple[str, ...] = Field(min_length=1)


class _TableText(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    rows: tuple[_RowText, ...]
    non_events: tuple[str, ...]


@dataclass(frozen=True)
class Match:
    """A line recognised: its row, and the groups of the regex that matched (absent ones left out)."""

    row: Row
    groups: Mapping[str, str]

    @property
    def title(self) -> str:
        """The row's title with the groups filled in; `?` for what the line lost."""
        return self.row.title.format_map(_Gaps(self.groups))


class _Gaps(dict[str, str]):
    def __missing__(self, key: str) -> str:
        return "?"


@dataclass(frozen=True)
class Row:
    """One message a console can carry; the fields are described at the head of `signatures.yaml`."""

    cls: str
    outcome: OutcomeKind | None
    kind: EventKind
    report: ReportEnd
    part_of: frozenset[str]
    needles: tuple[str, ...]
    regexes: tuple[re.Pattern[str], ...]
    title: str
    source: str
    examples: tuple[str, ...]

    def match(self, text: str) -> Match | None:
        """The match of a line without its prefixes, by the best alternative that fits."""
        if not any(needle in text for needle in self.needles):
            return None
        for regex in self.regexes:
            found = regex.search(text)
            if found:
                return Match(self, {name: value for name, value in found.groupdict().items() if value})
        return None


@dataclass(frozen=True)
class Table:
    """All rows in order of precedence, and lines that no row may match."""

    rows: tuple[Row, ...]
    non_events: tuple[str, ...]
    #: Those of all rows: most lines have none of them, and need no closer look.
    needles: tuple[str, ...]

    def match(self, text: str) -> Match | None:
        """The first row that matches a line without its prefixes."""
        if not any(map(text.__contains__, self.needles)):
            return None
        for row in self.rows:
            found = row.match(text)
            if found:
                return found
        return None


@cache
def load_table() -> Table:
    """The packaged table."""
    text = _TableText.model_validate(yaml.load(TABLE.read_text(encoding="utf-8"), FastLoader))
    rows = tuple(
        Row(
            cls=row.cls,
            outcome=row.outcome,
            kind=row.kind,
            report=row.report,
            part_of=frozenset(row.part_of),
            needles=row.needles,
            regexes=tuple(re.compile(regex) for regex in row.regex),
            title=row.title,
            source=row.source,
            examples=row.examples,
        )
        for row in text.rows
    )
    return Table(rows, text.non_events, tuple(sorted({needle for row in rows for needle in row.needles})))
