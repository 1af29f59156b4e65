# SPDX-License-Identifier: GPL-2.0-only
"""Kernels built here from real source, once a session, in the cache that the user has anyway."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from argparse import Namespace
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from harness.arguments import experiment_from
from harness.cache import default_cache_folder
from harness.config import Experiment, load_experiment
from harness.experiment.compare import arm_kernels
from harness.experiment.kernels import BootableKernel, experiment_for, get_tree
from harness.experiment.options import Workshop
from harness.experiment.stage import machine_of
from harness.kernel.tree import KernelTree
from harness.progress import Step
from tests.vm.box.fixtures import box, installed, the_box

__all__ = ["box", "installed", "the_box"]

HARNESS = Path(sys.executable).parent / "hmm-harness"


class ReporterProgress:
    """Phases as lines of pytest's own report: a build takes minutes, and a silent one looks like a hang."""

    def __init__(self, config: pytest.Config) -> None:
        self._reporter = config.pluginmanager.getplugin("terminalreporter")

    def note(self, text: str) -> None:
        self._reporter.write_line(f"  {text}")

    @contextlib.contextmanager
    def step(self, title: str) -> Iterator[Step]:
        self.note(f"{title} ...")
        yield self

    def update(self, what: str, done: int = 0, total: int = 0) -> None:
        """Too fine for a report."""

    def table(self, header: Sequence[str], rows: Sequence[Sequence[str]], running: str = "") -> None:
        """Trials show in the tests that run them."""


@dataclass(frozen=True)
class Kernels:
    """The kernels of a built-in experiment, by the names they have there."""

    tree: KernelTree
    experiment: Experiment
    by_name: Mapping[str, BootableKernel]
    #: What the program must be told beside their names.
    words: tuple[str, ...]


@pytest.fixture(scope="session")
def workshop(pytestconfig: pytest.Config) -> Workshop:
    return Workshop.at(default_cache_folder(), ReporterProgress(pytestconfig))


def _kernels(
    experiment: Experiment, tree: KernelTree, workshop: Workshop, words: tuple[str, ...] = ()
) -> Kernels:
    arms = arm_kernels(experiment, tree, machine_of(experiment), workshop)
    by_name = {arm.kernel: arms[name] for name, arm in experiment.arms.items()}
    return Kernels(tree, experiment, by_name, words)


@pytest.fixture(scope="session")
def newest(workshop: Workshop) -> Kernels:
    """The default experiment's kernels: base and base-without-wait where the newest tree is 7.0 or later."""
    tree = get_tree(load_experiment("linux-7").tree, workshop)
    return _kernels(experiment_for(tree.version)[1], tree, workshop)


#: 6.12 is built once for guests and for the box: all tests need three full builds.
BOXED = ("--fragment", "box")


@pytest.fixture(scope="session")
def linux_6_12(workshop: Workshop) -> Kernels:
    experiment = experiment_from(Namespace(fragments=["box"]), load_experiment("linux-6.12"))
    return _kernels(experiment, get_tree(experiment.tree, workshop), workshop, BOXED)


@pytest.fixture(scope="session")
def base_kernel(newest: Kernels) -> BootableKernel:
    """The newest tree with its fix in place."""
    return newest.by_name[newest.experiment.arms["fixed"].kernel]


@pytest.fixture(scope="session")
def unfixed_kernel(newest: Kernels) -> BootableKernel:
    """The same without the fix."""
    return newest.by_name[newest.experiment.arms["unfixed"].kernel]


@dataclass(frozen=True)
class Ran:
    """A program of the harness that has ended."""

    status: int
    out: str
    err: str

    @property
    def json(self) -> dict[str, Any]:
        """Standard output, which must be one JSON object and nothing else."""
        value = json.loads(self.out)
        assert isinstance(value, dict)
        return value


def harness(*words: str, out: Path, timeout: float = 900) -> Ran:
    """Run the installed program as a user would."""
    argv = [str(HARNESS), *words, "--out", str(out)]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=timeout, check=False, env=os.environ)
    return Ran(done.returncode, done.stdout, done.stderr)


def qemu_of(folder: Path) -> list[int]:
    """The process ids of QEMUs whose command line names something below `folder`."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            words = path.read_bytes().split(b"\0")
            if b"qemu-system" in words[0] and any(str(folder).encode() in word for word in words):
                found.append(int(path.parent.name))
    return found
