# SPDX-License-Identifier: GPL-2.0-only
"""How many guests fit on a machine, and what is said to somebody who wants more."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from harness.cli import grammar
from harness.config import BootConfig
from harness.display import make_progress
from harness.errors import UserError
from harness.experiment import placement
from harness.experiment.placement import TRIAL_MB, Host, Need, need_of, places
from harness.experiment.runner import OneByOne
from harness.verbs.runners import runner_for

SMALL = Need(1, 1000)
PAIR = Need(2, 1000)


def test_a_guest_takes_its_cpus_and_its_memory_and_on_the_virtual_clock_one_core() -> None:
    assert need_of(BootConfig(cpus=4, memory_mb=512)) == Need(4, 512 + TRIAL_MB)
    assert need_of(BootConfig(cpus=4, memory_mb=512, clock="virtual")) == Need(1, 512 + TRIAL_MB)


@pytest.mark.parametrize(
    ("host", "needs", "fits"),
    [
        (Host(4, 9000), [PAIR, PAIR], True),
        (Host(4, 9000), [PAIR, PAIR, SMALL], False),
        (Host(4, 9000), [PAIR, SMALL, SMALL], True),
        (Host(16, 2999), [PAIR, PAIR, SMALL], False),
        (Host(16, 3000), [PAIR, PAIR, SMALL], True),
        (Host(1, 100), [PAIR], True),  # alone: as it ever was
        (Host(1, 100), [], True),
    ],
)
def test_no_core_and_no_memory_is_given_twice(host: Host, needs: list[Need], fits: bool) -> None:
    assert host.holds(needs) == fits


@pytest.mark.parametrize(
    ("wanted", "host", "needs", "number", "says"),
    [
        (1, Host(2, 9000), [PAIR], 1, ""),
        (3, Host(8, 9000), [PAIR], 3, ""),
        (3, Host(4, 9000), [PAIR], 2, "--jobs 3 is more than fits, 2 trials at once: a trial takes 2 cores"),
        (2, Host(2, 9000), [PAIR], 1, "--jobs 2 is more than fits, one trial at a time"),
        (8, Host(64, 3500), [PAIR], 3, "this machine has 64 cores and 3500 MB free"),
        ("auto", Host(6, 9000), [PAIR], 3, "3 trials at once"),
        ("auto", Host(6, 9000), [PAIR, SMALL], 6, "6 trials at once: a trial takes 1 core"),
        ("auto", Host(1, 100), [PAIR], 1, "one trial at a time"),
    ],
)
def test_more_than_fits_is_lowered_and_said(
    wanted: int, host: Host, needs: list[Need], number: int, says: str
) -> None:
    found, word = places(wanted if isinstance(wanted, int) else "auto", host, needs)
    assert found == number and says in word and bool(says) == bool(word)


def test_a_containers_limits_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(placement, "_CGROUP", tmp_path)
    free = Host.here()
    assert free.cores >= 1 and free.memory_mb > 0
    (tmp_path / "cpu.max").write_text("150000 100000\n")
    (tmp_path / "memory.max").write_text(f"{300 * 2**20}\n")
    (tmp_path / "memory.current").write_text(f"{100 * 2**20}\n")
    assert Host.here() == Host(1, 200)
    (tmp_path / "cpu.max").write_text("max 100000\n")
    (tmp_path / "memory.max").write_text("max\n")
    assert Host.here().cores == free.cores and Host.here().memory_mb > 200


def test_what_there_is_one_of_is_used_by_one_trial_at_a_time(capsys: pytest.CaptureFixture[str]) -> None:
    display = make_progress(sys.stdout)
    given = grammar().parse_args(["compare", "--jobs", "4"])
    with runner_for(given, [BootConfig()], display, "0000:03:00.0") as runner:
        assert isinstance(runner, OneByOne)
    assert "one trial at a time: all use 0000:03:00.0" in capsys.readouterr().out
    given = grammar().parse_args(["compare", "--scheduler", "tcp://a:1"])
    with (
        pytest.raises(UserError, match=r"use 0000:03:00\.0, which workers do not have"),
        runner_for(given, [BootConfig()], display, "0000:03:00.0"),
    ):
        pass


def test_the_command_line_takes_a_number_or_auto_or_a_scheduler(capsys: pytest.CaptureFixture[str]) -> None:
    for verb in ("compare", "matrix"):
        assert grammar().parse_args([verb]).jobs == 1
        assert grammar().parse_args([verb, "--jobs", "auto"]).jobs == "auto"
        for words in (["--jobs", "0"], ["--jobs", "all"], ["--jobs", "2", "--scheduler", "tcp://a:1"]):
            with pytest.raises(SystemExit):
                grammar().parse_args([verb, *words])
    assert "not allowed with argument --jobs" in capsys.readouterr().err
