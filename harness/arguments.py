# SPDX-License-Identifier: GPL-2.0-only
"""What the command line says instead of the experiment's file; checked before anything is built."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from harness.config import Experiment, parse_tree, validated
from harness.errors import UserError
from harness.kernel.patches import Catalogue, read_patches
from harness.process import command_line
from harness.results.runfolder import program
from harness.scenario.catalogue import load_scenario, parse_settings
from harness.suggest import did_you_mean

_BOOT = ("preempt", "cpus", "memory_mb", "machine", "accel")
_TOP = ("scenario", "trials", "seed")


def experiment_from(arguments: argparse.Namespace, base: Experiment) -> Experiment:
    """`base` with the arguments' changes. UserError for whatever does not fit."""
    changes = base.model_dump(mode="json")
    if arguments.tree:
        changes["tree"] = parse_tree(arguments.tree).model_dump(mode="json")
    changes |= {name: getattr(arguments, name) for name in _TOP if getattr(arguments, name, None) is not None}
    if changes["scenario"] != base.scenario:
        changes["set"] = {}  # those parameters are the other scenario's
    changes["set"] |= parse_settings(arguments.settings)
    changes["boot"] |= {
        name: getattr(arguments, name) for name in _BOOT if getattr(arguments, name) is not None
    }
    if arguments.verb_name == "compare":
        _add_patches(arguments, base, changes["arms"])
    experiment = validated(Experiment, changes, "the command line")
    scenario = load_scenario(experiment.scenario)
    scenario.check(experiment.boot, scenario.values(experiment.set))
    return experiment


def _add_patches(arguments: argparse.Namespace, base: Experiment, arms: dict[str, Any]) -> None:
    control, candidate = base.arm_of("control"), base.arm_of("candidate")
    words = [("", word) if "=" not in word else tuple(word.split("=", 1)) for word in arguments.patch]
    if arguments.try_patch:
        # The fix under test is then the only difference between the arms.
        arms[candidate] = {**arms[control], "role": "candidate"}
        words.append((candidate, arguments.try_patch))
    for arm, file in words:
        name = arm or candidate
        if name not in arms:
            raise UserError(
                f"--patch: no arm {name!r}{did_you_mean(name, arms)}", hint=f"arms: {', '.join(arms)}"
            )
        arms[name] = {**arms[name], "patches": [*arms[name]["patches"], *patch_files([file])]}


def patch_files(names: Sequence[str]) -> list[str]:
    """Files by absolute path, catalogue ids as they are; UserError for what is neither, or holds no patch."""
    ids = Catalogue.load().ids
    found = []
    for name in names:
        if name in ids:
            found.append(name)
            continue
        path = Path(name)
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
