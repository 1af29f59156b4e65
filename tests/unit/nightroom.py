# SPDX-License-Identifier: GPL-2.0-only
"""Whole nights without a guest: real git trees, files, folders, store; the verbs that boot are simulated."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from harness.cli import main
from harness.config import TreeConfig
from harness.deadline import Deadline
from harness.experiment.options import Workshop
from harness.experiment.statistics import clopper_pearson
from harness.matrix.model import matrix_named
from harness.nightly.child import Ran
from harness.nightly.units import tree_facts
from harness.results.matrix import CellFacts, MatrixResult
from harness.results.night import NightCell, NightResult, NightTreeFacts
from harness.results.runfolder import read_record
from harness.verbs import nightly as verb

BUG = "livelock < hmm_range_fault_locked < hmm_range_fault < hh_range_fault"
WARNING = "warning < mark_buffer_dirty < ext4_write_inode < iput < evict"

FILE = """\
budget_minutes: 30
nights: 3
trees:
  mainline: {tree: {kind: git, url: linux, revision: next}}
  stable: {tree: {kind: git, url: linux, revision: v1}}
matrices:
  seven:
    control: unfixed
    kernels:
      unfixed: {patches: [x86-preempt-choice, trylock-starvation/without-wait]}
      fixed: {patches: [x86-preempt-choice]}
    scenarios:
      - trylock-starvation
      - {scenario: churn, kernels: [fixed]}
    trials: 6
"""

Behaviour = Callable[[str, str, str], Sequence[tuple[str, bool, int]]]


def cell(
    tree: str = "mainline",
    label: str = "trylock-starvation",
    kernel: str = "fixed",
    failures: Sequence[tuple[str, bool, int]] = (),
    trials: int = 6,
    **more: Any,
) -> NightCell:
    """A cell of a night; failures: signature, whether it is the scenario's own bug, in how many trials."""
    facts = facts_of(label, kernel, failures, trials).model_dump()
    role = "control" if kernel == "unfixed" else "candidate"
    given: dict[str, Any] = {
        "tree": tree,
        "source": f"git {tree}",
        "revision": "b" * 40,
        "role": role,
        "clock": "host",
    }
    given |= {"series": f"{tree}/{label}/{kernel}", "values": {}, "run": "runs/1", "judged": True}
    return NightCell.model_validate({**facts, **given, **more})


def facts_of(label: str, kernel: str, failures: Sequence[tuple[str, bool, int]], trials: int) -> CellFacts:
    bugs = sum(count for _, is_bug, count in failures if is_bug)
    other = sum(count for _, is_bug, count in failures if not is_bug)
    outcomes: dict[str, int] = {}
    for signature, _, count in failures:
        kind = signature.split(" < ")[0]
        outcomes[kind] = outcomes.get(kind, 0) + count
    clean = trials - bugs - other
    span = clopper_pearson(bugs, trials)
    return CellFacts.model_validate(
        {
            "scenario": label, "label": label, "set": {}, "kernel": kernel, "preempt": "none", "cpus": 2,
            "state": "done", "reason": "", "trials": trials, "answered": trials,
            "outcomes": outcomes | ({"completed": clean} if clean else {}),
            "reproduced": bugs, "failed_otherwise": other, "windows": trials, "rate": None,
            "ci95": (span.low, span.high), "metrics": {}, "evidence": (),
            "failures": [
                {"outcome": text.split(" < ")[0], "signature": text, "is_bug": is_bug, "trials": count}
                for text, is_bug, count in failures
            ],
        }
    )  # fmt: skip


def night(*cells: NightCell, **more: Any) -> NightResult:
    """An earlier night with these cells, as they were judged."""
    facts: dict[str, Any] = {
        "name": "hmm", "night": "2026-11-28", "target": "qemu", "verdict": "nothing_new", "reason": "",
        "findings": (), "still": (), "known": (), "complaints": (), "detectors": None, "trees": (),
        "units": (), "compared": (), "nights": 7, "false_alarm": 0.01, "budget_minutes": 1.0, "seconds": 1.0,
        "evidence": "", "reproduce": "",
    }  # fmt: skip
    return NightResult.model_validate({**facts, "cells": cells, **more})


def as_always(tree: str, scenario: str, kernel: str) -> Sequence[tuple[str, bool, int]]:
    """The unfixed kernel has the bug, nothing else fails."""
    return [(BUG, True, 6)] if kernel == "unfixed" else []


