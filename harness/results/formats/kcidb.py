# SPDX-License-Identifier: GPL-2.0-only
"""KCIDB: what KernelCI's database takes, in version 5.3 of its schema (kcidb-io checks it in the tests).

A checkout is a tree with its patches, so both arms of a comparison have one of their own. Names are made from
content: a second run of the same kernel speaks of the same checkout and build; tests go by the run's id, the
same wherever its folder is. The schema asks a checkout for `id` and `origin` only: source that has no commit
(a Debian package, a tarball, a folder) gets none.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from harness.cache import digest
from harness.errors import UserError
from harness.plain import plain
from harness.results.cases import case_text, trial_cases
from harness.results.formats.evidence import evidence_text, trial_title
from harness.results.formats.options import Options
from harness.results.reading import RunRecord, TrialRecord, load_run
from harness.results.schema import KernelFacts
from harness.results.summary import Arm, Summary, summarize
from harness.watch.kinds import OutcomeKind
from harness.watch.ktap import Case, CaseStatus

#: The longest log_excerpt, in characters.
_EXCERPT = 16384
_ORIGIN = re.compile(r"[a-z0-9_]+")
_COMMIT = re.compile(r"\b[0-9a-f]{40}\b")

#: What is no answer: it did not apply, the test ended without one, or the harness failed.
_SILENT: Mapping[OutcomeKind, str] = {
    OutcomeKind.NOT_EXERCISED: "SKIP",
    OutcomeKind.TIMEOUT: "ERROR",
    OutcomeKind.TARGET_LOST: "MISS",
    OutcomeKind.INFRA_ERROR: "MISS",
}
#: An expected failure says nothing against the code.
_CASES: Mapping[CaseStatus, str] = {
    CaseStatus.PASSED: "PASS",
    CaseStatus.FAILED: "FAIL",
    CaseStatus.SKIPPED: "SKIP",
    CaseStatus.EXPECTED: "PASS",
}


def kcidb(run: RunRecord, options: Options) -> str:
    """The run as one JSON object; of a night, its matrices.

    UserError for an origin that the schema does not take, and if the folder of a matrix cannot be read.
    """
    if not _ORIGIN.fullmatch(options.origin):
        raise UserError(f"--origin {options.origin!r}: small letters, digits and _ only")
    summary = summarize(run)
    units = summary.night.units if summary.night else ()
    summaries = [summary, *(summarize(load_run(Path(unit.run))) for unit in units if unit.run)]
    checkouts: dict[str, dict[str, Any]] = {}
    builds: dict[str, dict[str, Any]] = {}
    tests = []
    for each, arm in [(one, arm) for one in summaries for arm in one.arms]:
        if arm.kernel is None:
            continue  # cut short before it was built
        checkout = _checkout(arm.kernel, options.origin)
        build = _build(arm.kernel, arm.label, checkout["id"], options.origin)
        checkouts[checkout["id"]], builds[build["id"]] = checkout, build
        for trial in arm.trials:
            test = _test(each, arm, trial, build["id"], options.origin)
            tests += [test, *(_case(test, n, case) for n, case in enumerate(trial_cases(trial), start=1))]
    report = {
        "version": {"major": 5, "minor": 3},
        "checkouts": list(checkouts.values()),
        "builds": list(builds.values()),
        "tests": tests,
    }
    return json.dumps(report, indent=1, ensure_ascii=False) + "\n"


def _checkout(kernel: KernelFacts, origin: str) -> dict[str, Any]:
    tree = kernel.tree
    applied = [patch for patch in kernel.patches if patch.status == "applied"]
    patchset = _patchset([patch.sha256 for patch in applied])
    titles = [f"{patch.name} ({patch.role}): {patch.title}" for patch in applied]
    commit = kernel.commit or next(iter(_COMMIT.findall(tree)), "")  # older records have no `commit`
    return {
        "id": f"{origin}:{digest([commit or tree, patchset])[:32]}",
        "origin": origin,
        **({"git_commit_hash": commit} if commit else {}),
        "patchset_hash": patchset,
        "comment": plain("; ".join([tree, *titles])),
        "valid": True,
        "misc": {"tree": tree, "patches": [patch.model_dump() for patch in kernel.patches]},
    }


def _patchset(hashes: list[str]) -> str:
    """As the schema has it: the sha256 over the lines of the patches' own; empty without a patch."""
    lines = "".join(f"{sha}\n" for sha in hashes)
    return hashlib.sha256(lines.encode()).hexdigest() if hashes else ""


def _build(kernel: KernelFacts, label: str, checkout: str, origin: str) -> dict[str, Any]:
    return {
        "id": f"{origin}:{kernel.build[:32]}",
        "origin": origin,
        "checkout_id": checkout,
        "architecture": "x86_64",
        "status": "PASS",
        "comment": plain(f"{kernel.release} {label}"),
        "misc": {"config_sha256": kernel.config_sha, "release": kernel.release},
    }


def _test(summary: Summary, arm: Arm, trial: TrialRecord, build: str, origin: str) -> dict[str, Any]:
    result = trial.result
    boot = arm.boot.model_dump(mode="json") if arm.boot else {}
    run = summary.run.facts.get("id") or summary.run.folder.name  # older records have no id
    test: dict[str, Any] = {
        "id": f"{origin}:{run}/{trial.folder.name}",
        "origin": origin,
        "build_id": build,
        "path": _path("hmm_harness", summary.scenario),
        "environment": {"comment": arm.guest_in_full, "misc": {"boot": boot}},
        "misc": {"arm": arm.name, "role": arm.role, "seed": trial.seed},
        **_begun(trial.facts),
    }
    if result is None:
        return {**test, "status": "MISS", "comment": f"the trial is {trial.state}"}
    excerpt = "\n".join(filter(None, [trial_title(result), evidence_text(result)]))
    expected = f" (expected of a {arm.role})" if arm.mark(result) == "expected" else ""
    test["misc"] |= {
        "outcome": str(result.kind),
        "is_bug": result.is_bug,
        "signature": result.signature,
        "proof": result.proof,
        "windows": result.windows,
        "iterations": result.iterations,
        "metrics": dict(result.metrics),
        "command": trial.facts.get("command", ""),
    }
    return {
        **test,
        "status": _status(result.kind),
        "comment": trial_title(result) + expected,
        "log_excerpt": excerpt[:_EXCERPT],
        "duration": result.seconds,
    }


def _path(*parts: str) -> str:
    """A place in the tree of all tests: words of letters, digits, `_` and `-`, with dots between."""
    words = re.sub(r"[^A-Za-z0-9_.-]", "_", ".".join(parts)).split(".")
    return ".".join(word for word in words if word)


def _case(trial: Mapping[str, Any], number: int, case: Case) -> dict[str, Any]:
    """A case of a suite of tests, below the trial that it ran in."""
    return {
        **{name: trial[name] for name in ("origin", "build_id", "environment")},
        "id": f"{trial['id']}/{number}-{case.name}",
        "path": _path(trial["path"], case.name),
        "status": _CASES[case.status],
        "log_excerpt": case_text(case)[:_EXCERPT],
        "misc": {"trial": trial["id"], "result": str(case.status)},
    }


def _begun(facts: Mapping[str, Any]) -> dict[str, str]:
    return {"start_time": str(facts["begun"])} if facts.get("begun") else {}


def _status(kind: OutcomeKind) -> str:
    return "FAIL" if kind.is_failure else _SILENT.get(kind, "PASS")
