# SPDX-License-Identifier: GPL-2.0-only
"""The modules as their users' trees see them: silent at W=1 and before checkpatch; unloaded after use."""

from __future__ import annotations

import errno
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from harness.assets import asset
from harness.errors import UserError
from harness.experiment.kernels import BootableKernel
from harness.guest.initramfs import copy
from harness.guest.plan import Exec, Insmod, PowerOff, Rmmod, Step, Write
from harness.guest.protocol import Corruption, End, ErrorMessage, Exit
from harness.scenario.catalogue import (
    ChoiceParameter,
    IntParameter,
    Scenario,
    Value,
    load_scenario,
    scenario_names,
)
from harness.target.protocol import GuestEnded
from harness.watch.console import ConsoleParser
from tests.vm.conftest import Kernels
from tests.vm.guests import console_of, make_plan, messages_of, run_guest

pytestmark = pytest.mark.vm


def c_files() -> list[Path]:
    files = [path for path in asset("kmod").rglob("*.[ch]") if "probes" not in path.parts]
    return sorted([*files, asset("qemu", "init.c")])


def test_the_modules_build_without_a_warning(newest: Kernels, linux_6_12: Kernels) -> None:
    kernels = [*newest.by_name.values(), *linux_6_12.by_name.values()]
    assert len(kernels) == 4
    modules = [module for k in kernels for module in (k.programs.module, k.programs.selftest)]
    for module in modules:
        assert module
        log = (module.parent / "build.log").read_text()
        assert " W=1 " in log and "CC [M]" in log and module.name in log
        assert "warning" not in log.lower()


def test_checkpatch_of_the_tree_says_nothing(newest: Kernels) -> None:
    script = newest.tree.path / "scripts" / "checkpatch.pl"
    argv = ["perl", str(script), "--strict", "--no-tree", "--terse", "--no-summary", "-f"]
    done = subprocess.run([*argv, *map(str, c_files())], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, ""), done.stdout + done.stderr


#: What makes a scenario short that has no iterations.
SHORT: dict[str, dict[str, Value]] = {
    "churn": {"operations": 500},
    "ioctl-fuzz": {"calls": 2000},
    "slow-progress": {"interval_ms": 100},
    "two-devices": {"interval_ms": 100},
}
#: Bugs that the fixed kernel has all the same: a scenario of theirs would hang it.
UNFIXED = {
    "newest": {
        "pmd-trylock-starvation",
        "split-unmapped-folio",
        "zap-migration-entry",
        "freed-anon-vma",
    },
    "linux_6_12": {"pmd-trylock-starvation", "refcount-livelock", "freed-anon-vma"},
}


Run = tuple[Scenario, list[str]]


def runs_of(kernel: BootableKernel, unfixed: set[str]) -> Iterator[Run]:
    """Every scenario of the catalogue that the kernel can run, in short, and each of its windows."""
    for name in scenario_names():
        scenario = load_scenario(name)
        try:
            scenario.check_kernel(kernel.build.version, kernel.build.config.read_text())
        except UserError:
            continue
        if scenario.program != "stressor" or scenario.bug in unfixed or "none" not in scenario.needs.preempt:
            continue
        iterations = scenario.parameters.get("iterations")
        few: dict[str, Value] = {}
        if isinstance(iterations, IntParameter):
            few["iterations"] = max(2, iterations.minimum)
        window = scenario.parameters.get("window")
        for choice in window.choices if isinstance(window, ChoiceParameter) else ("",):
            given = {"window": choice} if choice else {}
            values = scenario.values({**few, **SHORT.get(name, {}), **given})
            yield scenario, [f"{key}={value}" for key, value in values.items()]


