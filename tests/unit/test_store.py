# SPDX-License-Identifier: GPL-2.0-only
"""The store: fed, rebuilt, asked, and what it says when it cannot be used; nothing in it is lost then."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sqlite3
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pexpect
import pytest

from harness.cli import main
from harness.errors import InfraError, UserError
from harness.results import database
from harness.results.database import APPLICATION, MIGRATIONS, opened, writing
from harness.results.queries import Filter, nights, runs, signatures, since, trials
from harness.results.runfolder import RECORD, TrialResult, read_record, write_record
from harness.results.store import fed, feed, rebuild
from harness.watch.kinds import OutcomeKind
from tests.unit.kernelroom import mounted
from tests.unit.runroom import comparison, fill

Capture = pytest.CaptureFixture[str]
SIGNATURE = "soft_lockup < hmm_range_fault_locked < hmm_range_fault"


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A comparison's folder, and the store that has it."""
    room = tmp_path_factory.mktemp("room")
    folder, _, _ = comparison(room / "runs", room)
    return folder, room / "runs" / "store.sqlite"


@pytest.fixture
def store(ran: tuple[Path, Path], tmp_path: Path) -> Path:
    """A copy of that store."""
    return Path(shutil.copy(ran[1], tmp_path / "store.sqlite"))


def made(place: Path, name: str, begun: str, kind: str, signature: str = "", arm: str = "base") -> Path:
    """The folder of a run of one trial."""
    folder = place / name
    trial = folder / "trials" / f"001-{arm}"
    trial.mkdir(parents=True)
    result = TrialResult(
        arm=arm, index=1, seed=1, kind=OutcomeKind(kind), title=kind, signature=signature,
        is_bug=bool(signature), windows=1, iterations=1, seconds=2.0, preempt="none",
        folder=f"trials/001-{arm}", metrics={"slowest_s": 0.5},
    )  # fmt: skip
    facts = {"arm": arm, "index": 1, "seed": 1, "scenario": "churn", "begun": begun}
    kernel = {"release": "7.3.4", "build": "abc", "tree": "a tree"}
    write_record(trial, {"state": "finished", **facts, "kernel": kernel, "result": result.as_json()})
    write_record(
        folder,
        {"state": "finished", "verb": "run", "begun": begun, "ended": begun, "reproduce": "hmm-harness run"}
        | {"kernel": arm, "result": result.as_json()},
    )
    return folder


def dump(path: Path) -> list[str]:
    with contextlib.closing(sqlite3.connect(path)) as connection:
        return list(connection.iterdump())


def test_a_run_is_there_once_it_has_ended(ran: tuple[Path, Path]) -> None:
    folder, store = ran
    with opened(store) as connection:
        (row,) = runs(connection, Filter(), 9)
        assert (row["name"], row["verb"], row["outcome"]) == (folder.name, "compare", "inconclusive")
        assert (row["state"], row["trials"], row["bugs"]) == ("finished", 4, 2)
        listed = trials(connection, Filter(), 9)
        assert [row["name"] for row in listed] == ["002-unfixed", "002-fixed", "001-fixed", "001-unfixed"]
        assert listed[0]["signature"].startswith(SIGNATURE) and listed[1]["signature"] is None
        assert listed[0]["kernel"] == "base-without-wait" and listed[0]["release"] == "7.3.4"


@pytest.mark.parametrize(
    ("wanted", "count"),
    [
        (Filter(scenario="trylock-starvation"), 4),
        (Filter(scenario="churn"), 0),
        (Filter(kernel="base"), 2),
        (Filter(kernel="7.3"), 4),
        (Filter(outcome="soft_lockup"), 2),
        (Filter(outcome="soft_lockup", kernel="base"), 0),
        (Filter(outcome="completed", kernel="base", scenario="trylock-starvation"), 2),
        (Filter(signature="hmm_range_fault_locked", kernel="base-without-wait"), 2),
        (Filter(signature="hmm_range_fault_locked", kernel="base"), 0),
        (Filter(since=4e9), 0),
        (Filter(verb="compare"), 4),
        (Filter(signature="'; DROP TABLE runs; --"), 0),
    ],
)
def test_what_is_not_asked_for_is_left_out(ran: tuple[Path, Path], wanted: Filter, count: int) -> None:
    with opened(ran[1]) as connection:
        assert len(trials(connection, wanted, 9)) == count
        assert len(runs(connection, wanted, 9)) == min(count, 1)


