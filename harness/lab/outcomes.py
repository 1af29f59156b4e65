# SPDX-License-Identifier: GPL-2.0-only
"""What a trial's outcome is to pytest.

completed: passed. A failure of the kernel: failed, with the splat and the cycle as its message. No window:
skipped, for it says nothing, and another seed may. Out of time, the target lost, the machine at fault: error.
A control that shows the bug does what it is there for: xfailed; one that completes: xpassed.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.errors import InfraError
from harness.results.runfolder import TrialResult
from harness.results.text import evidence_lines
from harness.watch.kinds import OutcomeKind


def check(result: TrialResult, *, control: bool = False, folder: Path | None = None) -> None:
    """End the test that runs as the outcome says; return if it passes.

    `folder`: of the run, if the result does not say where it is.
    """
    where = f"see {(folder or Path()) / result.folder}"
    if result.kind is OutcomeKind.COMPLETED:
        return
    if result.kind is OutcomeKind.NOT_EXERCISED:
        pytest.skip(f"no answer: {result.title}")
    if not result.kind.is_answer:
        raise InfraError(_line(result), hint=where)
    if control and result.is_bug:
        pytest.xfail(f"the control shows the bug: {result.title}")
    pytest.fail("\n".join(_told(result, where)), pytrace=False)


def properties(result: TrialResult, folder: Path | None = None) -> Iterator[tuple[str, object]]:
    """What JUnit says of a trial beside its outcome; `folder`: as in `check`."""
    yield "outcome", result.kind.value
    yield "signature", result.signature
    yield "windows", result.windows
    yield "seed", result.seed
    yield "folder", str((folder or Path()) / result.folder)


def _line(result: TrialResult) -> str:
    return result.title if result.title.startswith(result.kind) else f"{result.kind}: {result.title}"


def _told(result: TrialResult, where: str) -> Iterator[str]:
    yield _line(result)
    yield from evidence_lines(result)
    if not result.cycle:  # else the line is there
        yield f"    signature: {result.signature}"
    yield where
