# SPDX-License-Identifier: GPL-2.0-only
"""The parts of a console that are read: the right ones, at the right time, each line with its report."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.plain import plain
from harness.results.excerpt import AFTER, BEFORE, HEAD, TAIL, console_excerpt

LOG = Path(__file__).resolve().parents[1] / "data" / "console" / "7.3-unfixed-preempt-none-soft-lockup.log"
LINES = 40_000


@pytest.fixture
def long_console(tmp_path: Path) -> Path:
    """A line every millisecond, each 32 bytes and with its number; three of them read at once."""
    with (tmp_path / "console.log").open("w") as log, (tmp_path / "console.times").open("w") as times:
        for number in range(LINES):
            if number % 3 == 0:
                times.write(f"{number * 32} {number / 1000!r}\n")
            log.write(f"[{number / 1000:12.6f}] {number:016d}\n")
    return tmp_path


def numbers(lines: list[str]) -> list[int]:
    return [int(line.split("] ")[1]) for line in lines]


def test_a_long_console_is_read_at_its_ends_and_around_the_moments(long_console: Path) -> None:
    excerpt = console_excerpt(long_console, [12.0, 31.0])
    shown = [numbers([line.shown for line in part.lines]) for part in excerpt.parts]
    for part, found in zip(excerpt.parts, shown, strict=True):
        assert found == list(range(part.begin // 32, part.end // 32))  # whole lines, none twice
        assert part.host_s == found[0] // 3 * 3 / 1000
    first, *moments, last = shown
    assert first[0] == 0 and last[-1] == LINES - 1
    assert all(moment in found for moment, found in zip((12_000, 31_000), moments, strict=True))
    assert sum(map(len, shown)) * 32 <= HEAD + TAIL + 2 * (BEFORE + AFTER)


def test_what_was_asked_for_begins_where_the_judged_console_ends(long_console: Path) -> None:
    end = 5_000 * 32
    judged = console_excerpt(long_console, [4.0], end=end)
    asked = console_excerpt(long_console, [], begin=end)
    assert numbers([judged.parts[-1].lines[-1].shown]) == [4_999]
    assert numbers([asked.parts[0].lines[0].shown]) == [5_000]


def test_lines_know_their_report(tmp_path: Path) -> None:
    (tmp_path / "console.log").write_bytes(LOG.read_bytes())
    (part,) = console_excerpt(tmp_path, []).parts
    (event, *_) = part.events
    mine = [line for line in part.lines if line.event == 0]
    assert [line.text for line in mine] == list(event.text)
    assert "watchdog: BUG: soft lockup" in mine[0].shown and mine[0].shown.startswith("[")


def test_no_console_and_a_damaged_record_of_times(tmp_path: Path) -> None:
    assert console_excerpt(tmp_path, [1.0]).parts == ()
    (tmp_path / "console.log").write_bytes(b"[    0.1] a line\n" * 20_000)
    (tmp_path / "console.times").write_bytes(b"0 0.1\n\xff\xfe no mark\n\n99999999999999999999 1e400\n" * 50)
    parts = console_excerpt(tmp_path, [5.0]).parts
    assert parts and parts[0].lines[0].shown == "[    0.1] a line"


def test_what_would_hide_or_turn_text_is_written_out() -> None:
    assert plain("a\x1b[1mb\u202ec\x85d\ud800\n\te\u200b") == "a\\x1b[1mb\\u202ec\\x85d\\ud800\n\te\\u200b"
    assert plain("Prüfstand → ✓ 試験") == "Prüfstand → ✓ 試験"
