# SPDX-License-Identifier: GPL-2.0-only
"""One monotonic point in time, handed down to everything that waits."""

from __future__ import annotations

import time
from dataclasses import dataclass


@dataclass(frozen=True)
class Deadline:
    """A point on `time.monotonic()`'s axis, in seconds."""

    at: float

    @classmethod
    def after(cls, seconds: float) -> Deadline:
        """The deadline `seconds` from now."""
        return cls(time.monotonic() + seconds)

    @property
    def remaining(self) -> float:
        """Seconds left, never negative."""
        return max(0.0, self.at - time.monotonic())

    @property
    def expired(self) -> bool:
        """True once the point has passed."""
        return self.remaining <= 0.0

    def sooner(self, seconds: float) -> Deadline:
        """This deadline, or `seconds` from now, whichever comes first."""
        return Deadline(min(self.at, time.monotonic() + seconds))
