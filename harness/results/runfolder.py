# SPDX-License-Identifier: GPL-2.0-only
"""The folder of a run: written first, closed last; whatever was measured is in it at any moment."""

from __future__ import annotations

import contextlib
import json
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import yaml

from harness.config import Experiment, validated
from harness.disk import disk_errors, write_atomically
from harness.errors import InfraError, UserError
from harness.watch.kinds import OutcomeKind

SCHEMA = 1
RECORD = "run.json"
#: The experiment as it was run, with what the command line changed.
EXPERIMENT = "experiment.yaml"


@dataclass(frozen=True)
class TrialResult:
    """What one trial came to; the same live and read back from its `run.json`."""

    arm: str
    index: int
    seed: int
    kind: OutcomeKind
    title: str
    #: The class and top frames of what decided, without offsets; empty if nothing did.
    signature: str
    #: True if that is the scenario's own bug.
    is_bug: bool
    #: Iterations in which all conditions of the bug met.
    windows: int
    iterations: int
    #: Wall time from power-on to the end, s.
    seconds: float
    #: The preemption model that the guest reported.
    preempt: str
    #: The trial's folder, relative to the run's.
    folder: str
    #: First lines of the splat.
    splat: tuple[str, ...] = field(default=())
    #: What the guest's memory proved of a hang: cycle, partial or none; empty if nobody looked.
    proof: str = ""
    #: The cycle of waiters, or the longest chain of them, as lines of text.
    cycle: tuple[str, ...] = field(default=())
    #: The last sign of progress before a hang, and when the outcome was clear, s since power-on.
    onset_s: float | None = None
    decided_s: float | None = None
    #: When the kernel itself first reported a hang on the console, s since power-on.
    console_s: float | None = None
    #: What came later is evidence that the harness asked for, and was not judged; s since power-on.
    judged_until_s: float | None = None
    #: What the stressor measured, by name; units are in the scenario's catalogue entry.
    metrics: Mapping[str, float] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """The result as JSON values; `outcome` is the kind."""
        fields = asdict(self)
        return {"outcome": str(fields.pop("kind")), **fields}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> TrialResult:
        """What `as_json` gave."""
        fields = dict(value)
        kind = OutcomeKind(fields.pop("outcome"))
        lists = {name: tuple(fields.get(name, ())) for name in ("splat", "cycle")}
        return cls(kind=kind, **{**fields, **lists})


def make_run_folder(out: Path, name: str) -> Path:
    """A new folder `out/YYYYmmdd-HHMMSS-name`, never one that exists."""
    stamp = time.strftime("%Y%m%d-%H%M%S")
    for suffix in ("", *(f"-{n}" for n in range(2, 1000))):
        folder = out / f"{stamp}-{name}{suffix}"
        with disk_errors(folder):
            try:
                folder.mkdir(parents=True)
            except FileExistsError:
                continue
        return folder
    raise UserError(f"{out} has a thousand runs of this second", hint="give another folder with --out")


def unfinished_run(out: Path, key: str) -> Path | None:
    """The newest run below `out` whose record has this `key` and no end; None if there is none."""
    for path in sorted(out.glob(f"*/{RECORD}"), reverse=True):
        with contextlib.suppress(UserError):
            record = read_record(path.parent)
            if record.get("key") == key:
                return None if record["state"] == "finished" else path.parent
    return None


def program() -> str:
    """How this program was called, for commands that a person can repeat."""
    called = sys.argv[0]
    name = Path(called).name
    found = shutil.which(name)
    if name == "__main__.py":
        return "hmm-harness"
    return name if found and Path(found).resolve() == Path(called).resolve() else called


def write_experiment(folder: Path, experiment: Experiment) -> None:
    """Leave the experiment in the folder, in the form that `compare` takes; the folder can be moved."""
    values = experiment.model_dump(mode="json")
    for holder in (*values["kernels"].values(), *values["arms"].values()):
        holder["patches"] = [name.removeprefix(f"{folder}/") for name in holder["patches"]]
    write_atomically(folder / EXPERIMENT, yaml.safe_dump(values, sort_keys=False).encode())


