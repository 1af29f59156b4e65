# SPDX-License-Identifier: GPL-2.0-only
"""What the command line says instead of the experiment's file; checked before anything is built."""

from __future__ import annotations

import argparse
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from harness.config import (
    DEFAULT_ERROR,
    Experiment,
    FolderTree,
    QemuConfig,
    builtin_experiments,
    load_experiment,
    parse_tree,
    validated,
)
from harness.errors import UserError
from harness.kernel.patches import Catalogue, read_patches
from harness.process import command_line
from harness.results.runfolder import program
from harness.scenario.catalogue import parse_settings, scenario_values
from harness.suggest import did_you_mean
from harness.target.qemufile import load_qemu

_BOOT = ("preempt", "cpus", "memory_mb", "machine", "accel", "clock")
_TOP = ("scenario", "trials", "seed")
#: Options that change an experiment, and their value when they were not given.
_CHANGING: dict[str, object] = {
    **dict.fromkeys((*_BOOT, *_TOP, "target", "seeds", "tree", "try_patch", "experiment"), None),
    "settings": [],
    "fragments": [],
    "patch": [],
    "until_sure": False,
}


def experiment_named(reference: str) -> Experiment:
    """A built-in experiment, or one in a file; paths in a file are relative to the file."""
    experiment = load_experiment(reference)
    if reference in builtin_experiments():
        return experiment
    folder = Path(reference).resolve().parent
    values = experiment.model_dump(mode="json")
    defects: list[str] = []
    for kind in ("kernels", "arms"):
        for name, holder in values[kind].items():
            try:
                holder["patches"] = patch_files(holder["patches"], folder)
            except UserError as error:
                defects.append(f"{kind}.{name}.patches: {error.message}")
    try:
        scenario_values(experiment)
    except UserError as error:
        defects.append(f"scenario: {error.message}")
    if defects:
        raise UserError("\n".join(f"{reference}: {defect}" for defect in defects))
    if experiment.qemu.userland:
        values["qemu"]["userland"] = str((folder / experiment.qemu.userland).resolve())
    if experiment.target:
        _set_target(values, folder / experiment.target)
    if isinstance(experiment.tree, FolderTree):
        values["tree"]["path"] = str((folder / experiment.tree.path).resolve())
    return validated(Experiment, values, reference)


def experiment_from(arguments: argparse.Namespace, base: Experiment) -> Experiment:
    """`base` with the arguments' changes. UserError for whatever does not fit."""
    changes = base.model_dump(mode="json")
    given = {name: value for name, value in vars(arguments).items() if value is not None}
    if "tree" in given:
        changes["tree"] = parse_tree(given["tree"]).model_dump(mode="json")
    changes |= {name: given[name] for name in _TOP if name in given}
    if "target" in given:
        _set_target(changes, given["target"])
    if "seeds" in given:
        changes |= _seeds(given)
    if given.get("until_sure") and base.error is None:
        changes["error"] = DEFAULT_ERROR
    if changes["scenario"] != base.scenario:
        changes["set"] = {}  # those parameters are the other scenario's
    changes["set"] |= parse_settings(given.get("settings", []))
    changes["boot"] |= {name: given[name] for name in _BOOT if name in given}
    for kernel in changes["kernels"].values():
        kernel["fragments"] = list(dict.fromkeys([*kernel["fragments"], *given.get("fragments", [])]))
    if "try_patch" in vars(arguments):
        _add_patches(arguments, base, changes["arms"])
    return validated(Experiment, changes, "the command line")


def _set_target(values: dict[str, Any], path: Path) -> None:
    """The place that a target's file describes: a box, or QEMU with something of this machine."""
    qemu = load_qemu(path)
    values["target"] = "" if qemu else str(path.resolve())
    values["qemu"] = (qemu or QemuConfig()).model_dump(mode="json")
    if qemu and qemu.vfio and values["boot"]["machine"] == "auto":
        values["boot"]["machine"] = "q35"


def changed_by(arguments: argparse.Namespace) -> list[str]:
    """The options given that change an experiment, as they are written."""
    names = {
        "settings": "--set",
        "fragments": "--fragment",
        "try_patch": "--try",
        "experiment": "an experiment",
    }
    return [
        names.get(name, f"--{name.replace('_', '-')}")
        for name, unset in _CHANGING.items()
        if getattr(arguments, name, unset) != unset
    ]


def in_qemu_only(experiment: Experiment, verb: str) -> None:
    """UserError for an experiment on a box."""
    if experiment.target:
        raise UserError(f"{verb} runs in QEMU, not on a target", hint="leave out `target` of the experiment")


def _add_patches(arguments: argparse.Namespace, base: Experiment, arms: dict[str, Any]) -> None:
    control, candidate = base.arm_of("control"), base.arm_of("candidate")
    pairs = [_arm_and_file(word, candidate, arms) for word in arguments.patch]
    if arguments.try_patch:
        # The fix under test is then the only difference between the arms.
        arms[candidate] = {**arms[control], "role": "candidate"}
        pairs.append((candidate, arguments.try_patch))
    for arm, file in pairs:
        arms[arm] = {**arms[arm], "patches": [*arms[arm]["patches"], *patch_files([file])]}


def _seeds(given: Mapping[str, Any]) -> dict[str, int]:
    """`--seeds A..B` as the first seed and the number of trials. UserError for anything else."""
    also = [f"--{name}" for name in ("seed", "trials") if name in given]
    if also:
        raise UserError(f"--seeds says what {' and '.join(also)} would", hint="give one or the other")
    found = re.fullmatch(r"(\d{1,10})\.\.(\d{1,10})", given["seeds"], re.ASCII)
    if not found or int(found[2]) < int(found[1]):
        raise UserError(
            f"cannot read --seeds {given['seeds']!r}", hint="--seeds FIRST..LAST, as in --seeds 1..20"
        )
    first, last = int(found[1]), int(found[2])
    return {"seed": first, "trials": last - first + 1}


def _arm_and_file(word: str, default: str, arms: Mapping[str, Any]) -> tuple[str, str]:
    """`ARM=FILE`, or a FILE (which may hold a `=`) for the default arm."""
    arm, equals, file = word.partition("=")
    if not equals or Path(word).is_file():
        return default, word
    if arm not in arms:
        raise UserError(f"--patch: no arm {arm!r}{did_you_mean(arm, arms)}", hint=f"arms: {', '.join(arms)}")
    return arm, file


def patch_files(names: Sequence[str], folder: Path | None = None) -> list[str]:
    """Files by absolute path, catalogue ids as they are; relative paths start at `folder`.

    UserError for what is neither, or holds no patch.
    """
    ids = Catalogue.load().ids
    found = []
    for name in names:
        if name in ids:
            found.append(name)
            continue
        path = (folder or Path()) / name
        if not path.is_file():
            raise UserError(
                f"no patch {name!r}{did_you_mean(name, ids)}", hint=f"a file, or one of: {', '.join(ids)}"
            )
        read_patches(path)
        found.append(str(path.resolve()))
    return found


def command_of(arguments: argparse.Namespace) -> str:
    """The command that was given, to give again."""
    return command_line([program(), *arguments.argv])
