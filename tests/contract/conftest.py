# SPDX-License-Identifier: GPL-2.0-only
"""The box of tests/vm, and a kernel that boots there and in guests."""

from __future__ import annotations

import pytest

from harness.config import load_experiment
from harness.experiment.kernels import BootableKernel, get_tree, make_kernel
from harness.experiment.options import Workshop
from tests.vm.box.fixtures import box, installed, the_box
from tests.vm.conftest import workshop

__all__ = ["box", "boxed_6_12", "installed", "the_box", "workshop"]


@pytest.fixture(scope="session")
def boxed_6_12(workshop: Workshop) -> BootableKernel:
    """6.12 with the change that brought the bug, with what a box needs."""
    experiment = load_experiment("linux-6.12")
    tree = get_tree(experiment.tree, workshop)
    return make_kernel(tree, experiment.kernels["trylock"], [], "box", workshop)
