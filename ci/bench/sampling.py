# SPDX-License-Identifier: GPL-2.0-only
"""What vCPU samples cost the guest: iterations per second with and without them, in pairs of blocks.

Run with `.venv/bin/python ci/bench/sampling.py [--pairs N]`. Prints one JSON object: the share of its
iteration rate that the guest loses, with the 95 % interval of the mean over the pairs (Student's t, on
logarithms of the ratios). Blocks of one boot, because boots differ by more than samples cost.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import tempfile
import threading
from bisect import bisect_left
from itertools import pairwise
from pathlib import Path

import numpy as np
from scipy import stats

from harness.cache import default_cache_folder
from harness.config import load_experiment
from harness.deadline import Deadline
from harness.disk import append_line
from harness.display import PlainProgress
from harness.experiment.compare import arm_kernels
from harness.experiment.kernels import BootableKernel, experiment_for, get_tree
from harness.experiment.options import Workshop
from harness.experiment.trial import Stage, boot_plan, guest_entries
from harness.guest.initramfs import write_initramfs
from harness.guest.plan import Exec, Insmod, PowerOff, Step
from harness.guest.protocol import Iteration, parse_line
from harness.target.machine import pick_machine
from harness.target.protocol import AgentLine, BootPlan, VcpuSample
from harness.target.qemu import SAMPLE_S, QemuGuest, QemuTarget
from harness.target.sampler import sample_cpus

BLOCK_S = 2.0


def plan_for(kernel: BootableKernel, folder: Path) -> BootPlan:
    """The fixed kernel and the default scenario, for longer than anybody waits."""
    experiment = load_experiment("linux-7")
    exec_ = Exec("/hmm-stressor", ("trylock-starvation", "iterations=1000000", "seed=1"))
    steps: list[Step] = [Insmod("/hmm_harness.ko"), exec_, PowerOff()]
    image = write_initramfs(folder / "initramfs", guest_entries(kernel.programs, steps))
    stage = Stage(QemuTarget(), pick_machine("auto"), "tcg")
    return boot_plan(kernel, experiment.boot, stage, image)


def next_iteration_s(guest: QemuGuest) -> float:
    """When the next iteration was over, s since power-on."""
    while event := guest.next_event(Deadline.after(60)):
        if isinstance(event, AgentLine) and isinstance(parse_line(event.text), Iteration):
            return event.host_s
    raise SystemExit("the guest stopped iterating")


def measure(guest: QemuGuest, blocks: list[bool], folder: Path) -> list[float]:
    """Iterations per second in each block; in those that are True the CPUs are sampled."""
    log = folder / "samples"

    def emit(running: bool, cpus: tuple[VcpuSample, ...]) -> None:
        append_line(log, repr((running, cpus)))

    ends, edges = [next_iteration_s(guest)], []
    for sampled in blocks:
        edges.append(ends[-1])
        over = threading.Event()
        arguments = (guest.monitor, guest.pid, SAMPLE_S, over, emit)
        sampler = threading.Thread(target=sample_cpus, args=arguments)
        if sampled:
            sampler.start()
        while ends[-1] < edges[-1] + BLOCK_S:
            ends.append(next_iteration_s(guest))
        over.set()
        if sampled:
            sampler.join()
    edges.append(ends[-1])
    # Blocks begin and end with an iteration: whole ones only.
    counts = [bisect_left(ends, end) - bisect_left(ends, begin) for begin, end in pairwise(edges)]
    return [count / (end - begin) for count, (begin, end) in zip(counts, pairwise(edges), strict=True)]


def main() -> None:
    """Measure in pairs, each the other way round than the one before, and print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=50)
    pairs = parser.parse_args().pairs
    workshop = Workshop.at(default_cache_folder(), PlainProgress(sys.stderr))
    tree = get_tree(load_experiment("linux-7").tree, workshop)
    experiment = experiment_for(tree.version)[1]
    kernels = arm_kernels(experiment, tree, pick_machine("auto"), workshop)
    blocks = [sampled for number in range(pairs) for sampled in (bool(number % 2), not number % 2)]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        guest = QemuGuest(plan_for(kernels[experiment.arm_of("candidate")], folder), folder)
        try:
            rates = measure(guest, blocks, folder)
        finally:
            guest.close()
    logs = []
    for number in range(pairs):
        pair = dict(zip(blocks[2 * number :], rates[2 * number : 2 * number + 2], strict=False))
        logs.append(math.log(pair[True] / pair[False]))
    mean = float(np.mean(logs))
    half = float(stats.t.ppf(0.975, pairs - 1) * stats.sem(logs))
    low, high = (100 * (1 - math.exp(value)) for value in (mean + half, mean - half))
    figures = {
        "tree": tree.description,
        "sample_s": SAMPLE_S,
        "pairs": pairs,
        "block_s": BLOCK_S,
        "iterations_per_s": round(float(np.mean(rates)), 1),
        "cost_percent": round(100 * (1 - math.exp(mean)), 2),
        "ci95_percent": [round(low, 2), round(high, 2)],
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