def test_runs_are_found_by_their_verdict_too(ran: tuple[Path, Path]) -> None:
    with opened(ran[1]) as connection:
        for wanted, count in (
            (Filter(outcome="inconclusive"), 1),
            (Filter(outcome="inconclusive", kernel="base"), 1),
            (Filter(outcome="inconclusive", kernel="8."), 0),
            (Filter(outcome="inconclusive", scenario="churn"), 0),
            (Filter(outcome="fixed"), 0),
        ):
            assert len(runs(connection, wanted, 9)) == count, wanted


def test_a_store_that_is_rebuilt_is_the_one_that_was_fed(ran: tuple[Path, Path], tmp_path: Path) -> None:
    folder, store = ran
    again = tmp_path / "again.sqlite"
    assert rebuild(again, [folder.parent]) == (1, [])
    assert dump(again) == dump(store)
    assert rebuild(again, [folder]) == (1, []) and dump(again) == dump(store)


def test_what_a_folder_lost_the_store_keeps(ran: tuple[Path, Path], store: Path, tmp_path: Path) -> None:
    moved = tmp_path / "elsewhere"
    shutil.copytree(ran[0], moved)
    shutil.rmtree(moved / "trials" / "001-unfixed")
    count, unread = rebuild(store, [moved])
    assert count == 1 and "001-unfixed is not there any more" in unread[0]
    with opened(store) as connection:
        (row,) = runs(connection, Filter(), 9)
        assert row["folder"] == str(moved), "a run that was moved is still the same run"
        assert len(trials(connection, Filter(), 9)) == 4


def test_when_a_signature_first_appeared(tmp_path: Path, capsys: Capture) -> None:
    store = tmp_path / "store.sqlite"
    for day, kind, signature in (
        ("01", "completed", ""),
        ("02", "oops", "oops < a"),
        ("03", "oops", "oops < a"),
    ):
        feed(store, made(tmp_path, f"202611{day}-010000-churn", f"2026-11-{day}T01:00:00Z", kind, signature))
    feed(store, made(tmp_path, "20261104-010000-churn", "2026-11-04T01:00:00Z", "oops", "oops < b"))
    with opened(store) as connection:
        newest, older = signatures(connection, Filter(), 9)
        assert (newest["signature"], older["signature"]) == ("oops < b", "oops < a")
        assert (older["run"], older["trials"]) == ("20261102-010000-churn", 2)
        assert older["last"] - older["first"] == 86400.0
    assert main(["history", "--signatures", "--store", str(store)]) == 0
    assert "20261102-010000  7.3.4 base  oops < a" in capsys.readouterr().out


def test_last_night_beside_the_one_before(tmp_path: Path, capsys: Capture) -> None:
    store = tmp_path / "store.sqlite"
    for night, hours in (("02", ("T23", "T22")), ("03", ("T21",)), ("04", ("T20", "T21"))):
        for hour in hours:
            fails = night == "04" and hour == "T20"
            begun = f"2026-11-{night}{hour}:00:00"  # local time: a night is where the machine is
            name = f"202611{night}-{hour[1:]}0000-churn"
            kind, signature = ("oops", "oops < a") if fails else ("completed", "")
            feed(store, made(tmp_path, name, begun, kind, signature))
    with opened(store) as connection:
        last, before = nights(connection, Filter(), 2)
    assert (last.date, before.date) == ("2026-11-04", "2026-11-03")
    assert [str(rate) for rate in last.rates.values()] == ["1/2"] and last.new == ("oops < a",)
    assert [str(rate) for rate in before.rates.values()] == ["0/1"] and before.new == ()
    assert main(["history", "--nights", "--store", str(store)]) == 0
    shown = capsys.readouterr().out
    assert "churn     base    none     1/2         0/1         changed" in shown
    assert "new in the night of 2026-11-04: oops < a" in shown


def test_a_listing_fits_a_narrow_terminal(ran: tuple[Path, Path], capsys: Capture) -> None:
    assert main(["history", "--trials", "--json", "--store", str(ran[1])]) == 0
    assert len(json.loads(capsys.readouterr().out)["trials"]) == 4
    script = "import sys; from harness.cli import main; sys.exit(main(sys.argv[1:]))"
    plain = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES")}
    for words in (["--trials"], ["--signatures"], ["--nights"], []):
        argv = ["-c", script, "history", *words, "--store", str(ran[1])]
        env = {**plain, "TERM": "xterm"}
        child = pexpect.spawn(
            sys.executable, argv, dimensions=(24, 60), env=env, encoding="utf-8", timeout=300
        )
        child.ptyproc.delayafterclose = 0.0  # type: ignore[attr-defined]
        shown = child.read()
        assert "2026" in shown and max(map(len, shown.splitlines())) <= 60, shown


