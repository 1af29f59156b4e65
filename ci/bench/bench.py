# SPDX-License-Identifier: GPL-2.0-only
"""The figures that ci/README.md gives, measured: run with `.venv/bin/python ci/bench/bench.py [--cold]`.

Times are wall time on this machine; ratios are taken within one run, for machines differ and drift. `--cold`
builds the newest kernel in an empty cache (its source copied from the user's, so that downloads are apart).
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from harness.cache import default_cache_folder
from harness.config import Experiment, load_experiment
from harness.deadline import Deadline
from harness.display import PlainProgress
from harness.experiment.compare import arm_kernels
from harness.experiment.kernels import BootableKernel, experiment_for, get_tree
from harness.experiment.options import Workshop
from harness.experiment.trial import Stage, boot_plan, guest_entries
from harness.guest.initramfs import write_initramfs
from harness.guest.plan import PowerOff
from harness.guest.protocol import Hello, parse_line
from harness.kernel.tree import KernelTree
from harness.target.machine import pick_machine
from harness.target.protocol import AgentLine, BootPlan
from harness.target.qemu import QemuTarget

BOOTS = 10
TRIALS = 6


def timed(work: Callable[[], object]) -> float:
    """Seconds the work took."""
    begin = time.monotonic()
    work()
    return time.monotonic() - begin


def hello_s(plan: BootPlan) -> float:
    """Host seconds from the start of QEMU to the first message of the guest."""
    with (
        tempfile.TemporaryDirectory() as name,
        QemuTarget().boot(plan, Path(name), Deadline.after(60)) as guest,
    ):
        while event := guest.next_event(Deadline.after(60)):
            if isinstance(event, AgentLine) and isinstance(parse_line(event.text), Hello):
                return event.host_s
    raise SystemExit("a guest never said hello")


def boots(kernel: BootableKernel, experiment: Experiment) -> dict[str, float]:
    """Median seconds to hello, through PVH and through the bzImage, taking turns."""
    with tempfile.TemporaryDirectory() as name:
        image = write_initramfs(Path(name) / "initramfs", guest_entries(kernel.programs, [PowerOff()]))
        stage = Stage(QemuTarget(), pick_machine("auto"), "tcg")
        pvh = boot_plan(kernel, experiment.boot, stage, image)
        packed = replace(pvh, kernel=kernel.build.bzimage)
        pairs = [(hello_s(pvh), hello_s(packed)) for _ in range(BOOTS)]
    first, second = (statistics.median(column) for column in zip(*pairs, strict=True))
    return {
        "hello_pvh_s": first,
        "hello_bzimage_s": second,
        "hello_worst_pvh_s": max(pair[0] for pair in pairs),
    }


def compare_s(cache: Path) -> float:
    """Seconds of the default comparison, as a user starts it."""
    program = str(Path(sys.executable).parent / "hmm-harness")
    with tempfile.TemporaryDirectory() as out:
        argv = [program, "compare", "--trials", str(TRIALS), "--cache", str(cache), "--out", out]
        return timed(lambda: subprocess.run(argv, check=True, stdout=subprocess.DEVNULL))


def cold(tree: KernelTree, experiment: Experiment) -> dict[str, float]:
    """The kernels in an empty cache, one after the other, then the first comparison with them."""
    with tempfile.TemporaryDirectory(prefix="hmm-bench-") as name:
        root = Path(name)
        for part in ("trees", "resolved"):
            shutil.copytree(default_cache_folder() / part, root / part, symlinks=True)
        workshop = Workshop.at(root, PlainProgress(sys.stderr))
        begin = time.monotonic()
        kernels = arm_kernels(experiment, tree, pick_machine("auto"), workshop)
        builds = time.monotonic() - begin
        seconds = {arm: kernel.build.seconds for arm, kernel in kernels.items()}
        verdict = builds + compare_s(root)
    first, second = seconds.values()
    return {"cold_build_s": first, "second_arm_build_s": second, "cold_to_verdict_s": verdict}


def main() -> None:
    """Measure and print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cold", action="store_true", help="also build in an empty cache (minutes)")
    arguments = parser.parse_args()
    workshop = Workshop.at(default_cache_folder(), PlainProgress(sys.stderr))
    tree = get_tree(load_experiment("linux-7").tree, workshop)
    experiment = experiment_for(tree.version)[1]
    kernels = arm_kernels(experiment, tree, pick_machine("auto"), workshop)
    figures = boots(kernels[experiment.arm_of("candidate")], experiment)
    figures["warm_compare_s"] = compare_s(default_cache_folder())
    if arguments.cold:
        figures |= cold(tree, experiment)
        figures["ratio_second_arm_to_cold_build"] = figures["second_arm_build_s"] / figures["cold_build_s"]
    figures["ratio_hello_bzimage_to_pvh"] = figures["hello_bzimage_s"] / figures["hello_pvh_s"]
    print(
        json.dumps({"tree": tree.description, **{name: round(value, 3) for name, value in figures.items()}})
    )


if __name__ == "__main__":
    main()
