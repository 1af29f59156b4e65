# SPDX-License-Identifier: GPL-2.0-only
"""The frequentist search on small histories: what it tries, what it makes of the answers, when it ends."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from random import Random

import pytest

from ci.bench.bisection_world import Driver, World, linear, merged, skips
from harness.bisect.classic import Classic, most_bad, plan_for
from harness.bisect.model import (
    BAD,
    GOOD,
    Action,
    Costs,
    Evidence,
    Found,
    History,
    Knowledge,
    Place,
    Stop,
    Try,
)
from harness.experiment.statistics import rate_lower_bound

METHOD = Classic()
#: 0 - 1 - 2 - 5 and 0 - 3 - 4 - 5.
DIAMOND = History(tuple("abcdef"), ((), (0,), (1,), (0,), (3,), (2, 4)))


def measured(
    history: History, tested: Mapping[Place, Evidence] | None = None, *, skipped: Iterable[int] = ()
) -> Knowledge:
    """Both ends as they are when the bug always shows, and what else is known."""
    ends = {BAD: Evidence(0, plan_for(METHOD.confidence, len(history)).reproductions)}
    clean = METHOD.clean_trials(Knowledge(history, ends))
    return Knowledge(history, {**ends, GOOD: Evidence(clean), **(tested or {})}, frozenset(skipped))


def clean(history: History) -> Evidence:
    """As many clean trials as make a place good, when the bug always shows."""
    return Evidence(METHOD.clean_trials(measured(history)))


SHOWN = Evidence(0, 1)


def suspects(action: Action) -> tuple[int, ...]:
    assert isinstance(action, Found), action
    return action.suspects


def test_first_the_bad_end_then_the_good_one() -> None:
    history = linear(16)
    plan = plan_for(METHOD.confidence, 16)
    assert METHOD.next(Knowledge(history)) == Try(BAD, plan.reproductions)
    some = Knowledge(history, {BAD: Evidence(3, plan.reproductions - 4)})
    assert METHOD.next(some) == Try(BAD, 4)
    all_ = Knowledge(history, {BAD: Evidence(3, plan.reproductions)})
    needed = METHOD.clean_trials(all_)
    assert METHOD.next(all_) == Try(GOOD, needed)
    begun = Knowledge(history, {BAD: Evidence(3, plan.reproductions), GOOD: Evidence(needed - 2)})
    assert METHOD.next(begun) == Try(GOOD, 2)


def test_a_good_place_has_the_trials_that_the_error_allows_and_no_more() -> None:
    for size in (1, 2, 16, 4096):
        plan = plan_for(0.99, size)
        allowed = plan.rate_error + plan.verdicts * plan.verdict_error
        assert allowed == pytest.approx(0.01) and plan.verdicts == size.bit_length()
        for bad in (Evidence(0, plan.reproductions), Evidence(300, plan.reproductions)):
            known = Knowledge(linear(size), {BAD: bad})
            missed = 1.0 - rate_lower_bound(bad.reproduced, bad.trials, 1.0 - plan.rate_error)
            needed = METHOD.clean_trials(known)
            assert missed**needed <= plan.verdict_error < missed ** (needed - 1)


def test_the_trials_of_a_good_place_do_not_change_on_the_way() -> None:
    history = linear(64)
    before = METHOD.clean_trials(measured(history))
    later = measured(history, {31: SHOWN, 15: clean(history), 20: Evidence(1)}, skipped={21, 22})
    assert METHOD.clean_trials(later) == before


def test_more_confidence_takes_more_trials() -> None:
    known = measured(linear(64))
    assert Classic(0.9).clean_trials(known) < Classic(0.99).clean_trials(known)
    assert Classic(0.99).clean_trials(known) < Classic(0.9999).clean_trials(known)


def test_a_bad_end_that_never_shows_the_bug() -> None:
    history = linear(16)
    known = Knowledge(history, {BAD: Evidence(97)})
    assert METHOD.next(known) == Try(BAD, 3)
    good = METHOD.next(Knowledge(history, {BAD: Evidence(100)}))
    assert isinstance(good, Try) and good.place == GOOD and good.trials < 100
    end = METHOD.next(Knowledge(history, {BAD: Evidence(100), GOOD: Evidence(good.trials)}))
    # 0.97^100 is 0.048.
    assert isinstance(end, Stop) and "less than 3.0 % of them (at 95 %)" in end.reason and end.hint
    swapped = METHOD.next(Knowledge(history, {BAD: Evidence(100), GOOD: Evidence(1, 1)}))
    assert isinstance(swapped, Stop) and "swapped" in swapped.reason


def test_a_good_end_that_shows_the_bug() -> None:
    end = METHOD.next(measured(linear(16), {GOOD: Evidence(40, 1)}))
    assert isinstance(end, Stop) and "the good end shows the bug too, in 1 of 41 trials" in end.reason
    assert "older" in end.hint


def test_no_candidate() -> None:
    assert isinstance(METHOD.next(Knowledge(linear(0))), Stop)


def test_one_candidate_is_the_culprit() -> None:
    assert suspects(METHOD.next(measured(linear(1)))) == (0,)


def test_a_line_is_halved_and_its_culprit_named() -> None:
    history = linear(4)
    good = clean(history)
    assert METHOD.next(measured(history)) == Try(1, good.clean)
    assert METHOD.next(measured(history, {1: good})) == Try(2, good.clean)
    assert suspects(METHOD.next(measured(history, {1: good, 2: good}))) == (3,)
    assert suspects(METHOD.next(measured(history, {1: good, 2: SHOWN}))) == (2,)
    assert METHOD.next(measured(history, {1: SHOWN})) == Try(0, good.clean)
    assert suspects(METHOD.next(measured(history, {0: SHOWN, 1: SHOWN}))) == (0,)


def test_how_it_is_sure_is_said_in_words() -> None:
    end = METHOD.next(measured(linear(1)))
    assert isinstance(end, Found) and end.confidence == 0.99
    assert "clean trials" in end.how and "the rate is the same wherever the bug is" in end.how
    assert "allowed are 0.01" in end.how


@pytest.mark.parametrize(
    ("tested", "expected"),
    [
        ({2: SHOWN, 1: "good"}, (2,)),
        ({2: "good", 4: "good"}, (5,)),
        ({5: SHOWN, 2: "good", 3: SHOWN}, (3,)),
        ({2: SHOWN, 4: SHOWN}, (0,)),
    ],
)
def test_a_diamond(tested: dict[int, Evidence | str], expected: tuple[int, ...]) -> None:
    good = clean(DIAMOND)
    seen = {place: good if isinstance(what, str) else what for place, what in tested.items()}
    assert suspects(METHOD.next(measured(DIAMOND, seen))) == expected


def test_a_place_that_was_begun_is_finished() -> None:
    history = linear(64)
    needed = clean(history).clean
    for place in (3, 20, 60):
        assert METHOD.next(measured(history, {place: Evidence(needed - 1)})) == Try(place, 1)
    # One that says nothing any more is left alone.
    action = METHOD.next(measured(history, {40: SHOWN, 50: Evidence(1)}))
    assert isinstance(action, Try) and action.place < 40


def test_skipped_places_are_never_chosen_and_avoided_from_afar() -> None:
    history = linear(64)
    chosen = METHOD.next(measured(history))
    assert isinstance(chosen, Try)
    gap = set(range(chosen.place - 3, chosen.place + 4))
    around = METHOD.next(measured(history, skipped=gap))
    assert isinstance(around, Try) and around.place not in gap
    assert min(abs(around.place - place) for place in gap) > 1


def test_what_is_skipped_stays_under_suspicion() -> None:
    history = linear(8)
    good = clean(history)
    seen = {2: good, 5: SHOWN}
    assert suspects(METHOD.next(measured(history, seen, skipped={3, 4}))) == (3, 4, 5)
    assert suspects(METHOD.next(measured(history, {2: good}, skipped={3, 4, 5, 6, 7}))) == (3, 4, 5, 6, 7)
    # Skipped ones that a verdict clears are no suspects.
    assert suspects(METHOD.next(measured(history, {2: good, 3: SHOWN}, skipped={0, 5}))) == (3,)


def test_a_kernel_that_is_built_is_preferred_to_one_that_halves_a_little_better() -> None:
    ends = measured(linear(64))
    known = Knowledge(ends.history, ends.tested, ready=frozenset({2, 27}), costs=Costs(300.0, 1.0))
    action = METHOD.next(known)
    assert isinstance(action, Try) and action.place == 27
    useless = Knowledge(ends.history, ends.tested, ready=frozenset({0}), costs=Costs(1.0, 1.0))
    action = METHOD.next(useless)
    assert isinstance(action, Try) and 16 <= action.place <= 48


def test_a_reproduction_outweighs_the_clean_trials_before_it() -> None:
    history = linear(16)
    good = clean(history)
    # 7 seemed good and 8 was named; then 5, before 7, shows the bug.
    seen = {7: good, 8: SHOWN}
    assert suspects(METHOD.next(measured(history, seen))) == (8,)
    again = METHOD.next(measured(history, {**seen, 5: SHOWN}))
    assert isinstance(again, Try) and again.place < 5
    # The parent itself, seen bad after its clean trials.
    turned = METHOD.next(measured(history, {7: Evidence(good.clean, 1), 8: SHOWN}))
    assert isinstance(turned, Try) and turned.place < 7


def test_when_no_candidate_shows_the_bug_the_last_good_ones_are_tried_again() -> None:
    history = linear(8)
    good = clean(history)
    doubt = METHOD.next(measured(history, {3: good, 7: good}))
    assert doubt == Try(7, good.clean)
    assert suspects(METHOD.next(measured(history, {3: good, 6: good, 7: Evidence(9, 1)}))) == (7,)
    end = METHOD.next(measured(history, {3: good, 7: Evidence(2 * good.clean)}))
    assert isinstance(end, Stop) and "no candidate does" in end.reason


def test_reproductions_that_have_no_candidate_in_common() -> None:
    apart = History(tuple("abc"), ((), (), (0, 1)))
    end = METHOD.next(measured(apart, {0: SHOWN, 1: SHOWN}))
    assert isinstance(end, Stop) and "a, b" in end.reason


def worlds(count: int, rate: float) -> list[World]:
    """Random histories of up to 100 candidates, half of them linear, up to a fifth skipped."""
    found = []
    for number in range(count):
        random = Random(f"{rate} {number}")
        size = random.randint(1, 100)
        history = merged(size, random) if number % 2 else linear(size)
        share = random.choice((0.0, 0.0, 0.1, 0.2))
        costs = Costs(random.choice((0.0, 5.0, 100.0)), 1.0)
        culprit = random.randrange(size)
        found.append(World(history, culprit, rate, skips(size, share, random), costs=costs))
    return found


def test_any_history_ends_with_the_culprit_if_the_bug_always_shows() -> None:
    for number, world in enumerate(worlds(300, 1.0)):
        driver = Driver(world, METHOD, Random(number))
        found = driver.run().suspects
        assert world.culprit in found
        if not world.skipped:
            assert found == (world.culprit,)
        # What is not named is cleared, and several are named only for what is skipped among them.
        assert len(found) == 1 or set(found) & world.skipped
        bad = [place for place, seen in driver.tested.items() if place >= 0 and seen.reproduced]
        assert len(bad) <= most_bad(len(world.history)) + 1


def test_a_line_takes_about_as_many_places_as_there_are_halvings() -> None:
    for size in (16, 64, 256, 1024):
        for culprit in {0, 1, size // 3, size - 1}:
            world = World(linear(size), culprit, 1.0)
            driver = Driver(world, METHOD, Random(0))
            assert driver.run().suspects == (culprit,)
            # Both ends and the culprit's own check come on top.
            assert len(driver.tested) <= math.ceil(math.log2(size)) + 4


def test_the_same_knowledge_gives_the_same_action_and_a_killed_try_is_gone_on_with() -> None:
    for number, world in enumerate(worlds(40, 0.3)):
        driver, random = Driver(world, METHOD, Random(number)), Random(f"kill {number}")
        while isinstance(action := METHOD.next(driver.known()), Try):
            assert METHOD.next(driver.known()) == action
            if action.trials > 1:
                done = random.randint(1, action.trials - 1)
                driver.answer(action.place, done)
                seen = driver.tested.get(action.place, Evidence())
                if action.place not in driver.skipped and not seen.reproduced:
                    rest = METHOD.next(driver.known())
                    assert isinstance(rest, Try) and rest.place == action.place
                    if action.place != BAD:
                        assert rest.trials == action.trials - done
            else:
                driver.answer(action.place, action.trials)
