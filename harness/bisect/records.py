# SPDX-License-Identifier: GPL-2.0-only
"""What a bisection has found out, on disk: its kernels in a list that grows, its trials in their folders."""

from __future__ import annotations

import contextlib
import json
import os
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from harness.disk import disk_errors
from harness.errors import UserError
from harness.results.repeats import NOTHING, Repeats
from harness.results.runfolder import TrialResult, all_finished

KERNELS = "kernels.jsonl"


@dataclass(frozen=True)
class KernelFact:
    """A kernel that was wanted. seconds: to have it, build and module; skip: why it cannot be tested."""

    name: str
    seconds: float
    cached: bool
    skip: str = ""


class Records:
    """All facts of one bisection, in the order in which they were found out. One process at a time."""

    def __init__(self, folder: Path, repeats: Repeats = NOTHING) -> None:
        """Read what `folder` holds. A line or a trial that was cut short did not happen."""
        self._repeats = repeats
        self.folder = folder
        self.kernels: dict[str, KernelFact] = {}
        self._trials: dict[str, list[tuple[str, TrialResult]]] = {}
        path = folder / KERNELS
        for line in path.read_text().splitlines() if path.exists() else ():
            with contextlib.suppress(ValueError):
                fact = KernelFact(**json.loads(line))
                self.kernels[fact.name] = fact
        for mark, result in sorted(all_finished(folder), key=lambda pair: pair[1].index):
            self._trials.setdefault(result.arm, []).append((mark, result))

    def trials(self, arm: str) -> list[TrialResult]:
        """The finished trials of a kernel, in order."""
        return [result for _, result in self._trials.get(arm, [])]

    def seconds(self) -> float:
        """What all kernels and trials on record took."""
        ran = [result.seconds for trials in self._trials.values() for _, result in trials]
        return sum(ran) + sum(fact.seconds for fact in self.kernels.values())

    def check(self, arm: str, fingerprint: str) -> None:
        """UserError if trials of this kernel ran another kernel, module or stressor than there is now."""
        self._repeats.check({arm: fingerprint})
        for mark, result in self._trials.get(arm, []):
            if mark != fingerprint:
                raise UserError(
                    f"{self.folder / result.folder} ran another kernel, module or stressor than there is now",
                    hint="start a new bisection (another --out): its trials cannot be counted with these",
                )

    def add_trial(self, fingerprint: str, result: TrialResult) -> None:
        """A trial has ended; `run_trial` has written it."""
        self._trials.setdefault(result.arm, []).append((fingerprint, result))

    def add_kernel(self, fact: KernelFact) -> None:
        """A kernel is there, or cannot be had."""
        self.kernels[fact.name] = fact
        path = self.folder / KERNELS
        with disk_errors(path), path.open("ab") as sink:
            # A line that was cut short is ended first: it must not swallow this one.
            torn = sink.tell() and not path.read_bytes().endswith(b"\n")
            sink.write(b"\n" * bool(torn) + json.dumps(asdict(fact)).encode() + b"\n")
            sink.flush()
            os.fsync(sink.fileno())

    def skip(self, name: str, reason: str) -> None:
        """A kernel that is there turned out to be of no use."""
        self.add_kernel(replace(self.kernels[name], skip=reason))
