# SPDX-License-Identifier: GPL-2.0-only
"""Old runs are made small and then removed; verdicts stay longest, and what somebody works on stays."""

from __future__ import annotations

import json
import os
import shutil
import time
from pathlib import Path

import pytest

from harness.cache import Cache
from harness.cacheuse import in_use
from harness.cli import main
from harness.results.lock import alone_in
from harness.results.runfolder import RECORD, read_record, write_record
from harness.results.store import feed
from tests.unit.kernelroom import mounted
from tests.unit.runroom import comparison, fill
from tests.unit.schemas import folder_defects

Capture = pytest.CaptureFixture[str]
#: The runs below, the newest first, and when they began; the first has just ended.
BEGUN = {"new": "", "older": "2025-11-01T00:00:00Z", "oldest": "2025-10-01T00:00:00Z"}

#: What the cache below has, how many days ago it was used, and whether it goes after 30.
CACHE = {"builds/a": 40, "builds/b": 1, "trees/debian": 40, "fetched/blobs/c": 40, "resolved/d": 40}


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    room = tmp_path_factory.mktemp("room")
    return comparison(room / "runs", room)[0]


@pytest.fixture
def runs(template: Path, tmp_path: Path) -> Path:
    """A folder of runs, and a store that knows them: `store.sqlite`."""
    for name, begun in BEGUN.items():
        folder = tmp_path / "runs" / name
        shutil.copytree(template, folder)
        record = read_record(folder)
        del record["schema"]
        write_record(folder, {**record, "id": name, "begun": begun or record["begun"]})
        feed(tmp_path / "store.sqlite", folder)
    return tmp_path / "runs"


def size(folder: Path) -> int:
    return sum(path.lstat().st_size for path in folder.rglob("*") if path.is_file())


def prune(runs: Path, *words: str) -> int:
    return main(["prune", "--store", str(runs.parent / "store.sqlite"), *words])


def test_evidence_goes_first_and_the_report_stays(runs: Path, capsys: Capture) -> None:
    before = size(runs / "older")
    assert prune(runs, "--keep", "1", "--json") == 0
    told = {Path(row["folder"]).name: row for row in json.loads(capsys.readouterr().out)["runs"]}
    assert [told[name]["fate"] for name in BEGUN] == ["kept", "evidence", "evidence"]
    assert told["older"]["freed_bytes"] > 100_000 and size(runs / "older") < before / 4
    assert (runs / "new" / "trials" / "001-fixed" / "console.log").is_file()
    left = {path.name for path in (runs / "older").rglob("*") if path.is_file()}
    assert left == {"run.json", "report.txt", "experiment.yaml", "config", "lock"}
    assert folder_defects(runs / "older") == []
    assert main(["show", str(runs / "older")]) == 0
    out, err = capsys.readouterr()
    report = (runs / "older" / "report.txt").read_text()
    assert out.strip().split("\n  evidence")[0] == report.strip().split("\n  evidence")[0]
    assert "the evidence was removed on 20" in err
    assert prune(runs, "--keep", "1") == 0
    assert "freed 0.0 MB of 0 runs" in capsys.readouterr().out, "a second time there is nothing to do"


def test_a_dry_run_says_the_same_and_touches_nothing(runs: Path, capsys: Capture) -> None:
    before = size(runs)
    assert prune(runs, "--keep", "1", "--keep-verdicts", "2", "--dry-run", "--json") == 0
    planned = json.loads(capsys.readouterr().out)
    assert size(runs) == before
    assert prune(runs, "--keep", "1", "--keep-verdicts", "2", "--json") == 0
    assert json.loads(capsys.readouterr().out) == planned
    assert [row["fate"] for row in planned["runs"]] == ["kept", "evidence", "all"]


def test_verdicts_go_last_and_out_of_the_store_too(runs: Path, capsys: Capture) -> None:
    store = str(runs.parent / "store.sqlite")
    assert prune(runs, "--keep-verdicts", "90d") == 0
    assert {path.name for path in runs.iterdir()} == {"new"}
    capsys.readouterr()
    assert main(["history", "--trials", "--json", "--store", store]) == 0
    assert {Path(row["folder"]).name for row in json.loads(capsys.readouterr().out)["trials"]} == {"new"}


def test_what_somebody_works_on_or_can_go_on_with_stays(runs: Path, capsys: Capture) -> None:
    record = read_record(runs / "oldest")
    del record["schema"]
    write_record(runs / "oldest", {**record, "state": "interrupted"})
    before = size(runs / "older"), size(runs / "oldest")
    with alone_in(runs / "older"):
        assert prune(runs, "--keep", "0") == 0
    shown = capsys.readouterr().out
    assert f"left alone: {runs}/older: somebody is at work there" in shown
    assert f"left alone: {runs}/oldest: it is interrupted and can go on" in shown
    assert (size(runs / "older"), size(runs / "oldest")) == before


