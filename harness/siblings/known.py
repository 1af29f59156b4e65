# SPDX-License-Identifier: GPL-2.0-only
"""Hits of the rule that somebody has read, and what became of it (`known.yaml`)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from harness.yamlfile import load_yaml

TABLE = Path(__file__).resolve().parent / "known.yaml"

Judgement = Literal["bug", "harmless"]


class Known(BaseModel):
    """One place that was read, and the reason for its verdict.

    tries: the line that tries the lock, its blanks aside. as_long_as: what its function must still contain.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    file: str
    function: str
    tries: str = Field(min_length=1)
    verdict: Judgement
    why: str = Field(min_length=1)
    as_long_as: str = ""


class _Listing(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    hits: tuple[Known, ...]


@dataclass(frozen=True)
class KnownHits:
    """What is written up."""

    hits: tuple[Known, ...]

    @classmethod
    def load(cls, path: Path = TABLE) -> KnownHits:
        """Read the table. UserError with all mistakes in it."""
        return cls(load_yaml(path, _Listing).hits)

    def of(self, file: str, function: str, tries: str, body: str) -> Known | None:
        """What is known of a place; another attempt in the same function is another place.

        body: the function as it is in this tree.
        """
        wanted = (file, function, _plain(tries))
        for hit in self.hits:
            if (hit.file, hit.function, _plain(hit.tries)) == wanted and hit.as_long_as in body:
                return hit
        return None


def _plain(line: str) -> str:
    return " ".join(line.split())
