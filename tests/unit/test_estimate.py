# SPDX-License-Identifier: GPL-2.0-only
"""How long trials will take: from this run, else from the store."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from harness.cache import Cache
from harness.config import load_experiment
from harness.experiment.compare import compare
from harness.experiment.options import Workshop
from harness.experiment.trial import Stage
from harness.results.database import opened
from harness.results.estimate import Estimate
from harness.results.runfolder import make_run_folder
from tests.unit.kernelroom import Notes
from tests.unit.runroom import RecordedTarget, comparison, kernel

HANG, FINE = ("trylock-starvation", "base-without-wait"), ("trylock-starvation", "base")


def test_what_this_run_took_counts_before_what_earlier_ones_took() -> None:
    estimate = Estimate([(HANG, 9.0), (HANG, 11.0), (HANG, 10.0)])
    assert estimate.left_s([HANG, HANG]) == 20.0
    estimate.add(HANG, 4.0)
    assert estimate.left_s([HANG, HANG]) == 8.0


def test_another_kernel_of_the_scenario_is_better_than_nothing_and_nothing_is_no_guess() -> None:
    estimate = Estimate([(HANG, 10.0)])
    assert estimate.left_s([FINE]) == 10.0
    assert estimate.left_s([HANG, ("churn", "base")]) == 0.0
    assert estimate.left_s([]) == 0.0


def test_the_store_knows_how_long_trials_took(tmp_path: Path) -> None:
    comparison(tmp_path / "runs", tmp_path / "room")
    store = tmp_path / "runs/store.sqlite"
    with opened(store) as connection:
        connection.execute("UPDATE trials SET seconds = CASE WHEN bug THEN 12.0 ELSE 3.0 END")
    assert Estimate.of(store).left_s([HANG, FINE]) == 15.0


def test_without_a_store_that_can_be_read_nothing_is_known(tmp_path: Path) -> None:
    (tmp_path / "store").write_text("no database")
    for store in (None, tmp_path / "missing", tmp_path / "store"):
        assert Estimate.of(store).left_s([HANG]) == 0.0


def test_a_comparison_says_how_long_it_will_take(tmp_path: Path) -> None:
    out = tmp_path / "runs"
    comparison(out, tmp_path / "room")  # the store knows now
    store = out / "store.sqlite"
    with opened(store) as connection:
        connection.execute("UPDATE trials SET seconds = 30.0")
    said: list[str] = []

    class Heard(Notes):
        def table(self, header: Sequence[str], rows: Sequence[Sequence[str]], running: str = "") -> None:
            said.append(running)

    workshop = Workshop(Cache(tmp_path / "room"), Heard(), store=store)
    experiment = load_experiment("linux-7").model_copy(update={"trials": 2, "memory_image_mb": 0})
    kernels = {arm: kernel(tmp_path / "room", arm) for arm in experiment.arms}
    folder = make_run_folder(out, experiment.scenario)
    stage = Stage(RecordedTarget("unfixed"), "microvm", "tcg")
    compare(experiment, kernels, stage, folder, workshop, "again")
    assert said[0] == "trial 1 of 4: unfixed, about 2 min left"
    # Those of this run, which play back at once, count for their kind from then on.
    assert "min left" not in said[-2]