@contextlib.contextmanager
def open_record(folder: Path, facts: Mapping[str, Any]) -> Iterator[Callable[..., None]]:
    """A `run.json` that always tells how far its run came.

    It exists when the block is entered (state `running`); the block gets `update(state, **more)`. Left by
    Ctrl-C it says `interrupted`, by another exception `failed`, with the error; the exception goes on.
    """

    def update(state: str, **more: Any) -> None:
        write_record(folder, {"state": state, **facts, **more})

    update("running")
    try:
        yield update
    except BaseException as error:
        with contextlib.suppress(InfraError):  # a full disk must not hide what happened
            if isinstance(error, KeyboardInterrupt):
                update("interrupted")
            else:
                update("failed", error=str(error) or type(error).__name__)
        raise


def keep_patches(folder: Path, experiment: Experiment) -> Experiment:
    """The experiment with its patch files copied into the folder: evidence needs no file elsewhere."""
    values = experiment.model_dump(mode="json")
    kept: dict[str, str] = {}
    for holder in (*values["kernels"].values(), *values["arms"].values()):
        holder["patches"] = [_keep(folder, name, kept) for name in holder["patches"]]
    return validated(Experiment, values, "the experiment")


def _keep(folder: Path, name: str, kept: dict[str, str]) -> str:
    """A patch file's copy in the folder; the name itself if it is one of the catalogue's."""
    source = Path(name)
    if not source.is_absolute():
        return name
    if name not in kept:
        target = folder / "patches" / f"{len(kept) + 1:02d}-{source.name}"
        with disk_errors(target):
            target.parent.mkdir(exist_ok=True)
            shutil.copyfile(source, target)
        kept[name] = str(target)
    return kept[name]


def write_record(folder: Path, record: Mapping[str, Any]) -> None:
    """Replace the folder's `run.json` in one step."""
    text = json.dumps({"schema": SCHEMA, **record}, indent=1) + "\n"
    write_atomically(folder / RECORD, text.encode())


def read_record(folder: Path) -> dict[str, Any]:
    """The folder's `run.json`; UserError if it is none of ours."""
    path = folder / RECORD
    try:
        record = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else f"no JSON, or cut short: {error}"
        raise UserError(
            f"cannot read {path}: {reason}", hint="give the folder of a run of this program"
        ) from error
    schema = record.get("schema") if isinstance(record, dict) else None
    if isinstance(schema, int) and schema > SCHEMA:
        raise UserError(
            f"{path} has schema {schema}, this program reads up to {SCHEMA}",
            hint="a newer version of this program wrote it: read it with that",
        )
    if not isinstance(record, dict) or schema != SCHEMA:
        raise UserError(f"{path} is no record of schema {SCHEMA}", hint="it is not from this program")
    return record


def all_finished(folder: Path) -> list[tuple[str, TrialResult]]:
    """The finished trials of a run with their fingerprints, by folder; what was cut short is left out."""
    found = []
    for path in sorted(folder.glob(f"trials/*/{RECORD}")):
        try:
            record = read_record(path.parent)
        except UserError:
            continue  # cut short: the trial is run again
        if record.get("state") == "finished":
            found.append((record["fingerprint"], TrialResult.from_json(record["result"])))
    return found


def finished_trials(folder: Path, fingerprints: Mapping[str, str]) -> dict[tuple[str, int], TrialResult]:
    """The finished trials of a run, by arm and index.

    UserError if one of them ran another kernel, module or stressor than `fingerprints` names for its arm.
    """
    found = {}
    for fingerprint, result in all_finished(folder):
        if fingerprint != fingerprints.get(result.arm):
            raise UserError(
                f"{folder / result.folder} ran another kernel, module or stressor than there is now",
                hint="start a new comparison: its trials cannot be counted with these",
            )
        found[(result.arm, result.index)] = result
    return found
