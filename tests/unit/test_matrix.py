# SPDX-License-Identifier: GPL-2.0-only
"""A matrix: its file, its plan (what is run, in which order, and what not, and why), and its tables."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from harness.arguments import experiment_named
from harness.cli import main
from harness.errors import UserError
from harness.kernel.product import BuildRequest
from harness.kernel.spec import KernelTree
from harness.matrix.model import (
    MATRIX,
    Matrix,
    builtin_matrices,
    matrix_for,
    matrix_named,
    restricted,
    write_matrix,
)
from harness.matrix.plan import Cell, PlannedKernel, build_order, plan_cells
from harness.matrix.report import matrix_result
from harness.matrix.session import CellResult
from harness.results.matrix import MatrixResult
from harness.results.report import report_text
from harness.results.runfolder import EXPERIMENT, TrialResult, write_experiment
from harness.results.tables import matrix_markdown
from harness.watch.kinds import OutcomeKind
from tests.unit.schemas import defects

GOOD = """\
versions: ">=7.0"
kernels:
  unfixed: {patches: [x86-preempt-choice, trylock-starvation/without-wait]}
  hack: {patches: [x86-preempt-choice, trylock-starvation/without-wait, trylock-starvation/entry-wait-hack]}
  shipped: {}
scenarios:
  - trylock-starvation
  - {scenario: trylock-starvation-forced, label: work, set: {window: work}, preempt: [none], trials: 1}
preempt: [none, lazy]
cpus: [1, 2]
trials: 2
exclude:
  - {scenarios: [work], kernels: [hack], why: it says nothing}
"""
CHOICE = frozenset({"none", "voluntary", "full"})
LAZY = frozenset({"full", "lazy"})


def read(folder: Path, text: str) -> Matrix:
    path = folder / "mine.yaml"
    path.write_text(text)
    return matrix_named(str(path))


def planned(matrix: Matrix, **configs: str) -> dict[str, PlannedKernel]:
    """The matrix's kernels as 7.3 would have them: lazy without the enabler, and another configuration."""
    request = BuildRequest(KernelTree(Path("/nowhere"), "7.3.4", "i", "Linux 7.3.4", "o"), (), ())
    found = {}
    for name, kernel in matrix.kernels.items():
        models = CHOICE if "x86-preempt-choice" in kernel.patches else LAZY
        config = configs.get(name, ", ".join(sorted(models)))
        found[name] = PlannedKernel(name, "7.3.4", request, config, models)
    return found


def trial(cell: Cell, index: int, kind: OutcomeKind, **more: Any) -> TrialResult:
    given = {"title": "t", "signature": "", "is_bug": False, "windows": 1, "iterations": 1, "seconds": 2.0}
    place = {"preempt": cell.preempt, "folder": f"trials/{index:03d}-{cell.arm}"}
    return TrialResult(arm=cell.arm, index=index, seed=index, kind=kind, **{**given, **place, **more})


def result_of(matrix: Matrix, found: Sequence[CellResult]) -> MatrixResult:
    facts = {
        "tree": "Linux 7.3.4",
        "guest": "microvm",
        "day": "2026-11-29",
        "reproduce": "hmm-harness matrix",
        "evidence": "runs/1",
    }
    done = matrix_result(matrix, found, seconds=61.0, **facts)
    record = {"schema": 1, "state": "finished", "verb": "matrix", "seconds": 61.0, "reproduce": ""}
    assert defects("run", {**record, "result": done.model_dump(mode="json")}) == []
    return done


# The file


def test_every_error_of_a_file_is_reported_at_once_with_its_line(tmp_path: Path) -> None:
    text = GOOD.replace("- trylock-starvation\n", "- trylock-starvatoin\n").replace("work}", "wrok}")
    text = text.replace("cpus: [1, 2]", "cpus: [1, 99]") + "boot: {preempt: none}\ntrails: 3\n"
    with pytest.raises(UserError) as caught:
        read(tmp_path, text)
    message = caught.value.message
    assert "mine.yaml:7: scenarios" in message and "did you mean trylock-starvation" in message
    assert "mine.yaml:8: scenarios" in message and "window=wrok" in message
    assert "mine.yaml:10: cpus" in message
    assert "mine.yaml:14: boot" in message and "a list of them" in message
    assert "mine.yaml:15: trails" in message


@pytest.mark.parametrize(
    ("good", "bad", "said"),
    [
        ("kernels: [hack]", "kernels: [hakc]", r"exclude names the kernel hakc.*did you mean hack\?"),
        ("label: work", "label: trylock-starvation", "two scenarios are called trylock-starvation"),
        ("  shipped: {}", "  ../shipped: {}", r"mine.yaml:5: kernels"),
        ("entry-wait-hack]", "entry-wait-hakc]", r"kernels.hack.patches.*did you mean"),
    ],
    ids=["exclusion", "label", "name", "patch"],
)
def test_what_a_file_names_must_be_there_and_be_told_apart(
    tmp_path: Path, good: str, bad: str, said: str
) -> None:
    assert good in GOOD
    with pytest.raises(UserError, match=said):
        read(tmp_path, GOOD.replace(good, bad))


