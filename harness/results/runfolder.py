# SPDX-License-Identifier: GPL-2.0-only
"""The folder of a run: written first, closed last; whatever was measured is in it at any moment."""

from __future__ import annotations

import contextlib
import json
import secrets
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import ConfigDict, Field, TypeAdapter

from harness import __version__
from harness.config import Experiment, validated
from harness.disk import disk_errors, write_atomically
from harness.errors import InfraError, UserError
from harness.results import SCHEMA as SCHEMA
from harness.watch.kinds import OutcomeKind

RECORD = "run.json"
#: The experiment as it was run, with what the command line changed.
EXPERIMENT = "experiment.yaml"


@dataclass(frozen=True)
class TrialResult:
    """What one trial came to; the same live and read back from its `run.json`."""

    __pydantic_config__ = ConfigDict(use_attribute_docstrings=True)

    arm: str
    index: int
    seed: int
    kind: Annotated[OutcomeKind, Field(alias="outcome")]
    title: str
    signature: str
    """The class and top frames of what decided, without offsets; empty if nothing did."""
    is_bug: bool
    """True if that is the scenario's own bug."""
    windows: int
    """Iterations in which all conditions of the bug met."""
    iterations: int
    seconds: float
    """Wall time from power-on to the end, s."""
    preempt: str
    """The preemption model that the guest reported."""
    folder: str
    """The trial's folder, relative to the run's."""
    splat: tuple[str, ...] = ()
    """First lines of the splat."""
    proof: str = ""
    """What the guest's memory proved of a hang: cycle, partial or none; empty if nobody looked."""
    cycle: tuple[str, ...] = ()
    """The cycle of waiters, or the longest chain of them, as lines of text."""
    onset_s: float | None = None
    """The last sign of progress before a hang, s since power-on."""
    decided_s: float | None = None
    """When the outcome was clear, s since power-on."""
    console_s: float | None = None
    """When the kernel itself first reported a hang on the console, s since power-on."""
    judged_until_s: float | None = None
    """What came later is evidence that the harness asked for, and was not judged; s since power-on."""
    metrics: Mapping[str, float] = field(default_factory=dict)
    """What the stressor measured, by name; units are in the scenario's catalogue entry."""

    def as_json(self) -> dict[str, Any]:
        """The result as JSON values; `outcome` is the kind."""
        fields = asdict(self)
        return {"outcome": str(fields.pop("kind")), **fields}

    @classmethod
    def from_json(cls, value: Any) -> TrialResult:
        """What `as_json` gave; what a later version added is left out. ValueError for another value."""
        return _RESULTS.validate_python(value)


_RESULTS = TypeAdapter(TrialResult)


def top_frames(signature: str) -> tuple[str, ...]:
    """The frames of a signature that two splats of one defect share; deeper ones depend on who came by."""
    return tuple(signature.split(" < ")[1:4])


def arm_of(name: str) -> str:
    """What a bisection tests, as folders are named: 12 digits of a commit, plain letters otherwise."""
    if len(name) == 40 and all(letter in "0123456789abcdef" for letter in name):
        return name[:12]
    return "".join(letter if letter.isalnum() or letter in "._-" else "-" for letter in name)[:80]


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


def utc_now() -> str:
    """The time in UTC, as records have it."""
    return datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def run_facts(verb: str, reproduce: str, **more: Any) -> dict[str, Any]:
    """What a run's record says from the start; `id` names the run wherever its folder goes."""
    named = {"verb": verb, "id": secrets.token_hex(8), "version": __version__, "cwd": str(Path.cwd())}
    return {**named, "reproduce": reproduce, **more}


def resumed_facts(record: Mapping[str, Any]) -> dict[str, Any]:
    """What of a run's record stays when it goes on: all but how it ended."""
    return {
        name: value for name, value in record.items() if name not in ("schema", "state", "ended", "error")
    }


@contextlib.contextmanager
def open_record(folder: Path, facts: Mapping[str, Any]) -> Iterator[Callable[..., None]]:
    """A `run.json` that always tells how far its run or trial came, when it began and when it ended.

    It exists when the block is entered (state `running`); the block gets `update(state, **more)`, whose
    `more` stays. Left by Ctrl-C it says `interrupted`, by another exception `failed`, with the error; the
    exception goes on.
    """
    known: dict[str, Any] = {"begun": utc_now(), **facts}

    def update(state: str, **more: Any) -> None:
        known.update(more)
        ended = {} if state in ("building", "running") else {"ended": utc_now()}
        write_record(folder, {"state": state, **known, **ended})

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
        number = f"{len(kept) + 1:02d}-"
        # One that was kept with another run has its number already.
        target = folder / "patches" / f"{number}{source.name.removeprefix(number)}"
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
    """The finished trials of the arms that `fingerprints` names, by arm and index.

    UserError if one of them ran another kernel, module or stressor than it names for the arm.
    """
    found = {}
    for fingerprint, result in all_finished(folder):
        if result.arm not in fingerprints:
            continue
        if fingerprint != fingerprints[result.arm]:
            raise UserError(
                f"{folder / result.folder} ran another kernel, module or stressor than there is now",
                hint="start a new run: its trials cannot be counted with these",
            )
        found[(result.arm, result.index)] = result
    return found
