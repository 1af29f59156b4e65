# SPDX-License-Identifier: GPL-2.0-only
"""The PMD-mapped sibling: 7.x has it, with the enabler and without any patch; the candidate fix ends it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.vm.conftest import Kernels, harness

pytestmark = pytest.mark.vm

#: A kernel without the enabler may have to be built.
BUILD_S = 2400


def arms_of(out: Path, *words: str) -> tuple[Mapping[str, Mapping[str, Any]], list[Path]]:
    """The arms of a comparison by name, and the folders of the trials that failed."""
    ran = harness("compare", *words, "--json", out=out, timeout=BUILD_S)
    assert ran.status in (0, 1), ran.err
    folders = [Path(folder) for folder in ran.json["evidence"]]
    return {arm["name"]: arm for arm in ran.json["arms"]}, [
        folder for folder in folders if (folder / "evidence" / "diagnosis.json").exists()
    ]


def assert_a_cycle_over_a_pmd(trial: Path) -> None:
    """The spinner's own page table says that a PMD maps what it spins on: a huge folio on the device."""
    diagnosis = json.loads((trial / "evidence" / "diagnosis.json").read_text())
    facts = diagnosis["facts"]
    (spin,) = facts["spins"]
    (folio,) = [folio for folio in facts["folios"] if folio["pfn"] == spin["pfn"]]
    assert spin["entry"] == diagnosis["entry"] == "device private (PMD)"
    assert json.loads((trial / "run.json").read_text())["result"]["signature"].startswith(
        "livelock on a PMD < hmm_"
    )
    assert (folio["pages"], folio["locked"], folio["device_private"]) == (512, True, True)
    assert "do_swap_page" not in json.dumps(facts["tasks"])


@pytest.mark.parametrize("window", ["notifier", "work", "fault"])
def test_one_iteration_decides(newest: Kernels, tmp_path: Path, window: str) -> None:
    words = ("--scenario", "pmd-trylock-starvation-forced", "--set", f"window={window}", "--trials", "1")
    arms, failed = arms_of(tmp_path, *words)
    assert [arms[name]["kernel"]["name"] for name in ("unfixed", "fixed")] == ["base", "base-with-pmd-wait"]
    assert arms["unfixed"]["outcomes"] == {"livelock": 1} and arms["unfixed"]["reproduced"] == 1
    assert arms["unfixed"]["proofs"]["cycle"] == 1
    assert arms["fixed"]["outcomes"] == {"completed": 1}
    assert arms["unfixed"]["windows"] == arms["fixed"]["windows"] == 1
    assert_a_cycle_over_a_pmd(failed[0])


@pytest.mark.nightly
def test_the_kernel_as_shipped_livelocks_under_full_preemption_for_a_real_time_spinner(
    newest: Kernels, tmp_path: Path
) -> None:
    """No patch, a configuration that upstream supports; as a race, of which nearly every trial is won."""
    arms, failed = arms_of(tmp_path, "linux-7-pmd-stock", "--trials", "2")
    assert arms["unfixed"]["kernel"]["name"] == "stock" and arms["unfixed"]["reproduced"] >= 1
    assert set(arms["unfixed"]["outcomes"]) <= {"livelock", "completed"}
    assert arms["fixed"]["outcomes"] == {"completed": 2} and arms["fixed"]["windows"] > 0
    assert_a_cycle_over_a_pmd(failed[0])


def test_without_a_huge_page_nothing_is_tested_and_the_error_says_so(newest: Kernels, tmp_path: Path) -> None:
    """`transparent_hugepage=never` is refused before a boot; this way only the guest can tell."""
    experiment = tmp_path / "never.yaml"
    experiment.write_text(
        "scenario: pmd-trylock-starvation\n"
        "kernels: {base: {patches: [x86-preempt-choice]}}\n"
        "arms: {one: {kernel: base, role: control}, other: {kernel: base, role: candidate}}\n"
        'boot: {cmdline: ["thp_anon=2M:never"]}\n'
    )
    words = ("--experiment", str(experiment), "--scenario", "pmd-trylock-starvation", "--json")
    ran = harness("run", "--kernel", "base", *words, out=tmp_path)
    assert ran.status == 3 and ran.json["outcome"] == "infra_error", ran.err
    assert "no huge page to be had" in json.dumps(ran.json)
