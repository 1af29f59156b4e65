# SPDX-License-Identifier: GPL-2.0-only
"""A CPU that stays in the kernel while no counter moves: worth a look into the guest's memory."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

from harness.target.protocol import Sample
from harness.watch.histogram import counted
from harness.watch.observation import Suspicion
from harness.watch.quiet import QuietTime
from harness.watch.thresholds import Thresholds

#: Of a spinner's samples so many fall in the fault path itself. Measured in 159 samples of a livelock: 87 %;
#: the rest are locks and tables that the fault path uses, and the timer's interrupt.
_FAULT_PATH_SHARE = 0.5


@dataclass
class _Streak:
    """The samples of one CPU since it was last seen out of the kernel."""

    seconds: float = 0.0
    samples: int = 0
    functions: Counter[str] = field(default_factory=Counter)


class SpinDetector:
    """Raises a suspicion from samples alone: the same samples and movements give the same suspicions."""

    def __init__(self, thresholds: Thresholds, spin_functions: Sequence[str]) -> None:
        """`spin_functions`: shell patterns of the functions a spinner of the scenario's bug is seen in."""
        self.thresholds = thresholds
        self._patterns = tuple(spin_functions)
        self._streaks: dict[int, _Streak] = {}
        self._looks = 0
        #: The quiet time from which another look is worth it, s.
        self._next_s = 0.0

    def moved(self) -> None:
        """A counter moved: nothing is suspected any more."""
        self._streaks.clear()
        self._looks = 0
        self._next_s = 0.0

    def sample(
        self, sample: Sample, effective: float, functions: Mapping[int, str], quiet: QuietTime, *, named: bool
    ) -> Suspicion | None:
        """Take a sample in, `effective` seconds of the guest's after the last.

        `functions`: what each CPU was seen in; `named`: these are names of functions.
        """
        if not sample.running:
            return None
        for cpu in sample.cpus:
            if cpu.halted or cpu.cpl != 0:
                self._streaks.pop(cpu.cpu, None)
            elif streak := self._streaks.get(cpu.cpu):
                streak.seconds += effective
                streak.samples += 1
                streak.functions[functions[cpu.cpu]] += 1
            else:
                # It came there after the last sample, nobody knows when: all of that time counts.
                began = min(effective, quiet.seconds)
                self._streaks[cpu.cpu] = _Streak(began, 1, Counter([functions[cpu.cpu]]))
        return self._suspicion(sample.host_s, quiet, named)

    def _suspicion(self, host_s: float, quiet: QuietTime, named: bool) -> Suspicion | None:
        limits = self.thresholds
        if quiet.since_s is None or quiet.seconds < max(self._next_s, limits.suspect_s):
            return None
        spinners = [
            Suspicion(
                host_s=host_s,
                since_s=quiet.since_s,
                cpu=cpu,
                functions=counted(cpu, streak.functions).functions if named else (),
                in_fault_path=self._in_fault_path(streak) if named and self._patterns else None,
            )
            for cpu, streak in sorted(self._streaks.items())
            if streak.seconds >= limits.suspect_s and streak.samples >= limits.suspect_samples
        ]
        if not spinners:
            return None
        self._next_s = quiet.seconds + limits.look_again_s * 2**self._looks
        self._looks += 1
        return next((spinner for spinner in spinners if spinner.in_fault_path), spinners[0])

    def _in_fault_path(self, streak: _Streak) -> bool:
        there = sum(
            count
            for name, count in streak.functions.items()
            if any(fnmatchcase(name, pattern) for pattern in self._patterns)
        )
        return there >= _FAULT_PATH_SHARE * streak.samples
