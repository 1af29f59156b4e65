# SPDX-License-Identifier: GPL-2.0-only
"""What vCPU samples cost the guest: iterations per second with and without them, in pairs.

Run with `.venv/bin/python ci/bench/sampling.py [--pairs N]`. Prints one JSON object: the share of its
iteration rate that the guest loses, with the 95 % interval of the mean over the pairs (Student's t, on
logarithms of the ratios).
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import tempfile
from pathlib import Path

import numpy as np
from scipy import stats

from harness.cache import default_cache_folder
from harness.config import load_experiment
from harness.deadline import Deadline
from harness.display import PlainProgress
from harness.experiment.compare import arm_kernels
from harness.experiment.kernels import BootableKernel, experiment_for, get_tree
from harness.experiment.options import Workshop
from harness.experiment.trial import Stage, boot_plan, guest_entries
from harness.guest.initramfs import write_initramfs
from harness.guest.plan import Exec, Insmod, PowerOff, Step
from harness.guest.protocol import End, parse_line
from harness.target.machine import pick_machine
from harness.target.protocol import AgentLine, BootPlan
from harness.target.qemu import SAMPLE_S, QemuTarget

ITERATIONS = 100


def rate(plan: BootPlan, sample_s: float | None) -> float:
    """Iterations per second of one boot, by the guest's clock."""
    target = QemuTarget(sample_s=sample_s)
    with tempfile.TemporaryDirectory() as name, target.boot(plan, Path(name), Deadline.after(300)) as guest:
        while event := guest.next_event(Deadline.after(300)):
            message = parse_line(event.text) if isinstance(event, AgentLine) else None
            if isinstance(message, End):
                assert message.status == 0 and message.iterations == ITERATIONS
                return message.iterations / float((message.model_extra or {})["seconds"])
    raise SystemExit("a guest did not come to its end")


def plan_for(kernel: BootableKernel, folder: Path) -> BootPlan:
    """The fixed kernel and the default scenario, for `ITERATIONS` iterations."""
    experiment = load_experiment("linux-7")
    exec_ = Exec("/hmm-stressor", ("trylock-starvation", f"iterations={ITERATIONS}", "seed=1"))
    steps: list[Step] = [Insmod("/hmm_harness.ko"), exec_, PowerOff()]
    image = write_initramfs(folder / "initramfs", guest_entries(kernel.programs, steps))
    return boot_plan(kernel, experiment.boot, Stage(QemuTarget(), pick_machine("auto"), "tcg"), image)


def main() -> None:
    """Measure in pairs, each the other way round than the one before, and print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=12)
    pairs = parser.parse_args().pairs
    workshop = Workshop.at(default_cache_folder(), PlainProgress(sys.stderr))
    tree = get_tree(load_experiment("linux-7").tree, workshop)
    experiment = experiment_for(tree.version)[1]
    kernels = arm_kernels(experiment, tree, pick_machine("auto"), workshop)
    logs = []
    with tempfile.TemporaryDirectory() as name:
        plan = plan_for(kernels[experiment.arm_of("candidate")], Path(name))
        for number in range(pairs):
            order = (SAMPLE_S, None) if number % 2 else (None, SAMPLE_S)
            rates = {sample_s: rate(plan, sample_s) for sample_s in order}
            logs.append(math.log(rates[SAMPLE_S] / rates[None]))
            print(f"pair {number + 1}: {100 * (1 - math.exp(logs[-1])):+.2f} %", file=sys.stderr)
    mean = float(np.mean(logs))
    half = float(stats.t.ppf(0.975, pairs - 1) * stats.sem(logs))
    low, high = (100 * (1 - math.exp(value)) for value in (mean + half, mean - half))
    print(
        json.dumps(
            {
                "tree": tree.description,
                "sample_s": SAMPLE_S,
                "pairs": pairs,
                "iterations": ITERATIONS,
                "cost_percent": round(100 * (1 - math.exp(mean)), 2),
                "ci95_percent": [round(low, 2), round(high, 2)],
            }
        )
    )


if __name__ == "__main__":
    main()
