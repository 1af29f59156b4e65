# SPDX-License-Identifier: GPL-2.0-only
"""Old runs made small, then removed: the evidence first, the verdicts last, and nothing that is at work."""

from __future__ import annotations

import contextlib
import re
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from harness.disk import disk_errors, size_on_disk
from harness.errors import InfraError, UserError
from harness.results.lock import alone_in
from harness.results.reading import RunRecord
from harness.results.runfolder import RECORD, read_record, utc_now, write_record
from harness.results.store import begun_of

#: What is done with a run: it stays, its evidence goes, all of it goes.
Fate = Literal["kept", "evidence", "all"]
#: Beside the trials, evidence too: a kernel with its initramfs.
_REPRO = "repro"
#: Of a trial its record stays: the outcome, and what it ran.
_STAYS = frozenset({RECORD})
#: Verbs that go on where they were ended, from the evidence of what they did.
_RESUMED = frozenset({"compare", "bisect", "matrix"})


@dataclass(frozen=True)
class Limit:
    """What is kept: the newest `count` runs, or those not older than `seconds`."""

    count: int | None = None
    seconds: float | None = None

    @classmethod
    def read(cls, text: str) -> Limit:
        """`30`: so many runs; `30d`: so many days. UserError else."""
        found = re.fullmatch(r"(\d{1,9})(d?)", text, re.ASCII)
        if not found:
            raise UserError(
                f"cannot read {text!r}", hint="--keep 30 keeps 30 runs, --keep 30d those of 30 days"
            )
        return cls(seconds=int(found[1]) * 86400.0) if found[2] else cls(count=int(found[1]))

    def keeps(self, place: int, age_s: float) -> bool:
        """Whether a run stays that is the `place`-th newest, from 0, and so old."""
        return place < self.count if self.count is not None else age_s <= (self.seconds or 0.0)


@dataclass(frozen=True)
class Pruned:
    """What became of one run, or would. `why`: it stays although it is old."""

    run: RunRecord
    fate: Fate
    freed: int
    why: str = ""


def plan(
    runs: Sequence[RunRecord], evidence: Limit | None, verdicts: Limit | None, now_s: float
) -> list[Pruned]:
    """What would become of each run, the newest first; `freed` in bytes."""
    found = []
    for place, run in enumerate(sorted(runs, key=begun_of, reverse=True)):
        age_s = now_s - begun_of(run)
        if verdicts and not verdicts.keeps(place, age_s):
            found.append(_judged(run, "all"))
        elif evidence and not evidence.keeps(place, age_s):
            found.append(_judged(run, "evidence"))
        else:
            found.append(Pruned(run, "kept", 0))
    return found


def _judged(run: RunRecord, fate: Fate) -> Pruned:
    if run.at_work:
        return Pruned(run, "kept", 0, "somebody is at work there")
    if fate == "evidence" and run.state != "finished" and run.verb in _RESUMED and run.trials:
        return Pruned(run, "kept", 0, f"it is {run.standing} and can go on")
    places = [run.folder] if fate == "all" else list(_evidence(run.folder))
    return Pruned(run, fate, sum(map(size_on_disk, places)))


def carry_out(pruned: Pruned) -> None:
    """Remove what is to be removed. InfraError for what cannot be; UserError if somebody is at work there."""
    folder = pruned.run.folder
    if pruned.fate == "kept":
        return
    records = (folder, *(trial.folder for trial in pruned.run.trials)) if pruned.fate == "evidence" else ()
    with alone_in(folder):
        # First said, then done: whoever finds the rest knows why. A full disk takes it afterwards only.
        with contextlib.suppress(InfraError):
            _mark(records)
        places = [folder] if pruned.fate == "all" else list(_evidence(folder))
        for place in places:
            with disk_errors(place):
                shutil.rmtree(place) if place.is_dir() and not place.is_symlink() else place.unlink()
        _mark(records)


def _mark(folders: Sequence[Path]) -> None:
    """Say in these records that the evidence is gone."""
    for folder in folders:
        record = read_record(folder)
        del record["schema"]
        if not record.get("pruned"):
            write_record(folder, {**record, "pruned": utc_now()})


def _evidence(folder: Path) -> Iterator[Path]:
    """Files and folders of a run that are evidence of its trials."""
    for trial in folder.glob("trials/*/"):
        yield from (path for path in trial.iterdir() if path.name not in _STAYS)
    if (folder / _REPRO).exists():
        yield folder / _REPRO
