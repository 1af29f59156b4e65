# SPDX-License-Identifier: GPL-2.0-only
"""A trial on another machine, as that one sees it: it says what it lacks, and sends back what it measured."""

from __future__ import annotations

import io
import platform
import tarfile
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

from distributed import Worker, get_worker

import harness
from harness.cache import Cache, default_cache_folder, digest, sha256_file
from harness.cacheuse import in_use
from harness.disk import disk_errors
from harness.errors import HarnessError
from harness.experiment.kit import Kit, Part, Shelf, at_place
from harness.experiment.lane import Lanes
from harness.experiment.placement import Host
from harness.experiment.trial import TrialPlan
from harness.results.runfolder import TrialResult

#: One for each thread of the worker.
_LANES = Lanes()


@dataclass(frozen=True)
class Errand:
    """A trial to run elsewhere; the plan's kernel is where whoever sends it has it."""

    plan: TrialPlan
    kit: Kit


@dataclass(frozen=True)
class Lacks:
    """A worker's answer: it needs these first."""

    worker: str
    parts: tuple[Part, ...]


@dataclass(frozen=True)
class Parcel:
    """What a trial came to, and its folder as a tar archive."""

    result: TrialResult
    archive: bytes

    def unpack(self, folder: Path) -> None:
        """Put the trial's folder where it would have been written; it appears whole or not at all."""
        with disk_errors(folder):
            folder.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(prefix=f".{folder.name}.", dir=folder.parent) as draft:
                with tarfile.open(fileobj=io.BytesIO(self.archive)) as archive:
                    archive.extractall(draft, filter="data")
                Path(draft, folder.name).rename(folder)


@dataclass(frozen=True)
class About:
    """A worker: its harness, and the machine it is on."""

    version: str
    machine: str
    host: Host
    threads: int


def version() -> str:
    """Of this harness, with a sum of its code: what is sent is only understood by the same."""
    root = Path(harness.__file__).parent
    files = sorted(path.relative_to(root) for path in root.rglob("*.py"))
    parts = [part for file in files for part in (str(file), sha256_file(root / file))]
    return f"{harness.__version__} ({digest(parts)[:8]})"


def about(dask_worker: Worker) -> About:
    """Said by a worker of itself."""
    return About(version(), platform.node(), Host.here(), dask_worker.state.nthreads)


def keep(part: Part, packed: bytes) -> None:
    """Keep a part for the trials to come."""
    _shelf().put(part, packed)


def carry_out(errand: Errand) -> Parcel | Lacks | HarnessError:
    """Run a trial on this worker. CancelledError, and no guest is left, once nobody wants it any more."""
    with in_use(Cache(default_cache_folder())):
        return _carried_out(errand)


def _carried_out(errand: Errand) -> Parcel | Lacks | HarnessError:
    worker, shelf = get_worker(), _shelf()
    missing = shelf.missing(errand.kit)
    if missing:
        return Lacks(worker.address, missing)
    plan = replace(errand.plan, kernel=at_place(errand.plan.kernel, shelf.lay_out(errand.kit)))
    key = worker.get_current_task()

    def unwanted() -> bool:
        task = worker.state.tasks.get(key)
        return task is None or task.state == "cancelled"

    with tempfile.TemporaryDirectory(prefix="trial-", dir=shelf.cache.folder("work")) as place:
        try:
            result = _LANES.run(plan, Path(place), unwanted)
        except HarnessError as error:
            return error
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w") as archive:
            archive.add(Path(place, plan.folder), plan.folder.name)
        return Parcel(result, buffer.getvalue())


def _shelf() -> Shelf:
    return Shelf(Cache(default_cache_folder() / "fetched"))
