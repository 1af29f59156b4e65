# SPDX-License-Identifier: GPL-2.0-only
"""For all tests."""

from __future__ import annotations

import gc
import os
import shutil
import signal
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

# A shell that starts the tests in the background ignores SIGINT, and programs inherit that: Ctrl-C is tested.
signal.signal(signal.SIGINT, signal.default_int_handler)

# Some images keep Python from writing bytecode: every program that the tests start would be compiled again.
sys.dont_write_bytecode = False
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

RECORDED = Path(__file__).resolve().parent / "data" / "run.tar.xz"


def pytest_collection_finish() -> None:
    """What has been imported stays: looking through it again and again takes a tenth of the tests' time."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def unpacked_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("recorded")
    with tarfile.open(RECORDED) as archive:
        archive.extractall(place, filter="data")
    return place / "run"


@pytest.fixture
def recorded_run(unpacked_run: Path, tmp_path: Path) -> Path:
    """The folder of a real comparison, whose candidate is a mailed fix; without images and stacks."""
    return Path(shutil.copytree(unpacked_run, tmp_path / "run", symlinks=True))


@pytest.fixture(scope="session", autouse=True)
def own_store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What tests run is not put into the store of whoever runs them."""
    before = os.environ.get("XDG_STATE_HOME")
    os.environ["XDG_STATE_HOME"] = str(tmp_path_factory.mktemp("state"))
    yield
    if before is None:
        del os.environ["XDG_STATE_HOME"]
    else:
        os.environ["XDG_STATE_HOME"] = before
