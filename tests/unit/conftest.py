# SPDX-License-Identifier: GPL-2.0-only
"""For the tests that boot nothing."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.cache import Cache, default_cache_folder
from harness.deadline import Deadline
from harness.kernel.spec import KernelTree
from harness.kmod import build_static_programs
from tests.unit.kernelroom import Notes, toy_tree
from tests.unit.linters import LINTERS, Linters


@pytest.fixture(scope="session", autouse=True)
def linters(request: pytest.FixtureRequest) -> Iterator[Linters]:
    """At work from the beginning, those whose tests are among the session's."""
    files = {item.path.name for item in request.session.items}
    wanted = {name: argv for file in LINTERS if file in files for name, argv in LINTERS[file].items()}
    with contextlib.closing(Linters(wanted)) as working:
        yield working


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
