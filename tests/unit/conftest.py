# SPDX-License-Identifier: GPL-2.0-only
"""For the tests that boot nothing."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.cache import Cache, default_cache_folder
from harness.deadline import Deadline
from harness.kernel.spec import KernelTree
from harness.kmod import build_static_programs
from tests.unit.kernelroom import Notes, toy_tree

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session", autouse=True)
def mypy(request: pytest.FixtureRequest) -> Iterator[subprocess.Popen[str] | None]:
    """mypy, which takes longest of all, at work beside the other tests if test_quality.py is among them."""
    if not any(item.path.name == "test_quality.py" for item in request.session.items):
        yield None
        return
    argv = [sys.executable, "-m", "mypy"]
    out = subprocess.PIPE
    with subprocess.Popen(argv, cwd=ROOT, stdout=out, stderr=subprocess.STDOUT, text=True) as process:
        yield process
        process.kill()


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    """An empty one."""
    return Cache(tmp_path / "cache")


@pytest.fixture
def tree(cache: Cache) -> KernelTree:
    """The toy."""
    return toy_tree(cache.folder("trees", "toy"))


@pytest.fixture(scope="session")
def programs() -> Path:
    """The folder of the stressor and the guest's init, from the cache that the tests that boot use too."""
    return build_static_programs(Cache(default_cache_folder()), Notes(), Deadline.after(300))