@dataclass
class Verbs:
    """Stands for selftest, matrix and bisect: what trials come to is said by tree, scenario and kernel."""

    behaves: Behaviour = as_always
    #: Cases of the self-test; with `recovers`, only the first time.
    missed: tuple[str, ...] = ()
    recovers: bool = False
    #: What happens instead, by the verb or by the unit (`mainline.churn`).
    instead: Mapping[str, Ran | BaseException] = field(default_factory=dict)
    called: list[tuple[str, ...]] = field(default_factory=list)

    @property
    def units(self) -> list[str]:
        """The units that were run, in order."""
        return [Path(words[1]).stem for words in self.called if words[0] == "matrix"]

    def __call__(
        self, words: Sequence[str], log: Path, deadline: Deadline, on_line: Callable[[str], None]
    ) -> Ran:
        self.called.append(tuple(words))
        log.write_text("$ simulated\n")
        for name, what in self.instead.items():
            if name in (words[0], Path(words[1]).stem):
                if isinstance(what, BaseException):
                    raise what
                return what
        if not deadline.remaining:
            return Ran(None)
        return {"selftest": self._selftest, "matrix": self._matrix, "bisect": self._bisect}[words[0]](words)

    def _selftest(self, words: Sequence[str]) -> Ran:
        case: dict[str, Any] = {
            "provokes": "",
            "expected": {"outcome": "panic"},
            "reported": {"outcome": "panic"},
            "title": "",
        }
        case |= {"seconds": 1.0, "evidence": "", "as_expected": True}
        asked = [name for word, name in itertools.pairwise(words) if word == "--case"] or ["panic", "oops"]
        cases = [case | {"name": name, "as_expected": name not in self.missed} for name in asked]
        kernel = {"release": "7.3.4", "tree": "t", "patches": [], "config_sha": "", "build": "b"}
        missed = [name for name in asked if name in self.missed]
        result = {"schema": 1, "kernel": kernel, "cases": cases, "missed": missed, "skipped": []}
        if self.recovers:
            self.missed = ()
        return Ran(1 if missed else 0, {**result, "evidence": "runs/0", "seconds": 2.0})

    def _matrix(self, words: Sequence[str]) -> Ran:
        matrix = matrix_named(words[1])
        tree = Path(words[1]).stem.split(".")[0]
        (entry,) = matrix.scenarios
        cells = [
            facts_of(entry.scenario, kernel, self.behaves(tree, entry.scenario, kernel), 6)
            for kernel in entry.kernels or matrix.kernels
        ]
        done = MatrixResult(
            tree=f"git {tree}", guest="", kernels=(), scenarios=(), relative_to="", cells=tuple(cells),
            complete=True, day="", seconds=1.0, reproduce="", evidence=f"runs/{Path(words[1]).stem}",
        )  # fmt: skip
        return Ran(0, json.loads(done.model_dump_json()))

    def _bisect(self, words: Sequence[str]) -> Ran:
        labels = {"c" * 40: 'cccccccccccc ("mm: break it")'}
        return Ran(0, {"culprit": "c" * 40, "labels": labels, "evidence": "runs/2"})


class Room:
    """A folder with a night's file, a cache, a store; nights are begun one after the other.

    tips: revisions by the trees' names. A tree that has none is fetched as it is in life.
    """

    def __init__(self, place: Path, monkeypatch: pytest.MonkeyPatch, text: str = FILE) -> None:
        self.place = place
        self._monkeypatch = monkeypatch
        self.file = place / "hmm.yaml"
        self.file.write_text(text)
        (place / "linux").mkdir(exist_ok=True)
        self.tips = {"mainline": "1" * 40, "stable": "0" * 40}

    def advance(self) -> str:
        """Another tip on the branch that is followed; its id."""
        self.tips["mainline"] = f"{int(self.tips['mainline'][0]) + 1}" * 40
        return self.tips["mainline"]

    def night(self, verbs: Verbs, *words: str) -> int:
        """Run one; its exit status."""

        def facts(name: str, wanted: TreeConfig, workshop: Workshop) -> NightTreeFacts:
            if name not in self.tips:
                return tree_facts(name, wanted, workshop)
            return NightTreeFacts(name=name, source=f"git {name}", revision=self.tips[name])

        self._monkeypatch.setattr(verb, "run_verb", verbs)
        self._monkeypatch.setattr(verb, "tree_facts", facts)
        places = {"out": "runs", "cache": "cache", "store": "store.sqlite"}
        given = [word for name, place in places.items() for word in (f"--{name}", str(self.place / place))]
        return main(["nightly", str(self.file), *given, *words])

    @property
    def folders(self) -> list[Path]:
        """The folders of the nights, the oldest first."""
        return sorted((self.place / "runs").glob("*-nightly*"), key=lambda path: path.stat().st_mtime_ns)

    @property
    def last(self) -> dict[str, Any]:
        """What the last night came to."""
        newest = max(self.folders, key=lambda path: read_record(path)["begun"])
        result = read_record(newest)["result"]
        assert isinstance(result, dict)
        return result
