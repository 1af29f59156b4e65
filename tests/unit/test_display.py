# SPDX-License-Identifier: GPL-2.0-only
"""What progress looks like on a pipe and on a terminal."""

from __future__ import annotations

import io
import re

import pytest

from harness.display import LiveProgress, PlainProgress, elapsed, make_progress


def test_a_pipe_gets_plain_lines_with_times() -> None:
    stream = io.StringIO()
    progress = make_progress(stream)
    with progress.step("kernel base") as step:
        step.update("mm/memory.o", 3, 10)
    progress.table(("trial", "outcome"), [("1", "completed")])
    progress.table(("trial", "outcome"), [("1", "completed"), ("2", "soft_lockup")])
    lines = stream.getvalue().splitlines()
    assert all(re.match(r"\[ *\d+\.\d{1}s\] ", line) for line in lines)
    assert [line.partition("] ")[2] for line in lines][2:] == [
        "trial=1  outcome=completed",
        "trial=2  outcome=soft_lockup",
    ]
    assert "\x1b" not in stream.getvalue()


def test_a_step_that_fails_says_so() -> None:
    stream = io.StringIO()
    with pytest.raises(ValueError), PlainProgress(stream).step("boot"):
        raise ValueError
    assert "boot: failed after" in stream.getvalue()


def test_a_terminal_keeps_finished_steps_and_the_last_table() -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    stream = Terminal()
    progress = make_progress(stream)
    assert isinstance(progress, LiveProgress)
    with progress.step("kernel base") as step:
        step.update("mm/memory.o", 3, 10)
    progress.table(("trial", "outcome"), [("1", "soft_lockup")])
    progress.close()
    assert "✓ kernel base" in stream.getvalue() and "soft_lockup" in stream.getvalue()


@pytest.mark.parametrize(("seconds", "text"), [(4.24, "4.2 s"), (59.9, "59.9 s"), (185, "3 min 05 s")])
def test_elapsed_time_is_read_by_people(seconds: float, text: str) -> None:
    assert elapsed(seconds) == text
