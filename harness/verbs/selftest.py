# SPDX-License-Identifier: GPL-2.0-only
"""`hmm-harness selftest`: 0 if every failure is reported as what it is, 3 if the machine failed, else 1."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from harness.arguments import command_of, in_qemu_only, patch_files
from harness.display import Display
from harness.errors import UserError
from harness.experiment.kernels import BootableKernel
from harness.experiment.trial import fingerprint, kernel_json
from harness.layout import Table
from harness.process import command_line
from harness.results.repeats import repeated
from harness.results.report import case_words
from harness.results.runfolder import (
    SCHEMA,
    keep_patches,
    make_run_folder,
    program,
    run_facts,
    write_experiment,
)
from harness.results.schema import CaseOutcome, KernelFacts, SelftestResult
from harness.selftest.cases import CASES, Case, case_json, choose_cases, load_cases
from harness.selftest.run import CaseResult, run_case
from harness.verbs.common import (
    conclude,
    experiment_with_kernel,
    kept_in,
    ready,
    recorded_in,
    with_patches,
)

HEADER = ("case", "expected", "reported", "seconds", "")


def main(arguments: argparse.Namespace, display: Display) -> int:
    """Carry the verb out; its exit status."""
    cases = choose_cases(arguments.cases, load_cases(arguments.cases_file or CASES))
    if arguments.list:
        _list(cases, arguments, display)
        return 0
    experiment = experiment_with_kernel(arguments)
    in_qemu_only(experiment, "selftest")
    if experiment.boot.cpus < 2:
        raise UserError("the self-test needs 2 CPUs: one fails, another one lives on", hint="--cpus 2")
    patches = patch_files(arguments.patch)
    folder = make_run_folder(arguments.out.resolve(), "selftest")
    begin = time.monotonic()
    write_experiment(folder, keep_patches(folder, with_patches(experiment, arguments.kernel, patches)))
    repeats = repeated(arguments)
    facts = run_facts("selftest", command_of(arguments), kernel=arguments.kernel, **repeats.facts)
    with recorded_in(folder, facts, arguments.store) as update:
        update("building")
        kernel, stage = ready(arguments, experiment, patches, display)
        repeats.check_tree(kernel.build.tree)
        repeats.check({case.name: fingerprint(kernel) for case in cases})
        update("running", tree=kernel.build.tree)
        happening = [case for case in cases if case.happens_on(kernel.build.version)]
        results: list[CaseResult] = []
        for number, case in enumerate(happening, start=1):
            display.table(HEADER, _rows(results), running=f"{number} of {len(happening)}: {case.name}")
            again = _again(arguments, case)
            with kept_in(folder, display):
                result = run_case(case, number, kernel, experiment.boot, stage, folder, again)
            if result.machine_failed:  # a host that was busy for a moment: once more
                result = run_case(case, number, kernel, experiment.boot, stage, folder, again)
            results.append(result)
            display.table(HEADER, _rows(results))
        skipped = [case for case in cases if case not in happening]
        report = _json(results, skipped, kernel, folder, time.monotonic() - begin)
        parts = conclude(folder, "selftest", report, [], update)
    display.result(*parts)
    if arguments.json:
        print(json.dumps(report), flush=True)
    if any(result.machine_failed for result in results):
        return 3
    return 0 if all(result.as_expected for result in results) else 1


def _list(cases: Sequence[Case], arguments: argparse.Namespace, display: Display) -> None:
    if arguments.json:
        print(json.dumps({"schema": SCHEMA, "cases": [case_json(case) for case in cases]}))
        return
    rows = [(case.name, str(case.expect.outcome), case.provokes) for case in cases]
    display.result(Table([("case", "reported as", "what is done to the guest"), *rows], indent=0))


def _again(arguments: argparse.Namespace, case: Case) -> str:
    """The command that runs one case again."""
    words = iter(arguments.argv)
    kept = [word for word in words if not (word == "--case" and next(words)) and word[:7] != "--case="]
    return command_line([program(), *kept, "--case", case.name])


def _rows(results: Sequence[CaseResult]) -> list[tuple[str, ...]]:
    return [
        (
            result.case.name,
            case_words(result.case.expect),
            case_words(result.reported),
            f"{result.seconds:.1f}",
            "" if result.as_expected else "no answer" if result.machine_failed else "MISSED",
        )
        for result in results
    ]


def _json(
    results: Sequence[CaseResult],
    skipped: Sequence[Case],
    kernel: BootableKernel,
    folder: Path,
    seconds: float,
) -> dict[str, Any]:
    return SelftestResult(
        kernel=KernelFacts.model_validate(kernel_json(kernel.build)),
        cases=tuple(CaseOutcome.model_validate(result.as_json()) for result in results),
        missed=tuple(result.case.name for result in results if not result.as_expected),
        skipped=tuple(case.name for case in skipped),
        only_on={case.name: case.versions for case in skipped},
        evidence=str(folder),
        seconds=round(seconds, 1),
    ).model_dump(mode="json")