def test_a_kept_matrix_is_read_as_it_was(tmp_path: Path) -> None:
    matrix = read(tmp_path, GOOD)
    write_matrix(tmp_path, matrix)
    assert matrix_named(str(tmp_path / MATRIX)) == matrix
    write_experiment(tmp_path, matrix.as_experiment())
    assert experiment_named(str(tmp_path / EXPERIMENT)).kernels == matrix.kernels


def test_a_matrix_on_a_box(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "lab1.yaml").write_text("name: lab1\nssh: {hots: 127.0.0.1}\n")
    matrix = read(
        tmp_path, GOOD.replace("label: work,", "label: work, clock: virtual,") + "target: lab1.yaml\n"
    )
    assert matrix.target == matrix.as_experiment().target == str(tmp_path / "lab1.yaml")
    reasons = {cell.arm: cell.reason for cell in plan_cells(matrix, planned(matrix))}
    assert reasons["work.unfixed.none.2"] == "the virtual clock needs QEMU, not a box"
    assert reasons["trylock-starvation.unfixed.none.2"] == ""
    with pytest.raises(UserError, match=r"a target is no QEMU: leave out boot\.clock"):
        read(tmp_path, GOOD + "target: lab1.yaml\nboot: {machine: q35}\n")
    words = ["matrix", "--target", str(tmp_path / "lab1.yaml"), "--out", str(tmp_path)]
    assert main([*words, "--cache", str(tmp_path / "cache")]) == 2
    assert "lab1.yaml:2: ssh.hots: unknown key" in capsys.readouterr().err
    assert main([*words, "--resume", str(tmp_path)]) == 2


@pytest.mark.parametrize("name", sorted(builtin_matrices()))
def test_the_builtin_matrices_are_for_kernels_their_patches_are_for(name: str) -> None:
    matrix = matrix_named(name)
    assert matrix.versions and len(matrix.kernels) > 1


def test_a_builtin_one_fits_the_tree() -> None:
    assert matrix_for("7.3.4")[0] == "fixes-7"
    with pytest.raises(UserError, match=r"no built-in matrix for kernel 5\.10"):
        matrix_for("5.10")


def test_rows_are_chosen_with_all_that_refers_to_them(tmp_path: Path) -> None:
    matrix = restricted(read(tmp_path, GOOD), ["work"], ["unfixed", "shipped"])
    assert list(matrix.kernels) == ["unfixed", "shipped"]
    assert [entry.name for entry in matrix.scenarios] == ["work"]
    assert matrix.exclude == ()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--kernel", "landde"], "did you mean landed"),
        (["--scenario", "rcae"], "did you mean race"),
        (["--trials", "0"], "trials"),
        (["--tree", "debain"], "cannot read the tree"),
        (["no-such-file.yaml"], "no matrix 'no-such-file.yaml'"),
        (["--resume", "/nonexistent"], "cannot read"),
    ],
)
def test_bad_input_is_refused_before_anything_is_fetched(
    words: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["matrix", *words, "--out", str(tmp_path), "--cache", str(tmp_path / "cache")]) == 2
    assert said in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


# The plan


def test_cells_that_cannot_be_are_listed_with_the_reason(tmp_path: Path) -> None:
    matrix = read(tmp_path, GOOD)
    cells = {cell.arm: cell for cell in plan_cells(matrix, planned(matrix))}
    assert len(cells) == 3 * (2 * 2 + 2)
    assert cells["trylock-starvation.unfixed.none.2"].reason == ""
    assert "no preempt=lazy on this kernel" in cells["trylock-starvation.unfixed.lazy.2"].reason
    assert cells["trylock-starvation.shipped.lazy.2"].reason == ""
    assert "no preempt=none" in cells["work.shipped.none.2"].reason
    assert "needs 2 CPUs" in cells["trylock-starvation.unfixed.none.1"].reason
    assert cells["work.hack.none.2"].reason == "left out: it says nothing"
    assert cells["work.unfixed.none.2"].trials == 1 and "work.unfixed.lazy.2" not in cells


def test_a_patch_that_does_not_apply_takes_its_row_only(tmp_path: Path) -> None:
    matrix = read(tmp_path, GOOD)
    kernels = planned(matrix)
    kernels["hack"] = PlannedKernel("hack", "7.3.4", None, reason="entry-wait-hack does not apply")
    reasons = {cell.kernel: cell.reason for cell in plan_cells(matrix, kernels) if cell.entry.name != "work"}
    assert reasons["hack"] == "entry-wait-hack does not apply"
    kernels |= {name: PlannedKernel(name, "7.3.4", None, reason="it does not") for name in kernels}
    with pytest.raises(UserError, match=r"no cell of the matrix can be run: .*it does not"):
        plan_cells(matrix, kernels)


