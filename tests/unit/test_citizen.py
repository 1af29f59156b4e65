# SPDX-License-Identifier: GPL-2.0-only
"""The night that tries the module on a debug kernel fits its trials to the kernel."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest

NIGHTLY = Path(__file__).resolve().parents[2] / "ci" / "nightly"


def test_the_widest_scenario_runs_under_each_model_and_no_trial_hides_another(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.syspath_prepend(str(NIGHTLY))
    samples = importlib.import_module("citizen").samples
    for version, huge_pages in (("6.12.117", "split"), ("7.3.4", "move")):
        night = list(samples(100_000, version))
        fuzz = [sample for sample in night if sample.scenario == "ioctl-fuzz"]
        assert sum(sample.set["calls"] for sample in fuzz) == 100_000
        assert {sample.set["huge_pages"] for sample in fuzz} == {huge_pages}
        assert [sample.preempt for sample in night if sample.scenario == "churn"] == ["none", "full"]
        # What a trial's row is found by, and what tells why there is none.
        assert len({(sample.scenario, sample.seed) for sample in night}) == len(night)
        assert len({sample.name for sample in night}) == len(night)
