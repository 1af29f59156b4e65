# SPDX-License-Identifier: GPL-2.0-only
"""What a look into the guest's frozen memory said: recorded beside its raw events, and judged with them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from harness.disk import append_line
from harness.errors import UserError

#: `cycle`: every edge from kernel data; `partial`: a cycle with named gaps; `none`: nobody waits in a circle.
Proof = Literal["cycle", "partial", "none"]

EXAMINATIONS = "examinations.jsonl"


@dataclass(frozen=True)
class Examination:
    """The guest was frozen, its memory read, and the waiters followed.

    `host_s`: when the answer was there, s since power-on; `since_s`: the last sign of progress before.
    """

    host_s: float
    since_s: float
    proof: Proof
    #: One line for a table.
    title: str
    #: The spinner's functions, innermost first.
    frames: tuple[str, ...] = ()
    #: The cycle, or the longest chain, as a person pastes it into a mail.
    text: tuple[str, ...] = ()
    #: What is missing between `partial` and `cycle`.
    gaps: tuple[str, ...] = ()
    #: The page table's entry that the spinner faults on, `device private` or `device private (PMD)`; empty:
    #: nobody spins on one, or the record is of before there was this.
    entry: str = ""

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Examination:
        """What `as_json` gave."""
        lists = {name: tuple(value[name]) for name in ("frames", "text", "gaps")}
        return cls(**{**value, **lists})


def record_examination(folder: Path, examination: Examination) -> None:
    """Append to the trial's record. InfraError if the disk does not take it."""
    append_line(folder / EXAMINATIONS, json.dumps(examination.as_json(), ensure_ascii=False))


def recorded_examinations(folder: Path) -> Iterator[Examination]:
    """Those of a trial's folder, in order; UserError for a damaged record."""
    path = folder / EXAMINATIONS
    if not path.is_file():
        return
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        try:
            yield Examination.from_json(json.loads(line))
        except (ValueError, TypeError, KeyError) as error:
            raise UserError(f"{path}:{number}: no examination: {error}") from error
