# SPDX-License-Identifier: GPL-2.0-only
"""What progress looks like on a pipe and on a terminal."""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from rich.console import Console

from harness.display import LiveProgress, PlainProgress, about, elapsed, make_progress


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


ROOT = Path(__file__).resolve().parents[2]


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def environ(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """A terminal of 80 columns that can do colours."""
    for name in ("NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE", "COLORTERM"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "80")
    return monkeypatch


@pytest.mark.parametrize(("error", "said"), [(ValueError, "failed"), (KeyboardInterrupt, "interrupted")])
def test_a_step_that_does_not_come_to_its_end_says_why(error: type[BaseException], said: str) -> None:
    for progress in (PlainProgress(io.StringIO()), LiveProgress(Terminal())):
        with pytest.raises(error), closing(progress), progress.step("boot"):
            raise error
        told = progress.stream
        assert isinstance(told, io.StringIO) and re.search(rf"boot:? +{said} after", told.getvalue())


def test_a_terminal_keeps_finished_steps_and_the_last_table() -> None:
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


@pytest.mark.parametrize(
    ("stream", "settings", "coloured"),
    [
        (Terminal, {}, True),
        (Terminal, {"NO_COLOR": "1"}, False),
        (Terminal, {"TERM": "dumb"}, False),
        (io.StringIO, {}, False),
        (io.StringIO, {"FORCE_COLOR": "1"}, True),
        (io.StringIO, {"FORCE_COLOR": "1", "NO_COLOR": "1"}, False),
    ],
)
def test_colours_are_for_terminals_unless_somebody_says_otherwise(
    stream: type[io.StringIO], settings: dict[str, str], coloured: bool, environ: pytest.MonkeyPatch
) -> None:
    for name, value in settings.items():
        environ.setenv(name, value)
    shown = stream()
    make_progress(shown).result("", "verdict: not_fixed", "  why")
    assert ("\x1b[1;31m" in shown.getvalue()) is coloured
    assert re.sub(r"\x1b\[[0-9;]*m", "", shown.getvalue()) == "\nverdict: not_fixed\n  why\n"


def test_a_dumb_terminal_is_not_redrawn(environ: pytest.MonkeyPatch) -> None:
    environ.setenv("TERM", "dumb")
    stream = Terminal()
    progress = make_progress(stream)
    with progress.step("kernel base"):
        pass
    progress.close()
    assert "\x1b" not in stream.getvalue() and "kernel base: done in" in stream.getvalue()


@pytest.mark.parametrize("columns", [60, 80, 120])
def test_nothing_live_is_wider_than_the_terminal(columns: int, environ: pytest.MonkeyPatch) -> None:
    environ.setenv("COLUMNS", str(columns))
    progress = make_progress(Terminal())
    assert isinstance(progress, LiveProgress)
    with progress.step("building Debian linux-source-7.3 7.3.4-1~bpo13+1") as step:
        step.update("CC drivers/gpu/drm/a/very/long/name/of/a/file.o", 1000, 3000)
        row = ("1", "unfixed", "base-without-wait", "1", "livelock (the bug)", "17", "0", "3.2")
        head = ("trial", "arm", "kernel", "seed", "outcome", "windows", "iterations", "seconds")
        progress.table(head, [row], running="trial 2 of 12: fixed, about 25 s left")
        shown = Console(file=io.StringIO(), width=columns, highlight=False)
        shown.print(progress)
        said = shown.file.getvalue()  # type: ignore[attr-defined]
    progress.close()
    assert "0.0 s, about 5 s left" in said and "about 25 s left" in said and "windows" in said
    assert ("iterations" in said) is (columns > 80)
    assert max(map(len, said.split("\n"))) <= columns


def test_what_a_guest_said_does_nothing_to_the_terminal() -> None:
    stream = Terminal()
    progress = make_progress(stream)
    progress.note("a\x1b[2Jb")
    progress.result("c\x1b]0;title\x07d")
    assert "a\\x1b[2Jb" in stream.getvalue() and "c\\x1b]0;title\\x07d" in stream.getvalue()


def test_quiet_shows_results_alone() -> None:
    stream = Terminal()
    progress = make_progress(stream, quiet=True)
    with progress.step("kernel base") as step:
        step.update("mm/memory.o", 3, 10)
    progress.note("a note")
    progress.table(("trial",), [("1",)])
    progress.result("the end")
    assert stream.getvalue() == "the end\n"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, ""),
        (2, "about 5 s left"),
        (33, "about 35 s left"),
        (130, "about 2 min left"),
        (7200, "about 2.0 h left"),
    ],
)
def test_an_estimate_is_round(seconds: float, text: str) -> None:
    assert about(seconds) == text


def test_a_locale_that_knows_ascii_only_gets_a_result_all_the_same() -> None:
    environ = {**os.environ, "LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}
    program = (
        "from harness.cli import main; from harness.verbs import history\n"
        "history.main = lambda given, shown: shown.result('what does not fit\\u2026') or 0\n"
        "main(['history'])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, env=environ, capture_output=True, check=True
    )
    assert done.stdout == b"what does not fit?\n"