def test_what_a_selftest_provokes_is_listed_only_if_it_is_asked_for(tmp_path: Path) -> None:
    store = tmp_path / "store.sqlite"
    folder = made(tmp_path, "run", "2026-11-01T01:00:00Z", "oops", "oops < hs_oops")
    record = read_record(folder)
    result = {"cases": [{"as_expected": True}], "missed": [], "seconds": 1.0}
    write_record(folder, {**record, "verb": "selftest", "result": result})
    feed(store, folder)
    with opened(store) as connection:
        assert runs(connection, Filter(), 9)[0]["outcome"] == "1 of 1 as expected"
        for ask in (trials, signatures, nights):
            assert len(ask(connection, Filter(), 9)) == 0
            assert len(ask(connection, Filter(verb="selftest"), 9)) == 1


def test_a_matrix_names_the_kernels_of_its_cells(tmp_path: Path) -> None:
    store = tmp_path / "store.sqlite"
    folder = made(tmp_path, "run", "2026-11-01T01:00:00Z", "completed", arm="churn.landed+pmd.none.2")
    write_record(folder, {**read_record(folder), "verb": "matrix", "state": "interrupted"})
    (trial,) = folder.glob("trials/*")
    write_record(trial, {**read_record(trial), "command": "hmm-harness run --kernel landed+pmd --seed 1"})
    feed(store, folder)
    with opened(store) as connection:
        assert [row["kernel"] for row in trials(connection, Filter(), 9)] == ["landed+pmd"]


def test_times_as_they_are_given() -> None:
    assert since("2026-11-29") < since("2026-11-29T08:00") and since("2w") < since("3d") < since("12h")
    with pytest.raises(UserError, match="cannot read the time 'yesterday'"):
        since("yesterday")


# -- what cannot be used -----------------------------------------------------------------------------------


def test_a_store_of_a_newer_version_is_left_as_it_is(
    ran: tuple[Path, Path], store: Path, capsys: Capture
) -> None:
    with contextlib.closing(sqlite3.connect(store)) as connection:
        connection.execute(f"PRAGMA user_version = {len(MIGRATIONS) + 1}")
    before = dump(store)
    assert main(["history", "--store", str(store)]) == 2
    assert f"has version {len(MIGRATIONS) + 1}, this program knows up to" in capsys.readouterr().err
    main(
        ["doctor", "--json", "--store", str(store), "--cache", str(store.parent), "--out", str(store.parent)]
    )
    findings = {finding["what"]: finding for finding in json.loads(capsys.readouterr().out)}
    assert findings["store"]["ok"] is False and "has version" in findings["store"]["detail"]
    problem = fed(store, ran[0])
    assert "does not have this run" in problem and "newer version" not in problem and "--rebuild" in problem
    assert dump(store) == before