def test_kernels_of_one_configuration_are_built_one_after_the_other(tmp_path: Path) -> None:
    text = GOOD.replace("  hack:", "  other: {config: [CONFIG_HZ_1000=y]}\n  hack:")
    matrix = read(tmp_path, text)
    kernels = planned(matrix, other="CONFIG_HZ_1000=y")
    assert build_order(kernels) == ["unfixed", "hack", "other", "shipped"]
    order = [cell.kernel for cell in plan_cells(matrix, kernels)]
    assert order == sorted(order, key=build_order(kernels).index)


# What it came to


def cells_of(tmp_path: Path) -> tuple[Matrix, MatrixResult]:
    """The bug on one kernel, another failure on the next, nothing to run on the third."""
    matrix = read(tmp_path, GOOD)
    found = []
    for cell in plan_cells(matrix, planned(matrix)):
        if cell.reason:
            found.append(CellResult(cell, "not applicable", (), cell.reason))
        elif cell.kernel == "unfixed":
            bug = trial(cell, 1, OutcomeKind.LIVELOCK, signature="livelock < hmm_range_fault", is_bug=True)
            clean = trial(cell, 2, OutcomeKind.COMPLETED, metrics={"wait": 4.0})
            found.append(CellResult(cell, "done", (bug, clean)[: cell.trials]))
        elif cell.kernel == "hack":
            spin = trial(cell, 1, OutcomeKind.SOFT_LOCKUP, signature="soft_lockup < migration_entry_wait")
            found.append(CellResult(cell, "done", (spin,) * cell.trials))
        else:
            found.append(CellResult(cell, "failed", (), "it does not compile"))
    return matrix, result_of(matrix, found)


def test_the_object_counts_and_names_what_failed(tmp_path: Path) -> None:
    _, result = cells_of(tmp_path)
    values = result.model_dump(mode="json")
    assert MatrixResult.model_validate(values) == result and values["schema"] == 1
    cells = {(c["label"], c["kernel"], c["preempt"], c["cpus"]): c for c in values["cells"]}
    unfixed = cells[("trylock-starvation", "unfixed", "none", 2)]
    assert (unfixed["trials"], unfixed["outcomes"]) == (2, {"completed": 1, "livelock": 1})
    assert unfixed["rate"] == 0.5 and unfixed["ci95"] == pytest.approx([0.0126, 0.9874], abs=1e-4)
    assert unfixed["metrics"] == {"wait": 4.0} and len(unfixed["evidence"]) == 2
    hack = cells[("trylock-starvation", "hack", "none", 2)]
    assert (hack["reproduced"], hack["failed_otherwise"]) == (0, 2)
    assert hack["failures"][0]["signature"] == "soft_lockup < migration_entry_wait"
    assert not values["complete"]


def test_a_failure_swapped_for_another_is_told_apart(tmp_path: Path) -> None:
    _, result = cells_of(tmp_path)
    markdown = matrix_markdown(result)
    rows = [line.split(" | ") for line in markdown.splitlines() if line.startswith("| hack |")]
    assert rows[1][1].startswith("**2/2** another failure [")
    assert any("**2/2 soft_lockup, another failure** [" in cell for row in rows for cell in row)
    assert "another failure than the scenario's own: soft_lockup < migration_entry_wait" in markdown
    assert "| unfixed | **1/2** the bug | **1/1** the bug |" in markdown
    assert "it does not compile" in markdown and "left out: it says nothing" in markdown
    assert "waits for itself" in markdown  # what was said against it


def test_a_finished_matrix_is_shown_from_its_record(tmp_path: Path) -> None:
    _, result = cells_of(tmp_path)
    text = report_text("matrix", result.model_dump(mode="json"), [], tmp_path)
    assert "1/2 livelock, 1/2 completed" in text and "**" not in text


def test_metrics_are_also_multiples_of_one_kernels(tmp_path: Path) -> None:
    matrix = read(tmp_path, GOOD + "relative_to: unfixed\n")
    cells = [c for c in plan_cells(matrix, planned(matrix)) if c.entry.name == "work" and not c.reason]
    other = Cell(cells[0].entry, cells[0].scenario, "hack", "none", 2, 1)
    found = [
        CellResult(cell, "done", (trial(cell, 1, OutcomeKind.COMPLETED, metrics={"wait": wait}),))
        for cell, wait in ((cells[0], 4.0), (other, 10.0))
    ]
    assert "| hack | 10 (2.50x) |" in matrix_markdown(result_of(matrix, found))
