# SPDX-License-Identifier: GPL-2.0-only
"""Would the fuzzer notice a mistake? It is let loose on the module with one mistake built in at a time.

`mutants.yaml` has the mistakes: a lost reference, a wrong lock order, an error nobody promised. Each must end
a trial in the way that it says. Writes `reports/YYYY-mm-dd-mutants.md`.
"""

from __future__ import annotations

import argparse
import datetime
import re
import shutil
import sys
import tempfile
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Annotated

from citizen import REPORTS, SCANS, SUBJECTS, Sample, plan_of, request_of
from pydantic import Field

from harness.assets import asset
from harness.cache import default_cache_folder
from harness.config import Frozen
from harness.deadline import Deadline
from harness.disk import write_atomically
from harness.display import PlainProgress
from harness.errors import UserError
from harness.experiment.kernels import finish_kernel
from harness.experiment.options import BUILD_LIMIT_S, Workshop
from harness.experiment.trial import run_trial
from harness.kmod import build_guest_programs
from harness.results.runfolder import TrialResult, all_finished
from harness.watch.kinds import OutcomeKind
from harness.yamlfile import load_yaml

CALLS = 1500
HEAD = """\
| mistake | in | outcome | said | seconds |
|---|---|---|---|---|
"""


class Mutant(Frozen):
    """One mistake. See `mutants.yaml`."""

    name: str
    file: str
    old: str
    new: str
    shows: str
    scan: bool = False

    @contextmanager
    def folder(self) -> Iterator[Path]:
        """A copy of `kmod` with the mistake in it. UserError if its place is not to be found, once."""
        with tempfile.TemporaryDirectory() as scratch:
            kmod = Path(shutil.copytree(asset("kmod"), Path(scratch) / "kmod"))
            text = (kmod / self.file).read_text(encoding="utf-8")
            if text.count(self.old) != 1:
                raise UserError(
                    f"{self.name}: kmod/{self.file} has its place {text.count(self.old)} times",
                    hint="the module has changed: mend mutants.yaml",
                )
            (kmod / self.file).write_text(text.replace(self.old, self.new), encoding="utf-8")
            yield kmod


class MutantFile(Frozen):
    """`mutants.yaml`."""

    mutants: Annotated[tuple[Mutant, ...], Field(strict=False)]


def load_mutants() -> tuple[Mutant, ...]:
    """The mistakes, in the file's order."""
    return load_yaml(Path(__file__).with_suffix(".yaml"), MutantFile).mutants


def noticed(mutant: Mutant, result: TrialResult) -> bool:
    """Whether the trial failed, and in the way that it had to."""
    return result.kind is not OutcomeKind.COMPLETED and bool(re.search(mutant.shows, result.title))


def row(mutant: Mutant, result: TrialResult) -> str:
    """One row of the report's table."""
    verdict = str(result.kind) if noticed(mutant, result) else f"{result.kind}: not noticed"
    said = textwrap.shorten(result.title, 160, placeholder=" ...")
    return f"| {mutant.name} | {mutant.file} | {verdict} | {said} | {result.seconds:.0f} |"


def main() -> int:
    """Try all mistakes; the report has those of earlier tries of the day, too."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("runs"), help="where evidence goes")
    parser.add_argument("--only", default="", metavar="WORD", help="mistakes with this in their name")
    arguments = parser.parse_args()
    date = datetime.date.today().isoformat()
    out = arguments.out.resolve() / f"{date}-mutants"
    workshop = Workshop.at(default_cache_folder(), PlainProgress(sys.stderr))
    request = request_of(SUBJECTS["7"], workshop)
    kernel = finish_kernel(request, workshop, with_selftest=False)
    title = (
        f"# Mistakes that the fuzzer must notice, night of {date}\n\n`ci/nightly/mutants.py`: "
        f"{CALLS} random ioctls each, on {request.tree.description} with qemu/kconfig/debug.config.\n\n{HEAD}"
    )
    for index, mutant in enumerate(load_mutants(), start=1):
        if arguments.only not in mutant.name:
            continue
        with mutant.folder() as kmod:
            programs = build_guest_programs(
                request, kernel.build, workshop.cache, workshop.progress, Deadline.after(BUILD_LIMIT_S),
                with_selftest=False, kmod=kmod,
            )  # fmt: skip
        sample = Sample("ioctl-fuzz", "full", {"calls": CALLS}, seed=index)
        # Not unloaded: with a page that nobody gives back that would not end.
        plan = replace(
            plan_of(sample, replace(kernel, programs=programs), workshop),
            arm=mutant.name, index=index, after=SCANS if mutant.scan else (),
        )  # fmt: skip
        result = run_trial(plan, out)
        print(row(mutant, result), file=sys.stderr)
    results = {result.arm: result for _, result in all_finished(out)}
    done = [(mutant, results[mutant.name]) for mutant in load_mutants() if mutant.name in results]
    rows = "".join(f"{row(mutant, result)}\n" for mutant, result in done)
    REPORTS.mkdir(exist_ok=True)
    write_atomically(REPORTS / f"{date}-mutants.md", (title + rows).encode())
    return 0 if all(noticed(mutant, result) for mutant, result in done) else 1


if __name__ == "__main__":
    sys.exit(main())
