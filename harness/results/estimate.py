# SPDX-License-Identifier: GPL-2.0-only
"""How long trials will take: as long as those of this run, else as those that the store remembers."""

from __future__ import annotations

import contextlib
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from statistics import median

from harness.errors import HarnessError
from harness.results.database import opened

#: The newest trials of the store that are looked at, and how many of one kind count.
_LOOK = 2000
_COUNT = 20
#: A store that is being written to is not waited for, s.
_BUSY_S = 0.2

#: A scenario, and the kernel as tables show it ("": any).
Kind = tuple[str, str]


class Estimate:
    """What trials took, s, by their kind; newer ones count before older ones."""

    def __init__(self, past: Iterable[tuple[Kind, float]] = ()) -> None:
        """past: earlier trials, the newest first."""
        self._past = _sorted(past)
        self._now: list[tuple[Kind, float]] = []

    @classmethod
    def of(cls, store: Path | None) -> Estimate:
        """With what the store knows; nothing, if there is none or it cannot be read."""
        if store is None:
            return cls()
        with contextlib.suppress(HarnessError), opened(store, busy_s=_BUSY_S) as connection:
            rows = connection.execute(
                "SELECT t.scenario, k.name, t.seconds FROM trials t JOIN kernels k ON k.number = t.kernel "
                "ORDER BY t.begun DESC LIMIT ?",
                (_LOOK,),
            )
            return cls(((row[0], row[1]), row[2]) for row in rows)
        return cls()

    def add(self, kind: Kind, seconds: float) -> None:
        """A trial of this run is over."""
        self._now.insert(0, (kind, seconds))

    def left_s(self, kinds: Iterable[Kind]) -> float:
        """What such trials will take one after another, s; 0 if of one of them nothing is known."""
        now = _sorted(self._now)
        total = 0.0
        for scenario, kernel in kinds:
            for known, kind in (
                (now, (scenario, kernel)),
                (self._past, (scenario, kernel)),
                (now, (scenario, "")),
                (self._past, (scenario, "")),
            ):
                if kind in known:
                    total += median(known[kind])
                    break
            else:
                return 0.0
        return total


def _sorted(trials: Iterable[tuple[Kind, float]]) -> dict[Kind, list[float]]:
    """The newest of each kind, and of each scenario."""
    found: dict[Kind, list[float]] = defaultdict(list)
    for (scenario, kernel), seconds in trials:
        for kind in ((scenario, kernel), (scenario, "")):
            if len(found[kind]) < _COUNT:
                found[kind].append(seconds)
    return dict(found)
