# SPDX-License-Identifier: GPL-2.0-only
"""Bisections without kernels: made-up histories, trials that are drawn, and the driver's way through them."""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass, field
from random import Random

from harness.bisect.check import doubt
from harness.bisect.model import (
    BAD,
    GOOD,
    Costs,
    Evidence,
    Found,
    History,
    Knowledge,
    Method,
    Place,
    Stop,
    Try,
)

#: Seconds a kernel and a trial take.
COSTS = Costs(30.0, 2.0)
#: A search that takes more steps than this goes round in circles.
MOST_STEPS = 20_000


@dataclass(frozen=True)
class World:
    """What is true: which candidate is the culprit, how often the bug shows, what cannot be tested.

    false_rate: how often a trial of a kernel without the bug seems to show it.
    """

    history: History
    culprit: int
    rate: float
    skipped: frozenset[int] = frozenset()
    false_rate: float = 0.0
    costs: Costs = COSTS

    def rate_at(self, place: Place) -> float:
        """How often a trial at the place seems to show the bug."""
        if place == GOOD:
            return self.false_rate
        has_bug = place == BAD or self.history.ancestors[place] >> self.culprit & 1
        return self.rate if has_bug else self.false_rate


@dataclass(frozen=True)
class Ending:
    """How a bisection ended: the suspects (none if it stopped, for the reason), and what it cost."""

    suspects: tuple[int, ...]
    runs: int
    builds: int
    seconds: float
    reason: str = ""

    def is_wrong(self, world: World) -> bool:
        """Whether it named others than the culprit; a bisection that stopped named nobody."""
        return bool(self.suspects) and world.culprit not in self.suspects


@dataclass
class Driver:
    """Goes through a world by a method as the harness does: answers its tries, then checks the culprit.

    check: whether a sole suspect and all its parents are tested before it is named. `known` may be given with
    evidence from before.
    """

    world: World
    method: Method
    random: Random
    check: bool = True
    tested: dict[Place, Evidence] = field(default_factory=dict)
    skipped: set[int] = field(default_factory=set)
    built: set[Place] = field(default_factory=set)

    def known(self) -> Knowledge:
        """What a method is told."""
        return Knowledge(
            self.world.history,
            dict(self.tested),
            frozenset(self.skipped),
            frozenset(self.built - self.skipped),
            self.world.costs,
        )

    def run(self) -> Ending:
        """The bisection from here to its end. RuntimeError if it does not end."""
        for _ in range(MOST_STEPS):
            known = self.known()
            action = self.method.next(known)
            if isinstance(action, Stop):
                return self._ending((), action.reason)
            if isinstance(action, Found):
                sole = self.check and len(action.suspects) == 1
                need = self.method.clean_trials(known)
                more = doubt(action.suspects[0], known, need) if sole else None
                if more is None:
                    return self._ending(action.suspects)
                action = more
            self.answer(action.place, action.trials)
        raise RuntimeError(f"no end after {MOST_STEPS} steps: {self.world}")

    def answer(self, place: Place, trials: int) -> None:
        """So many trials at a place, or it is found to be untestable."""
        if trials < 1 or place in self.skipped:
            raise RuntimeError(f"{trials} trials at {place}: {self.world}")
        self.built.add(place)
        if place in self.world.skipped:
            self.skipped.add(place)
            return
        rate, old = self.world.rate_at(place), self.tested.get(place, Evidence())
        if place == BAD:
            shown = sum(self.random.random() < rate for _ in range(trials))
            self.tested[place] = Evidence(old.clean + trials - shown, old.reproduced + shown)
        else:
            clean = min(trials, _clean_before_first(rate, self.random))
            self.tested[place] = Evidence(old.clean + clean, old.reproduced + (clean < trials))

    def _ending(self, suspects: tuple[int, ...], reason: str = "") -> Ending:
        runs = sum(seen.trials for seen in self.tested.values())
        costs = self.world.costs
        seconds = runs * costs.trial_s + len(self.built) * costs.build_s
        return Ending(suspects, runs, len(self.built), seconds, reason)


@dataclass(frozen=True)
class Repeat:
    """Halving as `git bisect run` does it, with a test that says good after so many clean runs (1: naive).

    It believes the ends, and every verdict.
    """

    times: int

    def clean_trials(self, known: Knowledge) -> int:
        """The same always."""
        return self.times

    def next(self, known: Knowledge) -> Found | Stop | Try:
        """The best halving of those that may be the first bad one."""
        ancestors = known.history.ancestors
        left = (1 << len(known.history)) - 1
        for place, seen in known.tested.items():
            left &= ancestors[place] if seen.reproduced else ~ancestors[place]
        places = [place for place, bit in enumerate(reversed(f"{left:b}")) if bit == "1"]
        halves = [
            (min(weight, len(places) - weight), -place)
            for place in places
            if place not in known.skipped
            if (weight := (ancestors[place] & left).bit_count()) < len(places)
        ]
        return Try(-max(halves)[1], self.times) if halves else Found(tuple(places), 0.0, "")


def linear(size: int) -> History:
    """Each the child of the one before."""
    names = tuple(f"{position:040x}" for position in range(size))
    return History(names, tuple((position - 1,) if position else () for position in range(size)))


def merged(size: int, random: Random) -> History:
    """A main line into which long side branches are merged, some of them from before the good end.

    The last candidate merges all that is open, so that everything is in it.
    """
    parents: list[tuple[int, ...]] = []
    main: tuple[int, ...] = ()
    branches: list[tuple[int, ...]] = []
    while len(parents) < size - 1:
        position, kind = len(parents), random.random()
        if kind < 0.08 and len(branches) < size.bit_length():
            start = random.randrange(position + 1)
            branches.append((start,) if start < position and random.random() < 0.8 else ())
        if kind < 0.15 and branches:
            # A branch that has no commit of its own yet is merged as nothing.
            tip = branches.pop(random.randrange(len(branches)))
            parents.append(tuple(sorted({*main, *tip})))
            main = (position,)
        elif kind < 0.75 and branches:
            which = random.randrange(len(branches))
            parents.append(branches[which])
            branches[which] = (position,)
        else:
            parents.append(main)
            main = (position,)
    parents.append(tuple(sorted({*main, *(place for tip in branches for place in tip)})))
    return History(linear(size).names, tuple(parents))


def skips(size: int, share: float, random: Random) -> frozenset[int]:
    """Candidates that cannot be tested: half of them singly, half of them in ranges."""
    wanted = round(share * size)
    chosen: set[int] = set()
    while len(chosen) < wanted // 2:
        begin = random.randrange(size)
        length = random.randint(2, max(2, size // 32))
        chosen.update(range(begin, min(size, begin + length, begin + wanted - len(chosen))))
    while len(chosen) < wanted:
        chosen.add(random.randrange(size))
    return frozenset(chosen)


def _clean_before_first(rate: float, random: Random) -> int:
    """How many trials stay clean before the first that does not; at a rate of 0, more than there are."""
    if rate == 0.0:
        return sys.maxsize
    return 0 if rate == 1.0 else math.floor(math.log(1.0 - random.random()) / math.log1p(-rate))
