# SPDX-License-Identifier: GPL-2.0-only
"""What core mm gets wrong with device folios under way, as shipped or wrongly fixed, and what ends it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.vm.conftest import Kernels, harness

pytestmark = pytest.mark.vm

#: A batch is held for so long that a thread gets there on a busy machine, too.
HELD = ("--set", "iterations=4", "--set", "hold_ms=1000")


def unfixed_arm(out: Path, *words: str, windows: int = 4) -> tuple[Mapping[str, Any], str]:
    """What one trial comes to without the fix, and its signature; the fix completes, with so many windows."""
    ran = harness("compare", *words, "--trials", "1", "--json", out=out, timeout=1200)
    assert ran.status in (0, 1), ran.err
    arms = {arm["name"]: arm for arm in ran.json["arms"]}
    assert arms["fixed"]["outcomes"] == {"completed": 1} and arms["fixed"]["windows"] >= windows
    assert arms["unfixed"]["reproduced"] == 1
    records = [json.loads((Path(folder) / "run.json").read_text()) for folder in ran.json["evidence"]]
    (signature,) = {record["result"]["signature"] for record in records} - {""}
    return arms["unfixed"], signature


def test_a_huge_folio_that_a_fork_shares_is_split_in_one_process_only(
    newest: Kernels, tmp_path: Path
) -> None:
    """The other process keeps a PMD migration entry for a folio that is huge no more."""
    unfixed, signature = unfixed_arm(tmp_path, "linux-7-split", "--set", "iterations=4")
    assert unfixed["outcomes"] == {"oops": 1}
    assert signature.startswith("oops < remove_migration_ptes < __migrate_device_finalize <")


def test_two_more_that_share_it_are_stuck_or_read_what_is_not_theirs(newest: Kernels, tmp_path: Path) -> None:
    unfixed, _ = unfixed_arm(tmp_path, "linux-7-split", "--set", "iterations=4", "--set", "sharers=2")
    assert set(unfixed["outcomes"]) <= {"corruption", "starved"}


def test_another_folio_that_is_there_by_then_is_left_alone(newest: Kernels, tmp_path: Path) -> None:
    """Unfixed it is frozen, with its only reference dropped: whoever touches it faults for ever."""
    unfixed, _ = unfixed_arm(tmp_path, "linux-7-split", *HELD, "--set", "race=refault")
    assert set(unfixed["outcomes"]) <= {"corruption", "starved"}


def test_a_huge_folio_that_is_split_when_nobody_has_it_is_never_freed(
    newest: Kernels, tmp_path: Path
) -> None:
    unfixed, signature = unfixed_arm(tmp_path, "linux-7-split", *HELD, "--set", "race=zap")
    assert signature == "starved < leaked_system_pages"
    # Anything else in the guest may free a page, or take one.
    assert round(unfixed["metrics"]["leaked_system_pages"]["median"] / 512) == 4


def test_a_device_folio_is_freed_under_its_migration(newest: Kernels, tmp_path: Path) -> None:
    """A migration entry for device memory is dropped as if it were a device-private one."""
    unfixed, signature = unfixed_arm(tmp_path, "linux-7-zap", *HELD)
    assert signature == "starved < freed_pages"
    assert unfixed["metrics"]["freed_pages"]["median"] == 4 * 512


@pytest.mark.parametrize("race", ["exit", "munmap"])
def test_what_is_evicted_while_it_is_dropped_has_an_anon_vma_that_is_freed(
    newest: Kernels, tmp_path: Path, race: str
) -> None:
    """The kernel takes what user space has written meanwhile for a pointer to a lock."""
    unfixed, signature = unfixed_arm(tmp_path, "linux-7-evict", "--set", f"race={race}")
    assert unfixed["outcomes"] == {"oops": 1}
    assert signature.startswith("oops < remove_migration_ptes < __migrate_device_finalize <")
    (console,) = tmp_path.glob("*/trials/*-unfixed/console.log")
    assert "non-canonical address 0x41414141414141" in console.read_text()


def test_a_fix_that_waits_for_a_page_without_a_reference_finds_another_one(
    newest: Kernels, tmp_path: Path
) -> None:
    """sleep-lock-noref, against what landed: it unlocks what it has not locked, which locks it for ever."""
    # A busy machine may miss some.
    unfixed, signature = unfixed_arm(tmp_path, "linux-7-awaited", windows=1)
    assert unfixed["outcomes"] == {"hung_task": 1}
    assert "__folio_lock < do_swap_page" in signature
    (channel,) = tmp_path.glob("*/trials/*-unfixed/agent.jsonl")
    said = [json.loads(json.loads(line)["line"]) for line in channel.read_text().splitlines()]
    *_, last = [message for message in said if message["type"] == "progress"]
    assert last["window"]["reused"] and last["window"]["sigbus"] == 1
