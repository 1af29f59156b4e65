# SPDX-License-Identifier: GPL-2.0-only
"""Bisections without kernels: is the culprit named as surely as declared, and would one see it if not?"""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest

from ci.bench.bisection_report import Row, too_wrong, write_tables
from ci.bench.bisection_world import Driver, Ending, Repeat, World, linear, merged, skips
from harness.bisect.classic import Classic
from harness.bisect.model import BAD, GOOD, History, Knowledge, Method
from harness.experiment.statistics import clopper_pearson

HISTORIES = (linear(16), linear(64), merged(64, Random("a")), merged(128, Random("b")))


def endings(method: Method, rate: float, count: int, *, check: bool = True) -> list[tuple[World, Ending]]:
    """Bisections of these histories, a tenth of their candidates skipped in half of them."""
    found = []
    for number in range(count):
        random = Random(f"{rate} {number}")
        history = HISTORIES[number % len(HISTORIES)]
        skipped = skips(len(history), random.choice((0.0, 0.1)), random)
        world = World(history, random.randrange(len(history)), rate, skipped)
        found.append((world, Driver(world, method, random, check).run()))
    return found


def wrong(found: list[tuple[World, Ending]]) -> int:
    return sum(ending.is_wrong(world) for world, ending in found)


class Hasty(Classic):
    """Believes a fifth of the clean trials that it needs."""

    def clean_trials(self, known: Knowledge) -> int:
        return max(1, super().clean_trials(known) // 5)


@pytest.mark.parametrize("rate", [0.1, 0.3, 0.6])
def test_classic_is_wrong_no_more_often_than_declared_and_a_hasty_one_is(rate: float) -> None:
    found = endings(Classic(0.95), rate, 400)
    assert clopper_pearson(wrong(found), len(found)).low <= 0.05
    assert sum(bool(ending.suspects) for _, ending in found) > 390
    hasty = endings(Hasty(0.95), rate, 400)
    assert clopper_pearson(wrong(hasty), len(hasty)).low > 0.05


def test_one_run_a_place_names_innocents_and_ten_runs_do_at_a_small_rate() -> None:
    naive = endings(Repeat(1), 0.3, 200, check=False)
    assert wrong(naive) > 100
    assert wrong(endings(Repeat(10), 0.05, 200, check=False)) > 100
    assert wrong(endings(Repeat(1), 1.0, 200, check=False)) == 0


def test_a_merged_history_is_one_history() -> None:
    for size in (1, 2, 3, 16, 200):
        history = merged(size, Random(size))
        assert len(history) == size == len(history.parents)
        assert all(parent < place for place, parents in enumerate(history.parents) for parent in parents)
        # The last one has all of them in it.
        assert history.ancestors[-1] == (1 << size) - 1
    assert any(len(parents) > 1 for parents in merged(200, Random(0)).parents)


def test_skips_are_as_many_as_asked_for_and_some_are_ranges() -> None:
    for share in (0.0, 0.05, 0.2):
        assert len(skips(256, share, Random(0))) == round(share * 256)
    chosen = skips(1024, 0.05, Random(0))
    assert sum(place + 1 in chosen for place in chosen) > 15


def test_a_world_shows_the_bug_where_the_culprit_is_in_it() -> None:
    history = History(tuple("abcd"), ((), (0,), (0,), (1, 2)))
    world = World(history, 1, 0.3, false_rate=0.001)
    assert [world.rate_at(place) for place in (GOOD, BAD, 0, 1, 2, 3)] == [0.001, 0.3, 0.001, 0.3, 0.001, 0.3]


def test_drawn_trials_show_the_bug_at_its_rate() -> None:
    world = World(linear(2), 0, 0.3)
    shown = 0
    for number in range(2000):
        driver = Driver(world, Classic(), Random(number))
        driver.answer(1, 4)
        seen = driver.tested[1]
        assert seen.reproduced <= 1 and 1 <= seen.trials <= 4
        shown += seen.reproduced
    # 1 - 0.7^4.
    interval = clopper_pearson(shown, 2000, 0.9999)
    assert interval.low < 0.7599 < interval.high


def rows(wrong: int, declared: float | None) -> list[Row]:
    """A thousand bisections of one kind, so many of them wrong."""
    return [
        Row("classic", declared, 0.0, "linear", 0.3, 64, 0.0, number < wrong, False, 100, 10, 0.5)
        for number in range(1000)
    ]


def test_the_report_tells_who_was_wrong_more_often_than_declared(tmp_path: Path) -> None:
    # The exact 95 % interval of 16 of 1000 begins at 0.9 %, that of 20 at 1.2 %.
    assert too_wrong(rows(16, 0.01)) == []
    assert "classic, rate 0.3: 20 of 1000, declared 0.01" in too_wrong(rows(20, 0.01))
    assert too_wrong(rows(500, None)) == []
    write_tables(tmp_path / "bisection.md", rows(20, 0.01), "command", 0.99)
    text = (tmp_path / "bisection.md").read_text()
    assert "| stopped, % | runs | builds | hours |" in text
    assert "| classic | 0.3 | 1000 | 2.00 | 1.23 to 3.07 | 1 | 0.0 | 100 | 10.0 | 0.50 |" in text
    assert "- classic, rate 0.3: 20 of 1000" in text
