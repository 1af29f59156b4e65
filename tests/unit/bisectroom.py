# SPDX-License-Identifier: GPL-2.0-only
"""What the tests of what is bisected share: a toy whose modules build, and a workshop."""

from __future__ import annotations

from pathlib import Path

from harness.bisect.report import Bisection, bisection_json
from harness.cache import Cache
from harness.experiment.options import Workshop
from harness.results.report import report_text
from tests.unit.kernelroom import MAKEFILE, Notes
from tests.unit.schemas import defects

#: With it the toy's object folder builds an external module that is an empty object.
MODULE_RULE = "\t@printf 'modules:\\n\\tgcc -c -x c /dev/null -o $$(M)/hmm_harness.ko\\n' > $(O)/Makefile\n"
WITH_MODULES = MAKEFILE.replace("modules_prepare:", f"{MODULE_RULE}modules_prepare:")


def workshop_with(cache: Path, programs: Path) -> Workshop:
    """A workshop whose cache has the stressor and init already: `programs` is their folder."""
    cache.mkdir()
    (cache / "programs").symlink_to(programs.parent)
    return Workshop(Cache(cache), Notes())


def notes_of(workshop: Workshop) -> Notes:
    """What was told on the way."""
    assert isinstance(workshop.progress, Notes)
    return workshop.progress


def put(path: Path, text: str) -> str:
    """Write a file; its name."""
    path.write_text(text, encoding="utf-8")
    return str(path)


def bisection_text(done: Bisection) -> str:
    """What is printed, from what the run's folder records."""
    record = {"schema": 1, "state": "finished", "verb": "bisect", "key": "", "reproduce": ""}
    assert defects("run", {**record, "result": bisection_json(done)}) == []
    trials = [result for name in done.records.kernels for result in done.trials(name)]
    return report_text("bisect", bisection_json(done), trials, done.folder)