@pytest.mark.parametrize("cpus", [2, 3])
@pytest.mark.parametrize("tree", ["newest", "linux_6_12"])
def test_the_module_unloads_after_every_scenario(
    tree: str, cpus: int, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    """Each with as many CPUs as it needs, at least two."""
    kernels: Kernels = request.getfixturevalue(tree)
    kernel = kernels.by_name[kernels.experiment.arms["fixed"].kernel]
    programs = kernel.programs
    files = [
        copy("hmm_harness.ko", programs.module),
        copy("hmm-stressor", programs.stressor, executable=True),
    ]
    by_cpus = {2: list[Run](), 3: list[Run]()}
    for run in runs_of(kernel, UNFIXED[tree]):
        by_cpus[max(2, run[0].needs.cpus)].append(run)
    runs = by_cpus[cpus]
    wanted = {2: {"ioctl-check", "ioctl-fuzz", "trylock-starvation"}, 3: {"awaited-page-reuse"}}
    assert wanted[cpus] <= {scenario.name for scenario, _ in runs}
    steps: list[Step] = []
    for scenario, words in runs:
        steps += [
            Insmod("/hmm_harness.ko", scenario.module_words),
            Exec("/hmm-stressor", (scenario.name, *words)),
            Rmmod("hmm_harness"),
        ]
    # Twice, as somebody at a shell would: what a device has counted before is nothing to it.
    steps += [Insmod("/hmm_harness.ko", ("devices=8",)), *[Exec("/hmm-stressor", ("ioctl-check",))] * 2]
    steps += [Rmmod("hmm_harness"), PowerOff()]
    plan = make_plan(kernel.build.boot_image, programs.init.parent, tmp_path, steps, files)
    events = run_guest(replace(plan, cpus=cpus), tmp_path / "guest", patience_s=600)

    messages = messages_of(events)
    assert [message for message in messages if isinstance(message, ErrorMessage | Corruption)] == []
    exits = [(message.status, message.signal) for message in messages if isinstance(message, Exit)]
    assert exits == [(0, 0)] * (len(runs) + 2)
    assert len([message for message in messages if isinstance(message, End)]) == len(exits)
    end = events[-1]
    assert isinstance(end, GuestEnded)
    assert (end.how, end.status) == ("exited", 0)
    parser = ConsoleParser()
    assert parser.feed(console_of(events), 0.0) + parser.close() == []


@pytest.mark.parametrize("tree", ["newest", "linux_6_12"])
def test_the_module_that_fails_on_purpose_unloads_where_the_guest_lives_on(
    tree: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    """Also while a CPU spins: unloading is what ends that."""
    kernels: Kernels = request.getfixturevalue(tree)
    kernel = kernels.by_name[kernels.experiment.arms["fixed"].kernel]
    programs = kernel.programs
    assert programs.selftest
    files = [
        copy("hmm_selftest.ko", programs.selftest),
        copy("hmm-stressor", programs.stressor, executable=True),
    ]
    names = ("warning", "corruption", "hung-task", "workqueue-lockup", "soft-lockup", "flood-then-lockup")
    steps: list[Step] = []
    for name in names:
        steps += [
            Insmod("/hmm_selftest.ko", ("delay_ms=0",)),
            Write("/dev/hmm_selftest", name),
            Exec("/hmm-stressor", ("idle", "seconds=1")),
            Rmmod("hmm_selftest"),
        ]
    steps += [Insmod("/hmm_selftest.ko", ("cpu=0",)), Write("/dev/hmm_selftest", "soft-lokup"), PowerOff()]
    plan = make_plan(kernel.build.boot_image, programs.init.parent, tmp_path, steps, files)
    events = run_guest(plan, tmp_path / "guest")

    messages = messages_of(events)
    assert len([message for message in messages if isinstance(message, End)]) == len(names)
    (refused,) = [message for message in messages if isinstance(message, ErrorMessage)]
    assert (refused.what, refused.number) == ("write", errno.EINVAL)
    parser = ConsoleParser()
    found = [*parser.feed(console_of(events), 0.0), *parser.close()]
    assert [event.cls for event in found if event.complete and event.is_failure] == ["warning", "corruption"]
