# SPDX-License-Identifier: GPL-2.0-only
"""A real igt_runner in a guest: Debian testing's IGT, run by the stressor, on Debian's own kernel.

There is no Xe: what passes here is IGT's own meta_test, never a test of Xe.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from harness.assets import asset
from harness.cache import Cache, default_cache_folder
from harness.guest.initramfs import copy
from harness.guest.plan import Exec
from harness.outcome import Outcome
from harness.scenario.catalogue import Value, load_scenario
from harness.target.protocol import AgentLine, GuestEnded
from harness.watch.kinds import OutcomeKind
from tests.unit.test_judge import judged
from tests.vm.igtroom import every_kind
from tests.vm.stockguest import compiled, run_stock
from tests.vm.userland import IGT

pytestmark = pytest.mark.vm

SCENARIO = load_scenario("xe-system-allocator")
#: IGT's own words, whichever version testing has.
NO_GPU = re.compile(r"No known gpu found for chipset flags 0x[0-9a-f]+ \(xe\)")


@pytest.fixture(scope="module")
def cache() -> Cache:
    return Cache(default_cache_folder())


def outcome_of(cache: Cache, folder: Path, userland: Path, **given: Value) -> Outcome:
    """The scenario's outcome in a guest that has IGT but no module of ours: with nothing beside it."""
    words = [f"{name}={value}" for name, value in {"beside": "nothing", **given}.items()]
    stressor = compiled(folder, "hmm-stressor", sorted(asset("kmod", "stressor").glob("*.c")))
    program = Exec("/hmm-stressor", (SCENARIO.name, *words))
    said = run_stock(cache, folder, userland, program, [copy("hmm-stressor", stressor, executable=True)])
    start = next(message for line in said if (message := json.loads(line))["type"] == "start")
    assert start["parameters"] | {"seed": 0} == {**SCENARIO.values({"beside": "nothing", **given}), "seed": 0}
    events = [AgentLine(float(number), line) for number, line in enumerate(said)]
    return judged([*events, GuestEnded(float(len(said)), 0, "exited")], SCENARIO.judge_by())


def words(outcome: Outcome) -> dict[str, str]:
    """What became of each test, by its last name: IGT's reason, or that it passed."""
    assert outcome.tests
    return {case.name.rpartition("@")[2]: case.reason or case.status for case in outcome.tests.cases}


def test_the_real_xe_tests_are_skipped_with_igts_reason(cache: Cache, tmp_path: Path) -> None:
    include = "^igt@xe_exec_system_allocator@(once|twice)-(large-)?malloc$"
    outcome = outcome_of(cache, tmp_path, IGT.at(cache), include=include)
    names = ("once-malloc", "once-large-malloc", "twice-malloc", "twice-large-malloc")
    assert sorted(words(outcome)) == sorted(names)
    (reason,) = set(words(outcome).values())
    assert NO_GPU.fullmatch(reason)
    assert outcome.kind is OutcomeKind.NOT_EXERCISED
    assert outcome.title == f"no case tested anything; 0 passed, 0 failed, 4 skipped (4 {reason})"


def test_every_kind_of_result_comes_out_of_a_guest_as_what_it_is(cache: Cache, tmp_path: Path) -> None:
    system = every_kind(IGT.at(cache), tmp_path / "system")
    chosen = "dmesg-pass|warn|fail-result|dmesg-warn|user-crash|piglit-timeout"
    include = f"^igt@(meta_test@({chosen})|plain@.*)$"
    outcome = outcome_of(cache, tmp_path, system, include=include, test_s=5)
    assert outcome.kind is OutcomeKind.TEST_FAILED
    assert {name: word.partition(":")[0] for name, word in words(outcome).items()} == {
        "dmesg-pass": "passed",
        "warn": "warn",
        "fail-result": "fail",
        "dmesg-warn": "dmesg-warn",
        "user-crash": "crash",
        "piglit-timeout": "timeout",
        "dmesg-fail": "dmesg-fail",
        "kills-runner": "incomplete",
    }
    assert outcome.tests and outcome.tests.defects == ("8 of the 9 planned results",)
