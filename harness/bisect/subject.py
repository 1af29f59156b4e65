# SPDX-License-Identifier: GPL-2.0-only
"""What is bisected: commits, Kconfig symbols, or the patches of a series."""

from __future__ import annotations

from typing import Protocol

from harness.bisect.model import History, Place
from harness.experiment.kernels import BootableKernel
from harness.experiment.options import Workshop


class Subject(Protocol):
    """Candidates, and a kernel for each of them and for both ends."""

    @property
    def history(self) -> History: ...

    def name(self, place: Place) -> str:
        """What the kernel of a place is filed under; two places that are one kernel share it.

        Of a candidate it is the name that the history has; the bad end is often the last candidate as well.
        """

    def label(self, place: Place) -> str:
        """What a table shows: 12 digits and title of a commit, a symbol and its change, a patch's title."""

    def kernel(self, place: Place, workshop: Workshop) -> BootableKernel:
        """The kernel of a place. UnusableError with the reason, in a line or two, if it cannot be had."""

    def without(self, culprit: int, workshop: Workshop) -> BootableKernel | None:
        """The bad end with this candidate's change taken out; None where it does not come out cleanly."""