def test_a_damaged_run_is_left_alone_and_named(runs: Path, capsys: Capture) -> None:
    (runs / "older" / RECORD).write_text("{")
    assert main(["prune", str(runs), "--keep", "0d", "--keep-verdicts", "0d"]) == 0
    assert "warning: left alone: cannot read" in capsys.readouterr().err
    assert {path.name for path in runs.iterdir()} == {"older"}


def test_a_disk_that_is_full_is_made_room_on(template: Path, tmp_path: Path, capsys: Capture) -> None:
    with mounted(tmp_path / "small", "2m") as disk:
        folder = Path(shutil.copytree(template, disk / "runs" / "old"))
        fill(disk)
        assert main(["prune", str(disk / "runs"), "--keep", "0"]) == 0
        assert "freed" in capsys.readouterr().out and not (folder / "repro").exists()
        assert read_record(folder)["pruned"] and folder_defects(folder) == []


def test_what_is_to_be_kept_has_to_be_said(runs: Path, capsys: Capture) -> None:
    assert prune(runs) == 2 and prune(runs, "--keep", "some") == 2
    said = capsys.readouterr().err
    assert "nothing says what is to be kept" in said and "cannot read 'some'" in said


def test_a_run_whose_folder_is_gone_is_shown_from_the_store(runs: Path, capsys: Capture) -> None:
    store = str(runs.parent / "store.sqlite")
    shutil.rmtree(runs / "older")
    assert main(["show", "older", "--store", store]) == 0
    out, err = capsys.readouterr()
    assert "verdict: inconclusive" in out and "is not there any more; this is from the store" in err
    assert main(["show", "older", "--store", store, "--trial", "1"]) == 2
    assert main(["export", "older", "--store", store, "--format", "jsonl"]) == 2


def test_runs_by_their_names(runs: Path, capsys: Capture) -> None:
    store = ["--store", str(runs.parent / "store.sqlite")]
    for name, folder in (("last", "new"), ("last~1", "older"), ("oldes", "oldest")):
        assert main(["export", name, *store, "--format", "jsonl"]) == 0
        assert json.loads(capsys.readouterr().out.splitlines()[0])["folder"] == str(runs / folder)
    for name, message in (
        ("olde", "is the beginning of 2 runs"),
        ("x", "no run 'x'"),
        ("/x", "no folder '/x'"),
    ):
        assert main(["show", name, *store]) == 2
        assert message in capsys.readouterr().err


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    cache = Cache(tmp_path / "cache")
    for name, days in CACHE.items():
        file = cache.folder(name) / "file" if name.count("/") == 1 else cache.folder("fetched/blobs") / "c"
        file.write_bytes(b"x" * 100_000)
        os.utime(cache.root / name, times=(0, time.time() - days * 86400))
    return cache


def left(cache: Cache) -> set[str]:
    return {name for name in CACHE if (cache.root / name).exists()}


def test_what_of_the_cache_nobody_used_for_long_goes(cache: Cache, runs: Path, capsys: Capture) -> None:
    words = ("--cache", str(cache.root), "--keep-cache", "30d")
    assert prune(runs, *words, "--dry-run") == 0
    out = capsys.readouterr().out
    assert (
        "would free 0.3 MB of" in out and "trees          1     0.1 MB" in out and left(cache) == set(CACHE)
    )
    assert cache.has(cache.root / "builds/a")  # somebody uses it again
    assert prune(runs, *words, "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert [Path(each["entry"]).name for each in told["cache"]] == ["debian", "c"] and told["runs"] == []
    assert left(cache) == {"builds/a", "builds/b", "resolved/d"}
    assert prune(runs, "--cache", str(cache.root), "--keep-cache", "30") == 2


def test_nothing_goes_while_somebody_is_at_work_with_the_cache(
    cache: Cache, runs: Path, capsys: Capture
) -> None:
    words = ("--cache", str(cache.root), "--keep-cache", "30d", "--keep", "0")
    with in_use(cache), in_use(cache):
        assert prune(runs, *words) == 3
    assert "another harness holds" in capsys.readouterr().err and left(cache) == set(CACHE)
    assert (runs / "older" / "trials" / "001-fixed" / "console.log").is_file()
    assert prune(runs, *words) == 0 and "builds/a" not in left(cache)
