# SPDX-License-Identifier: GPL-2.0-only
"""A real history, bisected with real builds and boots, and killed on the way."""

from __future__ import annotations

import os
import random
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from harness.config import load_experiment
from harness.experiment.kernels import get_tree
from harness.experiment.options import Workshop
from harness.results.runfolder import read_record
from harness.scenario.catalogue import load_scenario
from tests.vm.bisecting import Bisected, bisect, words_for, wrong_verdicts
from tests.vm.conftest import qemu_of
from tests.vm.history import MadeHistory, make_history

pytestmark = pytest.mark.vm

KILLS = 3


@dataclass(frozen=True)
class Done:
    """The bisection of the session, and the repository before and after it."""

    made: MadeHistory
    ran: Bisected
    result: dict[str, Any]
    out: Path
    before: dict[str, tuple[int, int]]
    after: dict[str, tuple[int, int]]


def files_of(repository: Path) -> dict[str, tuple[int, int]]:
    """Size and time of the last change (ns) of every file and folder below a repository."""
    found = {}
    for path in sorted(repository.rglob("*")):
        facts = path.lstat()
        found[str(path)] = (facts.st_size, facts.st_mtime_ns)
    return found


@pytest.fixture(scope="module")
def done(workshop: Workshop, tmp_path_factory: pytest.TempPathFactory) -> Done:
    made = make_history(get_tree(load_experiment("linux-7").tree, workshop), workshop.cache)
    seed = int.from_bytes(os.urandom(4), "big")
    draw = random.Random(seed)
    moments_s = [draw.uniform(2.0, 30.0) for _ in range(KILLS)]
    workshop.progress.note(f"bisecting, killed after {', '.join(f'{s:.1f} s' for s in moments_s)} ...")
    out = tmp_path_factory.mktemp("bisect")
    before = files_of(made.repository)
    ran = bisect(words_for(made), out, moments_s)
    assert ran.status == 0, ran.err
    return Done(made, ran, ran.json, out, before, files_of(made.repository))


def is_finished(trial: Path) -> bool:
    return bool(read_record(trial)["state"] == "finished")


def entries(done: Done, commits: frozenset[str]) -> list[dict[str, Any]]:
    return [entry for entry in done.result["tested"] if entry["commit"] in commits]


def test_the_culprit_is_named_and_checked(done: Done) -> None:
    result = done.result
    assert result["schema"] == 1 and result["method"] == "classic"
    assert wrong_verdicts(done.made, result) == []
    assert result["suspects"] == [done.made.culprit] and result["confidence"] >= 0.99
    assert result["checked"] and result["reverted"]["fails"] is False
    assert result["builds"] >= 0 and result["seconds"] > 0
    tested = {entry["commit"]: entry for entry in result["tested"]}
    assert len(tested) == len(result["tested"]), "a kernel is listed once"
    culprit, bad, good = tested[done.made.culprit], tested[done.made.bad], tested[done.made.good]
    assert culprit["verdict"] == "bad" and culprit["reproduced"] >= 1
    assert bad["verdict"] == "bad" and bad["reproduced"] >= 10
    assert good["verdict"] == "good" and good["reproduced"] == 0 and good["trials"] > 1


def test_what_does_not_compile_or_fails_otherwise_is_skipped_with_its_reason(done: Done) -> None:
    """Which of them the search comes by depends on what builds and trials cost on this machine."""
    unbuildable, failing = entries(done, done.made.unbuildable), entries(done, done.made.failing)
    assert unbuildable or failing, "the search came by none of those"
    assert all(entry["verdict"] == "skip" for entry in (*unbuildable, *failing))
    assert all("upper_range" in entry["reason"] and entry["trials"] == 0 for entry in unbuildable)
    for entry in failing:
        assert "another way" in entry["reason"] and entry["reproduced"] == 0 and entry["trials"] >= 1
        record = read_record(Path(done.result["evidence"]) / entry["evidence"][0])
        assert record["result"]["outcome"] == "warning" and not record["result"]["is_bug"]


def test_killed_it_goes_on_and_repeats_no_finished_trial(done: Done) -> None:
    assert done.ran.kills == KILLS and done.ran.again == ()
    (folder,) = done.out.iterdir()
    assert folder == Path(done.result["evidence"]) and read_record(folder)["state"] == "finished"
    assert qemu_of(done.out) == []
    trials = [place for entry in done.result["tested"] for place in entry["evidence"]]
    finished = [f"trials/{path.name}" for path in (folder / "trials").iterdir() if is_finished(path)]
    assert sorted(trials) == sorted(finished)


def test_the_users_repository_is_only_read(done: Done) -> None:
    assert done.before == done.after


def test_git_comes_to_the_same_from_the_log(done: Done, tmp_path: Path) -> None:
    log = Path(done.result["git_bisect_log"])
    clone = tmp_path / "clone"
    for words in (
        ["clone", "--quiet", "--shared", "--no-checkout", str(done.made.repository), str(clone)],
        ["-C", str(clone), "bisect", "replay", str(log)],
    ):
        ran = subprocess.run(["git", *words], capture_output=True, text=True, check=True)
    assert f"{done.made.culprit} is the first bad commit" in ran.stdout


def test_the_report_can_be_mailed(done: Done) -> None:
    text = Path(done.result["regression"]).read_text()
    assert f"#regzbot introduced: {done.made.culprit}" in text
    said = " ".join(text.split())
    assert text.startswith("Subject: [REGRESSION] ")
    assert f"Since commit {done.made.culprit[:12]} (" in said
    assert f"{load_scenario(done.result['scenario']).title}." in said
    bad = next(entry for entry in done.result["tested"] if entry["commit"] == done.made.bad)
    assert f"{bad['reproduced']} of {bad['trials']} trials fail" in said
