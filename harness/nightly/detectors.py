# SPDX-License-Identifier: GPL-2.0-only
"""Can failures be seen at all tonight? The self-test of a night; what it misses is tried once more."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path

import yaml

from harness.disk import write_atomically
from harness.nightly.child import Ran
from harness.nightly.model import Nightly
from harness.nightly.units import Unit
from harness.results.night import DetectorFacts
from harness.results.schema import CaseOutcome, SelftestResult, read_as


def try_detectors(
    night: Nightly,
    units: Sequence[Unit],
    jobs: Path,
    verb: Callable[[str, Sequence[str]], Ran],
) -> DetectorFacts:
    """Run the self-test on a kernel of the night that has not the bug.

    jobs: the folder for its experiment. verb: runs a verb under a title. A host may be overloaded for a
    moment: what was missed is run again, alone. Guests fail on purpose, and boxes do not: a night on a box
    has it in QEMU, with a kernel that is for the box, too.
    """
    unit = next((each for each in units if each.tree.name == night.selftest_tree), units[0])
    begin = time.monotonic()
    chosen = night.matrix_of(unit.tree.name)
    kernel = next(name for name in chosen.kernels if name != chosen.control)
    experiment = unit.matrix.model_copy(update={"kernels": chosen.kernels, "target": ""}).as_experiment()
    place = jobs / "selftest.yaml"
    values = experiment.model_dump(mode="json", exclude_none=True)
    write_atomically(place, yaml.safe_dump(values, sort_keys=False).encode())
    words = ["selftest", "--experiment", str(place), "--kernel", kernel]
    words += ["--fragment", "box"] if unit.matrix.target else []
    words += ["--preempt", unit.matrix.preempt[0], "--cpus", str(max(2, *unit.matrix.cpus))]

    def tried(title: str, cases: Sequence[str]) -> Ran:
        return verb(title, [*words, *(word for name in cases for word in ("--case", name))])

    ran = tried("self-test", night.selftest.cases)
    done = _result(ran)
    if done is None:
        return _failed(ran)
    missed = [case for case in done.cases if not case.as_expected]
    if missed:
        again = _result(tried("self-test again", [case.name for case in missed]))
        missed = [case for case in again.cases if not case.as_expected] if again else missed
    return DetectorFacts(
        good=len(done.cases) - len(missed),
        cases=len(done.cases),
        missed=tuple(map(_said, missed)),
        error="",
        seconds=round(time.monotonic() - begin, 1),
        run=done.evidence,
    )


def _result(ran: Ran) -> SelftestResult | None:
    if ran.status not in (0, 1, 3) or not ran.result:
        return None
    return read_as(SelftestResult, ran.result, "the self-test's result")


def _said(case: CaseOutcome) -> str:
    return f"{case.name} ({case.reported.outcome} instead of {case.expected.outcome}: {case.title})"


def _failed(ran: Ran) -> DetectorFacts:
    error = "the budget was over" if ran.status is None else ran.error or f"it ended with {ran.status}"
    return DetectorFacts(good=0, cases=0, missed=(), error=error, seconds=0.0, run="")
