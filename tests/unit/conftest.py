# SPDX-License-Identifier: GPL-2.0-only
"""For the tests that boot nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.cache import Cache
from harness.deadline import Deadline
from harness.kmod import build_static_programs
from tests.unit.kernelroom import Notes


@pytest.fixture(scope="session")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the stressor and the guest's init, compiled once."""
    return build_static_programs(Cache(tmp_path_factory.mktemp("programs")), Notes(), Deadline.after(300))