def test_a_store_of_each_older_version_is_brought_up(
    ran: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = tmp_path / "store.sqlite"
    feed(store, ran[0])
    more = "ALTER TABLE runs ADD COLUMN note TEXT NOT NULL DEFAULT ''; CREATE INDEX runs_note ON runs (note)"
    monkeypatch.setattr(database, "MIGRATIONS", (*MIGRATIONS, more))
    with opened(store) as connection:
        assert connection.execute("PRAGMA user_version").fetchone()[0] == len(MIGRATIONS) + 1
        assert connection.execute("SELECT name, note FROM runs").fetchone()["note"] == ""
        assert len(trials(connection, Filter(), 9)) == 4


def test_a_migration_that_fails_leaves_the_store_as_it_was(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = dump(store)
    monkeypatch.setattr(database, "MIGRATIONS", (*MIGRATIONS, "CREATE TABLE one (a); CREATE TABLE runs (b)"))
    with pytest.raises(sqlite3.OperationalError), opened(store):
        pass
    assert dump(store) == before


@pytest.mark.parametrize("kind", ["text", "foreign", "damaged", "none"])
def test_what_is_no_store_is_said_to_be_none_and_not_touched(
    kind: str, ran: tuple[Path, Path], store: Path, capsys: Capture
) -> None:
    if kind == "text":
        store.write_text("no database\n" * 100)
    elif kind == "foreign":
        store.unlink()
        with contextlib.closing(sqlite3.connect(store)) as connection:
            connection.execute("CREATE TABLE bookmarks (url)")
    elif kind == "damaged":
        content = store.read_bytes()
        store.write_bytes(content[:4096] + bytes(len(content) - 4096))
    else:
        store.unlink()
    before = store.read_bytes() if store.exists() else b""
    message = {"foreign": "another program's database", "none": "there is no store"}.get(
        kind, "is no store, or"
    )
    assert main(["history", "--store", str(store)]) == 2
    assert message in capsys.readouterr().err
    assert (store.read_bytes() if store.exists() else b"") == before
    assert bool(fed(store, ran[0])) == (kind != "none")


def test_a_damaged_folder_feeds_nothing(ran: tuple[Path, Path], store: Path, tmp_path: Path) -> None:
    before = dump(store)
    folder = tmp_path / "run"
    shutil.copytree(ran[0], folder)
    (folder / RECORD).write_text((folder / RECORD).read_text()[:500])
    assert "cut short" in fed(store, folder) and dump(store) == before


def test_what_is_no_character_is_kept_as_it_can_be(tmp_path: Path) -> None:
    store = tmp_path / "store.sqlite"
    feed(store, made(tmp_path, "run", "2026-11-01T01:00:00Z", "oops", "oops < \udcff"))
    with opened(store) as connection:
        assert trials(connection, Filter(), 1)[0]["signature"] == "oops < \\udcff"


def test_two_processes_write_and_nothing_is_lost(tmp_path: Path) -> None:
    store = tmp_path / "store.sqlite"
    for number in range(40):
        made(tmp_path / f"{number % 2}", f"run-{number:02d}", "2026-11-01T01:00:00Z", "completed")
    script = "import sys; from harness.cli import main; sys.exit(main(sys.argv[1:]))"
    words = [sys.executable, "-c", script, "history", "--store", str(store), "--rebuild"]
    writers = [subprocess.Popen([*words, str(tmp_path / place)]) for place in ("0", "1")]
    assert [writer.wait(300) for writer in writers] == [0, 0]
    with opened(store) as connection:
        assert len(runs(connection, Filter(), 99)) == 40 and len(trials(connection, Filter(), 99)) == 40


def test_a_store_may_be_made_by_many_at_once(tmp_path: Path) -> None:
    def use(number: int) -> None:
        store = tmp_path / f"{number // 8}.sqlite"
        with opened(store, create=True, busy_s=300) as connection, writing(connection):
            connection.execute("INSERT INTO signatures (text) VALUES (?)", (f"{number}",))

    with ThreadPoolExecutor(8) as many:
        list(many.map(use, range(80)))
    for store in tmp_path.glob("*.sqlite"):
        with opened(store) as connection:
            assert connection.execute("SELECT count(*) FROM signatures").fetchone()[0] == 8


def test_a_writer_that_does_not_end_is_waited_for_and_then_named(store: Path, ran: tuple[Path, Path]) -> None:
    with contextlib.closing(sqlite3.connect(store, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with (
            pytest.raises(InfraError, match="another harness has been writing"),
            opened(store, busy_s=0.1) as connection,
            writing(connection),
        ):
            pass
        with opened(store) as connection:
            assert len(runs(connection, Filter(), 9)) == 1, "readers do not wait"


def test_a_full_disk_is_said_and_what_was_there_stays(tmp_path: Path, capsys: Capture) -> None:
    with mounted(tmp_path / "small", "256k") as disk:
        store = disk / "store.sqlite"
        for number in range(4):
            feed(store, made(tmp_path, f"run-{number}", f"2026-11-0{number + 1}T01:00:00Z", "completed"))
        before = dump(store)
        fill(disk)
        folder = made(tmp_path, "run-9", "2026-11-09T01:00:00Z", "completed")
        assert main(["history", "--rebuild", str(folder), "--store", str(store)]) == 3
        assert f"cannot write the store {store}" in capsys.readouterr().err
        assert "does not have this run" in fed(store, folder)
        assert main(["history", "--store", str(store)]) == 0
        assert "run-3" in capsys.readouterr().out, "it can still be read"
        (disk / "filler").unlink()
        assert dump(store) == before
        assert fed(store, folder) == ""


def test_the_store_is_marked_as_ours(store: Path) -> None:
    with contextlib.closing(sqlite3.connect(store)) as connection:
        assert connection.execute("PRAGMA application_id").fetchone()[0] == APPLICATION
        assert connection.execute("PRAGMA journal_mode").fetchone()[0] == "wal"
        assert connection.execute("PRAGMA integrity_check").fetchone()[0] == "ok"
