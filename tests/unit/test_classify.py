# SPDX-License-Identifier: GPL-2.0-only
"""A log read offline, and what is no log."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from harness.errors import UserError
from harness.watch.classify import classify_file
from harness.watch.kinds import OutcomeKind

DATA = Path(__file__).resolve().parents[1] / "data" / "console"


def test_the_shape_of_the_json() -> None:
    path = DATA / "7.3-unfixed-preempt-voluntary-soft-lockup.log"
    assert json.loads(json.dumps(classify_file(path).as_json())) == {
        "file": str(path),
        "outcome": "soft_lockup",
        "title": "soft lockup - CPU#1 stuck for 13s [stress:52]",
        "events": [
            {
                "class": "soft_lockup",
                "title": f"soft lockup - CPU#1 stuck for {seconds}s [stress:52]",
                "line": line,
                "time_s": time_s,
                "cpu": 1,
                "task": "stress:52",
            }
            for seconds, line, time_s in ((13, 217, 14.545522), (26, 257, 28.545445))
        ],
    }


@pytest.mark.parametrize(
    ("name", "outcome"),
    [
        ("7.3-fixed-preempt-none-completes", "completed"),
        ("7.3-printed-by-a-program", "completed"),
        ("7.3-segfault-is-no-event", "completed"),
        ("format-7.3-workqueue-hog", "completed"),
        ("7.3-hard-lockup", "hard_lockup"),
        ("7.3-rcu-then-workqueue", "rcu_stall"),
        ("7.3-workqueue-after-soft-lockup", "soft_lockup"),
        ("7.3-hung-task", "hung_task"),
        ("7.3-oom", "oom"),
        ("7.3-refcount", "corruption"),
        ("7.3-panic", "panic"),
        ("format-6.12-workqueue", "workqueue_lockup"),
        ("format-6.12-csd", "hard_lockup"),
        ("format-6.12-list-corruption", "corruption"),
        ("format-6.12-lockdep", "warning"),
        ("format-journalctl", "soft_lockup"),
        ("format-dmesg-T", "soft_lockup"),
    ],
)
def test_the_earliest_failure_decides(name: str, outcome: str) -> None:
    found = classify_file(DATA / f"{name}.log")
    assert found.outcome == outcome
    assert found.found is (outcome != "completed")


def test_notes_are_listed_but_decide_nothing() -> None:
    found = classify_file(DATA / "format-7.3-workqueue-hog.log")
    assert [event.cls for event in found.events] == ["workqueue_hog"] and found.title == "nothing found"


def test_a_file_of_junk_is_a_log_without_events(tmp_path: Path) -> None:
    path = tmp_path / "junk"
    path.write_bytes(random.Random(3).randbytes(300_000))
    assert classify_file(path).outcome is OutcomeKind.COMPLETED
    path.write_bytes(b"")
    assert classify_file(path).events == ()


def test_a_splat_between_junk_is_found(tmp_path: Path) -> None:
    path = tmp_path / "junk"
    junk = random.Random(4).randbytes(100_000)
    path.write_bytes(junk + (DATA / "7.3-stock-pmd-sibling-soft-lockup.log").read_bytes() + junk)
    assert classify_file(path).outcome is OutcomeKind.SOFT_LOCKUP


@pytest.mark.parametrize("name", [".", "missing.log", "missing/missing.log", "junk/within-a-file.log"])
def test_what_cannot_be_read_is_the_users_error(name: str, tmp_path: Path) -> None:
    (tmp_path / "junk").write_bytes(b"")
    with pytest.raises(UserError, match="cannot read") as caught:
        classify_file(tmp_path / name)
    assert caught.value.exit_code == 2 and caught.value.hint
