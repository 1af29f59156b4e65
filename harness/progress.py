# SPDX-License-Identifier: GPL-2.0-only
"""What long work says of itself while it runs; how it is shown is the caller's matter."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Protocol


class Step(Protocol):
    """One phase that is running."""

    def update(self, what: str, done: int = 0, total: int = 0) -> None:
        """Say what is being worked on, and how many of how many are done (total 0: not known)."""


class Progress(Protocol):
    """Receives phases as they start and end, and single lines worth keeping."""

    def step(self, title: str) -> AbstractContextManager[Step]:
        """Enter a phase; leaving the block ends it, by an exception as failed."""

    def note(self, text: str) -> None:
        """One line that stays visible."""

    def table(self, header: Sequence[str], rows: Sequence[Sequence[str]], running: str = "") -> None:
        """Show a table, in place of the one shown before; on a pipe, only rows that are new.

        `running` says what the next row will be about; it shows on a terminal only.
        """
