# SPDX-License-Identifier: GPL-2.0-only
"""A trial watched again from its folder: what was observed live comes out, looks into the memory included."""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterator, Sequence
from pathlib import Path

from harness.target.protocol import RawEvent
from harness.target.recording import replay
from harness.watch.examination import Examination, recorded_examinations
from harness.watch.observation import Observation
from harness.watch.symbols import SymbolTable
from harness.watch.thresholds import Thresholds
from harness.watch.watcher import Watcher


def recorded_observations(
    folder: Path,
    thresholds: Thresholds,
    symbols: SymbolTable | None = None,
    spin_functions: Sequence[str] = (),
    until_s: float = math.inf,
) -> tuple[Observation, ...]:
    """What a `Watcher` of these arguments observed of the trial recorded in `folder`.

    `until_s`: the watcher was closed then, s since power-on; what came later was not watched. UserError if
    there is no record, or if it is damaged.
    """
    watcher = Watcher(thresholds, symbols, spin_functions)
    happened: Iterator[RawEvent | Examination] = replay(folder)  # a console may be larger than the memory
    for item in heapq.merge(happened, recorded_examinations(folder), key=lambda item: item.host_s):
        if item.host_s > until_s:
            break
        if isinstance(item, Examination):
            watcher.examined(item)
        else:
            watcher.observe(item)
    if math.isfinite(until_s):
        watcher.tick(until_s)
    watcher.close()
    return watcher.observations
