# SPDX-License-Identifier: GPL-2.0-only
"""The limits of detection are in order, and grow with the host's slowness."""

from __future__ import annotations

from typing import Any

import pytest

from harness.config import load_experiment
from harness.guest.protocol import Hello, ModuleMessage, parse_line
from harness.scenario.catalogue import load_scenario, scenario_names
from harness.watch.thresholds import MAX_SLOWNESS, REFERENCE_NS, Thresholds, slowness


def hello(**more: Any) -> Hello:
    return Hello(type="hello", protocol=1, t=0.5, release="7.3.4", preempt="none", cpus=2, **more)


@pytest.mark.parametrize(("stall_s", "suspect_s"), [(3.0, 1.0), (20.0, 3.5), (20.0, 0.0)])
def test_limits_out_of_order_are_refused(stall_s: float, suspect_s: float) -> None:
    with pytest.raises(ValueError, match="out of order"):
        Thresholds(stall_s=stall_s, suspect_s=suspect_s)


@pytest.mark.parametrize("watchdog_thresh_s", [1, 5, 10, 60])
@pytest.mark.parametrize("factor", [1.0, 1.4, 4.0, 20.0])
def test_a_suspicion_comes_before_the_kernels_report_and_that_before_the_stall(
    watchdog_thresh_s: int, factor: float
) -> None:
    limits = Thresholds.of(20, watchdog_thresh_s).scaled(factor)
    assert 0 < limits.suspect_s < limits.soft_lockup_s < limits.stall_s
    assert limits.stall_s >= 20 * factor and limits.look_again_s == 2.0 * factor


def test_each_scenario_has_limits_in_order() -> None:
    for name in scenario_names():
        limits = load_scenario(name).limits(load_experiment("linux-7").boot)
        assert limits.soft_lockup_s == pytest.approx(3.4) and limits.stall_s >= 20


def test_a_guest_that_says_nothing_of_its_speed_is_taken_to_be_as_fast_as_the_reference() -> None:
    assert slowness(hello()) == 1.0


@pytest.mark.parametrize(("times", "expected"), [(0.3, 1.0), (1.0, 1.0), (2.5, 2.5), (500.0, MAX_SLOWNESS)])
def test_slowness_is_against_the_reference(times: float, expected: float) -> None:
    loops = 1_000_000
    ms = times * REFERENCE_NS * loops / 1e6
    assert slowness(hello(calibration_ms=ms, calibration_loops=loops)) == pytest.approx(expected)


def test_where_a_modules_text_is() -> None:
    message = parse_line('{"type":"module","t":0.7,"name":"hmm","text":"0xffffffffa0000000","bss":"0x1"}')
    assert isinstance(message, ModuleMessage) and message.address == 0xFFFFFFFFA0000000
    hidden = parse_line('{"type":"module","t":0.7,"name":"hmm_harness"}')
    assert isinstance(hidden, ModuleMessage) and hidden.address == 0
