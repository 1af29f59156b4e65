# SPDX-License-Identifier: GPL-2.0-only
"""`hmm-harness replay`: 0 if the guest said the same byte for byte, 1 if not, 2 if it cannot be the same."""

from __future__ import annotations

import argparse
import json

from harness.cache import Cache
from harness.deadline import Deadline
from harness.display import Display
from harness.experiment.replay import recorded_trial, replay_trial
from harness.experiment.trial import INITRAMFS
from harness.target.debugger import debug
from harness.target.qemu import QemuTarget


def main(arguments: argparse.Namespace, display: Display) -> int:
    """Carry the verb out; its exit status."""
    trial = recorded_trial(arguments.trial.resolve(), INITRAMFS, Cache(arguments.cache.resolve()))
    if arguments.gdb:
        said = trial.until_onset()
        display.note(f"to message {len(said)} of {len(trial.agent)}, the last that showed progress")
        display.close()
        return debug(trial.plan, trial.symbols(), said, Deadline.after(trial.limit_s))
    with display.step(f"replay of {trial.folder.name}"):
        comparison = replay_trial(trial, QemuTarget())
    display.result(comparison.text())
    if arguments.json:
        print(json.dumps(comparison.as_json()), flush=True)
    return 1 if comparison.difference else 0
