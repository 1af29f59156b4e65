# SPDX-License-Identifier: GPL-2.0-only
"""What a run was asked to do beside its experiment: places, limits, and the means it works with."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from harness.cache import Cache
from harness.progress import Progress

#: Longest a source download may take, s; a build, s.
FETCH_LIMIT_S = 3600.0
BUILD_LIMIT_S = 4 * 3600.0


@dataclass(frozen=True)
class Workshop:
    """Where things are made and kept, and who hears of it."""

    cache: Cache
    progress: Progress
    #: Parallel compile jobs; 0: as many as fit this machine.
    jobs: int = 0
    #: Make the tree's own hmm-tests with every kernel.
    hmm_tests: bool = False
    #: The driver whose modules guests load first; empty: none.
    driver: str = ""
    #: Where it is remembered how long trials took; None: nobody knows.
    store: Path | None = None

    @classmethod
    def at(cls, cache: Path, progress: Progress, jobs: int = 0, store: Path | None = None) -> Workshop:
        """A workshop at a cache folder."""
        return cls(Cache(cache.resolve()), progress, jobs, store=store)
