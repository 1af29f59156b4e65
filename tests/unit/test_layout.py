# SPDX-License-Identifier: GPL-2.0-only
"""Reports fit the terminal: real ones, at 60, 80 and 120 columns, and nothing of them is lost."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from harness.experiment.report import comparison_json
from harness.layout import Part, Prose, Table, Whole, fitted, folded, laid_out, wrapped
from harness.results.report import report_parts
from harness.selftest.cases import load_cases
from tests.unit.runroom import comparison
from tests.unit.test_matrix import cells_of

WIDTHS = (60, 80, 120)


def checked(parts: list[Part], width: int) -> list[str]:
    """The lines, none of which is too long but for one that has a path or command to copy."""
    whole = [part.text for part in parts if isinstance(part, Whole)]
    lines = laid_out(parts, width)
    for line in lines:
        assert len(line) <= width or line.strip() in whole or " " not in line.strip(), line
    return lines


def words_of(lines: list[str]) -> list[str]:
    """All characters of the lines but blanks, sorted: cells go on below, so that their order changes."""
    return sorted(re.sub(r"\s", "", "".join(lines)))


@pytest.mark.parametrize("width", WIDTHS)
def test_a_comparison_fits_and_loses_nothing(width: int, tmp_path: Path) -> None:
    folder, _, done = comparison(tmp_path / "runs", tmp_path / "room")
    parts = report_parts("compare", comparison_json(done, 61.0), done.results, folder)
    lines = checked(parts, width)
    assert words_of(lines) == words_of(laid_out(parts))
    assert any(line.strip() == str(folder) or line.endswith(str(folder)) for line in lines)


@pytest.mark.parametrize("width", WIDTHS)
def test_a_matrix_fits_and_loses_nothing(width: int, tmp_path: Path) -> None:
    _, result = cells_of(tmp_path)
    parts = report_parts("matrix", result.model_dump(mode="json"), [], tmp_path)
    assert words_of(checked(parts, width)) == words_of(laid_out(parts))


@pytest.mark.parametrize("width", WIDTHS)
def test_the_table_of_cases_fits(width: int) -> None:
    rows = [(case.name, str(case.expect.outcome), case.provokes) for case in load_cases()]
    table = Table([("case", "reported as", "what is done to the guest"), *rows], indent=0)
    assert words_of(checked([table], width)) == words_of(laid_out([table]))


def test_columns_give_way_where_words_end_before_words_are_broken() -> None:
    rows = [("arm", "kernel", "outcomes"), ("unfixed", "base-without-wait", "3 livelock, 3 completed")]
    assert folded(rows, 0) == [
        "arm      kernel             outcomes",
        "unfixed  base-without-wait  3 livelock, 3 completed",
    ]
    assert folded(rows, 40) == [
        "arm      kernel             outcomes",
        "unfixed  base-without-wait  3 livelock,",
        "                            3 completed",
    ]
    narrow = folded(rows, 20)
    assert max(map(len, narrow)) <= 20 and words_of(narrow) == words_of(folded(rows, 0))


def test_a_table_too_wide_is_turned_or_taken_apart_rather_than_broken_inside_words() -> None:
    head = ("arm", "trials", "windows", "outcomes")
    rows = [head, ("unfixed", "6", "6", "6 livelock"), ("fixed", "6", "9", "6 completed")]
    assert laid_out([Table(rows)], 32) == [
        "  arm       unfixed    fixed",
        "  trials    6          6",
        "  windows   6          9",
        "  outcomes  6          6",
        "            livelock   completed",
    ]
    assert laid_out([Table([*rows, *rows[1:]])], 32)[:4] == [
        "  arm unfixed",
        "    trials    6",
        "    windows   6",
        "    outcomes  6 livelock",
    ]


def test_a_listing_keeps_the_names_by_which_more_is_shown() -> None:
    rows = [
        ("run", "outcome", "scenario"),
        ("20261129-123929", "not_reproduced", "trylock-starvation-forced"),
    ]
    lines = fitted(rows, 40, whole=1)
    assert lines[1].startswith("20261129-123929  ") and max(map(len, lines)) <= 40


def test_what_is_copied_is_not_broken() -> None:
    command = "hmm-harness compare --experiment /a/very/long/path/to/an/experiment.yaml --trials 6"
    assert laid_out([Whole("  again   ", command)], 60) == ["  again", f"    {command}"]
    assert laid_out([Whole("  again   ", "hmm-harness compare")], 60) == ["  again   hmm-harness compare"]


def test_a_line_goes_on_below_its_value() -> None:
    line = "  guest    microvm on tcg, 2 CPUs, preempt=none, watchdog_thresh=1, and more of it"
    first, second = wrapped(line, 60)
    assert second.startswith(" " * 11) and f"{first} {second.strip()}" == line
    assert wrapped(line, 0) == [line]


def test_sentences_are_broken_even_in_a_file() -> None:
    lines = laid_out([Prose("word " * 100)])
    assert all(len(line) <= 110 for line in lines) and lines[1].startswith("    word")
