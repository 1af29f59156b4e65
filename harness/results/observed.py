# SPDX-License-Identifier: GPL-2.0-only
"""What was observed of a trial, from its folder: the same that it was judged by."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from harness.cache import default_cache_folder
from harness.config import BootConfig, validated
from harness.errors import UserError
from harness.judge import latest
from harness.results.reading import TrialRecord
from harness.scenario.catalogue import Scenario, load_scenario
from harness.watch.observation import Observation
from harness.watch.recorded import recorded_observations
from harness.watch.symbols import SymbolTable
from harness.watch.thresholds import Thresholds

#: The stall limit of a trial whose scenario is not in the catalogue, s.
_STALL_S = 30.0


def trial_observations(trial: TrialRecord) -> list[Observation]:
    """Everything until the trial was judged, in order, each console event once.

    Where the kernel is not in the cache any more, samples in it have no function names. UserError if the
    trial has no record of a guest, or a damaged one.
    """
    scenario = _scenario(str(trial.facts.get("scenario", "")))
    boot = _boot(trial.facts.get("boot", {}))
    limits = scenario.limits(boot) if scenario else Thresholds.of(_STALL_S, boot.watchdog_thresh_s)
    if boot.clock == "virtual":
        limits = replace(limits, stall_s=math.inf)
    until_s = trial.result.judged_until_s if trial.result else None
    return latest(
        recorded_observations(
            trial.folder,
            limits,
            _symbols(trial.facts.get("provenance", {})),
            scenario.oracle.spin_functions if scenario else (),
            math.inf if until_s is None else until_s,
        )
    )


def _scenario(name: str) -> Scenario | None:
    try:
        return load_scenario(name)
    except UserError:  # the self-test's, or one of another version of this program
        return None


def _boot(facts: Mapping[str, Any]) -> BootConfig:
    known = {name: value for name, value in facts.items() if name in BootConfig.model_fields}
    return validated(BootConfig, known, "boot")


def _symbols(provenance: Mapping[str, Any]) -> SymbolTable | None:
    entry = provenance.get("kernel", {}).get("entry", "")
    return _table(default_cache_folder() / entry / "System.map") if entry else None


@lru_cache(maxsize=4)
def _table(system_map: Path) -> SymbolTable | None:
    """All trials of an arm have the same; an entry of the cache does not change."""
    try:
        return SymbolTable.load(system_map)
    except UserError:
        return None
