# SPDX-License-Identifier: GPL-2.0-only
"""What pytest loads: options and fixtures. The rest of the harness is only imported when they are used."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from harness.config import Experiment
    from harness.experiment.kernels import BootableKernel
    from harness.lab.bench import Bench
    from harness.results.runfolder import TrialResult
    from harness.target.protocol import Target

#: The name under which the suite is registered, if there is one.
SUITE = "hmm-suite"


def pytest_addoption(parser: pytest.Parser) -> None:
    """The options."""
    group = parser.getgroup("hmm", "trials of kernels (hmm-harness)")
    group.addoption(
        "--hmm-config",
        metavar="FILE",
        help="an experiment, as `hmm-harness compare` takes it: run it as tests",
    )
    group.addoption(
        "--hmm-target",
        metavar="T",
        default="",
        help="where kernels boot: qemu, or a box's YAML file (default: as the experiment has it, else qemu)",
    )
    group.addoption(
        "--hmm-scenario", metavar="NAME", action="append", default=[],
        help="run this scenario instead of the experiment's (repeatable)",
    )  # fmt: skip
    group.addoption("--hmm-out", metavar="FOLDER", default="runs", help="where evidence goes (default: runs)")


def pytest_configure(config: pytest.Config) -> None:
    """Bring the suite in, if there is one."""
    config.addinivalue_line("markers", "hmm: boots a kernel with --hmm-config (deselect with -m 'not hmm')")
    if config.getoption("hmm_config"):
        from harness.lab.suite import Suite

        config.pluginmanager.register(Suite.of(config), SUITE)
    elif config.getoption("hmm_scenario") or config.getoption("hmm_target"):
        raise pytest.UsageError("--hmm-scenario and --hmm-target need --hmm-config FILE")


@pytest.fixture(scope="session")
def hmm_bench(pytestconfig: pytest.Config) -> Bench:
    """Where kernels are made and booted. A test that wants it is skipped without --hmm-config."""
    suite = pytestconfig.pluginmanager.getplugin(SUITE)
    if suite is None:
        pytest.skip("needs --hmm-config FILE")
    bench: Bench = suite.bench
    return bench


@pytest.fixture(scope="session")
def hmm_experiment(hmm_bench: Bench) -> Experiment:
    """The experiment of --hmm-config."""
    return hmm_bench.experiment


@pytest.fixture(scope="session")
def hmm_target(hmm_bench: Bench) -> Target:
    """Where kernels boot."""
    return hmm_bench.target


@pytest.fixture(scope="session")
def hmm_kernel(hmm_bench: Bench) -> Callable[[str], BootableKernel]:
    """hmm_kernel(NAME): a kernel of the experiment, built or taken from the cache."""
    return hmm_bench.kernel


@pytest.fixture
def hmm_trial(hmm_bench: Bench, request: pytest.FixtureRequest) -> Callable[..., TrialResult]:
    """hmm_trial(KERNEL, SCENARIO, seed=1, **SETTINGS): one trial, as `hmm-harness run`; its result.

    `result.folder` is where its evidence is. What the result says is a property of the test in JUnit.
    InfraError, which shows as an error and not as a failure, if there is none.
    """

    def trial(kernel: str, scenario: str = "", *, seed: int = 1, **settings: int | str) -> TrialResult:
        result = hmm_bench.trial(kernel, scenario, seed, settings)
        request.node.user_properties += hmm_bench.properties(result)
        return result

    return trial


@pytest.fixture(scope="session")
def hmm_check() -> Callable[[TrialResult], None]:
    """hmm_check(RESULT): fails, skips or errs as the suite's own tests do."""
    from harness.lab.outcomes import check

    return check
