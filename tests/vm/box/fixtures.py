# SPDX-License-Identifier: GPL-2.0-only
"""The box as pytest's tests get it; a conftest.py imports these names."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.deadline import Deadline
from harness.experiment.options import Workshop

from .box import Box, Installed, box_in_lab
from .image import box_disk
from .login import login


@pytest.fixture(scope="session")
def installed(workshop: Workshop, tmp_path_factory: pytest.TempPathFactory) -> Installed:
    """A disk with keys of its own, for any number of boxes."""
    deadline = Deadline.after(900)
    common = box_disk(workshop.cache, workshop.progress, deadline)
    return Installed.create(common, tmp_path_factory.mktemp("installed"), deadline)


@pytest.fixture(scope="session")
def the_box(installed: Installed) -> Iterator[Box]:
    """One box for all tests, up; whoever uses it next has to put right what the one before left."""
    # Not below pytest's own folder: a socket's path has to be short.
    with (
        tempfile.TemporaryDirectory(prefix="box-") as name,
        box_in_lab(installed, Path(name) / "box", Deadline.after(60)) as box,
    ):
        with login(box):
            pass
        yield box


@pytest.fixture
def box(the_box: Box) -> Iterator[Box]:
    """The box, with a lab in which nothing is broken; it need not be up."""
    yield the_box
    the_box.tell("power-fails", "0")
    the_box.tell("plug", "ssh")
