# SPDX-License-Identifier: GPL-2.0-only
"""Two nights over a real history: the second has the bug, and bisects it by itself."""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import kcidb_io
import pytest

from harness.config import load_experiment
from harness.experiment.kernels import get_tree
from harness.experiment.options import Workshop
from harness.results.runfolder import read_record
from tests.unit.schemas import folder_defects
from tests.vm.conftest import HARNESS, Ran, harness, qemu_of
from tests.vm.history import MadeHistory, make_history

pytestmark = pytest.mark.vm

FILE = """\
budget_minutes: 30
auto_bisect: true
trees:
  story: {tree: {kind: git, url: "%s", revision: %s}}
matrices:
  seven:
    control: unfixed
    kernels:
      unfixed: {patches: [x86-preempt-choice, trylock-starvation/without-wait]}
      fixed: {patches: [x86-preempt-choice]}
    scenarios:
      - {scenario: trylock-starvation, set: {iterations: 5}}
    trials: 2
selftest: {cases: [panic]}
"""


@dataclass(frozen=True)
class Nights:
    """Both, and what the bisection came to."""

    made: MadeHistory
    parent: str
    first: Ran
    second: Ran
    bisected: dict[str, Any]
    out: Path


@pytest.fixture(scope="module")
def nights(workshop: Workshop, tmp_path_factory: pytest.TempPathFactory) -> Nights:
    made = make_history(get_tree(load_experiment("linux-7").tree, workshop), workshop.cache)
    place = tmp_path_factory.mktemp("nights")
    file, out, store = place / "story.yaml", place / "runs", place / "store.sqlite"
    asked = ["git", f"--git-dir={made.repository}", "rev-parse", f"{made.culprit}^"]
    parent = subprocess.run(asked, capture_output=True, text=True, check=True).stdout.strip()

    def night(tip: str) -> Ran:
        file.write_text(FILE % (made.repository, tip))
        return harness("nightly", str(file), "--json", "--store", str(store), out=out)

    first, second = night(parent), night(made.culprit)
    assert second.status == 1, second.err
    (bisected,) = out.glob("*-bisect*")
    return Nights(made, parent, first, second, read_record(bisected)["result"], out)


def test_a_clean_night_is_followed_by_one_with_the_bug(nights: Nights) -> None:
    assert nights.first.status == 0, nights.first.err
    assert nights.first.json["verdict"] == "nothing_new" and nights.first.json["compared"] == []
    done = nights.second.json
    rates = {cell["kernel"]: (cell["reproduced"], cell["judged"]) for cell in done["cells"]}
    assert rates == {"unfixed": (2, True), "fixed": (2, True)}
    (finding,) = done["findings"]
    assert (finding["kind"], finding["good"]) == ("new_failure", nights.parent)
    assert finding["bad"] == nights.made.culprit and "hmm_range_fault" in finding["signature"]


def test_the_suggested_command_is_run_and_finds_the_commit(nights: Nights) -> None:
    assert nights.bisected["culprit"] == nights.made.culprit and nights.bisected["checked"]
    (finding,) = nights.second.json["findings"]
    assert finding["bisected"].startswith(f"culprit: {nights.made.culprit[:12]} ")
    assert f"(see {nights.bisected['evidence']})" in finding["bisected"]
    assert f"--good {nights.parent} --bad {nights.made.culprit}" in finding["bisect"]


def test_the_night_goes_to_kernelci_with_its_commit(nights: Nights) -> None:
    folder = nights.second.json["evidence"]
    ran = subprocess.run([HARNESS, "export", folder, "--format", "kcidb"], capture_output=True, check=True)
    report = json.loads(ran.stdout)
    kcidb_io.schema.V5_3.validate(report)
    assert {one["git_commit_hash"] for one in report["checkouts"]} == {nights.made.culprit}
    assert [test["status"] for test in report["tests"]] == ["FAIL"] * 4


def test_every_folder_is_as_described_and_nothing_runs_on(nights: Nights) -> None:
    folders = [path for path in nights.out.iterdir() if path.is_dir()]
    verbs = sorted(read_record(folder)["verb"] for folder in folders)
    assert verbs == ["bisect", *["matrix"] * 2, *["nightly"] * 2, *["selftest"] * 2]
    assert [defect for folder in folders for defect in folder_defects(folder)] == []
    assert qemu_of(nights.out) == []
