# SPDX-License-Identifier: GPL-2.0-only
"""The run folder: what its record says however the run ends, and which trials count again."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from harness.arguments import experiment_named
from harness.config import load_experiment
from harness.errors import InfraError, UserError
from harness.results.lock import alone_in, at_work
from harness.results.runfolder import (
    EXPERIMENT,
    TrialResult,
    arm_of,
    finished_trials,
    keep_patches,
    make_run_folder,
    open_record,
    read_record,
    write_experiment,
    write_record,
)
from harness.watch.kinds import OutcomeKind

RESULT = TrialResult(
    arm="fixed",
    index=2,
    seed=2,
    kind=OutcomeKind.COMPLETED,
    title="20 iterations, 18 windows hit",
    signature="",
    is_bug=False,
    windows=18,
    iterations=20,
    seconds=1.5,
    preempt="none",
    folder="trials/002-fixed",
    splat=("a", "b"),
)


def trial(folder: Path, **changes: Any) -> Path:
    """A finished trial below a run's folder."""
    place = folder / "trials" / "002-fixed"
    place.mkdir(parents=True)
    record = {"state": "finished", "arm": "fixed", "fingerprint": "f1", "result": RESULT.as_json(), **changes}
    write_record(place, record)
    return place


def test_a_result_survives_the_disk(tmp_path: Path) -> None:
    trial(tmp_path)
    assert finished_trials(tmp_path, {"fixed": "f1"}) == {("fixed", 2): RESULT}
    hung = replace(RESULT, kind=OutcomeKind.SOFT_LOCKUP, is_bug=True)
    assert TrialResult.from_json(hung.as_json()) == hung


def test_what_was_cut_short_is_left_out(tmp_path: Path) -> None:
    place = trial(tmp_path, state="interrupted")
    assert finished_trials(tmp_path, {"fixed": "f1"}) == {}
    (place / "run.json").write_text('{"schema": 1, "sta')
    assert finished_trials(tmp_path, {"fixed": "f1"}) == {}


def test_trials_of_another_kernel_are_never_mixed_in(tmp_path: Path) -> None:
    trial(tmp_path)
    with pytest.raises(UserError, match="ran another kernel, module or stressor"):
        finished_trials(tmp_path, {"fixed": "f2"})


@pytest.mark.parametrize(
    ("error", "state"), [(KeyboardInterrupt(), "interrupted"), (InfraError("no QEMU"), "failed")]
)
def test_a_record_tells_how_it_ended(tmp_path: Path, error: BaseException, state: str) -> None:
    with pytest.raises(type(error)), open_record(tmp_path, {"verb": "run"}):
        assert read_record(tmp_path)["state"] == "running"
        raise error
    record = read_record(tmp_path)
    assert record["state"] == state and record["verb"] == "run"
    assert record.get("error", "no QEMU") == "no QEMU"


def test_two_runs_of_one_second_have_two_folders(tmp_path: Path) -> None:
    assert len({make_run_folder(tmp_path, "x") for _ in range(3)}) == 3


def test_patches_are_evidence_too_and_the_folder_can_be_moved(tmp_path: Path) -> None:
    mail, folder = tmp_path / "fix.patch", tmp_path / "run"
    mail.write_text("--- a/x\n+++ b/x\n@@ -1 +1 @@\n-a\n+b\n")
    folder.mkdir()
    base = load_experiment("linux-7")
    arms = {**base.arms, "fixed": base.arms["fixed"].model_copy(update={"patches": (str(mail),)})}
    write_experiment(folder, keep_patches(folder, base.model_copy(update={"arms": arms})))
    mail.unlink()
    moved = folder.rename(tmp_path / "moved")
    again = experiment_named(str(moved / EXPERIMENT))
    (kept,) = again.arms["fixed"].patches
    assert Path(kept).parent == moved / "patches" and Path(kept).read_text().endswith("+b\n")
    assert again.kernels == base.kernels


def test_a_folder_has_one_master(tmp_path: Path) -> None:
    assert not at_work(tmp_path)
    with alone_in(tmp_path):
        assert at_work(tmp_path)
        with pytest.raises(UserError, match="another harness is at work"), alone_in(tmp_path):
            pass
    assert not at_work(tmp_path)
    with alone_in(tmp_path):
        pass


def test_names_as_folders_have_them() -> None:
    assert arm_of("05" * 20) == "05" * 6
    assert arm_of("0001-mm: a/b.patch") == "0001-mm--a-b.patch"
